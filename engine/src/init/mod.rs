//! The `__init` role: one process per container, started by whoever wants to run something, in which everything happens
//! that must not happen in a process with threads. It makes the world that the container sees, has the runtime create
//! the container in it, waits for its end and cleans up.
//!
//! ```text
//! caller ──spawn──► __init ──runtime──► first process: Payload ──exec──► command
//! ```
//! It dies with its caller, the container dies with it: both by the kernel's parent death signal, and by the end of the
//! control socket. The caller's signals come as orders; those that are sent to this process are passed on as well.

mod bundle;
mod mounts;
mod payload;
mod root;
mod sysctls;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use common::passwd::{self, Identity};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use rustix::thread::{CapabilitySet, UnshareFlags};

use self::mounts::{Prepared, Workspace};
use self::payload::{Payload, Plan};
use self::root::{Leaf, Root};
use crate::cgroups::{self, Group};
use crate::control::{self, Launch, Order, Report};
use crate::error::{Failure, Step, chain};
use crate::runtime::{self, Created, Streams};
use crate::spec::{Network, RunSpec, WindowSize};
use crate::sys::{self, SignalQueue};
use crate::{capabilities, loopback, seccomp, terminal};

/// More than any sensible `/etc/passwd`. Bytes.
const USER_FILE_LIMIT: u64 = 16 << 20;

/// Runs one container as told through standard input, which is the control socket. Gives this process' exit code.
pub(crate) fn main() -> i32 {
    let Ok(control) = take_control() else { return 1 };
    let report = match launch(&control) {
        Ok(code) => Report::Exited { code },
        Err(failure) => Report::Failed(failure),
    };
    i32::from(control::send(&control, &report, &[]).is_err())
}

/// The control socket is not for the container: something harmless takes its place.
fn take_control() -> io::Result<UnixStream> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(control.into())
}

fn launch(control: &UnixStream) -> Result<i32, Failure> {
    let taking_over = "take over the request";
    let (Launch { spec, caller }, streams) = control::receive(control)
        .map_err(Failure::os(Step::Request, taking_over))?
        .ok_or_else(|| Failure::because(Step::Request, "there is no request"))?;
    let streams: [OwnedFd; 3] =
        streams.try_into().map_err(|_| Failure::because(Step::Request, "standard streams are missing"))?;
    let mut signals = die_with(caller).map_err(Failure::os(Step::Request, taking_over))?;

    let world = World::make(&spec)?;
    let outcome = world.run(&spec, control, streams, &mut signals);
    world.remove(&spec);
    outcome
}

/// From now on this process ends with its caller, and otherwise not by a signal.
fn die_with(caller: u32) -> io::Result<SignalQueue> {
    let signals = SignalQueue::new()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    // The caller may have died before it was watched. In another pid namespace nothing is known about it.
    if parent.is_some_and(|parent| parent != caller) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(signals)
}

/// What is there before the container is, and has to be removed after it.
struct World {
    workspace: Workspace,
    /// The root without the mounts in it, where stubs can be removed.
    bare_root: Root,
    identity: Identity,
    late_mounts: Vec<bundle::LateMount>,
    /// Mount points that were made in the root.
    stubs: Vec<PathBuf>,
    /// The group that restricts devices, where the machine allows one.
    group: Option<Group>,
}

impl World {
    /// In this order: what belongs to the host is opened before its mounts are left.
    fn make(spec: &RunSpec) -> Result<Self, Failure> {
        let leaving = "leave the host's namespaces";
        let network = match spec.network {
            Network::Host => UnshareFlags::empty(),
            Network::None => UnshareFlags::NEWNET,
        };
        rustix::process::umask(Mode::from_raw_mode(0o022));
        rustix::thread::set_thread_groups(&[])
            .map_err(|errno| Failure::os(Step::Namespaces, leaving)(errno.into()))?;
        sys::unshare(UnshareFlags::NEWNS | network)
            .and_then(|()| mounts::make_private())
            .map_err(Failure::os(Step::Namespaces, leaving))?;
        if spec.network == Network::None {
            loopback::bring_up().map_err(Failure::os(Step::Namespaces, "bring up the loopback device"))?;
            sysctls::apply();
        }

        let prepared = mounts::prepare(&spec.mounts)?;
        let mount = mounts::open_root(&spec.root)?;
        let group = cgroups::make_group(&spec.id);
        match Self::furnish(spec, &mount, prepared) {
            Ok(world) => Ok(World { group, ..world }),
            Err(failure) => {
                if let Some(group) = group {
                    group.remove();
                }
                Err(failure)
            }
        }
    }

