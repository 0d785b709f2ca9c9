//! Containers on this machine: one folder each.
//!
//! ```text
//! containers/
//!     lock                    held while containers are made, named or removed; never while they run
//!     names/<name>            a link to the id: whose name it is
//!     leaving/<id>            is to be removed once nobody holds its lock: half made, half removed, or `--rm`
//!     <id>/                   locked (shared) by whoever makes or runs it
//!         config.json         what it was made from; never changed
//!         settings.json       its name: what can be changed later; replaced by compare-and-swap under `lock`
//!         state.json          what became of it; replaced by whoever runs it, and once they were killed by the next who
//!                             looks, under `lock` and the folder's own (exclusive)
//!         hosts hostname resolv.conf      mounted into /etc
//!         upper/ work/        its changes, as an overlay's top
//! ```
//! Files are replaced by rename. A record of a killed process is seen as such by comparing PID, start time and boot.
//! What a kill interrupts is repaired by the next who makes, lists or looks for containers. A container whose records are
//! missing or cannot be understood is there all the same, with what can be known of it: see [`Container::damage`].

mod names;
mod process;
mod record;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use common::snapshot::{Overlay, Upper};
use common::store::remove_tree;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::process::Process;
pub use self::record::{
    Config, LOST, Mount, MountSource, NetworkMode, Settings, State, Status, Streams, VERSION,
};
use crate::error::{RunError, chain};
use crate::etc;
use crate::run::{Attachment, ExitStatus, run};
use crate::spec::{self, Root, RunSpec, Source, WindowSize};

/// How many made-up names are tried before one gets a number behind it.
const NAME_ATTEMPTS: u32 = 16;
/// Whoever ran a container writes its end down once.
const REMOVE_ATTEMPTS: u32 = 16;

/// All containers of a store.
#[derive(Debug, Clone)]
pub struct Containers {
    folder: PathBuf,
}

/// One of them.
#[derive(Debug)]
pub struct Container {
    /// What it was made from.
    pub config: Config,
    /// What can be changed.
    pub settings: Settings,
    /// What is true about it as of when this was read.
    pub state: State,
    folder: PathBuf,
    unrecorded: Option<ContainerError>,
    damage: Option<ContainerError>,
    /// Keeps others from removing what is being made or run.
    _lock: Option<OwnedFd>,
}

