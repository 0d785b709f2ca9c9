//! One stage, instruction by instruction: words are expanded, the config changes, and steps are noted down.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::refusals::{self, Refusal};
use super::step_names::StepNames;
use super::{Command, MAX_GUESSES, Planner};
use crate::copy::Destination;
use crate::copy::glob;
use crate::dockerfile::{
    self, CommandLine, Expander, Kind, Linter, Pair, Rule, Run, Script, Span, SyntaxError, Transfer, Warning,
    history, nearest,
};
use crate::error::{Cause, Problem};
use crate::image::Draft;
use crate::step::Network;
use crate::steps::{Action, CopySource, CopyStep, RunStep, Step};
use crate::tree;

/// Name and value of an `ARG`.
type Argument = (String, Option<String>);

/// A stage under evaluation.
pub(crate) struct Evaluation<'a> {
    planner: &'a Planner<'a>,
    number: usize,
    draft: Draft,
    steps: Vec<Step>,
    names: StepNames,
    linter: Linter<'a>,
    last: LastOfKind,
    /// Whether the instruction asked for a variable whose value is not known: what is wrong with it may come of that.
    is_guess: Cell<bool>,
}

/// Where the last instruction of a kind stands that only counts once.
#[derive(Default)]
struct LastOfKind {
    cmd: Option<Span>,
    entrypoint: Option<Span>,
    healthcheck: Option<Span>,
}

/// What a stage comes to.
pub(crate) struct Evaluated {
    pub draft: Draft,
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(planner: &'a Planner<'a>, number: usize, draft: Draft, names: StepNames) -> Self {
        let linter = Linter::new(&planner.dockerfile.directives.checks);
        let last = LastOfKind::default();
        let is_guess = Cell::new(false);
        Evaluation { planner, number, draft, steps: Vec::new(), names, linter, last, is_guess }
    }

    /// Runs through `commands`: what the image is then, what has to be done for it, and all that is wrong.
    pub(crate) fn run(mut self, commands: &[Command]) -> Evaluated {
        let mut problems = Vec::new();
        for command in commands {
            self.is_guess.set(false);
            let result = self.command(command);
            let is_guess = self.is_guess.get();
            if (is_guess || result.is_err()) && !self.forget(&command.instruction.kind) {
                problems
                    .extend(result.err().map(|refusal| self.planner.refused(self.number, command, refusal)));
                break;
            }
            let refusal = result.err().filter(|_| !is_guess);
            problems.extend(refusal.map(|refusal| self.planner.refused(self.number, command, refusal)));
        }
        Evaluated { draft: self.draft, steps: self.steps, problems, warnings: self.linter.warnings }
    }

    /// Values that an instruction would have given to variables, if it had not failed or asked for such a value itself,
    /// are not known from now on. False when not even the variables are.
    fn forget(&mut self, kind: &Kind) -> bool {
        self.is_guess.set(false);
        let names: Option<Vec<String>> = match kind {
            Kind::Arg(args) => Some(args.iter().map(|arg| arg.name.text.clone()).collect()),
            Kind::Env(pairs) => pairs
                .iter()
                .map(|pair| self.expand(|expander| expander.word(&pair.key)).ok().map(|key| key.text))
                .collect(),
            _ => Some(Vec::new()),
        };
        match names.filter(|_| !self.is_guess.get()) {
            Some(names) => names.iter().for_each(|name| self.draft.variables.forget(name)),
            None => return false,
        }
        true
    }

    fn command(&mut self, command: &Command) -> Result<(), Refusal> {
        let kind = match &command.instruction.kind {
            Kind::Arg(args) => return self.arg(command, args),
            Kind::Run(run) => return self.step_run(command, run),
            // As in BuildKit, which does not ask here.
            kind @ Kind::Expose(_) => self.expand(|expander| expander.kind(kind))?,
            kind => self.expand_linted(command, &[], |expander| expander.kind(kind))?,
        };
        if !command.is_trigger {
            self.lint(command, &kind);
        }
        match &kind {
            Kind::Add(add) => {
                refusals::check_add(&add.transfer.sources, add.checksum.as_ref())?;
                if add.keep_git_dir == Some(true) {
                    self.warn(command, "`--keep-git-dir` has no effect: no source is a git repository");
                }
                self.copy(command, &add.transfer, add.unpack.unwrap_or(true), false)?;
            }
            Kind::Copy(copy) => {
                copy.transfer.sources.iter().try_for_each(refusals::check_copy)?;
                self.copy(command, &copy.transfer, false, copy.parents)?;
            }
            Kind::Workdir(path) => self.workdir(command, &path.text),
            _ => {}
        }
        self.draft.apply(&kind);
        Ok(())
    }

