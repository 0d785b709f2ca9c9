//! RUN: the command in a writable overlay of the layers below, with its mounts; what it changed becomes the layer.

use common::digest::Digest;
use common::layer::StoredLayer;
use common::snapshot::CommitOptions;

use super::mounts::Mounts;
use super::{Execution, StepContext};
use crate::cache::{Key, Outcome};
use crate::error::Cause;
use crate::event::VertexId;
use crate::step::{ExitStatus, MountKind, Network, Step, StepError};
use crate::steps::RunStep;
use crate::{step, variables};

/// What tells compilers and package managers the time that they shall write.
const EPOCH: &str = "SOURCE_DATE_EPOCH=";

impl Execution<'_> {
    pub(super) fn run(
        &self,
        at: &StepContext<'_>,
        step: &RunStep,
        vertex: VertexId,
    ) -> Result<Outcome, Cause> {
        let mounts = Mounts::plan(self, at, step)?;
        let network = step.network.unwrap_or(self.inputs.request.network);
        let mut key = self.key("run", Some(at.below));
        describe(&mut key, at, step, network);
        mounts.describe(&mut key);
        self.cached(vertex, &key, || self.run_command(at, step, network, mounts, vertex))
    }

    fn run_command(
        &self,
        at: &StepContext<'_>,
        step: &RunStep,
        network: Network,
        mounts: Mounts<'_>,
        vertex: VertexId,
    ) -> Result<StoredLayer, Cause> {
        self.inputs.environment.runner.check().map_err(Cause::CannotRun)?;
        let draft = self.snapshots.prepare(at.below)?;
        let ready = mounts.prepare(self, &self.snapshots)?;
        let mut list = ready.mounts.clone();
        if let Some(script) = &step.script {
            list.push(step::Mount {
                target: script.path.clone(),
                read_only: true,
                kind: MountKind::File {
                    content: script.content.clone().into_bytes(),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                },
            });
        }
        let mut env = [step.env.clone(), variables::proxy_lines(&self.inputs.request.build_args)].concat();
        if let Some(epoch) = self.inputs.epoch.filter(|_| !env.iter().any(|line| line.starts_with(EPOCH))) {
            env.push(format!("{EPOCH}{epoch}"));
        }
        let root = draft.overlay();
        let request = Step {
            root: &root,
            args: &step.args,
            env: &env,
            working_dir: &step.working_dir,
            user: &step.user,
            network,
            mounts: &list,
            secret_env: &ready.secret_env,
            cancelled: self.inputs.environment.cancelled,
        };
        let mut output = |stream, bytes: &[u8]| self.inputs.progress.output(vertex, stream, bytes);
        let result = self.inputs.environment.runner.run(&request, &mut output);
        drop(ready);
        finished(step, result)?;
        let place = self.place(at);
        let options = CommitOptions {
            clamp: self.inputs.epoch,
            previous: self.cache.previous(&place),
            ..CommitOptions::default()
        };
        let layer = draft.commit(&options)?;
        self.cache.set_previous(&place, &layer.diff_id);
        Ok(layer)
    }
}

fn finished(step: &RunStep, result: Result<ExitStatus, StepError>) -> Result<(), Cause> {
    let command = || step.args.join(" ");
    match result {
        Ok(ExitStatus::Code(0)) => Ok(()),
        Ok(status) => Err(Cause::Exit { command: command(), code: status.code() }),
        Err(StepError::Cancelled) => Err(Cause::Cancelled),
        Err(error @ StepError::Unsupported(_)) => Err(Cause::CannotRun(error)),
        Err(source) => Err(Cause::Step { command: command(), source }),
    }
}

fn describe(key: &mut Key, at: &StepContext<'_>, step: &RunStep, network: Network) {
    key.add("platform", at.stage.platform.to_string());
    key.add_all("arg", &step.args);
    key.add_all("env", &step.env);
    key.add("working directory", &step.working_dir);
    key.add("user", &step.user);
    key.add("network", format!("{network:?}"));
    key.add("ids", "full");
    if let Some(script) = &step.script {
        key.add(format!("script {}", script.path), Digest::sha256(script.content.as_bytes()).to_string());
    }
}
