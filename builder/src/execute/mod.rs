//! Carrying out a plan: each stage on a thread, each step from the cache or anew.
//!
//! A stage waits for the stages it stands upon or copies from where it needs them, so what does not depend on each other
//! runs at the same time; as many steps run at once as there are processors. The first failure gives the build up: running
//! commands are killed, nothing new is begun, and that failure is what the caller gets.

mod copy;
mod mounts;
mod run;
mod threads;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::digest::Digest;
use common::layer::{self, CreateOptions, LayerWriter, StoredLayer, Time, WriterOptions};
use common::snapshot::Snapshots;
use common::store::{Lease, Store};

use self::threads::{Permits, Slot, lock};
use crate::cache::{Cache, Key, Outcome};
use crate::clock;
use crate::context::Context;
use crate::copy::owner::{self, Owner, Unknown};
use crate::copy::source::RootTree;
use crate::copy::target::{Content, Target};
use crate::dockerfile::{Source, Span};
use crate::error::{BuildError, Cause, Failure, Problem, chain};
use crate::event::VertexId;
use crate::image::Layers;
use crate::plan::{Base, Plan, Stage};
use crate::progress::Progress;
use crate::request::{BuildRequest, Environment};
use crate::sources;
use crate::steps::{Action, Step};

/// What a build is carried out with.
pub(crate) struct Inputs<'a> {
    pub store: &'a Store,
    pub request: &'a BuildRequest,
    pub environment: &'a Environment<'a>,
    pub source: &'a Source,
    pub plan: &'a Plan,
    pub context: &'a Context,
    /// Seconds since 1970 that no time in the image exceeds.
    pub epoch: Option<i64>,
    pub progress: &'a Progress<'a>,
}

/// A build that is being carried out.
struct Execution<'a> {
    inputs: &'a Inputs<'a>,
    cache: Cache,
    snapshots: Snapshots,
    slots: Vec<Slot<Layers>>,
    permits: Permits,
    /// Keeps new layers from being collected before the image refers to them.
    lease: Mutex<Lease>,
    failure: Mutex<Option<BuildError>>,
}

/// The instruction that failed, and why.
type Failed = (Span, Cause);

/// How long a build may take at most before its layers may be collected.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// Carries out the plan; the layers of its target.
pub(crate) fn execute(inputs: &Inputs<'_>) -> Result<Layers, BuildError> {
    let execution = Execution {
        inputs,
        cache: Cache::new(inputs.store),
        snapshots: Snapshots::new(inputs.store),
        slots: inputs.plan.stages.iter().map(|_| Slot::default()).collect(),
        permits: Permits::new(thread::available_parallelism().map_or(1, usize::from)),
        lease: Mutex::new(inputs.store.lease(LEASE)?),
        failure: Mutex::new(None),
    };
    thread::scope(|scope| {
        for (number, stage) in inputs.plan.stages.iter().enumerate() {
            if stage.draft.is_some() {
                scope.spawn({
                    let execution = &execution;
                    move || execution.run_stage(number, stage)
                });
            }
        }
    });
    if let Some(failure) = lock(&execution.failure).take() {
        return Err(failure);
    }
    let layers = execution.slots[inputs.plan.target].wait();
    layers.as_deref().cloned().ok_or(BuildError::Cancelled)
}

impl<'a> Execution<'a> {
    fn run_stage(&self, number: usize, stage: &Stage) {
        let _promise = self.slots[number].promise();
        let layers = self.stage(stage);
        let layers = layers.map_err(|failure| {
            if let Some((span, cause)) = failure {
                self.give_up(stage, span, cause);
            }
        });
        self.slots[number].fill(layers.ok());
    }

    /// `Err(None)` when another stage failed.
    fn stage(&self, stage: &Stage) -> Result<Layers, Option<Failed>> {
        let mut layers = match &stage.base {
            Base::Scratch => Layers::default(),
            Base::Stage(number) => Layers::clone(&*self.slots[*number].wait().ok_or(None)?),
            Base::Image { image, .. } => {
                let config = &image.as_ref().expect("needed images were found").config;
                if let Some(name) = &stage.from_name {
                    let vertex = self.inputs.progress.start(name);
                    self.inputs.progress.finish(vertex);
                }
                Layers { diff_ids: config.rootfs.diff_ids.clone(), created: Vec::new() }
            }
        };
        for step in &stage.steps {
            let outcome = self.step(stage, step, &layers.diff_ids)?;
            layers.diff_ids.push(outcome.diff_id);
            layers.created.push(outcome.created);
        }
        Ok(layers)
    }

    fn step(&self, stage: &Stage, step: &Step, below: &[Digest]) -> Result<Outcome, Option<Failed>> {
        let sources = self.wait_for_sources(&step.action)?;
        let _permit = self.permits.take();
        if self.is_given_up() {
            return Err(None);
        }
        let at = StepContext { stage, step, below, sources: &sources };
        let vertex = self.inputs.progress.start(&step.name);
        let result = match &step.action {
            Action::Copy(copy) => self.copy(&at, copy, vertex),
            Action::Run(run) => self.run(&at, run, vertex),
            Action::MakeDirectory { path, user } => self.make_directory(&at, path, user, vertex),
        };
        match result {
            Ok(outcome) => {
                lock(&self.lease).add(&outcome.diff_id).map_err(|error| Some((step.span, error.into())))?;
                self.inputs.progress.finish(vertex);
                Ok(outcome)
            }
            Err(cause) => {
                // What a killed command says is not the news.
                let cause = if self.is_given_up() { Cause::Cancelled } else { cause };
                self.inputs.progress.fail(vertex, &chain(&cause));
                Err(Some((step.span, cause)))
            }
        }
    }

