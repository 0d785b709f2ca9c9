//! From instructions to what has to be done: stages, what they stand upon, and steps with all words expanded.
//!
//! Nothing is executed here but the look-up (or pull) of base images, since their configs hold variables and triggers.
//! Only stages that the target needs are planned; the others are checked for cycles and otherwise not looked at, so a
//! broken stage that nobody needs is no error.
//!
//! A stage number is an index in [`Plan::stages`]: first the Dockerfile's in order, behind them one for each image that a
//! `--from` names.

use std::collections::{BTreeMap, BTreeSet};

use common::digest::Digest;
use common::oci::ImageConfig;
use common::platform::Platform;

use crate::dockerfile::{self, Dockerfile, Expander, Instruction, Kind, Span};
use crate::error::{BuildError, Cause, InstructionError};
use crate::evaluate::Evaluation;
use crate::image::Draft;
use crate::step_names::StepNames;
use crate::steps::Step;
use crate::variables::{self, Variables};

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub stages: Vec<Stage>,
    /// The stage whose image is wanted.
    pub target: usize,
    /// A global `ARG SOURCE_DATE_EPOCH`.
    pub epoch: Option<String>,
}

/// One stage, or an image that files are taken from.
#[derive(Debug)]
pub(crate) struct Stage {
    /// As progress and errors call it; empty when there is only one.
    pub label: String,
    pub base: Base,
    pub platform: Platform,
    /// How progress calls the base image, when there is one.
    pub from_name: Option<String>,
    pub steps: Vec<Step>,
    /// `None` for what the target does not need.
    pub draft: Option<Draft>,
}

/// What a stage stands upon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    /// The name is complete and may not be known yet when nobody needs the stage.
    Image {
        name: String,
        image: Option<Box<BaseImage>>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BaseImage {
    pub id: Digest,
    pub config: ImageConfig,
}

/// From a name to the complete name and the image.
pub(crate) type Find<'a> = dyn Fn(&str, &Platform) -> Result<(String, BaseImage), Cause> + 'a;

/// What a plan needs to know besides the Dockerfile.
pub(crate) struct Inputs<'a> {
    pub target: Option<&'a str>,
    pub build_args: &'a BTreeMap<String, String>,
    pub build_platform: Platform,
    pub target_platform: Platform,
    /// Finds an image of a platform and its config.
    pub find: &'a Find<'a>,
    /// Takes note of what is legal and has no effect here.
    pub warn: &'a dyn Fn(&str),
}

/// Plans the build of `dockerfile`.
pub(crate) fn plan(dockerfile: &Dockerfile, inputs: &Inputs<'_>) -> Result<Plan, BuildError> {
    let mut planner = Planner::new(dockerfile, inputs)?;
    let target = planner.find_target()?;
    planner.find_sources()?;
    planner.check_cycles()?;
    let stages = planner.reachable(target);
    dockerfile.check(stages).map_err(|errors| BuildError::Syntax(Box::new(errors)))?;
    let needed = planner.settle(target)?;
    for number in planner.order(&needed) {
        planner.evaluate(number)?;
    }
    let epoch = planner.global.get("SOURCE_DATE_EPOCH").map(str::to_owned);
    Ok(Plan { stages: planner.states.into_iter().map(State::into_stage).collect(), target, epoch })
}

pub(crate) struct Planner<'a> {
    pub dockerfile: &'a Dockerfile,
    pub inputs: &'a Inputs<'a>,
    pub global: Variables,
    pub states: Vec<State>,
    /// The last stage of each name so far.
    names: BTreeMap<String, usize>,
}

/// A stage on its way to a [`Stage`].
pub(crate) struct State {
    /// Name for errors and progress.
    pub label: String,
    span: Span,
    /// False for an image that a `--from` names.
    pub is_stage: bool,
    base: Base,
    platform: Option<Platform>,
    commands: Vec<Command>,
    /// Whether triggers have been put in front of the commands.
    triggered: bool,
    steps: Vec<Step>,
    draft: Option<Draft>,
}

