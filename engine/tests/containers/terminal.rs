//! Commands with a terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use engine::{Attachment, WindowSize};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::tests;
use crate::world::{Test, World, run};

pub(crate) const TESTS: &[Test] = tests![
    a_terminal_has_its_size_and_turns_lines,
    keys_arrive_raw_and_the_users_terminal_comes_back,
    the_size_follows_the_users_terminal,
    without_input_the_keys_of_the_users_terminal_go_on_making_signals,
    a_terminal_that_nobody_reads_hangs_up,
    the_terminal_belongs_to_the_user,
];

fn a_terminal_has_its_size_and_turns_lines(world: &World) {
    let script = "tty; stty size; echo $TERM; echo err >&2; ls /dev/console; echo x > /dev/console; exit 4";
    let mut spec = world.spec("a", &["sh", "-c", script]);
    spec.terminal = Some(WindowSize { rows: 33, columns: 99 });
    let outcome = run(&spec);
    assert_eq!(outcome.stdout, "/dev/pts/0\r\n33 99\r\nxterm\r\nerr\r\n/dev/console\r\nx\r\n");
    assert_eq!((outcome.stderr.as_str(), outcome.status.unwrap().code), ("", 4));
}

fn keys_arrive_raw_and_the_users_terminal_comes_back(world: &World) {
    let (mut keyboard, user) = user_terminal();
    let before = rustix::termios::tcgetattr(&user).unwrap();
    let mut spec = world.spec("a", &["sh", "-c", "echo ready; read line; echo \"got $line\"; stty size"]);
    spec.terminal = Some(WindowSize { rows: 1, columns: 1 });
    let output = Mutex::new(String::new());
    let (sender, receiver) = mpsc::channel();
    let status = thread::scope(|scope| {
        let running = scope.spawn(|| {
            engine::run(
                &spec,
                Attachment {
                    stdin: Some(user.try_clone().unwrap()),
                    output: &mut |_, bytes| {
                        let mut output = output.lock().unwrap();
                        output.push_str(std::str::from_utf8(bytes).unwrap());
                        if output.contains("ready") {
                            let _ = sender.send(());
                        }
                        Ok(())
                    },
                    terminal: Some(user.try_clone().unwrap()),
                    forward_signals: true,
                    cancel: None,
                    started: &mut |_| {},
                },
            )
        });
        receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        // Raw: the line discipline of the user's side turns nothing and echoes nothing.
        let raw = rustix::termios::tcgetattr(&user).unwrap();
        assert!(
            !raw.local_modes
                .intersects(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
        );
        keyboard.write_all(b"hello\r").unwrap();
        running.join().unwrap()
    });
    assert_eq!(status.unwrap().code, 0);
    // The command's terminal echoes what was typed; its size is the user's.
    assert_eq!(output.into_inner().unwrap(), "ready\r\nhello\r\ngot hello\r\n40 120\r\n");
    let after = rustix::termios::tcgetattr(&user).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
}

fn the_size_follows_the_users_terminal(world: &World) {
    let (keyboard, user) = user_terminal();
    let script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut spec = world.spec("a", &["sh", "-c", script]);
    spec.terminal = Some(WindowSize { rows: 1, columns: 1 });
    let mut output = String::new();
    let mut resized = false;
    let status = engine::run(
        &spec,
        Attachment {
            stdin: None,
            output: &mut |_, bytes| {
                output.push_str(std::str::from_utf8(bytes).unwrap());
                if output.contains("ready") && !resized {
                    let size = Winsize { ws_row: 50, ws_col: 150, ws_xpixel: 0, ws_ypixel: 0 };
                    rustix::termios::tcsetwinsize(&keyboard, size).unwrap();
                    // As the kernel tells those in the foreground of that terminal.
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::WINCH)
                        .unwrap();
                    resized = true;
                }
                Ok(())
            },
            terminal: Some(user),
            forward_signals: true,
            cancel: None,
            started: &mut |_| {},
        },
    );
    assert_eq!((status.unwrap().code, output.as_str()), (3, "ready\r\n50 150\r\n"));
}

fn without_input_the_keys_of_the_users_terminal_go_on_making_signals(world: &World) {
    let (_keyboard, user) = user_terminal();
    let before = rustix::termios::tcgetattr(&user).unwrap();
    let mut spec = world.spec("a", &["echo", "ready"]);
    spec.terminal = Some(WindowSize { rows: 1, columns: 1 });
    let mut during = None;
    let attachment = Attachment {
        stdin: None,
        output: &mut |_, _| {
            during = Some(rustix::termios::tcgetattr(&user)?.local_modes);
            Ok(())
        },
        terminal: Some(user.try_clone().unwrap()),
        forward_signals: false,
        cancel: None,
        started: &mut |_| {},
    };
    assert!(engine::run(&spec, attachment).unwrap().success());
    assert_eq!(during, Some(before.local_modes));
    assert!(before.local_modes.contains(rustix::termios::LocalModes::ISIG));
}

fn a_terminal_that_nobody_reads_hangs_up(world: &World) {
    let (_keyboard, user) = user_terminal();
    // With and without input: everybody who has the terminal lets go of it.
    for stdin in [None, Some(user.try_clone().unwrap())] {
        let mut spec = world.spec("a", &["sh", "-c", "while echo line; do :; done; exit 3"]);
        spec.terminal = Some(WindowSize { rows: 1, columns: 1 });
        let attachment = Attachment {
            stdin,
            output: &mut |_, _| Err(std::io::ErrorKind::BrokenPipe.into()),
            terminal: Some(user.try_clone().unwrap()),
            forward_signals: true,
            cancel: None,
            started: &mut |_| {},
        };
        assert_eq!(engine::run(&spec, attachment).unwrap().code, 3);
    }
}

fn the_terminal_belongs_to_the_user(world: &World) {
    let script = "stat -c %u:%g /dev/pts/0 /dev/console; echo again > /dev/stdout; echo err > /dev/stderr";
    let mut spec = world.spec("a", &["sh", "-c", script]);
    spec.user = "app".to_owned();
    spec.terminal = Some(WindowSize { rows: 1, columns: 1 });
    let outcome = run(&spec);
    assert_eq!(outcome.stdout, "1000:5\r\n1000:5\r\nagain\r\nerr\r\n", "{outcome:?}");
}

/// A pseudo terminal of 40 lines: the side of the keyboard and the user's.
fn user_terminal() -> (File, OwnedFd) {
    let keyboard =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::unlockpt(&keyboard).unwrap();
    let user = rustix::pty::ioctl_tiocgptpeer(&keyboard, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&user, size).unwrap();
    (File::from(keyboard), user)
}
