//! What a command sees and how its end comes back.

use crate::tests;
use crate::world::{Test, World, check, check_refused, run};

pub(crate) const TESTS: &[Test] = tests![
    output_and_exit_code_come_back,
    a_command_is_the_first_process_of_its_own_world,
    users_are_looked_up_in_the_root,
    unknown_users_are_refused_in_dockers_words,
    the_environment_is_dockers,
    the_working_directory_is_made,
    commands_that_cannot_run_have_dockers_codes,
    a_file_that_is_no_program_says_so_on_standard_error,
    the_network_is_none_or_the_hosts,
    a_read_only_root_is_read_only,
    a_users_pipes_can_be_opened_again,
    a_large_output_arrives_whole,
    a_closed_output_ends_the_writer,
];

fn output_and_exit_code_come_back(world: &World) {
    let outcome = world.shell("echo out; echo err >&2; exit 42");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n"),
        "{:?}",
        outcome.status
    );
    assert_eq!(outcome.status.unwrap().code, 42);
    assert_eq!(world.shell("kill -9 $$ & kill -TERM $$; sleep 0.1; exit 3").status.unwrap().code, 3);
}

fn a_command_is_the_first_process_of_its_own_world(world: &World) {
    check(&world.spec("a", &["sh", "-c", "echo $$; hostname; set -- /proc/[0-9]*; echo $#"]), "1\nbox\n1\n");
}

fn users_are_looked_up_in_the_root(world: &World) {
    let ids = |user: &str, expected: &str| {
        let script = "echo $(id -u) $(id -g) $(grep Groups: /proc/self/status | tr '\\t' ' ') $HOME";
        let mut spec = world.spec("ids", &["sh", "-c", script]);
        user.clone_into(&mut spec.user);
        check(&spec, expected);
    };
    ids("", "0 0 Groups: 0 10 /root\n");
    ids("app", "1000 1000 Groups: 60 1000 /home/app\n");
    ids("1000:5000", "1000 5000 Groups: 5000 /home/app\n");
    ids("app:staff", "1000 50 Groups: 50 /home/app\n");
    ids("4321", "4321 0 Groups: 0 /\n");
}

fn unknown_users_are_refused_in_dockers_words(world: &World) {
    let mut spec = world.spec("a", &["true"]);
    "nobody".clone_into(&mut spec.user);
    check_refused(&spec, 125, "unable to find user nobody: no matching entries in passwd file");
    "app:nogrp".clone_into(&mut spec.user);
    check_refused(&spec, 125, "unable to find group nogrp: no matching entries in group file");
}

fn the_environment_is_dockers(world: &World) {
    let mut spec = world.spec("a", &["env"]);
    spec.env = vec!["B=2".into(), "A=1=1".into(), "EMPTY=".into()];
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n";
    check(&spec, &format!("{path}HOSTNAME=box\nB=2\nA=1=1\nEMPTY=\nHOME=/root\n"));
}

fn the_working_directory_is_made(world: &World) {
    let mut spec = world.spec("a", &["sh", "-c", "pwd; stat -c '%u:%g %a' /made/deep"]);
    "/made/deep".clone_into(&mut spec.working_dir);
    "1000".clone_into(&mut spec.user);
    check(&spec, "/made/deep\n0:0 755\n");
    "rel".clone_into(&mut spec.working_dir);
    check_refused(&spec, 125, "the working directory 'rel' is invalid, it needs to be an absolute path");
    "/etc/passwd".clone_into(&mut spec.working_dir);
    check_refused(&spec, 125, "Cannot mkdir: /etc/passwd is not a directory");
}

fn commands_that_cannot_run_have_dockers_codes(world: &World) {
    let refused = |command: &str, code: i32, text: &str| {
        check_refused(
            &world.spec("a", &[command]),
            code,
            &format!("unable to start container process: {text}"),
        );
    };
    refused("nosuch", 127, r#"exec: "nosuch": executable file not found in $PATH"#);
    refused("/no/such", 127, r#"exec: "/no/such": stat /no/such: no such file or directory"#);
    refused("/etc/passwd", 126, r#"exec: "/etc/passwd": permission denied"#);
    refused("/etc", 126, r#"exec: "/etc": is a directory"#);
}

fn a_file_that_is_no_program_says_so_on_standard_error(world: &World) {
    let path = world.root().join("bin/garbage");
    std::fs::copy(world.root().join("etc/passwd"), &path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let outcome = run(&world.spec("a", &["garbage"]));
    assert_eq!(outcome.stderr, "exec garbage: exec format error\n");
    assert_eq!(outcome.status.unwrap().code, 255);
}

fn the_network_is_none_or_the_hosts(world: &World) {
    let devices = "ip -o link | grep -c LOOPBACK,UP; ip -o addr | grep -c 'inet 127.0.0.1/8'";
    check(&world.spec("none", &["sh", "-c", devices]), "1\n1\n");
    let mut spec = world.spec("host", &["readlink", "/proc/self/ns/net"]);
    spec.network = engine::Network::Host;
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    check(&spec, &format!("{}\n", host.display()));
}

fn a_read_only_root_is_read_only(world: &World) {
    let mut spec = world.spec("a", &["sh", "-c", "touch /x; touch /dev/shm/x && echo shm"]);
    spec.read_only = true;
    let outcome = run(&spec);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("shm\n", "touch: /x: Read-only file system\n")
    );
}

fn a_users_pipes_can_be_opened_again(world: &World) {
    let mut spec = world.spec("a", &["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"]);
    "app".clone_into(&mut spec.user);
    let outcome = run(&spec);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

fn a_large_output_arrives_whole(world: &World) {
    let outcome = world.shell("dd if=/dev/zero bs=1000 count=5000 2>/dev/null | tr '\\0' x");
    assert_eq!(outcome.stdout.len(), 5_000_000);
}

fn a_closed_output_ends_the_writer(world: &World) {
    let spec = world.spec("a", &["sh", "-c", "while echo x; do :; done 2>/dev/null; exit 7"]);
    let status = crate::world::run_with(&spec, None, &mut |_, _| Err(std::io::ErrorKind::BrokenPipe.into()));
    // The shell gets SIGPIPE, or the error when it is the first process, which no signal ends by default.
    assert_eq!(status.unwrap().code, 7);
}
