//! One stage, instruction by instruction: words are expanded, the config changes, and steps are noted down.

use std::sync::Arc;

use crate::copy::Destination;
use crate::copy::glob;
use crate::copy::mode::Chmod;
use crate::dockerfile::{self, Add, Expander, Kind, Run, Script, Span, SyntaxError, Transfer, history};
use crate::error::{BuildError, Cause};
use crate::image::Draft;
use crate::plan::{Command, Planner};
use crate::step::Network;
use crate::step_names::StepNames;
use crate::steps::{Action, CopySource, CopyStep, RunStep, Step};
use crate::tree;

/// Why an instruction cannot be planned, and which words of it when it is not all of them.
type Failure = (Option<Span>, Cause);

/// A stage under evaluation.
pub(crate) struct Evaluation<'a> {
    planner: &'a Planner<'a>,
    number: usize,
    draft: Draft,
    steps: Vec<Step>,
    names: StepNames,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(planner: &'a Planner<'a>, number: usize, draft: Draft, names: StepNames) -> Self {
        Evaluation { planner, number, draft, steps: Vec::new(), names }
    }

    /// Runs through `commands`; what the image is then, and what has to be done for it.
    pub(crate) fn run(mut self, commands: &[Command]) -> Result<(Draft, Vec<Step>), BuildError> {
        for command in commands {
            let label = &self.planner.states[self.number].label;
            let result = self.command(command);
            result.map_err(|(span, cause)| self.planner.error(span.unwrap_or(command.span), label, cause))?;
        }
        Ok((self.draft, self.steps))
    }

    fn command(&mut self, command: &Command) -> Result<(), Failure> {
        let kind = match &command.instruction.kind {
            Kind::Arg(args) => return self.arg(command, args),
            Kind::Run(run) => return self.step_run(command, run),
            kind => self.expand(command, |expander| expander.kind(kind))?,
        };
        match &kind {
            Kind::Add(add) => {
                self.check_add(command, add)?;
                self.copy(command, &add.transfer, add.unpack.unwrap_or(true), false)?;
            }
            Kind::Copy(copy) => self.copy(command, &copy.transfer, false, copy.parents)?,
            Kind::Workdir(path) => self.workdir(command, &path.text),
            _ => {}
        }
        self.draft.apply(&kind);
        Ok(())
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<String> + use<'_, 'a> {
        |name| self.draft.variables.get(name).map(str::to_owned)
    }

    fn escape(&self) -> char {
        self.planner.dockerfile.directives.escape
    }

    /// Words of a trigger have no place in this file, so their errors have that of the `FROM` line.
    fn expand<T>(
        &self,
        command: &Command,
        expand: impl FnOnce(&mut Expander<'_>) -> Result<T, SyntaxError>,
    ) -> Result<T, Failure> {
        let lookup = self.lookup();
        expand(&mut Expander::new(self.escape(), &lookup))
            .map_err(|error| ((!command.is_trigger).then_some(error.span), Cause::Word(error.fault)))
    }

    fn arg(&mut self, command: &Command, args: &[dockerfile::Arg]) -> Result<(), Failure> {
        let mut values: Vec<(String, Option<String>)> = Vec::new();
        for arg in args {
            let name = &arg.name.text;
            let value = match (self.planner.inputs.build_args.get(name), &arg.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(command, |expander| expander.word(default))?.text),
                (None, None) => self.planner.global.get(name).map(str::to_owned),
            };
            if let Some(value) = &value {
                self.draft.variables.set(name, value);
            }
            values.push((name.clone(), value));
        }
        self.draft.arg(values);
        Ok(())
    }

    /// How progress calls the next step.
    fn name(&mut self, command: &Command) -> String {
        let lookup = self.lookup();
        let text = Expander::new(self.escape(), &lookup).display(&command.instruction.title());
        drop(lookup);
        self.names.next(&text, command.is_trigger)
    }

    fn push(&mut self, command: &Command, action: Action) {
        let name = self.name(command);
        self.steps.push(Step { name, span: command.span, action });
    }

    fn workdir(&mut self, command: &Command, path: &str) {
        let path = self.draft.workdir(path);
        if path != "/" {
            let user = self.draft.image.config.user.clone();
            self.push(command, Action::MakeDirectory { path, user });
        }
    }

    fn copy(
        &mut self,
        command: &Command,
        transfer: &Transfer,
        unpack: bool,
        parents: bool,
    ) -> Result<(), Failure> {
        let from = command.sources.first().copied().flatten();
        if let Some(from) = from {
            self.check_is_earlier(from)?;
        }
        let mut sources = Vec::new();
        for source in &transfer.sources {
            sources.push(if parents { below_pivot(&source.text) } else { plain(&source.text) });
        }
        let chmod = transfer
            .chmod
            .as_ref()
            .map(|word| Chmod::parse(&word.text).map_err(|error| (Some(word.span), Cause::from(error))));
        let chmod = chmod.transpose()?;
        let documents = transfer.documents.iter();
        let step = CopyStep {
            from,
            sources,
            documents: documents
                .map(|file| (file.name.clone(), Arc::from(file.content.as_bytes())))
                .collect(),
            destination: Destination::new(self.draft.working_dir(), &transfer.destination.text),
            chown: transfer.chown.as_ref().map(|word| word.text.clone()),
            // As in BuildKit, which cannot do both.
            link: transfer.link && chmod.is_none(),
            chmod,
            exclude: transfer.exclude.iter().map(|word| word.text.clone()).collect(),
            unpack,
        };
        self.push(command, Action::Copy(Box::new(step)));
        Ok(())
    }

    /// Refuses what is not local, and flags that are for that alone.
    fn check_add(&self, command: &Command, add: &Add) -> Result<(), Failure> {
        let sources = &add.transfer.sources;
        let checksum = add.checksum.as_ref().filter(|checksum| !checksum.text.is_empty());
        if let Some(checksum) = checksum.filter(|_| sources.len() != 1) {
            return Err((Some(checksum.span), Cause::ChecksumOfMany));
        }
        for source in sources {
            check_is_local(&source.text).map_err(|cause| (Some(source.span), cause))?;
        }
        if let Some(checksum) = checksum {
            return Err((Some(checksum.span), Cause::ChecksumOfFile));
        }
        if add.keep_git_dir == Some(true) {
            self.warn(command, "`--keep-git-dir` has no effect: no source is a git repository");
        }
        Ok(())
    }

    /// Says what has no effect, and where.
    fn warn(&self, command: &Command, text: &str) {
        let source = &self.planner.dockerfile.source;
        (self.planner.inputs.warn)(&format!(
            "{}:{}: {text}",
            source.name,
            source.line_number(command.span.start)
        ));
    }

    fn check_is_earlier(&self, from: usize) -> Result<(), Failure> {
        let (own, other) = (&self.planner.states[self.number], &self.planner.states[from]);
        if other.is_stage && from >= self.number {
            return Err((None, Cause::LaterStage { from: other.label.clone(), stage: own.label.clone() }));
        }
        Ok(())
    }

    fn step_run(&mut self, command: &Command, run: &Run) -> Result<(), Failure> {
        let mut mounts = Vec::new();
        for (flag, from) in run.mounts.iter().zip(&command.sources) {
            if let Some(from) = from {
                self.check_is_earlier(*from)?;
            }
            mounts.push((self.expand(command, |expander| flag.resolve(expander))?, *from));
        }
        if run.security == dockerfile::Security::Insecure {
            return Err((None, Cause::Unsupported("`RUN --security=insecure`")));
        }
        for device in &run.devices {
            if device.required {
                return Err((Some(device.span), Cause::Unsupported("`RUN --device`")));
            }
            self.warn(
                command,
                &format!(
                    "the step goes without device `{}`: `RUN --device` is not supported yet",
                    device.name
                ),
            );
        }
        let Script { command: line, file } = run.script();
        let args = history::with_shell(&line, &self.draft.shell());
        let step = RunStep {
            script: file,
            env: self.draft.variables.lines(),
            working_dir: self.draft.working_dir().to_owned(),
            user: self.draft.image.config.user.clone(),
            network: match run.network {
                dockerfile::Network::Default => None,
                dockerfile::Network::None => Some(Network::None),
                dockerfile::Network::Host => Some(Network::Host),
            },
            mounts,
            args,
        };
        self.draft.run(&step.args);
        self.push(command, Action::Run(Box::new(step)));
        Ok(())
    }
}

