//! The OCI runtime: turns a bundle (a folder with `config.json` and the root it names) into a process that waits to be
//! started. Nobody else knows libcontainer's container types.
//!
//! Runtime specification: <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md>

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::Executor;
use rustix::process::Pid;

/// What the container's first process gets as standard input, output and error.
pub(crate) enum Streams<'a> {
    /// These three.
    Plain([OwnedFd; 3]),
    /// A new pseudo terminal, whose other side is sent to the socket at this path.
    Terminal(&'a Path),
}

/// A container whose first process waits in its new root.
pub(crate) struct Created {
    container: Container,
    pid: Pid,
}

/// Creates a container from the bundle at `bundle`. `state` is an empty folder for the runtime's own files. The caller
/// has one thread, since this forks.
pub(crate) fn create(
    bundle: &Path,
    state: &Path,
    streams: Streams<'_>,
    payload: impl Executor + 'static,
) -> Result<Created, LibcontainerError> {
    let mut builder = ContainerBuilder::new("container".to_owned(), SyscallType::default())
        .with_executor(payload)
        .with_root_path(state)?;
    let mut terminal = false;
    match streams {
        Streams::Plain([stdin, stdout, stderr]) => {
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        Streams::Terminal(socket) => {
            builder = builder.with_console_socket(Some(socket));
            terminal = true;
        }
    }
    let container = builder.as_init(bundle).with_systemd(false).with_detach(terminal).build()?;
    let pid = container
        .pid()
        .and_then(|pid| Pid::from_raw(pid.as_raw()))
        .ok_or_else(|| LibcontainerError::OtherIO(io::ErrorKind::NotFound.into()))?;
    Ok(Created { container, pid })
}

impl Created {
    /// The first process.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it execute its command.
    pub(crate) fn start(mut self) -> Result<(), LibcontainerError> {
        self.container.start()
    }
}
