//! Numbers the lines of progress.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::event::{Event, Stream, VertexId};

/// Where events go.
pub(crate) struct Progress<'a> {
    events: &'a (dyn Fn(Event<'_>) + Sync),
    last: AtomicU32,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(events: &'a (dyn Fn(Event<'_>) + Sync)) -> Self {
        Progress { events, last: AtomicU32::new(0) }
    }

    pub(crate) fn start(&self, name: &str) -> VertexId {
        let vertex = VertexId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        (self.events)(Event::Started { vertex, name });
        vertex
    }

    pub(crate) fn cached(&self, vertex: VertexId) {
        (self.events)(Event::Cached { vertex });
    }

    pub(crate) fn output(&self, vertex: VertexId, stream: Stream, bytes: &[u8]) {
        (self.events)(Event::Output { vertex, stream, bytes });
    }

    pub(crate) fn finish(&self, vertex: VertexId) {
        (self.events)(Event::Finished { vertex });
    }

    pub(crate) fn fail(&self, vertex: VertexId, error: &str) {
        (self.events)(Event::Failed { vertex, error });
    }

    /// Does `work` as a vertex of its own.
    pub(crate) fn run<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.run_in_parts(name, |_| work())
    }

    /// As [`Self::run`]; `work` says which parts of it are done.
    pub(crate) fn run_in_parts<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce(&dyn Fn(&str)) -> Result<T, E>,
    ) -> Result<T, E> {
        let vertex = self.start(name);
        let result = work(&|name| (self.events)(Event::Part { vertex, name }));
        match &result {
            Ok(_) => self.finish(vertex),
            Err(error) => self.fail(vertex, &error.to_string()),
        }
        result
    }
}
