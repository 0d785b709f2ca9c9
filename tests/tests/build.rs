//! `gantry build` on real Dockerfiles, and the build cases from outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tests::{
    Dockerd, Server, World, busybox_world, gantry_binary, has, import_busybox, import_debian, is_root,
    run_client, skip,
};

macro_rules! world {
    () => {
        tests::world_or_skip!(busybox_world())
    };
}

/// A build of `dockerfile` with a context that holds `a.txt` and `dir/b.txt`.
#[track_caller]
fn context(world: &World, dockerfile: &str) {
    world.write("context/Dockerfile", dockerfile);
    world.write("context/a.txt", "a\n");
    world.write("context/dir/b.txt", "b\n");
}

#[test]
fn a_second_build_is_cached_and_gives_the_same_id() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let world = world!();
    context(
        &world,
        "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN cat a.txt dir/b.txt > both\nENV X=y\nCMD [\"cat\", \"both\"]\n",
    );
    let first = world.gantry(["build", "-q", "-t", "app", "context"]).ok().text().to_owned();
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    let second = world.gantry(["build", "--progress", "plain", "-t", "app", "context"]).ok();
    assert_eq!(
        second.stderr.lines().filter(|line| line.ends_with(" CACHED")).count(),
        3,
        "{}",
        second.stderr
    );
    assert_eq!(world.gantry(["images", "-q", "--no-trunc", "app"]).ok().text(), first);
    assert_eq!(world.gantry(["run", "--rm", "--network", "none", "app"]).ok().text(), "a\nb");
    // What changes is what is done again.
    world.write("context/a.txt", "changed\n");
    world.gantry(["build", "-q", "-t", "app", "context"]).ok();
    assert_eq!(world.gantry(["run", "--rm", "--network", "none", "app"]).ok().text(), "changed\nb");
    world.close();
}

#[test]
fn a_build_without_run_needs_no_root_rights() {
    let world = world!();
    context(
        &world,
        "FROM busybox\nCOPY --chown=app:app a.txt /data/\nCOPY --from=busybox /etc/passwd /copied\nLABEL a=b\n",
    );
    world.gantry(["build", "-t", "app", "context"]).ok();
    assert_eq!(world.gantry(["inspect", "-f", "{{.Config.Labels.a}}", "app"]).ok().text(), "b");
    world.close();
}

#[test]
fn with_source_date_epoch_two_builds_elsewhere_give_one_digest() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let dockerfile = "FROM busybox\nRUN mkdir /made && echo x > /made/file && date > /dev/null\nCOPY . /context/\nWORKDIR /w\n";
    let mut ids = BTreeSet::new();
    for (folder, time) in [("one", "2001-01-01"), ("quite/another", "2020-02-02")] {
        let world = World::new();
        // The base has one ID only if it is imported at one time: it goes along as an archive.
        let Some(base) = base_archive() else { skip!("busybox is not installed") };
        world.gantry(["load", "-i", base.to_str().expect("UTF-8")]).ok();
        world.write(&format!("{folder}/Dockerfile"), dockerfile);
        world.write(&format!("{folder}/sub/file"), "content\n");
        let touched = Command::new("find")
            .arg(world.path().join(folder))
            .args(["-exec", "touch", "-d", time, "{}", "+"])
            .status();
        assert!(touched.expect("find is part of every Debian").success());
        let mut command = world.command(["build", "-q", "--no-cache", "-t", "app", folder]);
        let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().expect("gantry starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        world.gantry(["save", "--format", "oci", "-o", "image.tar", "app"]).ok();
        ids.insert(std::fs::read(world.path().join("image.tar")).expect("saved"));
        world.close();
    }
    assert_eq!(ids.len(), 1, "the images differ");
}

fn base_archive() -> Option<std::path::PathBuf> {
    static BASE: std::sync::OnceLock<Option<std::path::PathBuf>> = std::sync::OnceLock::new();
    let make = || {
        let world = World::new();
        import_busybox(&world).then(|| {
            let file = std::env::temp_dir().join(format!("gantry-base-{}.tar", std::process::id()));
            world.gantry(["save", "-o", file.to_str().expect("UTF-8"), "busybox"]).ok();
            world.close();
            file
        })
    };
    BASE.get_or_init(make).clone()
}

