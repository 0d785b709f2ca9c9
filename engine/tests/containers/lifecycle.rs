//! Starts, ends, and what is left of them.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use engine::{Attachment, Stream};
use rustix::process::{Pid, Signal};

use crate::tests;
use crate::world::{Test, World, check, run, run_with};

pub(crate) const TESTS: &[Test] = tests![
    input_is_passed_on_up_to_its_end,
    an_unused_input_does_not_hold_anything_up,
    a_cancelled_command_is_killed,
    twenty_at_once,
    nothing_is_left_after_the_end,
    the_container_dies_with_the_process_that_holds_it,
    the_container_dies_with_its_caller,
    background_processes_die_with_the_first,
    signals_reach_the_command,
    kills_at_any_moment_leave_nothing,
];

fn input_is_passed_on_up_to_its_end(world: &World) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let feeder = thread::spawn(move || {
        for _ in 0..1000 {
            writer.write_all(&[b'x'; 1000]).unwrap();
        }
    });
    let mut output = Vec::new();
    let status = run_with(
        &world.spec("a", &["sh", "-c", "wc -c; echo done"]),
        Some(reader.into()),
        &mut |_, bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        },
    );
    feeder.join().unwrap();
    assert_eq!((String::from_utf8(output).unwrap().as_str(), status.unwrap().code), ("1000000\ndone\n", 0));
}

fn an_unused_input_does_not_hold_anything_up(world: &World) {
    let (reader, _open) = std::io::pipe().unwrap();
    let status = run_with(&world.spec("a", &["true"]), Some(reader.into()), &mut |_, _| Ok(()));
    assert_eq!(status.unwrap().code, 0);
}

fn a_cancelled_command_is_killed(world: &World) {
    let cancel = AtomicBool::new(false);
    let status = engine::run(
        &world.spec("a", &["sh", "-c", "echo up; sleep 1000"]),
        Attachment {
            stdin: None,
            output: &mut |_, _| {
                cancel.store(true, Ordering::Relaxed);
                Ok(())
            },
            terminal: None,
            forward_signals: false,
            cancel: Some(&cancel),
            started: &mut |_| {},
        },
    );
    assert_eq!(status.unwrap().code, 137);
}

fn twenty_at_once(world: &World) {
    thread::scope(|scope| {
        for number in 0..20 {
            scope.spawn(move || {
                let text = format!("{number}\n");
                check(&world.spec(&format!("c{number}"), &["echo", &number.to_string()]), &text);
            });
        }
    });
}

fn nothing_is_left_after_the_end(world: &World) {
    // Others of the machine come and go.
    let needle = world.path("").display().to_string();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&needle).count();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    run(&world.spec("warm", &["true"])).status.unwrap();
    let before = (mounts(), descriptors());
    let spec = world.spec("a", &["sh", "-c", "sleep 1000 & true"]);
    run(&spec).status.unwrap();
    run(&world.spec("b", &["nosuch"])).status.unwrap_err();
    let nobody = engine::RunSpec { user: "nobody".to_owned(), ..world.spec("c", &["true"]) };
    run(&nobody).status.unwrap_err();
    assert_eq!((mounts(), descriptors()), before);
    assert_eq!((groups(&spec.id), groups(&nobody.id)), (0, 0));
    assert_eq!(held(world), 0, "a process is left");
}

/// How many folders of control groups are left of a container.
fn groups(id: &str) -> usize {
    let hierarchies = ["/sys/fs/cgroup/devices/gantry", "/sys/fs/cgroup/gantry"];
    hierarchies.iter().filter(|folder| std::path::Path::new(folder).join(id).exists()).count()
}

/// How many processes see a mount of this world, in whatever namespace.
fn held(world: &World) -> usize {
    let needle = world.path("").display().to_string();
    let own = std::process::id().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.parse::<u32>().is_ok() && *name != own)
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|text| text.contains(&needle))
        })
        .count()
}

/// Waits until nothing of the world is held any longer.
#[track_caller]
fn check_released(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while held(world) > 0 {
        assert!(Instant::now() < deadline, "{} processes are left", held(world));
        thread::yield_now();
    }
}

