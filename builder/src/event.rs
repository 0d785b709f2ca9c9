//! What a build tells while it runs.

use crate::dockerfile::Warning;

/// Which of the two streams of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Number of a vertex: one line of progress, such as `[build 2/3] RUN make`. From 1, in order of their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub u32);

/// Something happened. Events of one vertex come in this order; those of different vertices interleave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The vertex runs from now on, or is about to turn out [`Event::Cached`].
    Started {
        /// Which.
        vertex: VertexId,
        /// As BuildKit names it: `[stage 1/3] RUN …`, `[internal] load build definition from Dockerfile`.
        name: &'a str,
    },
    /// Its result was there already. [`Event::Finished`] follows.
    Cached {
        /// Which.
        vertex: VertexId,
    },
    /// Output of the command, in pieces as they came.
    Output {
        /// Which.
        vertex: VertexId,
        /// Where it was written to.
        stream: Stream,
        /// Any bytes.
        bytes: &'a [u8],
    },
    /// It is done.
    Finished {
        /// Which.
        vertex: VertexId,
    },
    /// It failed, and so does the build.
    Failed {
        /// Which.
        vertex: VertexId,
        /// Why, in one line.
        error: &'a str,
    },
    /// A part of what the vertex does is done.
    Part {
        /// Which.
        vertex: VertexId,
        /// As BuildKit names it: `writing image sha256:…`.
        name: &'a str,
    },
    /// The Dockerfile holds something doubtful.
    Doubtful {
        /// What.
        warning: &'a Warning,
        /// Where, from 1.
        line: usize,
    },
    /// Something else that somebody may want to act upon.
    Warning(&'a str),
}
