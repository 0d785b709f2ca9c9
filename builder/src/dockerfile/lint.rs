//! What is legal and doubtful: rules by BuildKit's names and in its words, and `# check=`, which steers them.
//!
//! Rules that look at the text alone stand here; those that need words expanded are found by the builder, which uses the
//! same [`Linter`]. Above an instruction a comment `# check=skip=…` holds for that instruction.
//!
//! Reference: <https://docs.docker.com/reference/build-checks/>

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::go;
use super::instruction::{Kind, Stage};
use super::source::{Span, Word};

/// Something doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub span: Span,
    /// What.
    pub rule: Rule,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.rule)
    }
}

/// A rule of the linter, and what broke it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Rule {
    #[error("Command '{name}' should match the case of the command majority ({casing})")]
    ConsistentInstructionCasing { name: String, casing: &'static str },
    #[error("Duplicate stage name {}, stage names should be unique", go::quote(.0))]
    DuplicateStageName(String),
    #[error("'{keyword}' and '{from}' keywords' casing do not match")]
    FromAsCasing { keyword: String, from: String },
    #[error("JSON arguments recommended for {0} to prevent unintended behavior related to OS signals")]
    JsonArgsRecommended(String),
    #[error("\"{0} key=value\" should be used instead of legacy \"{0} key value\" format")]
    LegacyKeyValueFormat(String),
    #[error("Maintainer instruction is deprecated in favor of using label")]
    MaintainerDeprecated,
    #[error(
        "Multiple {0} instructions should not be used in the same stage because only the last one will be used"
    )]
    MultipleInstructionsDisallowed(String),
    #[error("Empty continuation line")]
    NoEmptyContinuation,
    #[error("Stage name should not use the same name as reserved stage {}", go::quote(.0))]
    ReservedStageName(String),
    #[error("Stage name '{0}' should be lowercase")]
    StageNameCasing(String),
    #[error("FROM argument '{name}' is not declared{}", did_you_mean(nearest.as_deref()))]
    UndefinedArgInFrom { name: String, nearest: Option<String> },
    #[error("Usage of undefined variable '${name}'{}", did_you_mean(nearest.as_deref()))]
    UndefinedVar { name: String, nearest: Option<String> },
    #[error("Relative workdir {} can have unexpected results if the base image changes", go::quote(.0))]
    WorkdirRelativePath(String),
}

impl Rule {
    /// What it is called, as `# check=skip=` names it.
    pub fn name(&self) -> &'static str {
        match self {
            Rule::ConsistentInstructionCasing { .. } => "ConsistentInstructionCasing",
            Rule::DuplicateStageName(_) => "DuplicateStageName",
            Rule::FromAsCasing { .. } => "FromAsCasing",
            Rule::JsonArgsRecommended(_) => "JSONArgsRecommended",
            Rule::LegacyKeyValueFormat(_) => "LegacyKeyValueFormat",
            Rule::MaintainerDeprecated => "MaintainerDeprecated",
            Rule::MultipleInstructionsDisallowed(_) => "MultipleInstructionsDisallowed",
            Rule::NoEmptyContinuation => "NoEmptyContinuation",
            Rule::ReservedStageName(_) => "ReservedStageName",
            Rule::StageNameCasing(_) => "StageNameCasing",
            Rule::UndefinedArgInFrom { .. } => "UndefinedArgInFrom",
            Rule::UndefinedVar { .. } => "UndefinedVar",
            Rule::WorkdirRelativePath(_) => "WorkdirRelativePath",
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(" (did you mean {nearest}?)"))
}

/// What `# check=` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    /// `skip=all`
    pub skips_all: bool,
    /// `skip=`: names of rules, which need not exist.
    pub skipped: BTreeSet<String>,
    /// `error=true`: a warning fails the build.
    pub fails: bool,
}

impl Checks {
    /// Reads `skip=…;error=…;experimental=…`.
    ///
    /// # Errors
    /// The option that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut checks = Checks::default();
        for option in text.splitn(3, ';') {
            let (key, value) = option.split_once('=').ok_or(option)?;
            match (key.trim(), value.trim()) {
                ("skip", "all") => checks.skips_all = true,
                ("skip", rules) => {
                    checks.skipped = rules.split(',').map(|rule| rule.trim().to_owned()).collect()
                }
                ("error", value) => checks.fails = go::parse_bool(value).ok_or(option)?,
                // The only such rule is not here.
                ("experimental", _) => {}
                _ => return Err(option.to_owned()),
            }
        }
        Ok(checks)
    }

    fn skips(&self, rule: &Rule) -> bool {
        self.skips_all || self.skipped.contains(rule.name())
    }

    /// What a comment `check=…` says; one that is wrong says nothing.
    fn of_comments(comments: &[Word]) -> Option<Self> {
        let mut options = comments.iter().filter_map(|comment| comment.text.split_once('='));
        let (_, value) = options.find(|(name, _)| name.trim().eq_ignore_ascii_case("check"))?;
        Checks::parse(value.trim().split(' ').next()?).ok()
    }
}

/// Collects what the file does not skip.
#[derive(Debug)]
pub(crate) struct Linter<'c> {
    checks: &'c Checks,
    pub(crate) warnings: Vec<Warning>,
}

impl<'c> Linter<'c> {
    pub(crate) fn new(checks: &'c Checks) -> Self {
        Linter { checks, warnings: Vec::new() }
    }