    /// Mounts the root at its place and all other things in it.
    fn furnish(spec: &RunSpec, mount: &OwnedFd, prepared: Vec<Prepared<'_>>) -> Result<Self, Failure> {
        let mounting_root = "mount the root file system";
        let workspace = Workspace::make(mount).map_err(Failure::os(Step::Root, mounting_root))?;
        let root = Root::open(&workspace.root).map_err(Failure::os(Step::Root, mounting_root))?;
        let bare_root = workspace.bare_root().map_err(Failure::os(Step::Root, mounting_root))?;
        let identity = identify(spec, &root)?;
        workspace.make_mount_points(&root)?;
        let mut stubs = Vec::new();
        let late_mounts = workspace.attach(&root, prepared, &mut stubs)?;
        let hiding = "hide the host's control groups";
        workspace.hide_control_groups().map_err(Failure::os(Step::Mounts, hiding))?;
        make_working_dir(spec, &root)?;
        Ok(World { workspace, bare_root, identity, late_mounts, stubs, group: None })
    }

    /// Creates the container, starts it and waits for its end. Gives its exit code.
    fn run(
        &self,
        spec: &RunSpec,
        control: &UnixStream,
        streams: [OwnedFd; 3],
        signals: &mut SignalQueue,
    ) -> Result<i32, Failure> {
        let restricting = "restrict devices";
        if let Some(group) = &self.group {
            group.enter().map_err(Failure::os(Step::Devices, restricting))?;
        }
        let (created, terminal) = self.create(spec, control, streams)?;
        let pid = created.pid();
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|errno| Failure::os(Step::Create, "watch the container")(errno.into()))?;
        if let Some(group) = &self.group {
            group.add(pid).map_err(Failure::os(Step::Devices, restricting))?;
        }
        let started = Report::Started { pid: pid.as_raw_nonzero().get().cast_unsigned() };
        let descriptors: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        control::send(control, &started, &descriptors)
            .map_err(Failure::os(Step::Create, "report the start"))?;
        drop(terminal);
        created.start().map_err(|error| Failure::because(Step::Create, chain(&error)))?;
        wait(pid, &pidfd, control, signals).map_err(Failure::os(Step::Wait, "wait for the container"))
    }

    fn create(
        &self,
        spec: &RunSpec,
        control: &UnixStream,
        streams: [OwnedFd; 3],
    ) -> Result<(Created, Option<OwnedFd>), Failure> {
        let io = |what| Failure::os(Step::Create, what);
        let plan = self.plan(spec, control)?;
        // What the payload needs to do its work; it drops them.
        let capabilities = plan.bounding | CapabilitySet::SYS_ADMIN | CapabilitySet::SETPCAP;
        let config =
            bundle::config(spec, &self.workspace.root, &self.identity, capabilities, &self.late_mounts);
        fs::write(self.workspace.bundle.join("config.json"), config.to_string())
            .map_err(io("write the container's configuration"))?;

        let (bundle, state) = (&self.workspace.bundle, &self.workspace.state);
        let create = |streams| {
            runtime::create(bundle, state, streams, Payload::new(plan))
                .map_err(|error| Failure::because(Step::Create, chain(&error)))
        };
        let Some(size) = spec.terminal else { return Ok((create(Streams::Plain(streams))?, None)) };
        let path = &self.workspace.terminal;
        let listener = UnixListener::bind(path).map_err(io("listen for the terminal"))?;
        let created = create(Streams::Terminal(path))?;
        let received = receive_terminal(&listener, size).map_err(io("receive the terminal"))?;
        Ok((created, Some(received)))
    }

    fn plan(&self, spec: &RunSpec, control: &UnixStream) -> Result<Plan, Failure> {
        let mut bounding = capabilities::bounding()
            .map_err(|errno| Failure::os(Step::Capabilities, "read capabilities")(errno.into()))?
            & capabilities::DEFAULT;
        if self.group.is_none() {
            // Who may make device files without a limit on which can be opened owns the host's disks. Few commands make
            // any, and those say themselves that they may not.
            bounding.remove(CapabilitySet::MKNOD);
        }
        let is_root = self.identity.uid == 0;
        let init = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(|errno| Failure::os(Step::Create, "open this process")(errno.into()))?;
        Ok(Plan {
            args: spec.args.clone(),
            env: bundle::environment(spec, &self.identity),
            filter: seccomp::compile(bounding).map_err(|error| Failure::because(Step::Seccomp, error))?,
            bounding,
            permitted: if is_root { bounding } else { CapabilitySet::empty() },
            init,
            control: control.try_clone().map_err(Failure::os(Step::Create, "share the control socket"))?,
        })
    }

    /// Removes what outlives the mount namespace. Goes on past errors.
    fn remove(self, spec: &RunSpec) {
        if let Some(group) = self.group {
            group.remove();
        }
        if spec.is_step {
            self.workspace.detach_root();
            self.bare_root.remove_stubs(&self.stubs);
        }
    }
}

