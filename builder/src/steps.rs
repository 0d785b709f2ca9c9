//! Steps: what a plan wants done, with every word expanded.

use std::sync::Arc;

use crate::copy::Destination;
use crate::copy::mode::Chmod;
use crate::dockerfile::{Mount, ScriptFile, Span};
use crate::step::Network;

/// Something that makes a layer.
#[derive(Debug)]
pub(crate) struct Step {
    /// How progress calls it, e.g. `[build 2/3] COPY . .`
    pub name: String,
    pub span: Span,
    pub action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Copy(Box<CopyStep>),
    Run(Box<RunStep>),
    /// WORKDIR: the path and the user who shall own it.
    MakeDirectory {
        path: String,
        user: String,
    },
}

#[derive(Debug)]
pub(crate) struct CopyStep {
    /// A stage; `None` is the build context.
    pub from: Option<usize>,
    pub sources: Vec<CopySource>,
    pub documents: Vec<(String, Arc<[u8]>)>,
    pub destination: Destination,
    pub chown: Option<String>,
    pub chmod: Option<Chmod>,
    pub exclude: Vec<String>,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// The layer does not depend on what it lies upon.
    pub link: bool,
}

#[derive(Debug)]
pub(crate) struct CopySource {
    /// Cleaned, may hold wildcards.
    pub path: Vec<u8>,
    /// `--parents`: what is wanted below `path`.
    pub include: Option<String>,
    /// `--parents` without wildcards: this must be there.
    pub required: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct RunStep {
    pub args: Vec<String>,
    /// A heredoc that brings its own interpreter.
    pub script: Option<ScriptFile>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub network: Option<Network>,
    /// With the stage of those that name one.
    pub mounts: Vec<(Mount, Option<usize>)>,
}
