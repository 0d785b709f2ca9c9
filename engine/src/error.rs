//! What can go wrong between the wish to run something and its exit.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// Why something did not run, or what became of it is unknown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The container could not be set up or its command not started.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The `__init` role could not be started or talked to.
    #[error("cannot {what}")]
    Init {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The `__init` role died, and the container with it: somebody killed it.
    #[error("the process that holds the container was killed")]
    Lost,
}

impl RunError {
    /// The exit code that docker's users know: 127 for a command that is not there, 126 for one that cannot be
    /// executed, 137 when it was killed, 125 for everything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            RunError::Failed(failure) => failure.exit_code(),
            RunError::Init { .. } => 125,
            RunError::Lost => 137,
        }
    }
}

/// A step of the set-up that failed: comes back from the `__init` role, or from inside the container, as a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step.
    pub step: Step,
    /// What the kernel said, if it was asked.
    pub errno: Option<i32>,
    /// What was tried, or the whole reason when there is no `errno`.
    pub what: String,
}

/// The steps of setting up a container, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Taking over what the caller handed down.
    Request,
    /// Leaving the caller's namespaces.
    Namespaces,
    /// Mounting the root file system.
    Root,
    /// Mounting other things into it.
    Mounts,
    /// Finding the user.
    User,
    /// Making the working directory.
    WorkingDirectory,
    /// Restricting devices.
    Devices,
    /// Creating the container by the runtime.
    Create,
    /// Loading the system call filter.
    Seccomp,
    /// Dropping capabilities.
    Capabilities,
    /// Finding the command.
    Command,
    /// Waiting for its end.
    Wait,
}

impl Failure {
    /// A step that the kernel refused.
    pub(crate) fn os(step: Step, what: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let what = what.into();
        move |error| match error.raw_os_error() {
            Some(errno) => Failure { step, errno: Some(errno), what },
            None => Failure { step, errno: None, what: format!("{what}: {error}") },
        }
    }

    /// A step that cannot be done, and why.
    pub(crate) fn because(step: Step, reason: impl fmt::Display) -> Failure {
        Failure { step, errno: None, what: reason.to_string() }
    }

    fn exit_code(&self) -> i32 {
        match (self.step, self.errno) {
            (Step::Command, Some(libc::ENOENT)) => 127,
            (Step::Command, _) => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.errno) {
            // The command's text is whole: docker's.
            (Step::Command, _) => write!(f, "unable to start container process: {}", self.what),
            (_, Some(errno)) => write!(f, "{}: {}", self.what, reason(errno)),
            (_, None) => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Failure {}

/// The kernel's text for an error as docker prints it: lower case, without the number.
pub(crate) fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_dockers() {
        let code = |step, errno| RunError::from(Failure { step, errno, what: String::new() }).exit_code();
        assert_eq!(code(Step::Command, Some(libc::ENOENT)), 127);
        assert_eq!(code(Step::Command, Some(libc::EACCES)), 126);
        assert_eq!(code(Step::User, None), 125);
        assert_eq!(code(Step::Mounts, Some(libc::ENOENT)), 125);
        assert_eq!(RunError::Lost.exit_code(), 137);
    }

    #[test]
    fn the_kernels_reasons_read_as_docker_prints_them() {
        assert_eq!(reason(libc::ENOENT), "no such file or directory");
        assert_eq!(reason(libc::EACCES), "permission denied");
        let failure = Failure::os(Step::Root, "mount overlay")(io::Error::from_raw_os_error(libc::EINVAL));
        assert_eq!(failure.to_string(), "mount overlay: invalid argument");
    }
}
