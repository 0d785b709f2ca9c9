//! Which stages and images need each other.

use std::collections::BTreeSet;

use super::{Base, Command, Planner, State, cycles};
use crate::dockerfile::{Kind, Span};
use crate::error::{Cause, Problem};

impl Command {
    /// The word that names the source of this number; the `FROM` line for a trigger.
    fn source_span(&self, index: usize) -> Span {
        let word = match &self.instruction.kind {
            _ if self.is_trigger => None,
            Kind::Copy(copy) => copy.from.as_ref(),
            Kind::Run(run) => run.mounts.get(index).and_then(|mount| mount.from()),
            _ => None,
        };
        word.map_or(self.span, |word| word.span)
    }
}

impl State {
    /// The stages that it needs, and where it says so.
    fn dependencies(&self) -> impl Iterator<Item = (usize, Span)> {
        let base = match self.base {
            Base::Stage(number) => Some((number, self.base_span)),
            _ => None,
        };
        let sources = self.commands.iter().flat_map(|command| {
            let sources = command.sources.iter().enumerate();
            sources.filter_map(|(index, source)| Some(((*source)?, command.source_span(index))))
        });
        base.into_iter().chain(sources)
    }
}

impl Planner<'_> {
    /// Finds the stages that the commands name; images get a state of their own.
    pub(super) fn find_sources(&mut self) {
        for number in 0..self.states.len() {
            let mut commands = std::mem::take(&mut self.states[number].commands);
            for command in &mut commands {
                match self.sources_of(number, command) {
                    Ok(sources) => command.sources = sources,
                    Err(problem) => self.problems.push(problem),
                }
            }
            self.states[number].commands = commands;
        }
        self.is_single = self.states.len() == 1;
    }

    pub(super) fn sources_of(
        &mut self,
        stage: usize,
        command: &Command,
    ) -> Result<Vec<Option<usize>>, Problem> {
        if !command.is_trigger && self.is_faulty(command.span) {
            return Ok(Vec::new());
        }
        match &command.instruction.kind {
            Kind::Copy(copy) => match &copy.from {
                None => Ok(Vec::new()),
                Some(from) => Ok(vec![Some(self.source(stage, command, 0, &from.text)?)]),
            },
            Kind::Run(run) => {
                let froms = run.mounts.iter().map(|mount| mount.from().map(|from| from.text.as_str()));
                let froms = froms.enumerate();
                froms
                    .map(|(index, from)| {
                        from.map(|from| self.source(stage, command, index, from)).transpose()
                    })
                    .collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The stage or image `name`, which is the source `index` of the command. COPY may give a number.
    fn source(
        &mut self,
        stage: usize,
        command: &Command,
        index: usize,
        name: &str,
    ) -> Result<usize, Problem> {
        let span = command.source_span(index);
        if let (Kind::Copy(_), Ok(number)) = (&command.instruction.kind, name.parse::<usize>()) {
            if number >= self.dockerfile.stages.len() {
                return Err(self.problem(span, stage, Cause::StageIndex(number)));
            }
            return Ok(number);
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
            base_span: span,
            owner: stage,
            is_stage: false,
            base,
            is_base_known: true,
            platform: None,
            commands: Vec::new(),
            triggered: true,
            steps: Vec::new(),
            draft: None,
        });
        Ok(self.states.len() - 1)
    }

    /// Says where stages need each other in a circle; whether there is none.
    pub(super) fn check_cycles(&mut self) -> bool {
        let needs: Vec<Vec<(usize, Span)>> =
            self.states.iter().map(|state| state.dependencies().collect()).collect();
        let edges: Vec<Vec<usize>> =
            needs.iter().map(|needs| needs.iter().map(|(number, _)| *number).collect()).collect();
        let closing = cycles::closing_edges(&edges);
        for (number, edge) in &closing {
            let (to, span) = needs[*number][*edge];
            let circular = Cause::Circular(self.states[to].label.clone());
            self.problems.push(self.problem(span, *number, circular));
        }
        closing.is_empty()
    }

    pub(super) fn reachable(&self, target: usize) -> BTreeSet<usize> {
        let mut reachable = BTreeSet::new();
        let mut open = vec![target];
        while let Some(number) = open.pop() {
            if reachable.insert(number) {
                open.extend(self.states[number].dependencies().map(|(number, _)| number));
            }
        }
        reachable
    }
}