#[test]
fn the_demo_builds_reproducibly_and_runs_under_dockerd() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let world = World::new();
    if !import_debian(&world) {
        skip!("mmdebstrap is not installed or reaches no mirror");
    }
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo");
    let mut ids = BTreeSet::new();
    for (folder, time) in [("one", "2001-01-01"), ("two/deeper", "2020-02-02")] {
        for name in ["Dockerfile", "hello.c"] {
            world.write(&format!("{folder}/{name}"), std::fs::read(demo.join(name)).expect("fixture"));
        }
        Command::new("find")
            .arg(world.path().join(folder))
            .args(["-exec", "touch", "-d", time, "{}", "+"])
            .status()
            .expect("find");
        let mut command = world.command(["build", "-q", "--no-cache", "-t", "demo", folder]);
        let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().expect("gantry starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ids.insert(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let Some(docker) = Dockerd::start(world.path()) else { skip!("dockerd is not installed") };
    let server = Server::start_beside(&docker, &world, &[]);
    let name = format!("{}/demo:1", server.address);
    world.gantry(["tag", "demo", &name]).ok();
    let store = world.store().display().to_string();
    let net = format!("--net=/proc/{}/ns/net", docker.pid());
    let binary = gantry_binary().display().to_string();
    run_client(&world, "nsenter", &[&net, &binary, "--root", &store, "push", &name]).ok();
    docker.docker(&world, &["pull", &name]).ok();
    let ran = docker.docker(&world, &["run", "--rm", "--network", "none", &name]).ok();
    assert!(ran.text().starts_with("Hello from a container"), "{ran:?}");
    server.stop();
    drop(docker);
    world.close();
}

#[test]
fn every_output_holds_the_image() {
    let world = world!();
    context(&world, "FROM scratch\nCOPY a.txt /a.txt\nCOPY dir /dir\n");
    let output = |spec: &str| world.gantry(["build", "--output", spec, "context"]).ok();
    output("type=oci,dest=oci.tar");
    output("type=docker,dest=docker.tar");
    output("type=tar,dest=root.tar");
    output("type=local,dest=root");
    assert_eq!(std::fs::read_to_string(world.path().join("root/dir/b.txt")).expect("exported"), "b\n");
    let list = run_client(&world, "tar", &["tf", "root.tar"]).ok();
    assert!(list.stdout.lines().any(|line| line.trim_start_matches("./") == "dir/b.txt"), "{list:?}");
    if has("skopeo") {
        for archive in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
            let shown = run_client(&world, "skopeo", &["inspect", "--config", archive]).ok();
            assert!(shown.stdout.contains("rootfs"), "{archive}: {shown:?}");
        }
    } else {
        eprintln!("skipped: skopeo is not installed");
    }
    world.close();
}

#[test]
fn iidfile_quiet_target_arguments_and_labels() {
    let world = world!();
    context(
        &world,
        "ARG WHAT=a.txt\nFROM scratch AS one\nARG WHAT\nCOPY ${WHAT} /x\nFROM scratch\nCOPY --from=one /x /y\n",
    );
    let args = [
        "build",
        "-q",
        "--iidfile",
        "id",
        "--target",
        "one",
        "--build-arg",
        "WHAT=dir/b.txt",
        "--label",
        "l=v",
        "context",
    ];
    let id = world.gantry(args).ok().text().to_owned();
    assert_eq!(std::fs::read_to_string(world.path().join("id")).expect("written"), id);
    assert_eq!(world.gantry(["inspect", "-f", "{{.Config.Labels.l}}", &id]).ok().text(), "v");
    let stdin = world.gantry_with_stdin(["build", "-q", "-"], b"FROM busybox\nLABEL from=stdin\n").ok();
    assert_eq!(world.gantry(["inspect", "-f", "{{.Config.Labels.from}}", stdin.text()]).ok().text(), "stdin");
    world.close();
}

#[test]
fn values_of_flags_are_looked_at_as_docker_does() {
    let world = world!();
    context(&world, "FROM busybox\n");
    for (flag, says) in [
        ("--label==x", "invalid argument \"=x\" for \"--label\" flag: invalid label '=x': empty name"),
        ("--build-arg=", "invalid argument \"\" for \"--build-arg\" flag: invalid environment variable:"),
        ("--tag=a:b:c", "invalid argument \"a:b:c\" for \"-t, --tag\" flag: invalid reference format\n"),
        ("--provenance=mode=max", "flag: only `false` is here yet"),
    ] {
        world.gantry(["build", flag, "context"]).fails(125).says(says);
    }
    world.gantry(["build", "-q", "--provenance=false", "--sbom=false", "context"]).ok();
    world.close();
}