    /// Looks for what is doubtful in an expanded instruction.
    fn lint(&mut self, command: &Command, kind: &Kind) {
        let name = command.instruction.keyword.text.clone();
        let mut found: Vec<(Span, Rule)> = Vec::new();
        let last = match kind {
            Kind::Cmd(_) => Some(&mut self.last.cmd),
            Kind::Entrypoint(_) => Some(&mut self.last.entrypoint),
            Kind::Healthcheck(_) => Some(&mut self.last.healthcheck),
            _ => None,
        };
        // The earlier one is the one without effect.
        let earlier = last.and_then(|last| last.replace(command.span));
        found.extend(earlier.map(|span| (span, Rule::MultipleInstructionsDisallowed(name.clone()))));
        let has_shell = self.draft.image.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        match kind {
            Kind::Cmd(CommandLine::Shell(_)) | Kind::Entrypoint(CommandLine::Shell(_)) if !has_shell => {
                found.push((command.span, Rule::JsonArgsRecommended(name)));
            }
            Kind::Env(pairs) | Kind::Label(pairs) if pairs.iter().any(|pair: &Pair| pair.legacy) => {
                found.push((command.span, Rule::LegacyKeyValueFormat(name)));
            }
            Kind::Workdir(path) => {
                if !self.draft.has_workdir && !path.text.starts_with('/') {
                    found.push((command.span, Rule::WorkdirRelativePath(path.text.clone())));
                }
                self.draft.has_workdir = true;
            }
            _ => {}
        }
        for (span, rule) in found {
            self.linter.warn(span, &command.instruction.comments, rule);
        }
    }

    fn lookup(&self) -> impl Fn(&str) -> Option<String> + use<'_, 'a> {
        |name| {
            if self.draft.variables.is_unknown(name) {
                self.is_guess.set(true);
            }
            self.draft.variables.get(name).map(str::to_owned)
        }
    }

    fn escape(&self) -> char {
        self.planner.dockerfile.directives.escape
    }

    fn expand<T>(
        &self,
        expand: impl FnOnce(&mut Expander<'_>) -> Result<T, SyntaxError>,
    ) -> Result<T, Refusal> {
        let lookup = self.lookup();
        expand(&mut Expander::new(self.escape(), &lookup))
            .map_err(|error| (Some(error.span), Cause::Word(error.fault)))
    }

    /// As [`Evaluation::expand`], and looks for variables that nobody defined; `arguments` are those of the instruction
    /// itself so far.
    fn expand_linted<T>(
        &mut self,
        command: &Command,
        arguments: &[Argument],
        expand: impl FnOnce(&mut Expander<'_>) -> Result<T, SyntaxError>,
    ) -> Result<T, Refusal> {
        let mut unset = BTreeSet::new();
        let result = self.expand(|expander| {
            let result = expand(expander);
            unset.append(&mut expander.unset);
            result
        });
        let is_declared = |name: &String| {
            let arguments = self.draft.arguments.iter().chain(arguments);
            self.draft.variables.is_unknown(name)
                || arguments.map(|(known, _)| known).any(|known| known == name)
        };
        unset.retain(|name| result.is_ok() && !command.is_trigger && !is_declared(name));
        for name in unset {
            let is_few = self.linter.warnings.len() < MAX_GUESSES;
            let known: Vec<&str> = if is_few { self.draft.variables.names().collect() } else { Vec::new() };
            let nearest = nearest(&name, &known).map(|known| format!("${known}"));
            let rule = Rule::UndefinedVar { name, nearest };
            self.linter.warn(command.span, &command.instruction.comments, rule);
        }
        result
    }

    fn arg(&mut self, command: &Command, args: &[dockerfile::Arg]) -> Result<(), Refusal> {
        let mut values: Vec<Argument> = Vec::new();
        for arg in args {
            let name = &arg.name.text;
            let value = match (self.planner.inputs.build_args.get(name), &arg.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    Some(self.expand_linted(command, &values, |expander| expander.word(default))?.text)
                }
                (None, None) => self.planner.global.get(name).map(str::to_owned),
            };
            match &value {
                Some(value) => self.draft.variables.set(name, value),
                None if self.planner.global.is_unknown(name) => self.draft.variables.forget(name),
                None => {}
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
    ) -> Result<(), Refusal> {
        let from = command.sources.first().copied().flatten();
        if let Some(from) = from {
            self.planner.check_is_earlier(self.number, from)?;
        }
        let mut sources = Vec::new();
        for source in &transfer.sources {
            sources.push(if parents { below_pivot(&source.text) } else { plain(&source.text) });
        }
        let chmod = transfer.chmod.as_ref().map(refusals::chmod).transpose()?;
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

    /// Says what has no effect, and where.
    fn warn(&self, command: &Command, text: &str) {
        let source = &self.planner.dockerfile.source;
        (self.planner.inputs.warn)(&format!(
            "{}:{}: {text}",
            source.name,
            source.line_number(command.span.start)
        ));
    }

    fn step_run(&mut self, command: &Command, run: &Run) -> Result<(), Refusal> {
        let mut mounts = Vec::new();
        for (flag, from) in run.mounts.iter().zip(&command.sources) {
            if let Some(from) = from {
                self.planner.check_is_earlier(self.number, *from)?;
            }
            let mount = self.expand_linted(command, &[], |expander| flag.resolve(expander))?;
            refusals::check_mount(flag, &mount, self.draft.working_dir())?;
            mounts.push((mount, *from));
        }
        refusals::check_run(run).next().map_or(Ok(()), Err)?;
        for device in &run.devices {
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
