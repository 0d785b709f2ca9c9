//! The hidden roles of the binary. What has to happen in a process with one thread happens in a new execution of the
//! same file, since a process with threads must not fork.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

use crate::{init, sys};

/// Creates and holds one container.
const INIT: &str = "__init";
/// This very file, even if it was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// Becomes the role that the command line names, if it names one, and does not return then. To be called first thing in
/// `main`, before any thread exists.
pub fn dispatch() {
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(INIT)) {
        std::process::exit(init::main());
    }
}

/// Starts the `__init` role, with `control` as its standard input, out of reach of the terminal's signals.
pub(crate) fn start_init(control: OwnedFd) -> io::Result<Child> {
    let program = read_only_program();
    let path = program
        .as_ref()
        .map_or(PROGRAM.to_owned(), |program| format!("/proc/self/fd/{}", program.as_raw_fd()));
    Command::new(path)
        .arg0("gantry")
        .arg(INIT)
        .env_clear()
        .stdin(control)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}

/// This program by a mount of its own that nobody can write through. A container's first process is this program for a
/// moment, or for longer when the image's command is `/proc/self/exe`, and root in there could otherwise replace the
/// host's file by that link (CVE-2019-5736). Where nothing can be mounted there is no such root either.
fn read_only_program() -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = rustix::mount::open_tree(CWD, PROGRAM, flags).ok()?;
    sys::set_read_only(&program).ok()?;
    Some(program)
}
