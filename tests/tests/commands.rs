//! The command line as docker's users and their scripts type it.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use tests::{
    ClosedPort, Server, World, busybox_root, has, htpasswd, import_busybox, is_root, run_client, skip,
};

/// A world with busybox; the test is skipped where there is none.
macro_rules! world {
    () => {{
        let world = World::new();
        if !import_busybox(&world) {
            skip!("busybox is not installed");
        }
        world
    }};
}

/// Runs a container to its end, named, without a network.
#[track_caller]
fn run(world: &World, args: &[&str]) -> tests::Outcome {
    world.gantry(["run", "--network", "none"].iter().chain(args))
}

#[test]
fn flags_take_values_as_docker_takes_them() {
    let world = world!();
    let list = |args: &[&str]| world.gantry(["images"].iter().chain(args)).ok().stdout;
    // Without the age, which may be another one a moment later.
    let table = |args: &[&str]| {
        let words = |line: &str| line.split_whitespace().take(3).map(str::to_owned).collect::<Vec<_>>();
        list(args).lines().map(words).collect::<Vec<_>>()
    };
    assert_eq!(table(&["-q=false"]), table(&[]));
    assert_eq!(list(&["-q=true", "--no-trunc=true"]), list(&["-q", "--no-trunc"]));
    assert_eq!(table(&["-q", "-q=false"]), table(&[]));
    world
        .gantry(["images", "-q=maybe"])
        .fails(125)
        .says(r#"invalid argument "maybe" for "-q, --quiet" flag: strconv.ParseBool: parsing "maybe""#);
    world.gantry(["ps", "-f", "name"]).fails(125).says("bad format of filter (expected name=value)");
    world.gantry(["ps", "--format"]).fails(125).says("flag needs an argument: --format");
    world.gantry(["tag", "busybox"]).fails(1).says("'gantry tag' requires 2 arguments");
    world.gantry(["login", "-u", "a", "-p", "b", "--password-stdin"]).fails(1).says("cannot specify both");
    world.close();
}

#[test]
fn run_takes_flags_together_and_with_values() {
    if !is_root() {
        skip!("running containers needs root so far");
    }
    let world = world!();
    assert_eq!(run(&world, &["--rm=true", "-iw/data", "busybox", "pwd"]).ok().text(), "/data");
    assert_eq!(
        run(&world, &["--rm", "-t=false", "-iew=/x", "busybox", "env"]).ok().stdout.lines().count(),
        4
    );
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn help_is_there_for_every_verb_and_costs_nothing() {
    let world = World::new();
    let all = world.gantry([""; 0]).ok().stdout;
    let verbs =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        let help = world.gantry(["help", verb]).ok();
        assert_eq!(help.stdout, world.gantry([verb, "--help"]).ok().stdout);
        assert!(help.stdout.contains(&format!("Usage:  gantry {verb}")), "{help:?}");
    }
    world.gantry(["help", "nosuch"]).fails(1).says("unknown help topic: nosuch");
    assert!(!world.store().exists(), "help makes no store");
    world.close();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = world!();
    for n in 0..20 {
        world.gantry(["tag", "busybox", &format!("other:{n}")]).ok();
    }
    let mut child = world
        .command(["images", "--format", &"{{.ID}} ".repeat(1000)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gantry starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!((stderr.as_str(), child.wait().expect("a child").code()), ("", Some(0)));
    world.close();
}

#[test]
fn an_id_with_two_tags_is_removed_by_force_alone() {
    let world = world!();
    world.gantry(["tag", "busybox", "busybox:2"]).ok();
    let id = world.gantry(["images", "-q", "busybox:2"]).ok().text().to_owned();
    world.gantry(["rmi", &id]).fails(1).says(&format!(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
    ));
    assert_eq!(world.gantry(["rmi", "busybox:2"]).ok().text(), "Untagged: busybox:2");
    world.gantry(["tag", "busybox", "busybox:2"]).ok();
    let removed = world.gantry(["rmi", "-f", &id]).ok();
    let lines: Vec<&str> = removed.stdout.lines().collect();
    assert_eq!(lines[..2], ["Untagged: busybox:2", "Untagged: busybox:latest"]);
    assert!(
        lines.len() == 4 && lines[2..].iter().all(|line| line.starts_with("Deleted: sha256:")),
        "{lines:?}"
    );
    world.gantry(["rmi", "nosuch", "nosuch2"]).fails(1).says("No such image: nosuch2:latest");
    world.close();
}

#[test]
fn several_images_travel_in_one_archive() {
    let world = world!();
    let Some(root) = busybox_root() else { skip!("busybox is not installed") };
    world.gantry(["import", "-c", "CMD [\"other\"]", &root.to_string_lossy(), "other:1"]).ok();
    world.gantry(["tag", "other:1", "other:2"]).ok();
    let ids = world.gantry(["images", "-q", "--no-trunc"]).ok().stdout;
    for format in ["docker", "oci"] {
        let archive = world.path().join(format!("{format}.tar")).display().to_string();
        world.gantry(["save", "--format", format, "-o", &archive, "busybox", "other"]).ok();
        world.gantry(["rmi", "busybox", "other:1", "other:2"]).ok();
        let loaded = world.gantry(["load", "-q", "-i", &archive]).ok().stdout;
        let mut lines: Vec<&str> = loaded.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["Loaded image: busybox:latest", "Loaded image: other:1", "Loaded image: other:2"]);
        let mut now: Vec<String> = lines_of(&world.gantry(["images", "-q", "--no-trunc"]).ok().stdout);
        let mut before = lines_of(&ids);
        now.sort_unstable();
        before.sort_unstable();
        assert_eq!(now, before, "{format}");
    }
    world.close();
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_imported_or_loaded_says_why() {
    let world = World::new();
    world.gantry(["import", "https://registry.example/root.tar", "x"]).fails(1).says("curl -L https://");
    world.gantry(["import", "/no/such", "x"]).fails(1).says("open /no/such: no such file or directory");
    world.gantry(["save", "nosuch"]).fails(1).says("Error: No such image: nosuch\n");
    world.write("no tar", "text");
    for verb in ["load", "import"] {
        let input: &[&str] = if verb == "load" { &["-i"] } else { &[] };
        let read = |file| world.gantry([verb].iter().chain(input).chain(&[file])).fails(1);
        read("nofile").says("open nofile: no such file or directory");
        read("no tar/x").says("open no tar/x: not a directory");
        read("home").says("read home: is a directory");
        read("no tar").says(&format!("error: cannot {verb} `no tar`\n"));
    }
    let junk = world.gantry_with_stdin(["load"], b"text").fails(1);
    assert_eq!(
        junk.stderr,
        "error: cannot load what came on stdin\n  cause: it is no tar archive, nor a compressed one: invalid tar header\n"
    );
    world.gantry(["import", "-c", "FROM x", "no tar"]).fails(1).says("from is not a valid change command");
    world.gantry(["import", "-c", "ENV A", "no tar"]).fails(1).says("--change:1");
    world.close();
}

#[test]
fn what_cannot_be_saved_to_is_refused_in_dockers_words_and_stays_as_it_is() {
    let world = world!();
    let save = |to: &str| world.gantry(["save", "-o", to, "busybox"]);
    save("nodir/x")
        .fails(1)
        .says(r#"failed to save image: invalid output path: directory "nodir" does not exist"#);
    save("home").fails(1).says("failed to save image: cannot write to a directory");
    world.write("file", "text");
    save("file/x").fails(1).says("failed to save image: stat file/x: not a directory");
    if !is_root() {
        skip!("making a device needs root");
    }
    // The null device under another name.
    let device = world.path().join("device");
    let made = std::process::Command::new("mknod").arg(&device).args(["c", "1", "3"]).status();
    assert!(made.is_ok_and(|status| status.success()));
    save("device").fails(1).says(r#""device" must be a directory or a regular file: got a device"#);
    world.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    world.gantry(["build", "-q", "--output", "type=tar,dest=device", "context"]).ok();
    assert!(std::fs::metadata(&device).expect("it is there").file_type().is_char_device());
    world.close();
}

#[test]
fn commands_that_only_read_make_no_store() {
    let world = World::new();
    world.gantry(["check"]).fails(1).says(&format!("there is no store at {}", world.store().display()));
    for (args, header) in [(["images", "-a"], "REPOSITORY "), (["ps", "-a"], "CONTAINER ID ")] {
        let list = world.gantry(args).ok();
        assert!(list.stdout.starts_with(header) && list.text().lines().count() == 1, "{list:?}");
    }
    for args in [
        &["inspect", "x"][..],
        &["history", "x"],
        &["tag", "x", "y"],
        &["rmi", "x"],
        &["rm", "x"],
        &["save", "-o", "f", "x"],
        &["push", "localhost:1/x"],
    ] {
        world.gantry(args).fails(1);
    }
    world.gantry(["info"]).ok();
    assert!(!world.store().exists() && !world.path().join("f").exists());
    world.close();
}

#[test]
fn a_wrong_password_is_refused_in_dockers_words() {
    let (world, registry) = (World::new(), World::new());
    let users = registry.write("users", htpasswd()).display().to_string();
    let server = Server::start(&registry, &["--htpasswd", &users]);
    let refused = world.gantry(["login", "-u", "alice", "-p", "wrong", &server.address]).fails(1);
    let text = format!("Error: Get \"http://{}/v2/\": unauthorized: ", server.address);
    assert!(refused.stderr.contains(&text) && !refused.stderr.contains("hint"), "{}", refused.stderr);
    world.gantry(["login", &server.address]).fails(1).says("Cannot perform an interactive login");
    world.gantry(["login", "-u", "alice", "-p", "wonderland", &server.address]).ok();
    let again = world.gantry(["login", &server.address]).ok();
    assert_eq!(again.text(), "Authenticating with existing credentials...\nLogin Succeeded");
    server.stop();
    registry.close();
    world.close();
}

#[test]
fn a_plain_user_is_told_what_needs_root() {
    if !is_root() {
        skip!("becoming another user needs root");
    }
    let world = World::new();
    let folder = world.path().join("plain");
    std::fs::create_dir(&folder).expect("a new folder");
    for path in [world.path(), &folder] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("ours");
    }
    // The program itself may stand where only root can go. Were it copied in this process, a child that another test forks
    // meanwhile would hold the copy open for writing, and nothing could execute it.
    let program = world.path().join("gantry");
    let copied = std::process::Command::new("cp").arg(tests::gantry_binary()).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()), "cp makes a copy");
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(&program);
        command.arg("--root").arg(folder.join("store")).args(args).current_dir(&folder);
        world.clean(&mut command).env("HOME", &folder).uid(65534).gid(65534).stdin(Stdio::null());
        let output = command.output().expect("gantry starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = run(&["run", "busybox", "true"]);
    assert_eq!((code, stderr.as_str()), (Some(125), "gantry: running containers needs root so far\n"));
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if lowest.is_ok_and(|lowest| lowest.trim().parse::<u16>().is_ok_and(|lowest| lowest <= 80)) {
        skip!("low ports are open to everybody here");
    }
    let (code, stderr) = run(&["serve", "--addr", "127.0.0.1:80"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("127.0.0.1:80") && stderr.contains("hint: ports below 1024 need root"),
        "{stderr}"
    );
    world.close();
}

#[test]
fn a_container_whose_folder_was_taken_away_is_in_nobodys_way() {
    if !is_root() {
        skip!("running containers needs root so far");
    }
    let world = world!();
    for name in ["gone", "half", "stays"] {
        run(&world, &["--name", name, "busybox", "true"]).ok();
    }
    let id = |name: &str| world.gantry(["inspect", "-f", "{{.Id}}", name]).ok().text().to_owned();
    let containers = world.store().join("containers");
    std::fs::remove_dir_all(containers.join(id("gone"))).expect("a container's folder");
    std::fs::remove_file(containers.join(id("half")).join("state.json")).expect("a container's state");
    assert_eq!(world.gantry(["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "stays\nhalf");
    assert_eq!(world.gantry(["rm", "-f", "half"]).ok().text(), "half");
    let list = world.gantry(["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!((list.text(), list.stderr.as_str()), ("stays", ""));
    world.gantry(["inspect", "gone"]).fails(1).says("No such object: gone");
    run(&world, &["--name", "gone", "busybox", "true"]).ok();
    world.gantry(["rm", "gone", "stays"]).ok();
    world.close();
}

#[test]
fn containers_are_filtered_and_shown_as_docker_does() {
    if !is_root() {
        skip!("running containers needs root so far");
    }
    let world = world!();
    run(
        &world,
        &["--name", "web-a", "-l", "k=1", "-l", "z", "busybox", "sh", "-c", "echo \"a b\" > /written"],
    )
    .ok();
    run(&world, &["--name", "web-ab", "-l", "k=2", "busybox", "true"]).ok();
    run(&world, &["--name", "db", "-v", "/tmp:/m", "busybox", "false"]).fails(1);
    let names = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let list = world.gantry(["ps", "-a", "--format", "{{.Names}}"].into_iter().chain(filters)).ok();
        lines_of(&list.stdout).join(" ")
    };
    for (filters, expected) in [
        (&["name=web-a$"][..], "web-a"),
        (&["name=^/web"], "web-ab web-a"),
        (&["name=^(db|web-a)$"], "db web-a"),
        (&["label=k"], "web-ab web-a"),
        (&["label=k", "label=z"], "web-a"),
        (&["label=k=2"], "web-ab"),
        (&["before=web-ab"], "web-a"),
        (&["since=web-a"], "db web-ab"),
        (&["volume=/m"], "db"),
        (&["exited=1"], "db"),
        (&["ancestor=busybox:latest", "status=exited", "exited=0"], "web-ab web-a"),
    ] {
        assert_eq!(names(filters), expected, "{filters:?}");
    }
    world.gantry(["ps", "--filter", "foo=bar"]).fails(1).says("Invalid filter 'foo'");
    world.gantry(["ps", "-a", "--format", "{{.Nope}}"]).fails(1).says("can't evaluate field Nope");
    let one = |format: &str| {
        let list = world.gantry(["ps", "-a", "--filter", "name=web-a$", "--format", format]).ok();
        list.text().to_owned()
    };
    assert_eq!(one("{{.Command}}|{{.Label \"k\"}}|{{.Label \"none\"}}"), r#""sh -c 'echo \"a b\" >…"|1|"#);
    assert!(one("{{.Size}}").starts_with("4B (virtual "), "{}", one("{{.Size}}"));
    let inspect = |args: &[&str]| world.gantry(["inspect"].iter().chain(args)).ok().text().to_owned();
    assert_eq!(inspect(&["-s", "-f", "{{.SizeRw}}", "web-a"]), "4");
    let format = "{{.Name}} {{.HostConfig.RestartPolicy.Name}} {{index .Config.Labels \"k\"}} {{json .HostConfig.Binds}}";
    assert_eq!(inspect(&["-f", format, "web-a"]), "/web-a no 1 null");
    assert_eq!(inspect(&["-f", "{{json .HostConfig.Binds}}", "db"]), r#"["/tmp:/m"]"#);
    world
        .gantry(["inspect", "--type", "image", "db"])
        .fails(1)
        .says("no such image: db: No such image: db:latest");
    world.close();
}

#[test]
fn environment_comes_from_files_and_streams_are_chosen() {
    if !is_root() {
        skip!("running containers needs root so far");
    }
    let world = world!();
    world.write("ef", "# comment\nQ=\"quoted\"\nFROM_FILE=1\n");
    let script = "echo $Q $FROM_FILE; echo err >&2";
    let run = |args: &[&str]| run(&world, &[&["--rm"], args].concat());
    let both = run(&["--env-file", "ef", "-e", "FROM_FILE=2", "busybox", "sh", "-c", script]).ok();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("\"quoted\" 2\n", "err\n"));
    let one = run(&["-a", "stdout", "busybox", "sh", "-c", script]).ok();
    assert_eq!(one.stderr, "");
    run(&["--env-file", "nofile", "busybox", "true"])
        .fails(125)
        .says("open nofile: no such file or directory");
    run(&["-e", "=1", "busybox", "true"]).fails(125).says("invalid environment variable: =1");
    run(&["-v", "/tmp:/m", "-v", "/etc:/m", "busybox", "true"]).fails(125).says("Duplicate mount point: /m");
    run(&["-d", "busybox", "true"]).fails(125).says("docker's flag --detach is not here yet");
    world.close();
}

#[test]
fn one_damaged_name_hides_no_other() {
    let world = world!();
    let damage = || {
        world.gantry(["tag", "busybox", "c1"]).ok();
        world.write("store/repos/local/docker.io/library/c1/_tags/latest", "garbage\n");
    };
    damage();
    let hint = "hint: `gantry check` lists all damage";
    let listed = world.gantry(["images", "--format", "{{.Repository}}"]).fails(1).says(hint);
    assert_eq!(listed.text(), "busybox");
    assert_eq!(listed.stderr.matches("library/c1/_tags/latest is damaged: it is passed over").count(), 1);
    let ids = world.gantry(["images", "-q"]).fails(1).says(hint);
    let id = ids.text();
    assert_eq!(id.len(), 12);
    world.gantry(["inspect", "busybox"]).ok();
    world.gantry(["history", "c1"]).fails(1).says("is damaged").says(hint);
    assert!(world.gantry(["check"]).fails(1).stdout.contains("library/c1/_tags/latest is damaged"));
    world.gantry(["tag", "busybox", "other"]).ok();
    assert_eq!(world.gantry(["rmi", "other"]).ok().text(), "Untagged: other:latest");
    assert_eq!(world.gantry(["rmi", "c1"]).ok().text(), "Untagged: c1:latest");
    world.gantry(["images"]).ok();
    damage();
    world.gantry(["tag", "busybox", "c1"]).ok();
    assert_eq!(world.gantry(["images", "-q", "c1"]).ok().text(), id);
    damage();
    assert!(world.gantry(["rmi", id]).ok().stdout.contains("Deleted: "));
    world.gantry(["rmi", "c1"]).ok();
    world.close();
}

#[test]
fn templates_of_inspect_fail_as_dockers_do() {
    let world = world!();
    let inspect = |args: &[&str]| world.gantry(["inspect", "-f"].iter().chain(args));
    let wrong = inspect(&["{{.NoSuch}}", "busybox"]).fails(1);
    assert_eq!(wrong.stdout, "\n");
    let said = r#"template parsing error: template: :1:2: executing "" at <.NoSuch>: map has no entry for key "NoSuch""#;
    assert_eq!(wrong.stderr, format!("{said}\n"));
    let wrong = inspect(&["{{.Id", "busybox"]).fails(64);
    assert_eq!(
        (wrong.stdout.as_str(), wrong.stderr.as_str()),
        ("", "template parsing error: template: :1: unclosed action\n")
    );
    assert_eq!(inspect(&["{{.Os}}", "nosuch"]).fails(1).stdout, "\n");
    assert_eq!(inspect(&["{{.Os}}", "busybox", "nosuch", "busybox"]).fails(1).stdout, "linux\nlinux\n");
    let label =
        r#"({{index .Config.Labels "x"}}) {{.Config.Labels.x}} {{.Config.Labels}} {{json .Config.Labels}}"#;
    assert_eq!(inspect(&[label, "busybox"]).ok().stdout, "() <no value> map[] null\n");
    let listed = world.gantry(["images", "--format", "{{.Nope"]).fails(1);
    assert_eq!(listed.stderr, "template parsing error: template: :1: unclosed action\n");
    world.close();
}

#[test]
fn names_that_read_as_digests_are_refused() {
    let world = world!();
    let ambiguous = "refusing to create an ambiguous tag using digest algorithm as name";
    world.gantry(["tag", "busybox", "sha256:abc"]).fails(1).says(ambiguous);
    world.gantry(["tag", "busybox", "sha256"]).fails(1).says(ambiguous);
    world.gantry_with_stdin(["import", "-", "sha256:1"], b"").fails(1).says(ambiguous);
    world.write("context/Dockerfile", "FROM scratch\n");
    world.gantry(["build", "-t", "sha256:abc", "context"]).fails(1).says(ambiguous);
    world.gantry(["tag", "busybox", "team/sha256:abc"]).ok();
    let digest = format!("busybox@sha256:{}", "0".repeat(64));
    let pushed = world.gantry(["push", &digest]).fails(1);
    assert_eq!((pushed.stdout.as_str(), pushed.stderr.as_str()), ("", "cannot push a digest reference\n"));
    world.close();
}

#[test]
fn hints_beside_dockers_texts_are_for_terminals() {
    let world = World::new();
    let port = ClosedPort::new();
    let name = format!("{}/app", port.address);
    let pulled = world.gantry(["pull", &name]).fails(1);
    assert!(!pulled.stderr.contains("hint"), "{}", pulled.stderr);
    if !has("script") {
        skip!("script is not installed");
    }
    let line = format!("{} --root {} pull {name}", tests::gantry_binary().display(), world.store().display());
    let shown = run_client(&world, "script", &["-qec", &line, "/dev/null"]);
    assert!(shown.stdout.contains("hint: look whether"), "{shown:?}");
    world.close();
}

#[test]
fn dockers_flags_that_are_not_here_are_called_by_name() {
    let world = World::new();
    for (line, flag) in [
        ("rm -l c/alias", "rm: docker's flag --link"),
        ("build --cgroup-parent x .", "build: docker's flag --cgroup-parent"),
        ("run --storage-opt size=1 busybox", "run: docker's flag --storage-opt"),
        ("-H tcp://127.0.0.1:1 images", "gantry: docker's flag --host"),
        ("--context x images", "gantry: docker's flag --context"),
        ("--tlsverify images", "gantry: docker's flag --tlsverify"),
    ] {
        world.gantry(line.split(' ')).fails(125).says(&format!("{flag} is not here yet"));
    }
    world.write("context/Dockerfile", "FROM scratch\nLABEL a=b\n");
    let built = world.gantry(["build", "-q", "--compress", "--force-rm", "--rm=false", "context"]).ok();
    assert_eq!(built.stderr, "WARNING: --compress has no effect: the context is read where it lies\n");
    world.close();
}

#[test]
fn all_tags_travel_in_dockers_words() {
    let (world, registry) = (world!(), World::new());
    let server = Server::start(&registry, &[]);
    let name = format!("{}/app", server.address);
    for tag in ["1", "2"] {
        world.gantry(["tag", "busybox", &format!("{name}:{tag}")]).ok();
    }
    let pushed = world.gantry(["push", "-a", &name]).ok();
    let lines: Vec<&str> = pushed.stdout.lines().collect();
    let digest = lines[1].split(' ').nth(2).expect("the digest");
    let (first, rest) = lines.split_first().expect("lines");
    assert_eq!(*first, format!("The push refers to repository [{name}]"));
    let tags: Vec<&str> = rest.iter().filter_map(|line| line.split(": digest: sha256:").next()).collect();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(world.gantry(["push", "-a", "-q", &name]).ok().text(), name);
    assert_eq!(world.gantry(["push", "-q", &format!("{name}:1")]).ok().text(), format!("{name}:1"));

    let other = World::new();
    let pulled = |status: &str| {
        let each = |tag| format!("{tag}: Pulling from app\nDigest: {digest}\n");
        format!("{}{}Status: {status} for {name}\n{name}\n", each(1), each(2))
    };
    assert_eq!(other.gantry(["pull", "-a", &name]).ok().stdout, pulled("Downloaded newer image"));
    assert_eq!(other.gantry(["pull", "-a", &name]).ok().stdout, pulled("Image is up to date"));
    assert_eq!(other.gantry(["pull", "-aq", &name]).ok().text(), name);
    // A tag that is not here is news, also when all of its image is.
    other.gantry(["rmi", &format!("{name}:2")]).ok();
    let again = other.gantry(["pull", &format!("{name}:2")]).ok();
    assert!(again.stdout.contains("Status: Downloaded newer image for "), "{again:?}");

    let none = other.gantry(["pull", "-a", &format!("{}/none", server.address)]).fails(1);
    let text = format!("Error: repository {}/none not found: name unknown: ", server.address);
    assert!(none.stderr.starts_with(&text) && none.stderr.lines().count() == 1, "{}", none.stderr);
    server.stop();
    for world in [world, registry, other] {
        world.close();
    }
}
