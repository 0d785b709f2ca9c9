//! What happens inside the container, between the runtime's set-up and the command: the last steps are ours, since the
//! system call filter has to be loaded while CAP_SYS_ADMIN is still effective, and errors have to be docker's.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;

use crate::control::{self, Report};
use crate::error::{Failure, Step, reason};
use crate::sys;

/// Exit code of a command that the kernel refuses to execute after all was set up, as with runc.
const CANNOT_EXECUTE: i32 = 255;

/// The command and the confinement that it gets. The runtime clones it before it forks, so it is shared.
#[derive(Clone)]
pub(super) struct Payload(Rc<Inner>);

/// What a payload is made from.
pub(super) struct Plan {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) filter: BpfProgram,
    /// What the command and its children may have at most.
    pub(super) bounding: CapabilitySet,
    /// What it has at its start: all of that for root, nothing for others.
    pub(super) permitted: CapabilitySet,
    /// The `__init` role as a pidfd.
    pub(super) init: OwnedFd,
    pub(super) control: UnixStream,
}

struct Inner {
    plan: Plan,
    program: OnceCell<PathBuf>,
}

impl Payload {
    pub(super) fn new(plan: Plan) -> Self {
        Payload(Rc::new(Inner { plan, program: OnceCell::new() }))
    }
}

/// Called by the runtime in the container's first process, in this order, as the container's user.
impl Executor for Payload {
    /// Everything that can be refused. Failures go to the caller directly: the runtime would make texts of them.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        self.0.prepare().map_err(|failure| {
            let text = failure.to_string();
            // Who cannot be told is dead, and so will be this process.
            let _ = control::send(&self.0.plan.control, &Report::Failed(failure), &[]);
            ExecutorValidationError::ArgValidationError(text)
        })
    }

    /// Nothing: the command gets its environment in the order and number in which it was given, when it is executed.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let error = self.0.execute();
        let text = reason(error.raw_os_error().unwrap_or(libc::EINVAL));
        let _ = writeln!(io::stderr(), "exec {}: {text}", self.0.plan.args[0]);
        std::process::exit(CANNOT_EXECUTE)
    }
}

impl Inner {
    fn prepare(&self) -> Result<(), Failure> {
        die_with(&self.plan.init).map_err(Failure::os(Step::Create, "tie the container to its parent"))?;
        // The runtime's link to the kernel's memory; nobody else makes one of this name.
        let _ = std::fs::remove_file("/dev/kcore");
        give_to_user().map_err(Failure::os(Step::Create, "hand the standard streams to the user"))?;
        sys::load_filter(&self.plan.filter).map_err(Failure::os(Step::Seccomp, "load seccomp filter"))?;
        self.drop_capabilities()
            .map_err(|errno| Failure::os(Step::Capabilities, "drop capabilities")(errno.into()))?;
        let program = find_program(&self.plan.args[0], &self.plan.env)?;
        self.program.set(program).expect("the runtime validates once");
        Ok(())
    }

    fn drop_capabilities(&self) -> rustix::io::Result<()> {
        let superfluous = crate::capabilities::bounding()? - self.plan.bounding;
        for capability in superfluous.iter() {
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
        rustix::thread::clear_ambient_capability_set()?;
        rustix::thread::set_capabilities(
            None,
            CapabilitySets {
                effective: self.plan.permitted,
                permitted: self.plan.permitted,
                inheritable: CapabilitySet::empty(),
            },
        )
    }

    fn execute(&self) -> io::Error {
        let c_strings = |strings: &[String]| -> Result<Vec<CString>, _> {
            strings.iter().map(|string| CString::new(string.as_str())).collect()
        };
        let program = self.program.get().cloned().unwrap_or_default().into_os_string().into_vec();
        let strings = (CString::new(program), c_strings(&self.plan.args), c_strings(&self.plan.env));
        let (Ok(program), Ok(args), Ok(env)) = strings else {
            return io::Error::from_raw_os_error(libc::EINVAL);
        };
        sys::reset_signals();
        sys::execute(&program, &args, &env)
    }
}

/// A command opens its own streams again by `/dev/stdout`: pipes and the terminal have to be its user's. By now this
/// process is that user, and may still give files away.
fn give_to_user() -> io::Result<()> {
    let user = rustix::process::geteuid();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let stat = rustix::fs::fstat(stream)?;
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if stat.st_uid != user.as_raw() && (is_pipe || rustix::termios::isatty(stream)) {
            rustix::fs::fchown(stream, Some(user), None)?;
        }
    }
    Ok(())
}

/// This process shall not outlive the one that `pidfd` means, which is its parent, in another pid namespace.
fn die_with(pidfd: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before it was watched.
    let dead = rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default()))?;
    if dead > 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// The file that `name` means, by the rules and with the texts of Go's `exec.LookPath`.
fn find_program(name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    let failure = |errno: Errno, text: String| Failure {
        step: Step::Command,
        errno: Some(errno.raw_os_error()),
        what: format!("exec: {name:?}: {text}"),
    };
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(errno @ (Errno::ACCESS | Errno::ISDIR)) => Err(failure(errno, reason(errno.raw_os_error()))),
            Err(errno) => Err(failure(errno, format!("stat {name}: {}", reason(errno.raw_os_error())))),
        };
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':')
        .map(|folder| Path::new(if folder.is_empty() { "." } else { folder }).join(name))
        .find(|candidate| !name.is_empty() && executable(candidate).is_ok())
        .ok_or_else(|| failure(Errno::NOENT, "executable file not found in $PATH".to_owned()))
}

/// Whether the kernel would let this process execute the file.
fn executable(path: &Path) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn check(name: &str, path: &str, expected: Result<&str, (i32, &str)>) {
        let found = find_program(name, &[format!("PATH={path}")]);
        let found = found.as_ref().map(|path| path.to_str().unwrap());
        assert_eq!(found.map_err(|failure| (failure.errno.unwrap(), failure.what.as_str())), expected);
    }

    #[test]
    fn commands_are_found_as_docker_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for (name, mode) in [("run", 0o755), ("data", 0o644)] {
            fs::write(path(name), "").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(path("sub")).unwrap();
        let here = path("");
        let here = here.trim_end_matches('/');

        check("run", &format!("/nowhere:{here}"), Ok(&path("run")));
        check(&path("run"), "", Ok(&path("run")));
        let missing = r#"exec: "foo": executable file not found in $PATH"#;
        check("foo", here, Err((libc::ENOENT, missing)));
        let data = r#"exec: "data": executable file not found in $PATH"#;
        check("data", here, Err((libc::ENOENT, data)));
        check("", here, Err((libc::ENOENT, r#"exec: "": executable file not found in $PATH"#)));
        let denied = format!("exec: {:?}: permission denied", path("data"));
        check(&path("data"), here, Err((libc::EACCES, &denied)));
        let directory = format!("exec: {:?}: is a directory", path("sub"));
        check(&path("sub"), here, Err((libc::EISDIR, &directory)));
        let none = r#"exec: "/no/such": stat /no/such: no such file or directory"#;
        check("/no/such", here, Err((libc::ENOENT, none)));
    }
}