    /// The layers of the stages that a step reads, by number.
    fn wait_for_sources(&self, action: &Action) -> Result<BTreeMap<usize, Arc<Layers>>, Option<Failed>> {
        let numbers: Vec<usize> = match action {
            Action::Copy(copy) => copy.from.into_iter().collect(),
            Action::Run(run) => run.mounts.iter().filter_map(|(_, from)| *from).collect(),
            Action::MakeDirectory { .. } => Vec::new(),
        };
        numbers.into_iter().map(|number| Ok((number, self.slots[number].wait().ok_or(None)?))).collect()
    }

    fn is_given_up(&self) -> bool {
        self.inputs.environment.cancelled.load(Ordering::SeqCst)
    }

    fn give_up(&self, stage: &Stage, span: Span, cause: Cause) {
        let mut failure = lock(&self.failure);
        if failure.is_some() {
            return;
        }
        let cancelled = self.is_given_up();
        self.inputs.environment.cancelled.store(true, Ordering::SeqCst);
        *failure = Some(match cause {
            _ if cancelled => BuildError::Cancelled,
            cause => {
                let hint = sources::hint(self.inputs.context, &cause);
                let failure = Failure { span, stage: stage.title.clone(), cause, hint };
                BuildError::of_problems(self.inputs.source, vec![Problem::Instruction(Box::new(failure))])
            }
        });
    }

    /// What the cache has for `key`, or what `make` makes.
    fn cached(
        &self,
        vertex: VertexId,
        key: &Key,
        make: impl FnOnce() -> Result<StoredLayer, Cause>,
    ) -> Result<Outcome, Cause> {
        if !self.inputs.request.no_cache
            && let Some(outcome) = self.cache.get(key)
        {
            tracing::debug!(key = %key.digest(), diff_id = %outcome.diff_id, "step was found in the cache");
            self.inputs.progress.cached(vertex);
            return Ok(outcome);
        }
        let layer = make()?;
        let outcome = Outcome::new(layer.diff_id, clock::rfc3339(self.now()));
        self.cache.put(key, &outcome);
        Ok(outcome)
    }

    /// The time of what is made now.
    fn now(&self) -> Time {
        self.inputs.epoch.map_or_else(clock::now, Time::from_seconds)
    }

    /// The components that all keys have: what the step stands upon, and how layers are written.
    fn key(&self, kind: &str, below: Option<&[Digest]>) -> Key {
        let mut key = Key::new(kind);
        let below = below.map_or("none".to_owned(), |below| match below {
            [] => "scratch".to_owned(),
            below => layer::chain_id(below).to_string(),
        });
        key.add("below", below);
        key.add("writer", layer::writer::VERSION.to_string());
        key.add("epoch", self.inputs.epoch.map_or("none".to_owned(), |epoch| epoch.to_string()));
        key
    }

    fn root(&self, layers: &[Digest], name: &str) -> Result<RootTree, Cause> {
        Ok(RootTree::open(self.inputs.store, layers, name)?)
    }

    fn owner(&self, below: &[Digest], text: &str, unknown: Unknown) -> Result<Owner, Cause> {
        /// More than this in `/etc/passwd` is not read.
        const LIMIT_BYTES: u64 = 10 << 20;
        owner::resolve(text, unknown, |path| {
            let target = Target::new(self.root(below, "")?, Time::default());
            Ok(target.read(path, LIMIT_BYTES)?)
        })
    }

    fn make_directory(
        &self,
        at: &StepContext<'_>,
        path: &str,
        user: &str,
        vertex: VertexId,
    ) -> Result<Outcome, Cause> {
        let owner = self.owner(at.below, user, Unknown::IsRoot)?;
        let mut key = self.key("directory", Some(at.below));
        key.add("path", path);
        key.add("owner", format!("{}:{}", owner.uid, owner.gid));
        self.cached(vertex, &key, || {
            let mut target = Target::new(self.root(at.below, "")?, self.now());
            let path = target.resolve(path.as_bytes())?;
            target.make_directories(&path, 0o755, owner)?;
            self.write_layer(at, &target, |_| unreachable!("a directory has no content"))
        })
    }

    fn write_layer(
        &self,
        at: &StepContext<'_>,
        target: &Target,
        open: impl FnMut(&Content) -> Result<Box<dyn std::io::Read + Send>, Cause>,
    ) -> Result<StoredLayer, Cause> {
        let place = self.place(at);
        let options = CreateOptions {
            writer: WriterOptions { clamp: self.inputs.epoch },
            previous: self.cache.previous(&place),
        };
        let stored = layer::create(self.inputs.store, &options, |writer: &mut LayerWriter<_>| {
            target.write(writer, open)
        })?;
        self.cache.set_previous(&place, &stored.diff_id);
        Ok(stored)
    }

    /// What stays the same when a step's sources change: so a new version of a layer is known as one.
    fn place(&self, at: &StepContext<'_>) -> Key {
        let mut place = Key::new("place");
        place.add("context", self.inputs.context.identity());
        place.add("stage", &at.stage.label);
        place.add("step", &at.step.name);
        place
    }
}

/// A step and where it stands.
struct StepContext<'a> {
    stage: &'a Stage,
    step: &'a Step,
    /// Diff IDs below it.
    below: &'a [Digest],
    /// The stages that it reads.
    sources: &'a BTreeMap<usize, Arc<Layers>>,
}