fn identify(spec: &RunSpec, root: &Root) -> Result<Identity, Failure> {
    let read =
        |path| root.read(path, USER_FILE_LIMIT).map_err(Failure::os(Step::User, format!("read /{path}")));
    passwd::identify(&spec.user, &read("etc/passwd")?, &read("etc/group")?)
        .map_err(|error| Failure::because(Step::User, error))
}

fn make_working_dir(spec: &RunSpec, root: &Root) -> Result<(), Failure> {
    let path = spec.working_dir.as_str();
    if path.is_empty() {
        return Ok(());
    }
    if !path.starts_with('/') {
        let text = format!("the working directory '{path}' is invalid, it needs to be an absolute path");
        return Err(Failure::because(Step::WorkingDirectory, text));
    }
    let what = format!("Cannot mkdir: {path}");
    let place = root
        .make(path.as_ref(), Leaf::Directory)
        .map_err(Failure::os(Step::WorkingDirectory, what.as_str()))?;
    let stat = root.at(&place.path).and_then(|directory| Ok(rustix::fs::fstat(directory)?));
    let stat = stat.map_err(Failure::os(Step::WorkingDirectory, what.as_str()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        let text = format!("{what} is not a directory");
        return Err(Failure::because(Step::WorkingDirectory, text));
    }
    Ok(())
}

/// The pseudo terminal's other side, from the runtime, which sent it already.
fn receive_terminal(listener: &UnixListener, size: WindowSize) -> io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    let terminal = control::receive_descriptor(&socket)?;
    terminal::resize(&terminal, size)?;
    Ok(terminal)
}

/// Passes signals on until the container's first process ends, and with it all others. Gives its exit code.
fn wait(pid: Pid, pidfd: &OwnedFd, control: &UnixStream, signals: &mut SignalQueue) -> io::Result<i32> {
    let mut caller_lives = true;
    loop {
        let mut polled = [
            PollFd::new(pidfd, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(control, PollFlags::IN),
        ];
        let watched = if caller_lives { 3 } else { 2 };
        match rustix::event::poll(&mut polled[..watched], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [ended, signalled, ordered] = polled.map(|polled| !polled.revents().is_empty());
        if ended {
            return reap(pid);
        }
        if signalled {
            sys::send_signal(pidfd, signals.next()?)?;
        }
        if ordered {
            let signal = match control::receive(control) {
                Ok(Some((Order::Signal(signal), _))) => signal,
                Ok(None) | Err(_) => {
                    caller_lives = false;
                    libc::SIGKILL
                }
            };
            sys::send_signal(pidfd, signal)?;
        }
    }
}

fn reap(pid: Pid) -> io::Result<i32> {
    let waited = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))?;
    let code = waited.and_then(|(_, status): (Pid, WaitStatus)| {
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    });
    code.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