/// An instruction, or a trigger of what the stage stands upon.
#[derive(Clone)]
pub(crate) struct Command {
    pub instruction: Instruction,
    /// Where errors point to: for a trigger, the `FROM` line.
    pub span: Span,
    pub is_trigger: bool,
    /// For COPY one at most, for RUN one a mount.
    pub sources: Vec<Option<usize>>,
}

impl State {
    fn into_stage(self) -> Stage {
        let from_name = match &self.base {
            Base::Image { name, .. } => Some(StepNames::new(&self.label, true, &self.commands).base(name)),
            _ => None,
        };
        Stage {
            from_name,
            label: self.label,
            base: self.base,
            platform: self.platform.unwrap_or_else(Platform::host),
            steps: self.steps,
            draft: self.draft,
        }
    }

    fn dependencies(&self) -> impl Iterator<Item = usize> {
        let base = match self.base {
            Base::Stage(number) => Some(number),
            _ => None,
        };
        base.into_iter()
            .chain(self.commands.iter().flat_map(|command| command.sources.iter().copied().flatten()))
    }
}

impl<'a> Planner<'a> {
    fn new(dockerfile: &'a Dockerfile, inputs: &'a Inputs<'a>) -> Result<Self, BuildError> {
        let last = dockerfile.stages.last().and_then(dockerfile::Stage::name).unwrap_or_default();
        let target = inputs.target.unwrap_or(last);
        let global =
            variables::predefined(&inputs.build_platform, &inputs.target_platform, target, inputs.build_args);
        let mut planner = Planner { dockerfile, inputs, global, states: Vec::new(), names: BTreeMap::new() };
        planner.read_global_args()?;
        for stage in &dockerfile.stages {
            let state = planner.begin(stage)?;
            planner.states.push(state);
            if let Some(name) = stage.name() {
                planner.names.insert(name.to_owned(), planner.states.len() - 1);
            }
        }
        Ok(planner)
    }

    pub(crate) fn error(&self, span: Span, stage: &str, cause: impl Into<Cause>) -> BuildError {
        BuildError::Instruction(Box::new(InstructionError {
            source: self.dockerfile.source.clone(),
            span,
            stage: stage.to_owned(),
            cause: cause.into(),
            hint: None,
        }))
    }

    fn expand_global(&self, word: &dockerfile::Word) -> Result<String, BuildError> {
        let lookup = |name: &str| self.global.get(name).map(str::to_owned);
        let mut expander = Expander::new(self.dockerfile.directives.escape, &lookup);
        let expanded = expander.word(word);
        expanded.map(|word| word.text).map_err(|error| self.error(error.span, "", Cause::Word(error.fault)))
    }

