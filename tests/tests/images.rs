//! Images of this machine: import, names, save and load, inspect, history.

use tests::{Server, World, busybox_root, import_busybox, skip};

/// A world with busybox; `None` without one.
fn world() -> Option<World> {
    let world = World::new();
    import_busybox(&world).then_some(world)
}

macro_rules! world {
    () => {
        match world() {
            Some(world) => world,
            None => skip!("busybox is not installed"),
        }
    };
}

fn id(world: &World, name: &str) -> String {
    world.gantry(["images", "-q", "--no-trunc", name]).ok().text().to_owned()
}

#[test]
fn an_imported_root_has_a_name_an_id_and_a_history() {
    let world = world!();
    assert!(id(&world, "busybox").starts_with("sha256:"));
    let table = world.gantry(["images"]).ok();
    let lines: Vec<&str> = table.text().lines().collect();
    assert!(lines[0].starts_with("REPOSITORY   TAG       IMAGE ID       CREATED"), "{}", lines[0]);
    assert!(lines[1].starts_with("busybox      latest    "), "{}", lines[1]);
    let format = "{{json .Config.Cmd}} {{index .Config.Env 0}} {{.Os}}";
    let shown = world.gantry(["inspect", "-f", format, "busybox"]).ok();
    assert_eq!(shown.text(), r#"["sh"] PATH=/bin linux"#);
    assert_eq!(world.gantry(["history", "busybox"]).ok().text().lines().count(), 2);
    world.close();
}

#[test]
fn of_several_names_rmi_takes_one_and_with_the_last_the_image_goes() {
    let world = world!();
    world.gantry(["tag", "busybox", "localhost:5000/team/app:1"]).ok();
    let id = id(&world, "busybox");
    let one = world.gantry(["rmi", "busybox"]).ok();
    assert_eq!(one.text(), "Untagged: busybox:latest");
    let by_id = world.gantry(["image", "rm", &id["sha256:".len()..][..12]]).ok();
    assert!(
        by_id.text().starts_with(&format!("Untagged: localhost:5000/team/app:1\nDeleted: {id}\n")),
        "{by_id:?}"
    );
    assert_eq!(world.gantry(["images", "-aq"]).ok().text(), "");
    world.gantry(["rmi", "busybox"]).fails(1).says("No such image: busybox:latest");
    world.close();
}

#[test]
fn an_id_with_several_repositories_is_removed_only_by_force() {
    let world = world!();
    world.gantry(["tag", "busybox", "other:1"]).ok();
    let id = world.gantry(["images", "-q", "busybox"]).ok().text().to_owned();
    let conflict = "(must be forced) - image is referenced in multiple repositories";
    world.gantry(["rmi", &id]).fails(1).says(&format!("conflict: unable to delete {id} {conflict}"));
    world.gantry(["rmi", "-f", &id]).ok();
    assert_eq!(world.gantry(["images", "-q"]).ok().text(), "");
    world.close();
}

#[test]
fn what_save_writes_load_reads_in_both_formats() {
    for format in ["docker", "oci"] {
        let world = world!();
        let saved = id(&world, "busybox");
        let file = world.path().join("saved.tar").display().to_string();
        world.gantry(["save", "--format", format, "-o", &file, "busybox"]).ok();
        let other = World::new();
        let none = other.gantry(["load", "-i", &file, "--platform", "linux/sparc64"]).fails(1);
        none.says("archive has no image for linux/sparc64");
        let loaded = other.gantry(["load", "-i", &file, "--platform", ""]).ok();
        assert_eq!(loaded.text(), "Loaded image: busybox:latest", "{format}");
        assert_eq!(id(&other, "busybox"), saved, "{format}");
        other.close();
        world.close();
    }
}

#[test]
fn equal_images_are_saved_as_equal_bytes_and_compressed_ones_are_loaded() {
    let world = world!();
    for name in ["a.tar", "b.tar"] {
        world.gantry(["save", "-o", name, "busybox"]).ok();
    }
    let bytes = |name: &str| std::fs::read(world.path().join(name)).expect("saved");
    assert!(bytes("a.tar") == bytes("b.tar"));
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = std::process::Command::new(program).arg("-c").arg(world.path().join("a.tar")).output();
        let Ok(packed) = packed else {
            eprintln!("skipped: {program} is not installed");
            continue;
        };
        let other = World::new();
        let loaded = other.gantry_with_stdin(["load"], &packed.stdout).ok();
        assert_eq!(loaded.text(), "Loaded image: busybox:latest", "{program}");
        other.close();
    }
    world.close();
}

#[test]
fn an_archive_of_an_image_without_names_is_loaded_by_its_id() {
    let world = world!();
    let id = id(&world, "busybox");
    world.gantry(["save", "-o", "a.tar", &id]).ok();
    let other = World::new();
    let file = world.path().join("a.tar").display().to_string();
    let loaded = other.gantry(["load", "-i", &file]).ok();
    assert_eq!(loaded.text(), format!("Loaded image ID: {id}"));
    let table = other.gantry(["images"]).ok();
    assert!(table.text().lines().nth(1).is_some_and(|line| line.starts_with("<none>")), "{table:?}");
    other.close();
    world.close();
}