#[test]
fn what_cannot_be_written_is_said_before_the_build() {
    let world = world!();
    context(&world, "FROM busybox\nLABEL a=b\n");
    world.write("file", "");
    world.write("id", "of an earlier build");
    for output in ["type=oci,dest=no/a.tar", "type=tar,dest=context", "type=local,dest=file/x", "file"] {
        let failed = world.gantry(["build", "-o", output, "context"]).fails(1);
        assert!(
            failed.stderr.contains("cannot write") && !failed.stderr.contains("[internal]"),
            "{failed:?}"
        );
    }
    let failed = world.gantry(["build", "--iidfile", "no/id", "context"]).fails(1);
    assert!(
        failed.stderr.contains("cannot write no/id") && !failed.stderr.contains("[internal]"),
        "{failed:?}"
    );
    // The file never holds the ID of another build.
    world.write("context/Dockerfile", "FROM busybox\nCOPY nothing /\n");
    world.write("behind", "of an earlier build");
    let at = |name: &str| world.path().join(name);
    std::os::unix::fs::symlink("behind", at("link")).expect("a link");
    for file in ["id", "link"] {
        world.gantry(["build", "--iidfile", file, "context"]).fails(1);
        assert!(at(file).symlink_metadata().is_err(), "{file}");
    }
    assert!(at("behind").exists());
    world.close();
}

#[test]
fn a_file_that_means_a_whiteout_in_a_context_on_stdin_is_named() {
    let world = world!();
    context(&world, "FROM scratch\nCOPY . /in/\n");
    world.write("context/dir/.wh.b.txt", "");
    let mut tar = Command::new("tar");
    tar.args(["-c", "."]).current_dir(world.path().join("context"));
    let tar = tar.output().expect("tar is part of every Debian").stdout;
    let built = world.gantry_with_stdin(["build", "-q", "-o", "out", "-"], &tar).ok();
    let warning =
        "WARNING: `dir/.wh.b.txt` of the build context is left out: no image can hold a file of that name\n";
    assert_eq!(built.stderr, warning);
    assert!(world.path().join("out/in/dir/b.txt").exists());
    world.close();
}

#[test]
fn a_context_comes_through_stdin_as_a_tar() {
    let world = world!();
    context(&world, "FROM busybox\nCOPY . /in/\n");
    world.write("context/other/Containerfile", "FROM scratch\nCOPY dir /\n");
    world.write("context/.dockerignore", "other\n");
    for (program, flag) in
        [("cat", "--"), ("gzip", "--gzip"), ("bzip2", "--bzip2"), ("xz", "--xz"), ("zstd", "--zstd")]
    {
        if !has(program) {
            eprintln!("skipped: {program} is not installed");
            continue;
        }
        let mut tar = Command::new("tar");
        tar.arg("-c")
            .args((program != "cat").then_some(flag))
            .arg(".")
            .current_dir(world.path().join("context"));
        let tar = tar.output().expect("tar is part of every Debian").stdout;
        let id = world.gantry_with_stdin(["build", "-q", "-"], &tar).ok().text().to_owned();
        let out = format!("out-{program}");
        world.gantry_with_stdin(["build", "-q", "-o", &out, "-f", "other/Containerfile", "-"], &tar).ok();
        assert_eq!(std::fs::read_to_string(world.path().join(out).join("b.txt")).expect("exported"), "b\n");
        let missing = world.gantry_with_stdin(["build", "-f", "no", "-"], &tar).fails(1);
        assert!(missing.stderr.contains("cannot read `no` in the build context from stdin"), "{missing:?}");
        // The folder itself gives the same image.
        let folder = world.gantry(["build", "--progress", "plain", "--iidfile", "id", "context"]).ok();
        assert!(folder.stderr.contains(" CACHED"), "{program}: {folder:?}");
        assert_eq!(std::fs::read_to_string(world.path().join("id")).expect("written"), id);
    }
    world.close();
}

#[test]
fn stdin_is_one_thing_only() {
    let world = world!();
    world
        .gantry_with_stdin(["build", "-f", "-", "-"], b"FROM scratch\n")
        .fails(1)
        .says("invalid argument: can't use stdin for both build context and dockerfile");
    world
        .gantry_with_stdin(["build", "-f", "Dockerfile", "-"], b"FROM scratch\n")
        .fails(1)
        .says("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles");
    let hostile = world.gantry_with_stdin(["build", "-"], b"\x1f\x8bgarbage").fails(1);
    assert!(hostile.stderr.contains("cannot unpack the build context from stdin"), "{hostile:?}");
    world.close();
}

#[test]
fn a_wrong_dockerfile_shows_all_its_errors_with_lines_and_hints() {
    let world = world!();
    context(&world, "FROM busybox\nCOPPY a b\nRUN true\nEXPOSE 80/nope\n");
    let failed = world.gantry(["build", "context"]).fails(1);
    for text in ["Dockerfile:2", "COPPY", "COPY", "hint"] {
        assert!(failed.stderr.contains(text), "expected `{text}` in:\n{}", failed.stderr);
    }
    world.close();
}