    fn read_global_args(&mut self) -> Result<(), BuildError> {
        for arg in &self.dockerfile.global_args {
            let value = match (self.inputs.build_args.get(&arg.name.text), &arg.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand_global(default)?),
                (None, None) => None,
            };
            if let Some(value) = value {
                self.global.set(&arg.name.text, &value);
            }
        }
        Ok(())
    }

    fn begin(&self, stage: &dockerfile::Stage) -> Result<State, BuildError> {
        let number = self.states.len();
        let label = stage.name().map_or_else(|| format!("stage-{number}"), str::to_owned);
        let name = self.expand_global(&stage.base)?;
        if name.is_empty() {
            return Err(self.error(stage.base.span, &label, Cause::BlankBase(stage.base.text.clone())));
        }
        let platform =
            match &stage.platform {
                None => None,
                Some(word) => {
                    let text = self.expand_global(word)?;
                    Some(text.parse().map_err(|error: common::platform::PlatformError| {
                        self.error(word.span, &label, error)
                    })?)
                }
            };
        let base = match self.names.get(&name) {
            Some(number) => Base::Stage(*number),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image { name, image: None },
        };
        let commands = stage.instructions.iter().map(|instruction| Command {
            instruction: instruction.clone(),
            span: instruction.span,
            is_trigger: false,
            sources: Vec::new(),
        });
        Ok(State {
            label,
            span: stage.span,
            is_stage: true,
            base,
            platform,
            commands: commands.collect(),
            triggered: false,
            steps: Vec::new(),
            draft: None,
        })
    }

    fn find_target(&self) -> Result<usize, BuildError> {
        let Some(target) = self.inputs.target.filter(|target| !target.is_empty()) else {
            return Ok(self.states.len() - 1);
        };
        let numbered = || target.parse().ok().filter(|number| *number < self.states.len());
        self.names.get(&target.to_lowercase()).copied().or_else(numbered).ok_or_else(|| {
            let known = self.names.keys().cloned().collect();
            BuildError::NoSuchTarget { target: target.to_owned(), known }
        })
    }

    /// Finds the stages that the commands name; images get a state of their own.
    fn find_sources(&mut self) -> Result<(), BuildError> {
        for number in 0..self.states.len() {
            let mut commands = std::mem::take(&mut self.states[number].commands);
            for command in &mut commands {
                command.sources = self.sources_of(number, command)?;
            }
            self.states[number].commands = commands;
        }
        if self.states.len() == 1 {
            self.states[0].label.clear();
        }
        Ok(())
    }

    fn sources_of(&mut self, stage: usize, command: &Command) -> Result<Vec<Option<usize>>, BuildError> {
        match &command.instruction.kind {
            Kind::Copy(copy) => match &copy.from {
                None => Ok(Vec::new()),
                Some(from) => Ok(vec![Some(self.source(stage, command, &from.text, true)?)]),
            },
            Kind::Run(run) => {
                let froms: Vec<Option<String>> =
                    run.mounts.iter().map(|mount| mount.from().map(|from| from.text.clone())).collect();
                froms
                    .into_iter()
                    .map(|from| from.map(|from| self.source(stage, command, &from, false)).transpose())
                    .collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    fn source(
        &mut self,
        stage: usize,
        command: &Command,
        name: &str,
        numbers: bool,
    ) -> Result<usize, BuildError> {
        if let (true, Ok(index)) = (numbers, name.parse::<usize>()) {
            if index >= self.dockerfile.stages.len() {
                let label = self.states[stage].label.clone();
                return Err(self.error(command.span, &label, Cause::StageIndex(index)));
            }
            return Ok(index);
        }
        if let Some(number) = self.names.get(&name.to_lowercase()) {
            return Ok(*number);
        }
        let base = match name {
            "scratch" => Base::Scratch,
            name => Base::Image { name: name.to_owned(), image: None },
        };
        let same = |state: &State| !state.is_stage && state.base == base;
        if let Some(number) = self.states.iter().position(same) {
            return Ok(number);
        }
        self.states.push(State {
            label: name.to_owned(),
            span: command.span,
            is_stage: false,
            base,
            platform: None,
            commands: Vec::new(),
            triggered: true,
            steps: Vec::new(),
            draft: None,
        });
        Ok(self.states.len() - 1)
    }

    fn check_cycles(&self) -> Result<(), BuildError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; self.states.len()];
        // A stack of our own: a file may hold a chain of more stages than the thread's has room for.
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        for root in 0..self.states.len() {
            let mut next = Some(root);
            loop {
                match next.map(|number| (number, marks[number])) {
                    Some((_, Mark::Done)) => {}
                    Some((number, Mark::Open)) => {
                        let state = &self.states[number];
                        let circular = Cause::Circular(state.label.clone());
                        return Err(self.error(state.span, &state.label, circular));
                    }
                    Some((number, Mark::New)) => {
                        marks[number] = Mark::Open;
                        open.push((number, self.states[number].dependencies().collect()));
                    }
                    None => {
                        let Some((number, _)) = open.pop() else { break };
                        marks[number] = Mark::Done;
                    }
                }
                next = open.last_mut().and_then(|(_, dependencies)| dependencies.pop());
            }
        }
        Ok(())
    }

    fn reachable(&self, target: usize) -> BTreeSet<usize> {
        let mut reachable = BTreeSet::new();
        let mut open = vec![target];
        while let Some(number) = open.pop() {
            if reachable.insert(number) {
                open.extend(self.states[number].dependencies());
            }
        }
        reachable
    }

    /// Finds the base images of all that the target needs, and puts triggers in, which may need more stages.
    fn settle(&mut self, target: usize) -> Result<BTreeSet<usize>, BuildError> {
        loop {
            let needed = self.reachable(target);
            let open: Vec<usize> = needed
                .iter()
                .copied()
                .filter(|number| !self.states[*number].triggered || self.lacks_image(*number))
                .collect();
            if open.is_empty() {
                return Ok(needed);
            }
            for number in open {
                self.find_image(number)?;
                if !self.states[number].triggered {
                    self.states[number].triggered = true;
                    self.add_triggers(number)?;
                }
            }
            self.check_cycles()?;
        }
    }

    fn lacks_image(&self, number: usize) -> bool {
        matches!(self.states[number].base, Base::Image { image: None, .. })
    }

    fn find_image(&mut self, number: usize) -> Result<(), BuildError> {
        let state = &self.states[number];
        let Base::Image { name, image: None } = &state.base else { return Ok(()) };
        let platform = state.platform.as_ref().unwrap_or(&self.inputs.target_platform);
        let found = (self.inputs.find)(name, platform);
        let (name, image) = found.map_err(|cause| self.error(state.span, &state.label, cause))?;
        self.states[number].base = Base::Image { name, image: Some(Box::new(image)) };
        Ok(())
    }

    /// Puts the triggers of what the stage stands upon in front of its commands.
    fn add_triggers(&mut self, number: usize) -> Result<(), BuildError> {
        let expressions: Vec<String> = match &self.states[number].base {
            Base::Scratch | Base::Image { image: None, .. } => Vec::new(),
            Base::Image { image: Some(image), .. } => image.config.config.on_build.clone(),
            Base::Stage(base) => {
                let commands = self.states[*base].commands.iter();
                commands
                    .filter_map(|command| match &command.instruction.kind {
                        Kind::Onbuild(onbuild) => Some(onbuild.expression.clone()),
                        _ => None,
                    })
                    .collect()
            }
        };
        let (span, label) = (self.states[number].span, self.states[number].label.clone());
        let mut triggers = Vec::new();
        for expression in expressions {
            let instruction = dockerfile::parse_trigger(&expression).map_err(|errors| {
                self.error(span, &label, Cause::Trigger { expression, source: Box::new(errors) })
            })?;
            let mut command = Command { instruction, span, is_trigger: true, sources: Vec::new() };
            command.sources = self.sources_of(number, &command)?;
            triggers.push(command);
        }
        self.states[number].commands.splice(0..0, triggers);
        Ok(())
    }

    /// Bases before what stands upon them.
    fn order(&self, needed: &BTreeSet<usize>) -> Vec<usize> {
        let images = needed.iter().filter(|number| !self.states[**number].is_stage);
        images.chain(needed.iter().filter(|number| self.states[**number].is_stage)).copied().collect()
    }

    fn evaluate(&mut self, number: usize) -> Result<(), BuildError> {
        let state = &self.states[number];
        let draft = match &state.base {
            Base::Stage(base) => {
                let base = &self.states[*base];
                (base.platform.clone(), Draft::upon_stage(base.draft.as_ref().expect("a base comes before")))
            }
            Base::Scratch => {
                (Some(self.inputs.target_platform.clone()), Draft::scratch(&self.inputs.target_platform))
            }
            Base::Image { image, .. } => {
                let mut config = image.as_ref().expect("images were found").config.clone();
                config.config.on_build.clear();
                let platform = state.platform.clone().unwrap_or_else(|| self.inputs.target_platform.clone());
                (Some(platform), Draft::upon_image(config))
            }
        };
        let commands = state.commands.clone();
        let has_image = matches!(state.base, Base::Image { .. });
        let names = StepNames::new(&state.label, has_image, &commands);
        let evaluation = Evaluation::new(self, number, draft.1, names);
        let (draft_after, steps) = evaluation.run(&commands)?;
        let state = &mut self.states[number];
        (state.platform, state.draft, state.steps) = (draft.0, Some(draft_after), steps);
        Ok(())
    }
}
