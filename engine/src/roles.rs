//! The hidden roles of the binary. What has to happen in a process with one thread happens in a new execution of the
//! same file, since a process with threads must not fork.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::init;

/// Creates and holds one container.
const INIT: &str = "__init";

/// Becomes the role that the command line names, if it names one, and does not return then. To be called first thing in
/// `main`, before any thread exists.
pub fn dispatch() {
    if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(INIT)) {
        std::process::exit(init::main());
    }
}

/// Starts the `__init` role, with `control` as its standard input, out of reach of the terminal's signals.
pub(crate) fn start_init(control: OwnedFd) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("gantry")
        .arg(INIT)
        .env_clear()
        .stdin(control)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}
