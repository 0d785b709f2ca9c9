//! What is written down about a container. Fields that are added later have defaults, unknown ones are passed over; a
//! record of a newer version is refused.

use std::path::PathBuf;

use common::digest::Digest;
use common::oci;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::spec;

/// `config.json`: what the container was made from. Never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Of this format: [`VERSION`].
    pub version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Nanoseconds since 1970.
    pub created_ns: i64,
    /// The image's config digest.
    #[serde(default)]
    pub image: Option<Digest>,
    /// The image as the user named it.
    #[serde(default)]
    pub image_name: String,
    /// What to run, and what is known about it: the image's config with what the user said in its place. What an image
    /// made from this container begins with.
    #[serde(default)]
    pub process: oci::Config,
    /// The host's name as seen inside.
    #[serde(default)]
    pub hostname: String,
    /// The command has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Standard input is connected.
    #[serde(default)]
    pub open_stdin: bool,
    /// The streams that whoever ran it wanted.
    #[serde(default)]
    pub attached: Streams,
    /// The network that it was made for.
    #[serde(default)]
    pub network: NetworkMode,
    /// What it sees besides its image, in the user's order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// The root cannot be changed.
    #[serde(default)]
    pub read_only: bool,
    /// It is removed at its end.
    #[serde(default)]
    pub auto_remove: bool,
    /// The file that got the ID.
    #[serde(default)]
    pub id_file: Option<PathBuf>,
}

impl Config {
    /// The command and its arguments, the entry point's first.
    pub fn args(&self) -> Vec<String> {
        let words = [&self.process.entrypoint, &self.process.cmd].into_iter().flatten();
        words.flatten().cloned().collect()
    }
}

/// Standard streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// The network that a container is made for, by docker's word for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// Only a loopback device of its own.
    #[default]
    None,
}

impl From<NetworkMode> for spec::Network {
    fn from(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::Host => spec::Network::Host,
            NetworkMode::None => spec::Network::None,
        }
    }
}

/// Something that a container sees besides its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where its content comes from.
    pub source: MountSource,
    /// Where it is: an absolute path inside.
    pub destination: PathBuf,
    /// As the user gave them, separated by commas.
    #[serde(default)]
    pub options: String,
    /// It cannot be changed through this mount.
    #[serde(default)]
    pub read_only: bool,
}

/// Where the content of a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A file or folder of the host.
    Bind(PathBuf),
}

impl From<&Mount> for spec::Mount {
    fn from(mount: &Mount) -> Self {
        let MountSource::Bind(path) = &mount.source;
        spec::Mount {
            source: spec::Source::Bind(path.clone()),
            destination: mount.destination.clone(),
            read_only: mount.read_only,
        }
    }
}

/// `settings.json`: what can be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Of this format: [`VERSION`].
    pub version: u32,
    /// Unique, without a slash in front.
    pub name: String,
}

/// `state.json`: what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of this format: [`VERSION`].
    pub version: u32,
    /// Where in its life it is.
    pub status: Status,
    /// The first process, while it runs.
    #[serde(default)]
    pub process: Option<Process>,
    /// Of the command; docker's for one that could not be started.
    #[serde(default)]
    pub exit_code: i32,
    /// Why it could not be started, or what is not known about its end.
    #[serde(default)]
    pub error: String,
    /// Nanoseconds since 1970; `None` when it never was.
    #[serde(default)]
    pub started_ns: Option<i64>,
    /// Nanoseconds since 1970.
    #[serde(default)]
    pub finished_ns: Option<i64>,
}

/// The stages of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not run.
    Created,
    /// Its first process lives.
    Running,
    /// It has run.
    Exited,
    /// What became of it cannot be read. Never written.
    Dead,
}

/// The version of all three formats.
pub const VERSION: u32 = 1;
/// The exit code of a container whose end nobody saw.
pub const LOST: i32 = 255;

impl State {
    pub(super) fn created() -> Self {
        State {
            version: VERSION,
            status: Status::Created,
            process: None,
            exit_code: 0,
            error: String::new(),
            started_ns: None,
            finished_ns: None,
        }
    }

    /// The state of a container whose own cannot be read.
    pub(super) fn dead(error: String) -> Self {
        State { status: Status::Dead, error, ..State::created() }
    }

    /// It says `running` of a process that is gone: whoever runs it is about to record the end, or was killed.
    pub(super) fn is_outdated(&self) -> bool {
        self.status == Status::Running && !self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// The end of a container that nobody saw; `finished_ns` is when that was found out.
    pub(super) fn lost(self, finished_ns: i64) -> Self {
        State {
            status: Status::Exited,
            process: None,
            exit_code: LOST,
            error: "monitor lost".to_owned(),
            finished_ns: Some(finished_ns),
            ..self
        }
    }
}
