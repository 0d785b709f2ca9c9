//! What `inspect` and `ps` say about a container afterwards.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::world;

#[test]
fn inspect_tells_the_entry_point_from_the_command() {
    let world = world!();
    let dockerfile = "FROM busybox\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"exit 4\", \"zero\"]\nEXPOSE 80 81/udp\nVOLUME /data\n\
                      STOPSIGNAL SIGINT\nHEALTHCHECK --retries=2 CMD true\nLABEL from=image\nWORKDIR /tmp\nUSER app\n\
                      ONBUILD RUN true\nSHELL [\"sh\"]\n";
    world.write("context/Dockerfile", dockerfile);
    world.gantry(["build", "-q", "-t", "ep", "context"]).ok();
    let run = |name: &str, args: &[&str]| {
        world.gantry(["run", "--network", "none", "--name", name].iter().chain(args)).code
    };
    let inspect =
        |name: &str, format: &str| world.gantry(["inspect", "-f", format, name]).ok().text().to_owned();
    let words = "{{json .Path}} {{json .Args}} {{json .Config.Entrypoint}} {{json .Config.Cmd}}";

    assert_eq!(run("plain", &["ep"]), 4);
    assert_eq!(inspect("plain", words), r#""sh" ["-c","exit 4","zero"] ["sh","-c"] ["exit 4","zero"]"#);
    assert_eq!(run("args", &["ep", "exit 5"]), 5);
    assert_eq!(inspect("args", words), r#""sh" ["-c","exit 5"] ["sh","-c"] ["exit 5"]"#);
    assert_eq!(run("other", &["--entrypoint", "true", "ep"]), 0);
    assert_eq!(inspect("other", words), r#""true" [] ["true"] null"#);
    assert_eq!(run("none", &["--entrypoint", "", "ep", "true", "x"]), 0);
    assert_eq!(inspect("none", words), r#""true" ["x"] null ["true","x"]"#);

    let format = "{{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.StopSignal}} \
                  {{json .Config.Healthcheck}} {{.Config.WorkingDir}} {{.Config.User}} {{json .Config.OnBuild}} {{.Config.Image}}";
    assert_eq!(
        inspect("plain", format),
        r#"{"80/tcp":{},"81/udp":{}} {"/data":{}} SIGINT {"Test":["CMD-SHELL","true"],"Retries":2} /tmp app null ep"#
    );
    world.close();
}

#[test]
fn inspect_shows_what_was_asked_for_as_it_was_typed() {
    let world = world!();
    let folder = world.path().join("shared").display().to_string();
    let bind = format!("{folder}:/m:ro,z");
    let args =
        ["run", "-i", "-l", "a=b", "--cidfile", "cid", "-v", &bind, "--network", "none", "--name", "one"];
    world.gantry(args.iter().chain(&["busybox", "true"])).ok();
    let id = std::fs::read_to_string(world.path().join("cid")).expect("written");
    let inspect = |format: &str| world.gantry(["inspect", "-f", format, &id]).ok().text().to_owned();
    assert_eq!(inspect("{{json .HostConfig.Binds}}"), format!("[\"{bind}\"]"));
    assert_eq!(
        inspect("{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.Mode}} {{.RW}}{{end}}"),
        format!("bind {folder} /m ro,z false")
    );
    assert_eq!(
        inspect(
            "{{.HostConfig.NetworkMode}} {{.HostConfig.AutoRemove}} {{.HostConfig.ContainerIDFile}} {{.Config.Labels}}"
        ),
        "none false cid map[a:b]"
    );
    let streams = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.OpenStdin}} {{.Config.StdinOnce}} {{.Config.Tty}}";
    assert_eq!(inspect(streams), "true true true true false");
    world.gantry(["run", "-a", "stderr", "--network", "none", "--name", "two", "busybox", "true"]).ok();
    let two = world.gantry(["inspect", "-f", streams, "two"]).ok();
    assert_eq!(two.text(), "false false false false false");
    assert_eq!(
        world
            .gantry(["ps", "-a", "--no-trunc", "--filter", "name=one", "--format", "{{.Mounts}}"])
            .ok()
            .text(),
        folder
    );
    world.close();
}

/// Who ran it writes its end down while it is removed.
#[test]
fn a_running_container_is_removed_by_force_each_time() {
    let world = world!();
    for round in 0..30 {
        let mut args = vec!["run", "--name", "job", "--network", "none"];
        args.extend((round % 2 == 0).then_some("--rm"));
        args.extend(["busybox", "sh", "-c", "echo up; sleep 60"]);
        let mut run = world.command(&args).stdout(Stdio::piped()).spawn().expect("gantry starts");
        let mut up = String::new();
        let stdout = run.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut up).expect("the command speaks");
        assert_eq!(up, "up\n");
        assert_eq!(world.gantry(["rm", "-f", "job"]).ok().text(), "job", "round {round}");
        assert_eq!(run.wait().expect("it ends").code(), Some(137), "round {round}");
    }
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn a_damaged_container_is_seen_named_and_removed_by_force() {
    let world = world!();
    let run = |name: &str| world.gantry(["run", "--network", "none", "--name", name, "busybox", "true"]).ok();
    run("whole");
    for (record, status) in
        [("config.json", "Exited (0)"), ("settings.json", "Exited (0)"), ("state.json", "Dead")]
    {
        run("broken");
        let id = world.gantry(["ps", "-aq", "--no-trunc", "-f", "name=broken"]).ok().text().to_owned();
        let short = &id[..12];
        let record = world.store().join("containers").join(&id).join(record);
        std::fs::remove_file(&record).expect("it is there");
        let list = world.gantry(["ps", "-a", "--format", "{{.ID}} {{.Names}} {{.Status}}"]).ok();
        let lines: Vec<&str> = list.text().lines().collect();
        assert!(lines[0].starts_with(&format!("{short} broken {status}")), "{lines:?}");
        assert!(lines[1].contains(" whole Exited (0)"), "{lines:?}");
        let why = format!("cannot read {}: no such file or directory", record.display());
        let warning = format!("WARNING: container {short} is damaged: {why}; `rm -f {short}` removes it\n");
        assert_eq!(list.stderr, warning);
        let refused = world.gantry(["rm", "broken"]).fails(1);
        assert_eq!(
            refused.stderr,
            format!("Error: container {id} is damaged and can only be removed by force: {why}\n")
        );
        world.gantry(["inspect", "-f", "{{.State.Error}}", short]).ok();
        assert_eq!(world.gantry(["rm", "-f", short]).ok().text(), short);
        assert_eq!(world.gantry(["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "whole");
    }
    world.close();
}

#[test]
fn a_container_of_a_newer_program_is_listed_and_stays() {
    let world = world!();
    world.gantry(["run", "--network", "none", "--name", "newer", "busybox", "true"]).ok();
    let id = world.gantry(["ps", "-aq", "--no-trunc"]).ok().text().to_owned();
    let record = world.store().join("containers").join(&id).join("config.json");
    std::fs::write(&record, r#"{"version": 2}"#).expect("it is there");
    let why = format!(
        "{} has version 2 of its format, and only 1 is known here: use a newer gantry",
        record.display()
    );
    let list = world.gantry(["ps", "-a", "--format", "{{.Names}}"]).ok();
    assert_eq!(list.text(), "newer");
    assert_eq!(list.stderr, format!("WARNING: container {}: {why}\n", &id[..12]));
    for args in [&["rm", "newer"][..], &["rm", "-f", "newer"]] {
        assert_eq!(world.gantry(args).fails(1).stderr, format!("Error: {why}\n"));
    }
    assert!(record.exists());
    world.close();
}

#[test]
fn the_list_shows_an_id_where_the_name_means_another_image() {
    let world = world!();
    world.gantry(["tag", "busybox", "app"]).ok();
    world.gantry(["run", "--network", "none", "--name", "one", "-l", "a.b-c=d", "app", "true"]).ok();
    let image = || world.gantry(["ps", "-a", "--format", "{{.Image}}"]).ok().text().to_owned();
    assert_eq!(image(), "app");
    world.write("context/Dockerfile", "FROM busybox\nENV A=b\n");
    world.gantry(["build", "-q", "-t", "app", "context"]).ok();
    let id = world.gantry(["images", "-q", "busybox"]).ok().text().to_owned();
    assert_eq!(image(), id);
    let table = world.gantry(["ps", "-a", "--format", "table {{.Label \"a.b-c\"}}\t{{.Names}}"]).ok();
    assert_eq!(table.text(), "b c       NAMES\nd         one");
    world.close();
}

#[test]
fn filters_of_the_list_are_dockers() {
    let world = world!();
    world.gantry(["run", "--network", "none", "--name", "one", "busybox", "true"]).ok();
    let list = |filter: &str| world.gantry(["ps", "-a", "--format", "{{.Names}}", "-f", filter]);
    for (filter, expected) in
        [("exited=0", "one"), ("is-task=false", "one"), ("publish=80", ""), ("expose=1-9", "")]
    {
        assert_eq!(list(filter).ok().text(), expected, "{filter}");
    }
    list("exited=x").fails(1).says(r#"strconv.Atoi: parsing "x": invalid syntax"#);
    list("health=ill").fails(1).says("Unrecognised filter value for health: ill");
    list("is-task=x").fails(1).says("Invalid filter 'is-task=[x]'");
    // Also where there is no line.
    world.gantry(["ps", "--format", "{{.Nope}}"]).fails(1).says("can't evaluate field Nope");
    world.close();
}