/// Why a container cannot be found, made or removed. The texts are docker's.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The name is not one.
    #[error("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name {
        /// What was given.
        name: String,
    },
    /// Another container has it.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
         rename) that container to be able to reuse that name."
    )]
    Conflict {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Nothing has that name or ID.
    #[error("No such container: {reference}")]
    Unknown {
        /// What was given.
        reference: String,
    },
    /// Several IDs begin like this.
    #[error("Multiple IDs found with provided prefix: {prefix}")]
    Ambiguous {
        /// What was given.
        prefix: String,
    },
    /// It runs, and shall not be killed.
    #[error(
        "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
    )]
    Running {
        /// The container.
        id: String,
    },
    /// What is written down about it is missing or cannot be understood.
    #[error("container {id} is damaged and can only be removed by force")]
    Damaged {
        /// The container.
        id: String,
        /// What is wrong.
        source: Box<ContainerError>,
    },
    /// Nobody can tell which process is its first, and somebody runs it.
    #[error("container {id} is damaged, and the command that runs it is still there: end that first")]
    Held {
        /// The container.
        id: String,
    },
    /// A newer program wrote it.
    #[error("{} has version {found} of its format, and only {VERSION} is known here: use a newer gantry", path.display())]
    Version {
        /// The record.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A file cannot be read, written or removed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl ContainerError {
    /// A file or folder is not there.
    fn is_missing(&self) -> bool {
        matches!(self, ContainerError::Io { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ContainerError {
    let path = path.to_owned();
    move |source| ContainerError::Io { what, path, source }
}

impl Containers {
    /// The containers in `folder`, which is made when something is put into it.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Containers { folder: folder.into() }
    }

    /// Makes a container. Its `id`, `created_ns` and `version` are filled in here, an empty `hostname` becomes the
    /// beginning of the ID (on the host's network the host's), and an empty `name` is made up. It stays locked as long
    /// as the value lives.
    ///
    /// # Errors
    /// [`ContainerError::Name`], [`ContainerError::Conflict`] or [`ContainerError::Io`]; then nothing is left of it.
    pub fn create(&self, config: Config, name: &str) -> Result<Container, ContainerError> {
        if !name.is_empty() {
            names::check(name)?;
        }
        let _lock = self.lock()?;
        self.sweep()?;
        let id = new_id().map_err(io_error("make an ID for", &self.folder))?;
        let name = self.free_name(name, &id)?;
        let folder = self.folder.join(&id);
        // From here on whatever is left of it is removed, until it is whole.
        let leaving = self.leaving().join(&id);
        fs::write(&leaving, "").map_err(io_error("write", &leaving))?;
        private_folder(&folder).map_err(io_error("make", &folder))?;
        let held = lock_shared(&folder).map_err(io_error("lock", &folder))?;
        let hostname = match (config.hostname.as_str(), config.network) {
            ("", NetworkMode::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            ("", NetworkMode::None) => id[..12].to_owned(),
            (given, _) => given.to_owned(),
        };
        let config = Config { version: VERSION, id: id.clone(), created_ns: now_ns(), hostname, ..config };
        let settings = Settings { version: VERSION, name };
        let state = State::created();
        let container =
            Container { config, settings, state, folder, unrecorded: None, damage: None, _lock: Some(held) };
        container.write_all()?;
        self.name(&container.settings.name, &id)?;
        if !container.config.auto_remove {
            fs::remove_file(&leaving).map_err(io_error("remove", &leaving))?;
        }
        Ok(container)
    }

    /// All containers, the newest first.
    ///
    /// # Errors
    /// [`ContainerError::Io`].
    pub fn list(&self) -> Result<Vec<Container>, ContainerError> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        if let Some(_lock) = self.try_lock()? {
            self.sweep()?;
        }
        let mut containers: Vec<_> = self.ids()?.iter().filter_map(|id| self.load(id)).collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.config.created_ns));
        Ok(containers)
    }

    /// The container with this ID, this name, or the only ID that begins so; in this order.
    ///
    /// # Errors
    /// [`ContainerError::Unknown`], [`ContainerError::Ambiguous`] or [`ContainerError::Io`].
    pub fn find(&self, reference: &str) -> Result<Container, ContainerError> {
        let unknown = || ContainerError::Unknown { reference: reference.to_owned() };
        let id = self.resolve(reference)?.ok_or_else(unknown)?;
        self.load(&id).ok_or_else(unknown)
    }

    /// Removes a container. One that runs is killed with `force`, and refused without, as is one that is damaged. One that
    /// a newer program wrote is refused in any case: it is whole.
    ///
    /// # Errors
    /// [`ContainerError::Version`], [`ContainerError::Running`], [`ContainerError::Damaged`], [`ContainerError::Held`] or
    /// [`ContainerError::Io`]; what is left after the last is removed later.
    pub fn remove(&self, container: Container, force: bool) -> Result<(), ContainerError> {
        let Container { config: Config { id, .. }, state, folder, damage, .. } = container;
        if let Some(newer @ ContainerError::Version { .. }) = damage {
            return Err(newer);
        }
        if let Some(process) = &state.process {
            if !force {
                return Err(ContainerError::Running { id });
            }
            process.kill().map_err(io_error("kill the container in", &folder))?;
        }
        let unknown = state.status == Status::Dead;
        if let Some(damage) = damage.filter(|_| !force) {
            return Err(ContainerError::Damaged { id, source: Box::new(damage) });
        }
        let _lock = self.lock()?;
        if unknown && lock_exclusive(&folder).map_err(io_error("lock", &folder))?.is_none() {
            return Err(ContainerError::Held { id });
        }
        self.remove_locked(&id)
    }

    /// The container of this ID, unless it is being made or removed just now, or is gone.
    fn load(&self, id: &str) -> Option<Container> {
        let folder = self.folder.join(id);
        let is_leaving = || self.leaving().join(id).exists() || !folder.is_dir();
        match self.read(id) {
            Ok(container) => return Some(container),
            Err(error) if error.is_missing() && is_leaving() => return None,
            Err(_) => {}
        }
        // What was missing may have come, or all may have gone, in the meantime.
        match self.read(id) {
            Ok(container) => Some(container),
            Err(error) if error.is_missing() && is_leaving() => None,
            Err(damage) => Some(self.damaged(id, damage)),
        }
    }

    fn read(&self, id: &str) -> Result<Container, ContainerError> {
        let folder = self.folder.join(id);
        let state = self.state(&folder)?;
        let config: Config = read(&folder, "config.json")?;
        if config.id != id {
            let other = io::Error::new(ErrorKind::InvalidData, "it is another container's");
            return Err(io_error("read", &folder.join("config.json"))(other));
        }
        let settings = read(&folder, "settings.json")?;
        Ok(Container { config, settings, state, unrecorded: None, damage: None, folder, _lock: None })
    }

    /// What can be known of a container whose records are not whole.
    fn damaged(&self, id: &str, damage: ContainerError) -> Container {
        let folder = self.folder.join(id);
        let config: Option<Config> = read(&folder, "config.json").ok();
        let config = config.filter(|config| config.id == id).unwrap_or_else(|| Config {
            version: VERSION,
            id: id.to_owned(),
            created_ns: fs::metadata(&folder).and_then(|folder| folder.created()).map_or(0, nanoseconds),
            ..Config::default()
        });
        let name = || self.name_of(id).unwrap_or_default();
        let settings =
            read(&folder, "settings.json").unwrap_or_else(|_| Settings { version: VERSION, name: name() });
        let state = self.state(&folder).unwrap_or_else(|_| State::dead(chain(&damage)));
        Container { config, settings, state, unrecorded: None, damage: Some(damage), folder, _lock: None }
    }

    /// What became of a container, after a look at its process.
    fn state(&self, folder: &Path) -> Result<State, ContainerError> {
        let state: State = read(folder, "state.json")?;
        if state.is_outdated() { self.settle(folder) } else { Ok(state) }
    }

    /// Records the end of a container whose process is gone, unless somebody holds it: they will, and what they know is
    /// better. Gives its state.
    fn settle(&self, folder: &Path) -> Result<State, ContainerError> {
        // One at a time, so that who holds the folder is who runs it.
        let _lock = self.lock()?;
        let held = lock_exclusive(folder).map_err(io_error("lock", folder))?;
        let state: State = read(folder, "state.json")?;
        if held.is_none() || !state.is_outdated() {
            return Ok(state);
        }
        let state = state.lost(now_ns());
        if let Err(error) = write(folder, "state.json", &state) {
            tracing::debug!(folder = %folder.display(), error = chain(&error), "lost container is not recorded");
        }
        Ok(state)
    }

    fn resolve(&self, reference: &str) -> Result<Option<String>, ContainerError> {
        if is_id(reference) && self.folder.join(reference).exists() {
            return Ok(Some(reference.to_owned()));
        }
        let reference = reference.strip_prefix('/').unwrap_or(reference);
        if names::check(reference).is_ok()
            && let Some(id) = self.owner_of(reference)
        {
            return Ok(Some(id));
        }
        if reference.is_empty() || !self.folder.exists() {
            return Ok(None);
        }
        let mut found = self.ids()?.into_iter().filter(|id| id.starts_with(reference));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(ContainerError::Ambiguous { prefix: reference.to_owned() }),
            (found, _) => Ok(found),
        }
    }

    fn ids(&self) -> Result<Vec<String>, ContainerError> {
        let entries = fs::read_dir(&self.folder).map_err(io_error("list", &self.folder))?;
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
        Ok(names.filter(|name| is_id(name)).collect())
    }

    fn names(&self) -> PathBuf {
        self.folder.join("names")
    }

    fn leaving(&self) -> PathBuf {
        self.folder.join("leaving")
    }

    /// One who makes, names or removes at a time. Makes the folders that are always there.
    fn lock(&self) -> Result<OwnedFd, ContainerError> {
        let file = self.lock_file()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| io_error("lock", &self.folder)(errno.into()))?;
        Ok(file)
    }

    fn try_lock(&self) -> Result<Option<OwnedFd>, ContainerError> {
        let file = self.lock_file()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(io_error("lock", &self.folder)(errno.into())),
        }
    }

    fn lock_file(&self) -> Result<OwnedFd, ContainerError> {
        for folder in [self.folder.clone(), self.names(), self.leaving()] {
            fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        }
        let path = self.folder.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| io_error("open", &path)(errno.into()))
    }

    /// Removes what the dead left behind. Under the lock.
    fn sweep(&self) -> Result<(), ContainerError> {
        let leaving = self.leaving();
        for entry in fs::read_dir(&leaving).map_err(io_error("list", &leaving))? {
            let name = entry.map_err(io_error("list", &leaving))?.file_name().into_string();
            // What else is there, somebody else has put there.
            let Some(id) = name.ok().filter(|name| is_id(name)) else { continue };
            let folder = self.folder.join(&id);
            let is_held = match lock_exclusive(&folder) {
                Ok(lock) => lock.is_none(),
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(io_error("lock", &folder)(error)),
            };
            if !is_held {
                tracing::debug!(container = id, "removing what was left");
                self.remove_locked(&id)?;
            }
        }
        Ok(())
    }

    /// Removes a container so that a kill in between leaves something that is swept.
    fn remove_locked(&self, id: &str) -> Result<(), ContainerError> {
        let leaving = self.leaving().join(id);
        fs::write(&leaving, "").map_err(io_error("write", &leaving))?;
        let folder = self.folder.join(id);
        let recorded = read(&folder, "settings.json").ok().map(|settings: Settings| settings.name);
        let recorded = recorded.filter(|name| self.owner_of(name).as_deref() == Some(id));
        if let Some(name) = recorded.or_else(|| self.name_of(id)) {
            let name = self.names().join(name);
            fs::remove_file(&name).map_err(io_error("remove", &name))?;
        }
        // Who ran it may be writing down its end just now: a file that came after the folder was listed.
        let remove = || remove_tree(CWD, folder.as_os_str().as_encoded_bytes());
        let removed = (0..REMOVE_ATTEMPTS).map(|_| remove()).find(|done| *done != Err(Errno::NOTEMPTY));
        removed.unwrap_or(Err(Errno::NOTEMPTY)).map_err(|errno| io_error("remove", &folder)(errno.into()))?;
        fs::remove_file(&leaving).map_err(io_error("remove", &leaving))
    }

    /// The name that leads to this container.
    fn name_of(&self, id: &str) -> Option<String> {
        let names = fs::read_dir(self.names()).ok()?;
        let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find(|name| self.owner_of(name).as_deref() == Some(id))
    }

    /// Who has this name. The container may be gone.
    fn owner_of(&self, name: &str) -> Option<String> {
        fs::read_link(self.names().join(name)).ok()?.into_os_string().into_string().ok()
    }

    /// `wanted` if it is free, or a made-up name if nothing is wanted.
    fn free_name(&self, wanted: &str, id: &str) -> Result<String, ContainerError> {
        let taken = |name: &str| self.owner_of(name).filter(|id| self.folder.join(id).exists());
        if !wanted.is_empty() {
            return match taken(wanted) {
                Some(id) => Err(ContainerError::Conflict { name: wanted.to_owned(), id }),
                None => Ok(wanted.to_owned()),
            };
        }
        let seed = u32::from_str_radix(&id[..8], 16).expect("an ID is hex digits");
        let mut candidates =
            (0..NAME_ATTEMPTS).map(|attempt| names::made_up(seed.wrapping_add(attempt * 0x9e37)));
        let free = candidates.find(|name| taken(name).is_none());
        Ok(free.unwrap_or_else(|| format!("{}_{}", names::made_up(seed), &id[..8])))
    }

    /// Takes a name that is free, or was a dead container's.
    fn name(&self, name: &str, id: &str) -> Result<(), ContainerError> {
        let path = self.names().join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("remove", &path)(error)),
        }
        symlink(id, &path).map_err(io_error("make", &path))
    }
}

