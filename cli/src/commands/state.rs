//! What lists and documents say about a container, in docker's words.

use std::path::Path;

use anyhow::Result;
use common::image::{names, record};
use common::store::Store;
use engine::containers::{Container, NetworkMode, Status};
use jiff::Timestamp;

use crate::output;

/// Whether its first process lives.
pub(super) fn is_running(container: &Container) -> bool {
    container.state.status == Status::Running
}

/// The first twelve digits, as tables show them.
pub(super) fn short_id(container: &Container) -> &str {
    container.id().get(..12).unwrap_or(container.id())
}

/// The state in docker's word.
pub(super) fn status_word(container: &Container) -> &'static str {
    match container.state.status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Exited => "exited",
        Status::Dead => "dead",
    }
}

/// The name of the network that it was made for.
pub(super) fn network_word(container: &Container) -> &'static str {
    match container.config.network {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    }
}

/// An instant of the container's records.
pub(super) fn time(nanoseconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds?.into()).ok()
}

/// docker's words: `Up 2 minutes`, `Exited (0) 3 seconds ago`, `Created`.
pub(super) fn status_text(container: &Container, now: Timestamp) -> String {
    let state = &container.state;
    let since = |at: Option<i64>| time(at).map_or(0, |at| now.as_second() - at.as_second());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Running => format!("Up {}", output::duration(since(state.started_ns))),
        Status::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, output::duration(since(state.finished_ns)))
        }
    }
}

/// How large a container is, in bytes.
pub(super) struct Sizes {
    /// What it wrote.
    pub(super) written: u64,
    /// That, and the image below.
    pub(super) whole: u64,
}

impl Sizes {
    /// Adds up what is there now.
    pub(super) fn of(store: &Store, container: &Container) -> Result<Self> {
        let image = container.config.image.as_ref().and_then(|id| names::config(store, id).ok());
        let below = image.map_or(Ok(0), |image| record::size_bytes(store, &image))?;
        let written = bytes_below(&container.changes());
        Ok(Sizes { written, whole: below + written })
    }
}

/// Bytes of the files below a folder; what cannot be read, as it is going away, counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) if found.is_file() => found.len(),
        _ => 0,
    };
    entries.flatten().map(size).sum()
}
