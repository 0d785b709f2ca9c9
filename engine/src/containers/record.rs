//! What is written down about a container. Fields that are added later have defaults, unknown ones are passed over.

use std::collections::BTreeMap;

use common::digest::Digest;
use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::spec::{Mount, Network};

/// `config.json`: what the container was made from. Never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Of this format: [`VERSION`].
    pub version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Nanoseconds since 1970.
    pub created_ns: i64,
    /// The image's config digest.
    pub image: Option<Digest>,
    /// The image as the user named it.
    pub image_name: String,
    /// The command and its arguments, the entry point's first.
    pub args: Vec<String>,
    /// `NAME=value`, the image's first.
    #[serde(default)]
    pub env: Vec<String>,
    /// Where the command starts; empty means `/`.
    #[serde(default)]
    pub working_dir: String,
    /// `user[:group]`; empty means root.
    #[serde(default)]
    pub user: String,
    /// The host's name as seen inside.
    pub hostname: String,
    /// The network it is on.
    pub network: Network,
    /// Binds of the host and file systems in memory.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// The root cannot be changed.
    #[serde(default)]
    pub read_only: bool,
    /// The command has a terminal.
    #[serde(default)]
    pub terminal: bool,
    /// Standard input is connected.
    #[serde(default)]
    pub open_stdin: bool,
    /// It is removed at its end.
    #[serde(default)]
    pub auto_remove: bool,
    /// The image's and the user's.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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

    /// What is true now: a record that says `running` of a process that is gone was left by somebody who was killed.
    pub(super) fn compared(mut self) -> Self {
        if self.status == Status::Running && !self.process.as_ref().is_some_and(Process::is_alive) {
            self.status = Status::Exited;
            self.process = None;
            self.exit_code = LOST;
            "monitor lost".clone_into(&mut self.error);
        }
        self
    }
}