impl Container {
    /// 64 hex digits.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// Its name, without a slash.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where its changes are: an overlay's upper folder.
    pub fn changes(&self) -> PathBuf {
        self.folder.join("upper")
    }

    /// A file that is mounted into its `/etc`: `hosts`, `hostname` or `resolv.conf`.
    pub fn etc_file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs it upon the trees `lowers`, topmost first, and waits for its end. With a terminal, `size` is its first size.
    ///
    /// # Errors
    /// [`RunError`]; its state tells of it as well.
    pub fn run(
        &mut self,
        lowers: Vec<PathBuf>,
        size: WindowSize,
        attachment: Attachment<'_>,
    ) -> Result<ExitStatus, RunError> {
        let spec = self.spec(lowers, size);
        let Attachment { stdin, output, terminal, forward_signals, cancel, started } = attachment;
        let mut running = |pid| {
            self.state.status = Status::Running;
            self.state.process = Process::of(pid).ok();
            self.state.started_ns = Some(now_ns());
            self.write_state();
            started(pid);
        };
        let attachment =
            Attachment { stdin, output, terminal, forward_signals, cancel, started: &mut running };
        let outcome = run(&spec, attachment);
        self.state.process = None;
        match &outcome {
            Ok(status) => self.state.exit_code = status.code,
            Err(error) => {
                self.state.exit_code = error.exit_code();
                self.state.error = error.to_string();
            }
        }
        if self.state.started_ns.is_some() {
            self.state.status = Status::Exited;
            self.state.finished_ns = Some(now_ns());
        }
        self.write_state();
        outcome
    }