    /// Takes note of a warning. `comments` are those above the instruction; a rule about the whole file has none.
    pub(crate) fn warn(&mut self, span: Span, comments: &[Word], rule: Rule) {
        let here = || Checks::of_comments(comments);
        if !self.checks.skips(&rule) && !here().is_some_and(|checks| checks.skips(&rule)) {
            self.warnings.push(Warning { span, rule });
        }
    }

    /// Runs the rules that look at nothing but the text.
    pub(super) fn check_text(&mut self, stages: &[Stage]) {
        for stage in stages {
            self.check_from(stage);
            let deprecated = stage.instructions.iter().filter(|i| matches!(i.kind, Kind::Maintainer(_)));
            deprecated.for_each(|i| self.warn(i.span, &i.comments, Rule::MaintainerDeprecated));
        }
        self.check_stage_names(stages);
        self.check_casing(stages);
    }

    fn check_from(&mut self, stage: &Stage) {
        let Some(alias) = &stage.alias else { return };
        if alias.typed.text != alias.name {
            self.warn(stage.span, &stage.comments, Rule::StageNameCasing(alias.typed.text.clone()));
        }
        let (from, keyword) = (&stage.keyword.text, &alias.keyword.text);
        // One that mixes cases is another rule's business.
        let differs = match Casing::of(from) {
            Some(Casing::Lower) => *keyword != keyword.to_lowercase(),
            Some(Casing::Upper) => *keyword != keyword.to_uppercase(),
            None => false,
        };
        if differs {
            let rule = Rule::FromAsCasing { keyword: keyword.clone(), from: from.clone() };
            self.warn(stage.span, &stage.comments, rule);
        }
    }

    fn check_stage_names(&mut self, stages: &[Stage]) {
        let mut seen = HashSet::new();
        for (stage, name) in stages.iter().filter_map(|stage| Some((stage, stage.name()?))) {
            if matches!(name, "scratch" | "context") {
                self.warn(stage.span, &[], Rule::ReservedStageName(name.to_owned()));
            }
            if !seen.insert(name) {
                self.warn(stage.span, &[], Rule::DuplicateStageName(name.to_owned()));
            }
        }
    }

    /// All instructions should be written as most of them are.
    fn check_casing(&mut self, stages: &[Stage]) {
        let keywords = || stages.iter().flat_map(keywords);
        let count = |casing| keywords().filter(|(name, _)| Casing::of(name) == Some(casing)).count();
        let (casing, word) = match count(Casing::Lower) > count(Casing::Upper) {
            true => (Casing::Lower, "lowercase"),
            false => (Casing::Upper, "uppercase"),
        };
        for (name, span) in keywords().filter(|(name, _)| Casing::of(name) != Some(casing)) {
            self.warn(span, &[], Rule::ConsistentInstructionCasing { name: name.to_owned(), casing: word });
        }
    }
}

/// The instructions of a stage as they were typed.
fn keywords(stage: &Stage) -> impl Iterator<Item = (&str, Span)> {
    let instructions = stage.instructions.iter().map(|i| (i.keyword.text.as_str(), i.span));
    std::iter::once((stage.keyword.text.as_str(), stage.span)).chain(instructions)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Casing {
    Lower,
    Upper,
}

impl Casing {
    /// `None` when letters of both cases are there.
    fn of(text: &str) -> Option<Self> {
        match text {
            _ if text == text.to_lowercase() => Some(Casing::Lower),
            _ if text == text.to_uppercase() => Some(Casing::Upper),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn warnings(text: &str) -> Vec<String> {
        let file = parse("Dockerfile", text.as_bytes()).unwrap();
        let line = |warning: &Warning| file.source.line_range(warning.span).0;
        file.warnings.iter().map(|warning| format!("{warning} (line {})", line(warning))).collect()
    }

    #[test]
    fn warnings_are_in_the_words_of_buildkit() {
        assert_eq!(
            warnings("FROM a as B\nMAINTAINER x\nfrom a AS b\nRun a \\\n\n b\nFROM a AS scratch\n"),
            [
                "StageNameCasing: Stage name 'B' should be lowercase (line 1)",
                "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
                "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
                "FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 3)",
                "DuplicateStageName: Duplicate stage name \"b\", stage names should be unique (line 3)",
                "ConsistentInstructionCasing: Command 'from' should match the case of the command majority \
                 (uppercase) (line 3)",
                "ConsistentInstructionCasing: Command 'Run' should match the case of the command majority \
                 (uppercase) (line 4)",
                "NoEmptyContinuation: Empty continuation line (line 6)",
                "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 7)",
            ]
        );
    }

    #[test]
    fn rules_are_skipped_for_a_file_or_an_instruction() {
        let body = "FROM a AS B\nMAINTAINER x\n";
        assert_eq!(warnings(&format!("# check=skip=all\n{body}")), Vec::<String>::new());
        assert_eq!(warnings(&format!("# check=error=true;skip=StageNameCasing, X\n{body}")).len(), 1);
        assert_eq!(warnings("FROM a AS B\n# check=skip=MaintainerDeprecated\nMAINTAINER x\n").len(), 1);
        assert_eq!(warnings("FROM a\n# check=skip=Other\nMAINTAINER x\n").len(), 1);
    }

    #[test]
    fn wrong_options_are_refused_with_their_place() {
        for option in ["skip", "error=perhaps", "ignore=all"] {
            let error = parse("Dockerfile", format!("# check=error=true;{option}\nFROM a\n").as_bytes());
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&format!("`{option}`")) && text.contains("Dockerfile:1"), "{text}");
        }
    }
}