fn the_container_dies_with_the_process_that_holds_it(world: &World) {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut output = |_: Stream, _: &[u8]| {
                sender.send(()).unwrap();
                Ok(())
            };
            run_with(&world.spec("a", &["sh", "-c", "echo up; sleep 1000"]), None, &mut output)
        });
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        let init = child_named(std::process::id(), "__init");
        rustix::process::kill_process(init, Signal::KILL).unwrap();
        assert_eq!(running.join().unwrap().unwrap_err().exit_code(), 137);
    });
    check_released(world);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("overlay") || !mounts.contains(world.path("").to_str().unwrap()));
}

/// The child of `parent` whose command line has `word`.
fn child_named(parent: u32, word: &str) -> Pid {
    let children = fs::read_dir(format!("/proc/{parent}/task"))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok())
        .collect::<String>();
    let child = children.split_whitespace().find(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    });
    Pid::from_raw(child.unwrap().parse().unwrap()).unwrap()
}

/// This program again, as a caller that can be killed: runs a container that says `up` and sleeps.
pub(crate) fn victim(world_path: &str, script: &str) {
    let spec: engine::RunSpec = serde_json::from_slice(&fs::read(world_path).unwrap()).unwrap();
    let spec = engine::RunSpec { args: vec!["sh".into(), "-c".into(), script.into()], ..spec };
    let status = engine::run(
        &spec,
        Attachment {
            stdin: None,
            output: &mut |_, bytes| std::io::stdout().write_all(bytes),
            terminal: None,
            forward_signals: true,
            cancel: None,
            started: &mut |_| {},
        },
    );
    std::process::exit(status.unwrap().code);
}

fn spawn_victim(world: &World, id: &str, script: &str) -> std::process::Child {
    let path = world.path(&format!("{id}.json"));
    fs::write(&path, serde_json::to_vec(&world.spec(id, &[])).unwrap()).unwrap();
    std::process::Command::new("/proc/self/exe")
        .args(["victim", path.to_str().unwrap(), script])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

fn start_victim(world: &World, script: &str) -> std::process::Child {
    let mut child = spawn_victim(world, "a", script);
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    assert_eq!(&up, b"up\n");
    child
}

fn the_container_dies_with_its_caller(world: &World) {
    let mut victim = start_victim(world, "echo up; sleep 1000");
    assert!(held(world) > 0);
    victim.kill().unwrap();
    victim.wait().unwrap();
    check_released(world);
}

fn background_processes_die_with_the_first(world: &World) {
    let begin = Instant::now();
    let outcome = world.shell("sleep 1000 & sleep 1000 & echo done");
    assert_eq!(outcome.stdout, "done\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
    check_released(world);
}

fn signals_reach_the_command(world: &World) {
    let script = "trap 'echo got; exit 5' TERM USR1; echo up; while :; do sleep 0.01; done";
    for signal in [Signal::TERM, Signal::USR1] {
        let mut victim = start_victim(world, script);
        rustix::process::kill_process(Pid::from_child(&victim), signal).unwrap();
        let mut output = String::new();
        victim.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        assert_eq!((output.as_str(), victim.wait().unwrap().code()), ("got\n", Some(5)));
    }
    // To the process that holds the container, too.
    let mut victim = start_victim(world, script);
    rustix::process::kill_process(child_named(victim.id(), "__init"), Signal::TERM).unwrap();
    assert_eq!(victim.wait().unwrap().code(), Some(5));
}

fn kills_at_any_moment_leave_nothing(world: &World) {
    for moment in 0..60 {
        let mut victim = spawn_victim(world, &format!("v{moment}"), "sleep 1000");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(moment) {
            thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
    }
    check_released(world);
    // Whoever makes the next group removes those of the dead. A process is in its group a little longer than in its
    // namespaces, and a group that another run just looks at is passed over: it takes the one after that.
    let left = || (0..60).filter(|moment| groups(&world.spec(&format!("v{moment}"), &[]).id) > 0).count();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        check(&world.spec("next", &["true"]), "");
        if left() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{} groups are left", left());
    }
}