    fn spec(&self, lowers: Vec<PathBuf>, size: WindowSize) -> RunSpec {
        let config = &self.config;
        let upper = Upper { tree: self.changes(), work: self.folder.join("work"), volatile: false };
        let etc = etc::FILES.map(|name| spec::Mount {
            source: Source::Bind(self.etc_file(name)),
            destination: Path::new("/etc").join(name),
            read_only: config.read_only,
        });
        let own = config.mounts.iter();
        let hidden = |mount: &spec::Mount| own.clone().any(|own| own.destination == mount.destination);
        let process = &config.process;
        RunSpec {
            id: config.id.clone(),
            root: Root::Overlay(Overlay { lowers, upper: Some(upper) }),
            read_only: config.read_only,
            args: config.args(),
            env: process.env.clone(),
            working_dir: process.working_dir.clone(),
            user: process.user.clone(),
            hostname: config.hostname.clone(),
            network: config.network.into(),
            mounts: etc
                .into_iter()
                .filter(|mount| !hidden(mount))
                .chain(own.clone().map(Into::into))
                .collect(),
            terminal: config.terminal.then_some(size),
            is_step: false,
        }
    }

    fn write_all(&self) -> Result<(), ContainerError> {
        write(&self.folder, "config.json", &self.config)?;
        write(&self.folder, "settings.json", &self.settings)?;
        write(&self.folder, "state.json", &self.state)?;
        for (name, text) in
            etc::FILES.iter().zip(etc::texts(self.config.network.into(), &self.config.hostname))
        {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(io_error("write", &path))?;
        }
        for name in ["upper", "work"] {
            let path = self.folder.join(name);
            fs::DirBuilder::new().mode(0o755).create(&path).map_err(io_error("make", &path))?;
        }
        Ok(())
    }

