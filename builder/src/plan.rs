//! From instructions to what has to be done: stages, what they stand upon, and steps with all words expanded.
//!
//! Nothing is executed here but the look-up (or pull) of base images, since their configs hold variables and triggers.
//! Only stages that the target needs are planned; the others are checked for cycles and otherwise not looked at, so a
//! broken stage that nobody needs is no error.
//!
//! A stage number is an index in [`Plan::stages`]: first the Dockerfile's in order, behind them one for each image that a
//! `--from` names.

mod begin;
mod cycles;
mod evaluate;
mod graph;
mod refusals;
mod step_names;

use std::collections::{BTreeMap, BTreeSet};

use common::digest::Digest;
use common::oci::ImageConfig;
use common::platform::Platform;
use common::reference::Reference;

use self::evaluate::Evaluation;
use self::step_names::StepNames;
use crate::dockerfile::{self, Dockerfile, Instruction, Kind, Linter, Parsed, Span, Warning};
use crate::error::{BuildError, Cause, Failure, Problem};
use crate::image::Draft;
use crate::steps::Step;
use crate::variables::{self, Variables};

/// How many "did you mean" are looked for: each is compared with all that is known.
pub(crate) const MAX_GUESSES: usize = 100;

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub stages: Vec<Stage>,
    /// The stage whose image is wanted.
    pub target: usize,
    /// A global `ARG SOURCE_DATE_EPOCH`.
    pub epoch: Option<String>,
}

/// A plan, or why there is none.
pub(crate) struct Planned {
    pub plan: Result<Plan, BuildError>,
    /// What is legal and doubtful besides what the parser said.
    pub warnings: Vec<Warning>,
}

/// One stage, or an image that files are taken from.
#[derive(Debug)]
pub(crate) struct Stage {
    /// As progress calls it; empty when there is only one.
    pub label: String,
    /// As errors call it; empty when there is only one.
    pub title: String,
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

/// Plans the build of what could be parsed. Everything that is wrong and can be told without base images is said at once,
/// with the errors of the parser; what shows only with the variables of base images, at once, too.
pub(crate) fn plan(parsed: &Parsed, inputs: &Inputs<'_>) -> Planned {
    let mut planner = Planner::new(parsed, inputs);
    let plan = planner.plan(parsed);
    Planned { plan, warnings: planner.linter.warnings }
}

pub(crate) struct Planner<'a> {
    pub dockerfile: &'a Dockerfile,
    pub inputs: &'a Inputs<'a>,
    pub global: Variables,
    pub states: Vec<State>,
    /// The last stage of each name so far.
    names: BTreeMap<String, usize>,
    /// Whether the Dockerfile has one stage, and its instructions name no image.
    is_single: bool,
    /// Where errors of the parser stand.
    faulty: Vec<usize>,
    /// All that is wrong so far, the parser's errors left out.
    problems: Vec<Problem>,
    /// Names of global arguments.
    declared: BTreeSet<&'a str>,
    linter: Linter<'a>,
}

/// A stage on its way to a [`Stage`].
pub(crate) struct State {
    /// Its name, or that of the image.
    pub label: String,
    /// `FROM`, or the instruction that names the image.
    span: Span,
    /// The word that names what it stands upon.
    base_span: Span,
    /// Itself, or for an image the stage that names it.
    owner: usize,
    /// False for an image that a `--from` names.
    pub is_stage: bool,
    base: Base,
    /// Whether `base` is what the Dockerfile says: nothing stands in for what is wrong.
    is_base_known: bool,
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
    fn into_stage(self, title: String, is_single: bool) -> Stage {
        let label = if is_single { String::new() } else { self.label };
        let from_name = match &self.base {
            Base::Image { name, .. } => Some(StepNames::new(&label, true, &self.commands).base(name)),
            _ => None,
        };
        Stage {
            from_name,
            label,
            title,
            base: self.base,
            platform: self.platform.unwrap_or_else(Platform::host),
            steps: self.steps,
            draft: self.draft,
        }
    }
}

impl<'a> Planner<'a> {
    fn plan(&mut self, parsed: &Parsed) -> Result<Plan, BuildError> {
        let target = match self.find_target() {
            Err(error) if parsed.errors.is_empty() => return Err(error),
            target => target.ok(),
        };
        self.find_sources();
        let has_cycles = !self.check_cycles();
        let reachable = target.map(|target| self.reachable(target)).unwrap_or_default();
        if !has_cycles {
            self.refuse(&reachable);
        }
        let errors = parsed.all_errors(reachable.iter().copied());
        self.problems.extend(errors.into_iter().map(Problem::Syntax));
        if !self.problems.is_empty() && !has_cycles {
            self.look_on(&reachable);
        }
        self.stop_at_problems()?;
        let target = target.expect("a target that is not there is an error");
        let needed = self.settle(target)?;
        for number in self.order(&needed) {
            self.evaluate(number);
        }
        self.stop_at_problems()?;
        let epoch = self.global.get("SOURCE_DATE_EPOCH").map(str::to_owned);
        Ok(Plan { stages: self.take_stages(), target, epoch })
    }

    fn new(parsed: &'a Parsed, inputs: &'a Inputs<'a>) -> Self {
        let dockerfile = &parsed.dockerfile;
        let last = dockerfile.stages.last().and_then(dockerfile::Stage::name).unwrap_or_default();
        let target = inputs.target.unwrap_or(last);
        let mut planner = Planner {
            dockerfile,
            inputs,
            global: variables::predefined(
                &inputs.build_platform,
                &inputs.target_platform,
                target,
                inputs.build_args,
            ),
            states: Vec::new(),
            names: BTreeMap::new(),
            is_single: false,
            faulty: parsed.errors.iter().map(|error| error.span.start).collect(),
            problems: Vec::new(),
            declared: dockerfile.global_args.iter().map(|arg| arg.name.text.as_str()).collect(),
            linter: Linter::new(&dockerfile.directives.checks),
        };
        planner.read_global_args();
        for stage in &dockerfile.stages {
            planner.begin(stage);
            if let Some(name) = stage.name() {
                planner.names.insert(name.to_owned(), planner.states.len() - 1);
            }
        }
        planner
    }

