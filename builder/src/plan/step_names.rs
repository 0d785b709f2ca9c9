//! How progress calls the steps of a stage: `[build 2/3] COPY . .`, as BuildKit counts and writes them.

use super::Command;
use crate::dockerfile::Kind;

/// Counts the steps of one stage.
pub(crate) struct StepNames {
    label: String,
    done: usize,
    total: usize,
}

impl StepNames {
    /// Names for a stage called `label`; a base image counts as its first step.
    pub(crate) fn new(label: &str, has_image: bool, commands: &[Command]) -> Self {
        let makes_step = |command: &&Command| {
            let kind = &command.instruction.kind;
            command.is_trigger
                || matches!(kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
        };
        let first = usize::from(has_image);
        let total = first + commands.iter().filter(makes_step).count();
        StepNames { label: label.to_owned(), done: first, total }
    }

    /// The base image's step.
    pub(crate) fn base(&self, image: &str) -> String {
        format!("{}FROM {image}", self.prefix(1))
    }

    /// The next step; `text` is the instruction.
    pub(crate) fn next(&mut self, text: &str, is_trigger: bool) -> String {
        self.done += 1;
        let text = match text.split_once(' ') {
            Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
            None => text.to_uppercase(),
        };
        let onbuild = if is_trigger { "ONBUILD " } else { "" };
        format!("{}{onbuild}{text}", self.prefix(self.done))
    }

    fn prefix(&self, number: usize) -> String {
        let width = self.total.max(1).ilog10() as usize + 1;
        let space = if self.label.is_empty() { "" } else { " " };
        format!("[{}{space}{number:>width$}/{}] ", self.label, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_to_the_width_of_the_last_one() {
        let mut names = StepNames { label: "build".to_owned(), done: 1, total: 12 };
        assert_eq!(names.base("busybox"), "[build  1/12] FROM busybox");
        assert_eq!(names.next("copy a b", false), "[build  2/12] COPY a b");
        let mut names = StepNames { label: String::new(), done: 0, total: 1 };
        assert_eq!(names.next("RUN x", true), "[1/1] ONBUILD RUN x");
    }
}
