//! `gantry run` as docker's users know it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tests::{World, busybox_world, import_debian, is_root, skip, static_program, wait_for};

/// A world with busybox, or the reason why there is none.
fn world() -> Result<World, &'static str> {
    if !is_root() {
        return Err("running containers needs root so far");
    }
    busybox_world()
}

macro_rules! world {
    () => {
        tests::world_or_skip!(world())
    };
}

mod failures;
mod machine;
mod records;
mod streams;

#[test]
fn a_command_runs_and_its_exit_code_is_ours() {
    let world = world!();
    let run =
        |args: &[&str]| world.gantry(["run", "--rm", "--network", "none", "busybox"].iter().chain(args));
    assert_eq!(run(&["echo", "hello"]).ok().text(), "hello");
    run(&["sh", "-c", "exit 42"]).fails(42);
    let both = run(&["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(run(&["sh", "-c", "echo $$"]).ok().text(), "1");
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn what_cannot_be_executed_is_126_or_127_and_wrong_flags_are_125() {
    let world = world!();
    let run = |args: &[&str]| world.gantry(["run", "--rm", "--network", "none"].iter().chain(args));
    run(&["busybox", "nosuchcmd"])
        .fails(127)
        .says(r#"exec: "nosuchcmd": executable file not found in $PATH"#);
    run(&["busybox", "/no/such"])
        .fails(127)
        .says(r#"exec: "/no/such": stat /no/such: no such file or directory"#);
    run(&["busybox", "/etc/passwd"]).fails(126).says(r#"exec: "/etc/passwd": permission denied"#);
    run(&["busybox", "/etc"]).fails(126);
    run(&["--no-such-flag", "busybox", "true"]).fails(125).says("unknown flag: --no-such-flag");
    run(&["nosuchimage", "true"]).fails(125);
    world.gantry(["run"]).fails(1);
    world.close();
}

#[test]
fn environment_user_directory_and_entrypoint() {
    let world = world!();
    let run = |args: &[&str]| {
        world.gantry(["run", "--rm", "--network", "none"].iter().chain(args)).ok().text().to_owned()
    };
    assert_eq!(run(&["-e", "A=b", "-e", "B=c", "busybox", "sh", "-c", "echo $A$B"]), "bc");
    assert_eq!(
        run(&["-u", "app", "busybox", "id"]),
        "uid=1000(app) gid=1000(app) groups=60(extra),1000(app)"
    );
    assert_eq!(run(&["-u", "7:8", "busybox", "id", "-u"]), "7");
    assert_eq!(run(&["-w", "/made/here", "busybox", "pwd"]), "/made/here");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "a", "b"]), "a b");
    assert_eq!(run(&["-u", "app", "busybox", "sh", "-c", "echo $HOME"]), "/home/app");
    world
        .gantry(["run", "--rm", "--network", "none", "-u", "nobody9", "busybox", "true"])
        .fails(125)
        .says("unable to find user nobody9: no matching entries in passwd file");
    world.close();
}

#[test]
fn volumes_are_bound_and_may_be_read_only() {
    let world = world!();
    world.write("shared/file", "from the host\n");
    let host = world.path().join("shared").display().to_string();
    let bind = format!("{host}:/mnt");
    let run = |args: &[&str]| world.gantry(["run", "--rm", "--network", "none"].iter().chain(args));
    assert_eq!(run(&["-v", &bind, "busybox", "cat", "/mnt/file"]).ok().text(), "from the host");
    run(&["-v", &bind, "busybox", "sh", "-c", "echo new > /mnt/new"]).ok();
    assert_eq!(std::fs::read_to_string(world.path().join("shared/new")).expect("written"), "new\n");
    run(&["-v", &format!("{bind}:ro"), "busybox", "touch", "/mnt/x"]).fails(1);
    world.close();
}

#[test]
fn without_a_network_flag_there_is_none_and_it_is_said_once() {
    let world = world!();
    let run = world.gantry(["run", "--rm", "busybox", "ls", "/sys/class/net"]).ok();
    assert_eq!(run.text(), "lo");
    assert_eq!(run.stderr.lines().filter(|line| line.contains("network")).count(), 1, "{}", run.stderr);
    let namespace = "/proc/self/ns/net";
    let host = world.gantry(["run", "--rm", "--network", "host", "busybox", "readlink", namespace]).ok();
    let here = std::fs::read_link(namespace).expect("readable");
    assert_eq!(Path::new(host.text()), here);
    world.close();
}

#[test]
fn stdin_reaches_the_command_with_i_and_not_without() {
    let world = world!();
    let none = ["run", "--rm", "--network", "none"];
    let with = world.gantry_with_stdin(none.iter().chain(&["-i", "busybox", "cat"]), b"some text");
    assert_eq!(with.ok().stdout, "some text");
    let without = world.gantry_with_stdin(none.iter().chain(&["busybox", "wc", "-c"]), b"some text");
    assert_eq!(without.ok().text(), "0");
    world
        .gantry(["run", "--rm", "-it", "--network", "none", "busybox", "true"])
        .fails(1)
        .says("the input device is not a TTY");
    world.close();
}

#[test]
fn t_gives_a_real_terminal() {
    let world = world!();
    let run =
        world.gantry(["run", "--rm", "-t", "--network", "none", "busybox", "sh", "-c", "tty; echo x"]).ok();
    assert_eq!(run.stdout, "/dev/pts/0\r\nx\r\n");
    world.close();
}

#[test]
fn containers_are_listed_named_and_removed() {
    let world = world!();
    world.gantry(["run", "--network", "none", "--name", "one", "busybox", "sh", "-c", "exit 3"]).fails(3);
    let list = world.gantry(["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Status}}"]).ok();
    assert!(list.text().starts_with("one busybox exited Exited (3) "), "{}", list.text());
    assert_eq!(world.gantry(["ps", "-q"]).ok().text(), "");
    world
        .gantry(["run", "--network", "none", "--name", "one", "busybox", "true"])
        .fails(125)
        .says(r#"Conflict. The container name "/one" is already in use by container"#);
    let image = world.gantry(["rmi", "busybox"]).fails(1);
    assert!(
        image
            .stderr
            .contains("conflict: unable to remove repository reference \"busybox\" (must force) - container"),
        "{image:?}"
    );
    assert_eq!(
        world.gantry(["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one"]).ok().text(),
        "exited 3"
    );
    assert_eq!(world.gantry(["rm", "one"]).ok().text(), "one");
    world.gantry(["rm", "one"]).fails(1).says("No such container: one");
    world.gantry(["rmi", "busybox"]).ok();
    world.close();
}

#[test]
fn signals_are_forwarded_to_the_command() {
    let world = world!();
    let script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.1; done";
    let mut command = world.command(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("gantry starts");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut first = [0; 3];
    stdout.read_exact(&mut first).expect("the container speaks");
    assert_eq!(&first, b"up\n");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!((rest.as_str(), child.wait().expect("a child").code()), ("got\n", Some(5)));
    world.close();
}

#[test]
fn the_third_signal_ends_a_command_that_goes_on() {
    let world = world!();
    let script = "trap 'echo got' TERM INT; echo up; while :; do sleep 0.1; done";
    let mut command = world.command(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gantry starts");
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let mut heard = || lines.next().expect("the container speaks").expect("text");
    assert_eq!(heard(), "up");
    for signal in [Signal::TERM, Signal::INT] {
        kill_process(pid, signal).expect("it runs");
        assert_eq!(heard(), "got");
    }
    kill_process(pid, Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("a child");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((&*stderr, output.status.code()), ("\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n", Some(1)));
    assert_eq!(world.gantry(["ps", "-aq"]).ok().text(), "");
    world.close();
}

#[test]
fn a_killed_command_line_leaves_no_process_behind() {
    let world = world!();
    let marker = format!("{}", 86_400 + std::process::id());
    let mut command = world.command([
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        &format!("echo up; sleep {marker}"),
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gantry starts");
    let mut first = [0; 3];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("the container speaks");
    child.kill().expect("it runs");
    child.wait().expect("a child");
    wait_for("the container's end", || !somebody_sleeps(&marker));
    assert_eq!(world.gantry(["ps", "-q"]).ok().text(), "");
    world.gantry(["ps", "-aq"]).ok().text().lines().for_each(|id| drop(world.gantry(["rm", "-f", id]).ok()));
    world.close();
}

fn somebody_sleeps(marker: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok()).any(|line| {
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        words.contains(&&b"sleep"[..]) && words.contains(&marker.as_bytes())
    })
}

#[test]
fn the_default_profile_of_docker_holds() {
    let world = world!();
    let run =
        |script: &str| world.gantry(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]).ok();
    let status = run("cat /proc/self/status").stdout;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
    };
    assert_eq!(field("Seccomp:").as_deref(), Some("2"));
    assert_eq!(field("NoNewPrivs:").as_deref(), Some("0"));
    assert_eq!(field("CapInh:").as_deref(), Some("0000000000000000"));
    assert_eq!(field("CapEff:").as_deref(), Some("00000000a80425fb"));
    run("test -z \"$(cat /proc/kcore 2>/dev/null | head -c 1)\"");
    assert_eq!(run("mount -t tmpfs x /mnt 2>/dev/null || echo refused").text(), "refused");
    world.close();
}

#[test]
fn threads_start_clone3_is_unknown_and_keyctl_is_refused() {
    let world = world!();
    let source = r#"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *thread(void *x) { return x; }
int main(void) {
    pthread_t t;
    int started = pthread_create(&t, 0, thread, 0) == 0 && pthread_join(t, 0) == 0;
    long clone3 = syscall(435, 0, 0); int a = errno;
    long keyctl = syscall(SYS_keyctl, 0, 0, 0, 0, 0); int b = errno;
    printf("%d %d %d\n", started, clone3 == -1 && a == ENOSYS, keyctl == -1 && b == EPERM);
    return 0;
}
"#;
    let Some(program) = static_program(&world, "probe", source) else { skip!("no C compiler") };
    let bind = format!("{}:/probe", program.display());
    let run = world.gantry(["run", "--rm", "--network", "none", "-v", &bind, "busybox", "/probe"]).ok();
    assert_eq!(run.text(), "1 1 1");
    world.close();
}

#[test]
fn a_debian_root_runs_with_its_own_libraries() {
    let world = world!();
    if !import_debian(&world) {
        skip!("mmdebstrap is not installed or reaches no mirror");
    }
    let run = world
        .gantry([
            "run",
            "--rm",
            "--network",
            "none",
            "debian:bookworm",
            "bash",
            "-c",
            "perl -e 'print 6*7'; dpkg -l | wc -l",
        ])
        .ok();
    assert!(run.text().starts_with("42"), "{run:?}");
    world.close();
}

#[test]
fn output_of_a_megabyte_a_line_arrives_whole() {
    let world = world!();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x";
    let run = world.gantry(["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]).ok();
    assert_eq!(run.stdout.len(), 3_000_000);
    let mut child = world
        .command(["run", "--rm", "-i", "--network", "none", "busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gantry starts");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(&vec![b'y'; 5_000_000]));
    let mut back = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut back).expect("readable");
    writer.join().expect("no panic").expect("written");
    assert!(child.wait().expect("a child").success() && back.len() == 5_000_000);
    world.close();
}