#[test]
fn progress_and_warnings_are_those_of_buildkit() {
    let world = world!();
    context(&world, "FROM busybox\nMAINTAINER x\nCMD run\n");
    let built = world.gantry(["build", "-t", "x", "-t", "r.io/y:1", "--build-arg", "B=1", "context"]).ok();
    let id = world.gantry(["images", "-q", "--no-trunc", "x"]).ok().text().to_owned();
    for line in [
        "exporting to image".to_owned(),
        "exporting layers done".to_owned(),
        format!("writing image {id} done"),
        "naming to docker.io/library/x done".to_owned(),
        "naming to r.io/y:1 done".to_owned(),
    ] {
        let is_there =
            built.stderr.lines().any(|found| found.starts_with('#') && found.ends_with(&format!(" {line}")));
        assert!(is_there, "expected `{line}` in:\n{}", built.stderr);
    }
    assert!(
        built.stderr.ends_with(
            "\n\n 3 warnings found (use docker --debug to expand):\n \
             - MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)\n \
             - JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to \
             OS signals (line 3)\n - [Warning] One or more build-args [B] were not consumed\n"
        ),
        "{}",
        built.stderr
    );
    for quiet in [&["build", "--progress", "quiet", "context"][..], &["build", "-q", "context"]] {
        let built = world.gantry(quiet).ok();
        assert_eq!((built.text(), built.stderr.as_str()), (id.as_str(), ""));
    }
    world.write("context/Dockerfile", "# check=error=true\nFROM busybox\nMAINTAINER x\n");
    world
        .gantry(["build", "context"])
        .fails(1)
        .says("error: lint violation found for rules: MaintainerDeprecated\n")
        .says(" 1 warning found (use docker --debug to expand):\n - MaintainerDeprecated:");
    world.close();
}

#[test]
fn contexts_elsewhere_are_refused_with_what_to_do_instead() {
    let world = World::new();
    for (context, kind, hint) in [
        ("https://x.org/a.git#main:sub", "git", "git clone https://x.org/a.git FOLDER"),
        ("git@x.org:a/b", "git", "git clone git@x.org:a/b FOLDER"),
        ("github.com/a/b", "git", "git clone https://github.com/a/b FOLDER"),
        ("http://x.org/a.tar.gz", "URLs", "curl -fL http://x.org/a.tar.gz | gantry build -"),
    ] {
        world
            .gantry(["build", context])
            .fails(1)
            .says(&format!(
                "error: cannot build from {context}: contexts from {kind} are not here yet\n  hint: "
            ))
            .says(hint);
    }
    world.close();
}

#[test]
fn a_missing_source_names_the_line_and_the_ignore_rule() {
    let world = world!();
    context(&world, "FROM busybox\nCOPY secret.txt /\n");
    world.write("context/secret.txt", "x");
    world.write("context/.dockerignore", "*.md\nsecret*\n");
    let failed = world.gantry(["build", "context"]).fails(1);
    for text in ["Dockerfile:2", "secret.txt", ".dockerignore", "line 2"] {
        assert!(failed.stderr.contains(text), "expected `{text}` in:\n{}", failed.stderr);
    }
    world.close();
}

#[test]
fn a_failed_command_shows_its_output_and_code() {
    if !is_root() {
        skip!("RUN needs root so far");
    }
    let world = world!();
    context(&world, "FROM busybox\nRUN echo before && exit 7\n");
    let failed = world.gantry(["build", "context"]).fails(1);
    for text in ["before", "exit code: 7", "Dockerfile:2"] {
        assert!(failed.stderr.contains(text), "expected `{text}` in:\n{}", failed.stderr);
    }
    world.close();
}

#[test]
fn names_with_a_digest_and_outputs_without_a_place_are_refused_before_anything_is_built() {
    let world = World::new();
    world.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let digest = format!("a@sha256:{}", "0".repeat(64));
    let stdout_twice = ["-o", "type=oci,dest=-", "-o", "type=tar,dest=-"];
    for (args, text) in [
        (&["-t", &digest][..], "Error: build tag cannot contain a digest"),
        (&stdout_twice, "more than one --output goes to stdout"),
        (&["-o", "type=oci,dest="], "--output type=oci,dest=: `dest` is empty"),
    ] {
        let refused = world.gantry([&["build"], args, &["context"]].concat()).fails(1).says(text);
        assert_eq!(refused.stdout, "");
    }
    assert_eq!(world.gantry(["images", "-q"]).ok().text(), "");
    world.close();
}
