use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Variables that no command of a test gets.
const OF_THE_CALLER: &[&str] =
    &["DOCKER_CONFIG", "DOCKER_HOST", "GANTRY_LOG", "GANTRY_ROOT", "REGISTRY_AUTH_FILE", "SOURCE_DATE_EPOCH"];

/// The program under test: `$GANTRY_BIN`, else the one that cargo built beside this test.
pub fn gantry_binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("GANTRY_BIN") {
        return binary.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let beside =
        test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps").join("gantry");
    assert!(beside.is_file(), "no program to test: run `cargo build -p cli` first, or set GANTRY_BIN");
    beside
}

/// The folder of test data from outside: `$GANTRY_CORPORA`, else beside the workspace. Where there is none the test says that
/// it is skipped, and `None` comes back; a variable that leads nowhere is a failure.
pub fn corpora() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member lies in the workspace");
    let wanted = std::env::var_os("GANTRY_CORPORA");
    let folder = root.join(wanted.as_deref().unwrap_or("../shared/corpora".as_ref()));
    if folder.is_dir() {
        return Some(folder.canonicalize().expect("just seen"));
    }
    assert!(wanted.is_none(), "GANTRY_CORPORA is {}, which is no folder", folder.display());
    eprintln!(
        "skipped: THE CORPORA ARE MISSING: they are not at {}; GANTRY_CORPORA says where",
        folder.display()
    );
    None
}

/// Whether this is root, which most of building and running asks for.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A store in a temporary folder, a home folder for Docker's files, and the program that works on them.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; 128+n when a signal ended it.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

impl Outcome {
    /// The outcome, which must be exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The outcome, which must be this exit code.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The outcome, whose stderr must hold this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` in stderr:\n{}", self.stderr);
        self
    }

    /// Stdout without the last line break.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }
}

impl World {
    /// An empty store.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gantry-e2e-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("home")).expect("a new folder");
        World { folder }
    }

    /// The temporary folder; the store is `store` in it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Folder of the store.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Writes a file below the temporary folder, with its parents, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("folders");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// `gantry --root STORE …`, not started yet, with nothing of the caller's environment that could change it.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(gantry_binary());
        command.arg("--root").arg(self.store()).args(args).current_dir(self.path()).stdin(Stdio::null());
        self.clean(&mut command);
        command
    }

    /// Takes out of a command's environment what could change what gantry or a client does: they have a home of their own
    /// and no setting of the caller's, and `script` runs the plain shell.
    pub fn clean<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        for name in OF_THE_CALLER {
            command.env_remove(name);
        }
        command.env("HOME", self.path().join("home")).env("SHELL", "/bin/sh")
    }

    /// Runs `gantry` to its end, ten minutes at most.
    #[track_caller]
    pub fn gantry<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        finish(&mut self.command(args), None)
    }

    /// Runs `gantry` with this text on its stdin.
    #[track_caller]
    pub fn gantry_with_stdin<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        stdin: &[u8],
    ) -> Outcome {
        finish(&mut self.command(args), Some(stdin))
    }

    /// Ends the test: the store must be sound, no mount and no container process may be left.
    #[track_caller]
    pub fn close(self) {
        self.assert_sound();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let left: Vec<&str> =
            mounts.lines().filter(|mount| mount.contains(&*self.path().to_string_lossy())).collect();
        assert!(left.is_empty(), "mounts left behind: {left:?}");
    }

    /// `gantry check` finds nothing wrong, where anything was stored.
    #[track_caller]
    pub fn assert_sound(&self) {
        if !self.store().exists() {
            return;
        }
        let outcome = self.gantry(["check"]);
        assert_eq!(outcome.code, 0, "the store is not sound:\n{}{}", outcome.stdout, outcome.stderr);
    }
}

/// Runs a command to its end, ten minutes at most.
#[track_caller]
pub(crate) fn finish(command: &mut Command, stdin: Option<&[u8]>) -> Outcome {
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    if let Some(bytes) = stdin {
        // A program that does not read to the end is its own business.
        let _ = child.stdin.take().expect("stdin is piped").write_all(bytes);
    }
    let watchdog = Watchdog::start(&child, Duration::from_secs(600));
    let output = child.wait_with_output().expect("a child can be waited for");
    drop(watchdog);
    Outcome {
        code: code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Kills a command that hangs, so that a test fails and not the whole run.
struct Watchdog {
    done: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    fn start(child: &Child, limit: Duration) -> Self {
        let pid = rustix::process::Pid::from_child(child);
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if waiting.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        Watchdog { done }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.done.send(());
    }
}

/// Waits until `condition` holds, a minute at most.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