#[test]
fn garbage_is_not_loaded_and_says_why() {
    let world = World::new();
    world.gantry_with_stdin(["load"], b"this is no tar, whatever one may think of it").fails(1);
    world.gantry_with_stdin(["load"], &[0; 10240]).fails(1).says("manifest.json");
    world.gantry(["load", "-i", "/no/such/file"]).fails(1).says("no such file or directory");
    world.gantry_with_stdin(["import", "-", "x"], b"no tar either").fails(1);
    world.close();
}

#[test]
fn import_reads_compressed_roots_and_applies_changes() {
    let world = World::new();
    let Some(root) = busybox_root() else { skip!("busybox is not installed") };
    let packed = std::process::Command::new("gzip").arg("-c").arg(root).output().expect("gzip");
    let changes =
        ["-c", "ENTRYPOINT [\"echo\"]", "--change", "EXPOSE 80", "-c", "LABEL a=b", "-m", "made here"];
    let args = ["import"].into_iter().chain(changes).chain(["-", "packed:1"]);
    let id = world.gantry_with_stdin(args, &packed.stdout).ok().text().to_owned();
    let format =
        "{{.Id}} {{json .Config.Entrypoint}} {{json .Config.ExposedPorts}} {{.Config.Labels.a}} {{.Comment}}";
    let shown = world.gantry(["image", "inspect", "--format", format, "packed:1"]).ok();
    assert_eq!(shown.text(), format!(r#"{id} ["echo"] {{"80/tcp":{{}}}} b made here"#));
    world.gantry_with_stdin(["import", "-c", "RUN true", "-", "x"], &packed.stdout).fails(1);
    world.close();
}

#[test]
fn a_digest_is_one_name_of_several() {
    let (world, registry) = (world!(), World::new());
    let server = Server::start(&registry, &[]);
    let name = format!("{}/team/app", server.address);
    let tags = || {
        let list = world.gantry(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
        list.text().replace(&name, "app").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    world.gantry(["tag", "busybox", &format!("{name}:1")]).ok();
    world.gantry(["push", "-q", &format!("{name}:1")]).ok();
    let digest =
        world.gantry(["inspect", "-f", "{{index .RepoDigests 0}}", "busybox"]).ok().text().to_owned();

    world.gantry(["push", &format!("{name}:2")]).fails(1).says(&format!("tag does not exist: {name}:2\n"));
    let missing = world.gantry(["pull", &format!("{name}:2")]).fails(1);
    assert_eq!(missing.stdout, "");
    assert_eq!(world.gantry(["rmi", &digest]).ok().text(), format!("Untagged: {digest}"));
    assert_eq!(tags(), ["app:1", "busybox:latest"]);
    world.gantry(["rmi", "-f", &digest]).ok().says("No such image: ");

    world.gantry(["pull", "-q", &digest]).ok();
    let untagged = world.gantry(["rmi", &format!("{name}:1")]).ok();
    assert_eq!(untagged.text(), format!("Untagged: {name}:1\nUntagged: {digest}"));
    // A digest alone keeps an image as a tag does, and is a line of the list.
    world.gantry(["pull", "-q", &digest]).ok();
    assert_eq!(world.gantry(["rmi", "busybox"]).ok().text(), "Untagged: busybox:latest");
    assert_eq!(tags(), ["app:<none>"]);
    let removed = world.gantry(["rmi", &digest]).ok();
    assert!(removed.text().starts_with(&format!("Untagged: {digest}\nDeleted: sha256:")), "{removed:?}");
    assert_eq!(world.gantry(["images", "-aq"]).ok().text(), "");
    server.stop();
    registry.close();
    world.close();
}

#[test]
fn formats_and_filters_of_the_list() {
    let world = world!();
    world.gantry(["tag", "busybox", "team/app:1.2"]).ok();
    let list = |args: &[&str]| world.gantry(["images"].iter().chain(args)).ok().text().to_owned();
    assert_eq!(list(&["--format", "{{.Repository}}:{{.Tag}}", "team/app"]), "team/app:1.2");
    assert_eq!(
        list(&["--format", "table {{.Repository}}\t{{.Tag}}", "busybox"]),
        "REPOSITORY   TAG\nbusybox      latest"
    );
    let table = list(&["--format", "table {{.VirtualSize}}\t{{.SharedSize}}", "busybox"]);
    assert!(table.starts_with("SIZE "), "{table}");
    assert!(table.lines().next().is_some_and(|line| line.ends_with(" SHARED SIZE")), "{table}");
    let json = list(&["--format", "{{ json . }}", "team/app"]);
    assert!(json.starts_with(r#"{"Containers":"N/A","CreatedAt":"#), "{json}");
    assert_eq!(list(&["-q", "--filter", "dangling=true"]), "");
    assert_eq!(list(&["-q", "--filter", "reference=team/*"]).lines().count(), 1);
    assert_eq!(list(&["-qa"]).lines().count(), 2);
    world.gantry(["images", "--filter", "nosuch=1"]).fails(1).says("Invalid filter 'nosuch'");
    world.gantry(["images", "--format", "{{.Nope"]).fails(1).says("template parsing error");
    world.close();
}

#[test]
fn wrong_command_lines_get_dockers_words_and_codes() {
    let world = World::new();
    world.gantry(["images", "--no-such-flag"]).fails(125).says("unknown flag: --no-such-flag");
    world.gantry(["nosuchcommand"]).fails(1).says("nosuchcommand");
    world.gantry(["inspect", "nosuch"]).fails(1).says("No such object: nosuch");
    world.gantry(["inspect", "--type", "foo", "x"]).fails(1).says(r#""foo" is not a valid value for --type"#);
    let push = world.gantry(["push", "nosuch"]).fails(1);
    let missing = world.gantry(["push", "nosuch:x"]).fails(1);
    missing.says("An image does not exist locally with the tag: nosuch\n");
    assert!(push.stdout.starts_with("Using default tag: latest\nThe push refers to repository "), "{push:?}");
    let logout = world.gantry(["logout"]).ok();
    assert_eq!(logout.text(), "Removing login credentials for https://index.docker.io/v1/");
    assert_eq!(logout.stderr, "");
    world.gantry(["tag", "nosuch", "x"]).fails(1).says("No such image: nosuch:latest");
    world.gantry(["tag", "nosuch", "Upper:x"]).fails(1).says("not a valid repository/tag");
    let help = world.gantry(["image"]).ok();
    assert!(help.stdout.contains("Manage images"), "{help:?}");
    world.close();
}

#[test]
fn an_image_for_another_machine_has_a_name_for_all_that_do_not_run_it() {
    let Some(root) = busybox_root() else { skip!("busybox is not installed") };
    let world = World::new();
    let root = root.to_str().expect("the cache has a plain path");
    world.gantry(["import", "--platform", "linux/s390x", root, "foreign"]).ok();
    assert_eq!(world.gantry(["inspect", "-f", "{{.Architecture}}", "foreign"]).ok().text(), "s390x");
    assert_eq!(world.gantry(["history", "-q", "foreign"]).ok().text().lines().count(), 1);
    world.gantry(["tag", "foreign", "other:1"]).ok();
    let archive = world.path().join("foreign.tar");
    world.gantry(["save", "-o", archive.to_str().unwrap(), "foreign"]).ok();
    world.gantry(["run", "--rm", "--pull", "never", "foreign"]).fails(125).says("it has linux/s390x");
    assert_eq!(world.gantry(["rmi", "foreign"]).ok().text(), "Untagged: foreign:latest");
    world.gantry(["rmi", "other:1"]).ok();
    world.gantry(["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    assert_eq!(world.gantry(["inspect", "-f", "{{.Os}}", "foreign:latest"]).ok().text(), "linux");
    world.close();
}

#[test]
fn a_root_whose_hard_links_lead_nowhere_is_refused_with_a_hint() {
    let world = World::new();
    world.write("root/file", "text");
    std::fs::hard_link(world.path().join("root/file"), world.path().join("root/link")).unwrap();
    let tar = |args: &[&str]| {
        let run = std::process::Command::new("tar").args(args).current_dir(world.path()).status();
        run.is_ok_and(|status| status.success())
    };
    if !tar(&["-cf", "root.tar", "-C", "root", "file", "link"])
        || !tar(&["--delete", "-f", "root.tar", "file"])
    {
        skip!("GNU tar is not installed");
    }
    let refused = world.gantry(["import", world.path().join("root.tar").to_str().unwrap(), "a"]).fails(1);
    refused.says("hardlink `link` leads to `file`, which does not exist").says("hint: a tar that was cut");
    assert_eq!(world.gantry(["images", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn archives_say_that_they_were_cut_and_which_names_are_none() {
    let world = world!();
    world.gantry(["save", "-o", "a.tar", "busybox"]).ok();
    let bytes = std::fs::read(world.path().join("a.tar")).unwrap();
    let cut = &bytes[..bytes.len() / 2];
    let text = format!("tar ends after {} bytes, within an entry", cut.len());
    world.gantry_with_stdin(["load"], cut).fails(1).says(&text);
    let (from, to) = (br#"["busybox:latest"]"#, br#"["BUSYBOX:latest"]"#);
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the archive names it");
    let renamed = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
    let loaded = world.gantry_with_stdin(["load"], &renamed).ok();
    let loaded = loaded.says("WARNING: `BUSYBOX:latest` in the archive is no valid name");
    assert!(loaded.text().starts_with("Loaded image ID: sha256:"), "{loaded:?}");
    world.close();
}

#[test]
fn what_save_cannot_do_has_dockers_words() {
    let world = world!();
    let none = world.gantry(["save", "-o", "a.tar", "busybox", "nosuch"]).fails(1);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "Error: No such image: nosuch\n"));
    assert!(!world.path().join("a.tar").exists());
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let saved = world.command(["save", "busybox"]).stdout(full).output().expect("gantry starts");
    let stderr = String::from_utf8_lossy(&saved.stderr);
    assert_eq!((saved.status.code(), &*stderr), (Some(1), "write /dev/stdout: no space left on device\n"));
    world.close();
}