fn plain(source: &str) -> CopySource {
    CopySource { path: tree::clean(source.as_bytes()), include: None, required: None }
}

/// `--parents`: what stands before `/./` is not part of the copied paths.
fn below_pivot(source: &str) -> CopySource {
    let (path, pattern) = source.split_once("/./").unwrap_or(("", source));
    let (path, pattern) = (tree::clean(path.as_bytes()), tree::clean(pattern.as_bytes()));
    if pattern.is_empty() {
        return CopySource { path, include: None, required: None };
    }
    let plain = !glob::has_wildcards(&path) && !glob::has_wildcards(&pattern);
    CopySource {
        required: plain.then(|| tree::join(&path, &pattern)),
        path,
        include: Some(String::from_utf8_lossy(&pattern).into_owned()),
    }
}

fn check_is_local(source: &str) -> Result<(), Cause> {
    let is = |schemes: &[&str]| schemes.iter().any(|scheme| source.starts_with(scheme));
    if is(&["git://", "ssh://", "git@"]) || (is(&["http://", "https://"]) && source.contains(".git")) {
        return Err(Cause::Unsupported("`ADD` of a git repository"));
    }
    if is(&["http://", "https://"]) {
        return Err(Cause::Unsupported("`ADD` of a URL"));
    }
    Ok(())
}
