//! What to run: the values that a caller fills in. They travel to the `__init` role as JSON.

use std::path::PathBuf;

use common::snapshot::Overlay;
use serde::{Deserialize, Serialize};

/// A process and the world that it gets to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Names the control group: unique on this machine, fit for a file name.
    pub id: String,
    /// The root file system.
    pub root: Root,
    /// Nothing in the root can be changed.
    pub read_only: bool,
    /// The command and its arguments; the command is looked up in the root, by `PATH` when it has no slash.
    pub args: Vec<String>,
    /// `NAME=value`. `PATH` and `HOME` are added where they are missing, and unless it is a step so are `HOSTNAME` and,
    /// with a terminal, `TERM`.
    pub env: Vec<String>,
    /// Absolute; made when it is not there. Empty means `/`.
    pub working_dir: String,
    /// `user[:group]`, names or numbers, looked up in the root. Empty means root.
    pub user: String,
    /// The host's name as seen inside.
    pub hostname: String,
    /// Which network devices there are.
    pub network: Network,
    /// What is mounted besides the usual file systems, in any order.
    pub mounts: Vec<Mount>,
    /// Standard input, output and error are a new pseudo terminal of this size.
    pub terminal: Option<WindowSize>,
    /// It makes a layer of an image: mount points that had to be made are removed again at the end, if they are still
    /// empty. Those of the kernel's file systems stay, as those that runc makes for BuildKit do.
    pub is_step: bool,
}

/// A root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// A merged tree, mounted where only the container sees it.
    Overlay(Overlay),
    /// A directory as it is.
    Directory(PathBuf),
}

/// The network that a container is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    Host,
    /// Only a loopback device of its own.
    None,
}

/// Something mounted into the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where: an absolute path, resolved inside the root. Made, as a file or a directory, when it is not there.
    pub destination: PathBuf,
    /// It cannot be changed through this mount.
    pub read_only: bool,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file or directory of the host, with what is mounted below it.
    Bind(PathBuf),
    /// A file system in memory, with these mount options.
    Tmpfs(Vec<String>),
    /// A file that exists as long as the process and may be executed.
    File {
        /// What is in it at first.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A part of another merged tree.
    Tree {
        /// The tree, mounted for this.
        overlay: Overlay,
        /// A path in it, resolved as inside a container whose root it is; empty for all of it.
        path: PathBuf,
    },
}

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines; 0 when unknown.
    pub rows: u16,
    /// Characters in a line; 0 when unknown.
    pub columns: u16,
}