    /// What is wrong with its records, if anything is: what they do not say has its default here, and the state of a
    /// container whose state is not known is [`Status::Dead`].
    pub fn damage(&self) -> Option<&ContainerError> {
        self.damage.as_ref()
    }

    /// Why its last state is not on disk, if it is not. Nothing else suffers from that.
    pub fn unrecorded(&self) -> Option<&ContainerError> {
        self.unrecorded.as_ref()
    }

    /// A state that cannot be written must not end what runs.
    fn write_state(&mut self) {
        self.unrecorded = match write(&self.folder, "state.json", &self.state) {
            // Removed by force meanwhile: there is nothing left to record.
            Err(error) if error.is_missing() => None,
            written => written.err(),
        };
    }
}

/// Container roots hold other users' files, set-user-ID ones among them: nobody else looks in.
fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn lock_shared(path: &Path) -> io::Result<OwnedFd> {
    let folder = open_folder(path)?;
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared)?;
    Ok(folder)
}

/// `None` when somebody holds the folder at this moment.
fn lock_exclusive(path: &Path) -> io::Result<Option<OwnedFd>> {
    let folder = open_folder(path)?;
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, ContainerError> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(io_error("read", &path))?;
    let parsed =
        serde_json::from_slice::<Versioned>(&bytes).and_then(|Versioned { version }| match version {
            ..=VERSION => serde_json::from_slice(&bytes).map(Ok),
            found => Ok(Err(ContainerError::Version { path: path.clone(), found })),
        });
    parsed.map_err(|error| io_error("read", &path)(error.into()))?
}

/// What all records begin with, of whatever version.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn write(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), ContainerError> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    // A path that is no UTF-8 cannot be written down.
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| io_error("write", &path)(error.into()))?;
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).map_err(io_error("write", &path))
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Random, and not a number in its short form, which tools would take for one.
fn new_id() -> io::Result<String> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let id = common::digest::hex(&bytes);
        if !id[..12].bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

fn now_ns() -> i64 {
    nanoseconds(SystemTime::now())
}

/// Since 1970.
fn nanoseconds(time: SystemTime) -> i64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
