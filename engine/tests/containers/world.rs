//! A small test runner that speaks libtest's language, and the root that the containers run in.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use common::snapshot::{Overlay, Upper};
use engine::{Attachment, Consumer, ExitStatus, Network, Root, RunError, RunSpec, Stream};

/// A name that is a sentence, and what it says.
pub(crate) type Test = (&'static str, fn(&World));

/// The tests of a module, each named as its function.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

/// Runs those tests whose names contain one of the command line's words. Gives the exit code.
pub(crate) fn run_tests(tests: &[Test]) -> i32 {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    if std::env::args().any(|word| word == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    let tests: Vec<_> = tests.iter().filter(|(name, _)| wanted(name)).collect();
    println!("\nrunning {} tests", tests.len());
    if let Err(reason) = possible() {
        tests.iter().for_each(|_| eprintln!("skipped: {reason}"));
        // Counted as passed, as other tests that return early are.
        tests.iter().for_each(|(name, _)| println!("test {name} ... ok"));
        return 0;
    }
    let failed = tests
        .iter()
        .filter(|(name, test)| {
            let ok = panic::catch_unwind(AssertUnwindSafe(|| test(&World::new()))).is_ok();
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            !ok
        })
        .count();
    println!(
        "\ntest result: {}. {} passed; {failed} failed",
        ["ok", "FAILED"][failed.min(1)],
        tests.len() - failed
    );
    i32::from(failed > 0)
}

fn possible() -> Result<(), &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("containers need root");
    }
    if !Path::new(BUSYBOX).exists() {
        return Err("busybox-static is not installed");
    }
    Ok(())
}

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "sh", "true", "false", "cat", "echo", "env", "id", "pwd", "ls", "grep", "sleep", "kill", "stat", "mkdir",
    "mount", "touch", "hostname", "unshare", "readlink", "tr", "wc", "dd", "stty", "tty", "ip", "mknod",
    "chmod", "head", "sort",
];

/// A folder with a root and what a container needs beside it.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Result<ExitStatus, RunError>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World { folder };
        let root = world.root();
        for name in ["bin", "etc", "data", "home/app"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:root\nwheel:x:10:root\nstaff:x:50:\nextra:x:60:app\napp:x:1000:\n";
        fs::write(root.join("etc/group"), group).unwrap();
        world
    }

    /// The read-only tree below every container of this world.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A path beside it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the changes of container `id` are.
    pub(crate) fn upper(&self, id: &str) -> PathBuf {
        self.folder.path().join(id).join("upper")
    }

    /// A container named `id` that runs `args` as root with no network.
    pub(crate) fn spec(&self, id: &str, args: &[&str]) -> RunSpec {
        let work = self.folder.path().join(id).join("work");
        fs::create_dir_all(self.upper(id)).unwrap();
        fs::create_dir_all(&work).unwrap();
        let upper = Upper { tree: self.upper(id), work, volatile: false };
        RunSpec {
            id: format!("test-{}-{id}", std::process::id()),
            root: Root::Overlay(Overlay { lowers: vec![self.root()], upper: Some(upper) }),
            read_only: false,
            args: args.iter().map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
            working_dir: String::new(),
            user: String::new(),
            hostname: "box".to_owned(),
            network: Network::None,
            mounts: Vec::new(),
            terminal: None,
            is_step: false,
        }
    }

    /// Runs `script` by a shell in a container of its own.
    pub(crate) fn shell(&self, script: &str) -> Outcome {
        run(&self.spec("shell", &["sh", "-c", script]))
    }
}

/// Runs without input and collects the output.
pub(crate) fn run(spec: &RunSpec) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = run_with(spec, None, &mut |stream, bytes| {
        match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        }
        Ok(())
    });
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { status, stdout: text(stdout), stderr: text(stderr) }
}

/// Runs with this input, if any, and passes the output on.
pub(crate) fn run_with(
    spec: &RunSpec,
    stdin: Option<OwnedFd>,
    output: &mut Consumer<'_>,
) -> Result<ExitStatus, RunError> {
    let attachment = Attachment {
        stdin,
        output,
        terminal: None,
        forward_signals: false,
        cancel: None,
        started: &mut |_| {},
    };
    engine::run(spec, attachment)
}

/// Runs, and expects this output, nothing on standard error and code 0.
#[track_caller]
pub(crate) fn check(spec: &RunSpec, expected: &str) {
    let outcome = run(spec);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""), "{:?}", outcome.status);
    assert_eq!(outcome.status.unwrap().code, 0);
}

/// Runs, and expects that nothing runs, with this code and text.
#[track_caller]
pub(crate) fn check_refused(spec: &RunSpec, code: i32, text: &str) {
    let outcome = run(spec);
    let error = outcome.status.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (code, text));
    assert_eq!(outcome.stdout, "");
}