    /// A problem of stage `number`, or of the image of that number.
    pub(crate) fn problem(&self, span: Span, number: usize, cause: impl Into<Cause>) -> Problem {
        let cause = cause.into();
        Problem::Instruction(Box::new(Failure { span, stage: self.title(number), cause, hint: None }))
    }

    /// How errors call a stage, which may be about to be pushed.
    fn title(&self, number: usize) -> String {
        let owner = self.states.get(number).map_or(number, |state| state.owner);
        match self.dockerfile.stages.get(owner) {
            _ if self.dockerfile.stages.len() == 1 => String::new(),
            stage => begin::label(stage.and_then(dockerfile::Stage::name), owner),
        }
    }

    /// Whether the parser had something to say about what stands there.
    fn is_faulty(&self, span: Span) -> bool {
        let next = self.faulty.partition_point(|start| *start < span.start);
        self.faulty.get(next).is_some_and(|start| *start < span.end.max(span.start + 1))
    }

    fn stop_at_problems(&mut self) -> Result<(), BuildError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let problems = std::mem::take(&mut self.problems);
        Err(self.error(problems))
    }

    fn error(&self, problems: Vec<Problem>) -> BuildError {
        BuildError::of_problems(&self.dockerfile.source, problems)
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

    /// Looks for what is wrong in `stages` whatever their base images are.
    fn refuse(&mut self, stages: &BTreeSet<usize>) {
        for number in stages {
            let state = &self.states[*number];
            let mut problems = Vec::new();
            if let Base::Image { name, image: None } = &state.base {
                let refused = name.parse::<Reference>().err();
                problems.extend(refused.map(|error| self.problem(state.base_span, *number, error)));
            }
            let commands = state.commands.iter().filter(|command| !self.is_faulty(command.span));
            problems.extend(commands.flat_map(|command| self.refusals(*number, command)));
            self.problems.append(&mut problems);
        }
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
            if !self.check_cycles() {
                self.stop_at_problems()?;
            }
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
        let (name, image) =
            found.map_err(|cause| self.error(vec![self.problem(state.base_span, number, cause)]))?;
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
        let span = self.states[number].span;
        let mut triggers = Vec::new();
        for expression in expressions {
            let instruction = dockerfile::parse_trigger(&expression).map_err(|errors| {
                let cause = Cause::Trigger { expression, source: Box::new(errors) };
                self.error(vec![self.problem(span, number, cause)])
            })?;
            let mut command = Command { instruction, span, is_trigger: true, sources: Vec::new() };
            command.sources =
                self.sources_of(number, &command).map_err(|problem| self.error(vec![problem]))?;
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

    fn evaluate(&mut self, number: usize) {
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
        let names = StepNames::new(self.progress_label(number), has_image, &commands);
        let evaluated = Evaluation::new(self, number, draft.1, names).run(&commands);
        self.problems.extend(evaluated.problems);
        self.linter.warnings.extend(evaluated.warnings);
        let state = &mut self.states[number];
        (state.platform, state.draft, state.steps) = (draft.0, Some(evaluated.draft), evaluated.steps);
    }

    /// Looks for what else is wrong in `stages` when something is already, so no base image is fetched: what it says or
    /// makes its stages do is not known. Nor is what a faulty instruction would have done, so the look ends there.
    fn look_on(&mut self, stages: &BTreeSet<usize>) {
        let mut known: BTreeSet<Span> = self.problems.iter().map(Problem::span).collect();
        for number in stages.iter().copied() {
            let state = &self.states[number];
            let draft = match &state.base {
                _ if !state.is_stage => continue,
                Base::Scratch if state.is_base_known => Draft::scratch(&self.inputs.target_platform),
                Base::Scratch | Base::Image { .. } => Draft::upon_unknown(&self.inputs.target_platform),
                Base::Stage(base) => match &self.states[*base].draft {
                    Some(draft) => Draft::upon_stage(draft),
                    None => continue,
                },
            };
            let sound = state.commands.iter().take_while(|command| !self.is_faulty(command.span));
            let commands: Vec<Command> = sound.cloned().collect();
            let triggers =
                commands.iter().any(|command| matches!(command.instruction.kind, Kind::Onbuild(_)));
            let can_be_base = commands.len() == state.commands.len() && !triggers;
            let names = StepNames::new("", false, &commands);
            let evaluated = Evaluation::new(self, number, draft, names).run(&commands);
            let new = evaluated.problems.into_iter().filter(|problem| !known.contains(&problem.span()));
            let new: Vec<Problem> = new.collect();
            known.extend(new.iter().map(Problem::span));
            self.problems.extend(new);
            self.states[number].draft = can_be_base.then_some(evaluated.draft);
        }
    }

    /// How progress calls a stage; empty for the only one.
    fn progress_label(&self, number: usize) -> &str {
        if self.is_single && number == 0 { "" } else { &self.states[number].label }
    }

    fn take_stages(&mut self) -> Vec<Stage> {
        let states = std::mem::take(&mut self.states);
        let titles: Vec<String> = states.iter().map(|state| self.title(state.owner)).collect();
        let stages = states.into_iter().zip(titles).enumerate();
        stages
            .map(|(number, (state, title))| state.into_stage(title, self.is_single && number == 0))
            .collect()
    }
}
