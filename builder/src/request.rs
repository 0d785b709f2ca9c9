//! What to build, and what the builder needs from outside to do so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use common::digest::Digest;
use common::oci::ImageConfig;
use common::platform::Platform;
use common::reference::Reference;

use crate::event::Event;
use crate::step::{Network, StepRunner};

/// What to build. [`Default`] builds the last stage of `Dockerfile` in the current directory.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Directory that COPY and ADD read; `None` is an empty one.
    pub context: Option<PathBuf>,
    /// Where the instructions are.
    pub dockerfile: DockerfileSource,
    /// Name or number of the stage to build; `None` is the last one.
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// `--label`: on top of the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// What the image runs on; `None` is this machine.
    pub platform: Option<Platform>,
    /// Run every step, whatever the cache holds.
    pub no_cache: bool,
    /// Ask the registry for base images even if they are here.
    pub pull: bool,
    /// Seconds since 1970 that no time in the image may exceed; a `SOURCE_DATE_EPOCH` among the build arguments wins.
    pub source_date_epoch: Option<i64>,
    /// Network of RUN steps that say nothing.
    pub network: Network,
    /// `--secret`, by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: sockets of agents, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Names of the image.
    pub tags: Vec<Reference>,
}

/// Where the instructions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file; its name may be relative to the current directory.
    File(PathBuf),
    /// The text itself, e.g. from standard input.
    Text(Vec<u8>),
}

impl Default for BuildRequest {
    fn default() -> Self {
        BuildRequest {
            context: Some(PathBuf::from(".")),
            dockerfile: DockerfileSource::File(PathBuf::from("Dockerfile")),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: None,
            no_cache: false,
            pull: false,
            source_date_epoch: None,
            network: Network::default(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            tags: Vec::new(),
        }
    }
}

/// An error of a caller's function.
pub type OutsideError = Box<dyn std::error::Error + Send + Sync>;

/// What the builder does not do itself.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Runs the commands of RUN.
    pub runner: &'a dyn StepRunner,
    /// Brings an image of this platform into the store and answers with its ID.
    pub pull: &'a (dyn Fn(&Reference, &Platform) -> Result<Digest, OutsideError> + Sync),
    /// Takes note of what happens; called from several threads.
    pub events: &'a (dyn Fn(Event<'_>) + Sync),
    /// Set by the caller when the build shall be given up, and by the builder when a step has failed, so that the others
    /// end.
    pub cancelled: &'a AtomicBool,
}

/// A finished image. It is in the store, with its record and its names, and on the disk.
#[derive(Debug, Clone)]
pub struct Built {
    /// Digest of the config: the image ID.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// What it runs on.
    pub platform: Platform,
}
