//! Statements → typed instructions and stages. All that is wrong is collected; what is right is kept on the way.

mod config;
pub(super) mod files;
mod flags;
mod run;

use self::flags::{Flags, Known};
use super::error::{Fault, SyntaxError};
use super::instruction::{Alias, Arg, CommandLine, Instruction, Kind, Stage};
use super::lint::{Checks, Linter, Rule, Warning};
use super::source::{Span, Word};
use super::statement::{Operands, Statement};
use super::suggest::nearest;

/// All instructions, as hints name them.
const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What is wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<SyntaxError>);

impl Faults {
    fn add(&mut self, span: Span, fault: Fault) {
        self.0.push(SyntaxError { span, fault });
    }

    fn fail<T>(&mut self, span: Span, fault: Fault) -> Option<T> {
        self.add(span, fault);
        None
    }

    fn keep<T>(&mut self, result: Result<T, SyntaxError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }
}

/// A statement with its operands at hand.
#[derive(Clone, Copy)]
struct Parsed<'s> {
    statement: &'s Statement,
    /// Operands that are words or elements of an array.
    words: &'s [Word],
    is_json: bool,
}

impl<'s> Parsed<'s> {
    fn new(statement: &'s Statement) -> Self {
        let (words, is_json) = match &statement.operands {
            Operands::Words(words) => (words.as_slice(), false),
            Operands::Json(words) => (words.as_slice(), true),
            Operands::Pairs(_) | Operands::Nested(_) => (&[][..], false),
        };
        Parsed { statement, words, is_json }
    }

    fn flags(&self, name: &'static str, known: &Known, faults: &mut Faults) -> Flags {
        Flags::new(name, &self.statement.flags, known, faults)
    }

    /// Exec form for an array; else the text, empty when there is none.
    fn command_line(&self) -> CommandLine {
        let words = self.words.iter().map(|word| word.text.clone());
        if self.is_json {
            CommandLine::Exec(words.collect())
        } else {
            CommandLine::Shell(words.collect::<Vec<_>>().join(" "))
        }
    }
}

/// What a file consists of.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) global_args: Vec<Arg>,
    pub(super) stages: Vec<Stage>,
}

/// Sorts statements into stages.
pub(super) fn contents(statements: &[Statement], escape: char, faults: &mut Faults) -> Contents {
    let mut contents = Contents::default();
    let (mut seen_from, mut complained) = (false, false);
    for statement in statements {
        if statement.keyword.text.eq_ignore_ascii_case("FROM") {
            seen_from = true;
            contents.stages.push(stage(statement, faults));
            continue;
        }
        let Some(instruction) = instruction(statement, escape, faults) else { continue };
        match (contents.stages.last_mut(), instruction.kind) {
            (None, Kind::Arg(args)) if !seen_from => contents.global_args.extend(args),
            (Some(stage), kind) => stage.instructions.push(Instruction { kind, ..instruction }),
            // Said already.
            (None, _) if complained => {}
            (None, _) => {
                complained = true;
                faults.add(instruction.span, Fault::BeforeFirstStage(instruction.keyword.text));
            }
        }
    }
    if !seen_from && !complained && faults.0.is_empty() {
        let last = statements.last().map(|statement| statement.span).unwrap_or_default();
        faults.add(last, Fault::NoStage);
    }
    contents
}

/// What is doubtful in the text, in order of lines.
pub(super) fn warnings(statements: &[Statement], stages: &[Stage], checks: &Checks) -> Vec<Warning> {
    let mut linter = Linter::new(checks);
    for end in statements.iter().filter_map(|statement| statement.empty_line_before) {
        linter.warn(end, &[], Rule::NoEmptyContinuation);
    }
    linter.check_text(stages);
    linter.warnings.sort_by_key(|warning| warning.span.start);
    linter.warnings
}

/// A stage even if its `FROM` is wrong: what follows belongs to it, and later stages are counted from it.
fn stage(statement: &Statement, faults: &mut Faults) -> Stage {
    const FLAGS: Known = Known { names: &["platform"], switches: &[], lists: &[] };
    let parsed = Parsed::new(statement);
    let flags = parsed.flags("FROM", &FLAGS, faults);
    let (base, alias) = match parsed.words {
        [base] => (base.clone(), None),
        [base, keyword, name] if keyword.text.eq_ignore_ascii_case("AS") => {
            (base.clone(), alias(keyword, name, faults))
        }
        _ => {
            faults.add(statement.span, Fault::FromArguments);
            (Word { text: "scratch".to_owned(), span: statement.span }, None)
        }
    };
    Stage {
        keyword: statement.keyword.clone(),
        platform: flags.text("platform"),
        base,
        alias,
        span: statement.span,
        text: statement.text.clone(),
        comments: statement.comments.clone(),
        instructions: Vec::new(),
    }
}

fn alias(keyword: &Word, typed: &Word, faults: &mut Faults) -> Option<Alias> {
    let name = typed.text.to_lowercase();
    let allowed = |ch: char| ch.is_ascii_lowercase() || ch.is_ascii_digit() || matches!(ch, '-' | '_' | '.');
    if !name.starts_with(|ch: char| ch.is_ascii_lowercase()) || !name.chars().all(allowed) {
        return faults.fail(typed.span, Fault::StageName(typed.text.clone()));
    }
    Some(Alias { keyword: keyword.clone(), typed: typed.clone(), name })
}

/// Any instruction but `FROM`.
pub(super) fn instruction(statement: &Statement, escape: char, faults: &mut Faults) -> Option<Instruction> {
    Some(Instruction {
        kind: kind(&Parsed::new(statement), escape, faults)?,
        keyword: statement.keyword.clone(),
        span: statement.span,
        text: statement.text.clone(),
        comments: statement.comments.clone(),
    })
}

fn kind(parsed: &Parsed<'_>, escape: char, faults: &mut Faults) -> Option<Kind> {
    let keyword = &parsed.statement.keyword;
    match keyword.text.to_ascii_uppercase().as_str() {
        "ADD" => files::add(parsed, faults),
        "ARG" => config::arg(parsed, faults),
        "CMD" => config::command("CMD", Kind::Cmd, parsed, faults),
        "COPY" => files::copy(parsed, escape, faults),
        "ENTRYPOINT" => config::command("ENTRYPOINT", Kind::Entrypoint, parsed, faults),
        "ENV" => config::pairs("ENV", Kind::Env, parsed, faults),
        "EXPOSE" => config::list("EXPOSE", Kind::Expose, parsed, faults),
        "HEALTHCHECK" => config::healthcheck(parsed, faults),
        "LABEL" => config::pairs("LABEL", Kind::Label, parsed, faults),
        "MAINTAINER" => config::single("MAINTAINER", Kind::Maintainer, parsed, faults),
        "ONBUILD" => config::onbuild(parsed, faults),
        "RUN" => run::run(parsed, faults),
        "SHELL" => config::shell(parsed, faults),
        "STOPSIGNAL" => config::single("STOPSIGNAL", Kind::Stopsignal, parsed, faults),
        "USER" => config::single("USER", Kind::User, parsed, faults),
        "VOLUME" => config::volume(parsed, faults),
        "WORKDIR" => config::single("WORKDIR", Kind::Workdir, parsed, faults),
        "" => faults.fail(keyword.span, Fault::LoneContinuation),
        upper => {
            let fault =
                Fault::UnknownInstruction { name: keyword.text.clone(), nearest: nearest(upper, &NAMES) };
            faults.fail(keyword.span, fault)
        }
    }
}
