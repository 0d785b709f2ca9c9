//! From `FROM` lines to stages that nothing has been done for yet.

use common::platform::Platform;

use super::{Base, Command, MAX_GUESSES, Planner, State};
use crate::dockerfile::{self, Expander, Rule, nearest};
use crate::error::{Cause, Problem};

impl Planner<'_> {
    /// `Err(None)` when it asks for an argument that failed itself.
    fn expand_global(&self, word: &dockerfile::Word, number: usize) -> Result<String, Option<Problem>> {
        let lookup = |name: &str| self.global.get(name).map(str::to_owned);
        let mut expander = Expander::new(self.dockerfile.directives.escape, &lookup);
        let expanded = expander.word(word);
        if expander.used.iter().chain(&expander.unset).any(|name| self.global.is_unknown(name)) {
            return Err(None);
        }
        expanded
            .map(|word| word.text)
            .map_err(|error| Some(self.problem(error.span, number, Cause::Word(error.fault))))
    }

    pub(super) fn read_global_args(&mut self) {
        for arg in &self.dockerfile.global_args {
            let value = match (self.inputs.build_args.get(&arg.name.text), &arg.value) {
                (Some(given), _) => Ok(Some(given.clone())),
                (None, Some(default)) => self.expand_global(default, 0).map(Some),
                (None, None) => Ok(None),
            };
            match value {
                Ok(Some(value)) => self.global.set(&arg.name.text, &value),
                Ok(None) => {}
                Err(problem) => {
                    self.global.forget(&arg.name.text);
                    self.problems.extend(problem);
                }
            }
        }
    }

    /// Adds a stage; a wrong one stands upon nothing.
    pub(super) fn begin(&mut self, stage: &dockerfile::Stage) {
        let number = self.states.len();
        let (mut base, mut is_base_known, mut platform) = (Base::Scratch, false, None);
        self.look_for_undeclared(stage);
        if !self.is_faulty(stage.span) {
            match self.base(stage, number) {
                Ok(found) => (base, is_base_known) = (found, true),
                Err(problem) => self.problems.extend(problem),
            }
            match self.platform(stage, number) {
                Ok(found) => platform = found,
                Err(problem) => self.problems.extend(problem),
            }
        }
        let commands = stage.instructions.iter().map(|instruction| Command {
            instruction: instruction.clone(),
            span: instruction.span,
            is_trigger: false,
            sources: Vec::new(),
        });
        self.states.push(State {
            label: label(stage.name(), number),
            span: stage.span,
            base_span: stage.base.span,
            owner: number,
            is_stage: true,
            base,
            is_base_known,
            platform,
            commands: commands.collect(),
            triggered: false,
            steps: Vec::new(),
            draft: None,
        });
    }

    /// Variables of `FROM` are global arguments, or they are empty.
    fn look_for_undeclared(&mut self, stage: &dockerfile::Stage) {
        for word in std::iter::once(&stage.base).chain(&stage.platform) {
            let lookup = |name: &str| self.global.get(name).map(str::to_owned);
            let mut expander = Expander::new(self.dockerfile.directives.escape, &lookup);
            // What cannot be expanded is an error elsewhere.
            let _ = expander.word(word);
            for name in expander.unset.iter().filter(|name| !self.declared.contains(name.as_str())) {
                let known =
                    || -> Vec<&str> { self.declared.iter().copied().chain(self.global.names()).collect() };
                let is_few = self.linter.warnings.len() < MAX_GUESSES;
                let nearest = if is_few { nearest(name, &known()).map(str::to_owned) } else { None };
                let rule = Rule::UndefinedArgInFrom { name: name.clone(), nearest };
                self.linter.warn(stage.span, &stage.comments, rule);
            }
        }
    }

    fn base(&self, stage: &dockerfile::Stage, number: usize) -> Result<Base, Option<Problem>> {
        let name = self.expand_global(&stage.base, number)?;
        if name.is_empty() {
            let cause = Cause::BlankBase(stage.base.text.clone());
            return Err(Some(self.problem(stage.base.span, number, cause)));
        }
        Ok(match self.names.get(&name) {
            Some(number) => Base::Stage(*number),
            None if name == "scratch" => Base::Scratch,
            None => Base::Image { name, image: None },
        })
    }

    fn platform(
        &self,
        stage: &dockerfile::Stage,
        number: usize,
    ) -> Result<Option<Platform>, Option<Problem>> {
        let Some(word) = &stage.platform else { return Ok(None) };
        let text = self.expand_global(word, number)?;
        let platform = text.parse::<Platform>();
        platform.map(Some).map_err(|error| Some(self.problem(word.span, number, error)))
    }
}

/// The name of a stage, also of one without.
pub(super) fn label(name: Option<&str>, number: usize) -> String {
    name.map_or_else(|| format!("stage-{number}"), str::to_owned)
}
