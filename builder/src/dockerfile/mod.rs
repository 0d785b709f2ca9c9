//! Dockerfiles: text → tree of typed instructions, with the place of every word.
//!
//! ```text
//! text ─► lines ─► statements ─► instructions and stages      parse(): all errors of the file at once
//!                                      │
//!                                      ▼  Expander (variables of the builder)
//!                              expanded instructions ─► history texts, steps
//! ```
//!
//! The language is that of BuildKit's Dockerfile frontend 1.27: `lines` joins continuations and reads heredocs,
//! `statement` cuts a line up without knowing what it means, `parse` knows every instruction and flag. Nothing here
//! reads files or the environment, and no input makes it panic or take more than a moment.
//!
//! What the builder does with it:
//! - [`parse_checked`] the file; [`Dockerfile::check`] once it knows which stages it builds;
//! - per instruction an [`Expander`] over its environment: [`Expander::kind`], [`Expander::word`] for `FROM` and
//!   `ARG`, [`MountFlag::resolve`] and [`Run::script`] for `RUN`, [`history`] for the image's config;
//! - [`Report`] for errors of its own that have a place in the file.

mod directives;
mod error;
mod expand;
mod fields;
mod go;
pub mod history;
mod instruction;
mod json;
mod limits;
mod lines;
mod lint;
mod mount;
mod parse;
mod pattern;
mod report;
mod resolve;
mod script;
mod source;
mod statement;
mod suggest;
#[cfg(test)]
mod tests;

pub(crate) use error::write_errors;
pub use error::{Fault, LookAlike, SyntaxError, SyntaxErrors};
pub use expand::{ExpandError, Expander};
pub use fields::Field;
pub use instruction::*;
pub(crate) use lint::Linter;
pub use lint::{Checks, Rule, Warning};
pub use mount::{Access, Mount, MountFlag, Sharing};
pub use pattern::PatternError;
pub use report::Report;
pub use script::{Script, ScriptFile};
pub use source::{Source, Span, Word};
pub(crate) use suggest::nearest;

use self::limits::MAX_FILE_BYTES;
use self::lines::Lines;
use self::parse::Faults;

/// What could be read of a Dockerfile.
#[derive(Debug)]
pub struct Parsed {
    /// Without the instructions that are wrong.
    pub dockerfile: Dockerfile,
    /// In order of lines; none when it is the whole file.
    pub errors: Vec<SyntaxError>,
}

impl Parsed {
    /// All that is wrong with the text, in order of lines: `errors`, and what [`Dockerfile::check`] finds in `stages`.
    pub fn all_errors(&self, stages: impl IntoIterator<Item = usize>) -> Vec<SyntaxError> {
        let mut errors = self.errors.clone();
        errors.extend(self.dockerfile.check(stages));
        errors.sort_by_key(|error| error.span);
        errors.dedup();
        errors
    }
}

/// Parses a Dockerfile; `name` is how messages call it.
///
/// # Errors
/// All that is wrong with it, in order of lines.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile, SyntaxErrors> {
    let Parsed { dockerfile, errors } = parse_leniently(name, bytes)?;
    if errors.is_empty() {
        return Ok(dockerfile);
    }
    Err(SyntaxErrors { source: dockerfile.source, errors })
}

/// As [`parse`], but instructions that are wrong are left out, so that what is wrong with the others can be said too. A
/// wrong `FROM` begins a stage upon `scratch`: the other stages keep their numbers.
///
/// # Errors
/// When the rest of the file was not read, or there are no stages: what was read says nothing about the whole then.
pub fn parse_leniently(name: &str, bytes: &[u8]) -> Result<Parsed, SyntaxErrors> {
    parse_checked(name, bytes, None)
}

/// As [`parse_leniently`], with `checks` in place of what `# check=` says.
///
/// # Errors
/// As [`parse_leniently`].
pub fn parse_checked(name: &str, bytes: &[u8], checks: Option<Checks>) -> Result<Parsed, SyntaxErrors> {
    let source = source(name, bytes)?;
    let (mut directives, mut errors, first_line) = directives::read(&source);
    if let Some(checks) = checks {
        directives.checks = checks;
        errors.retain(|error| !matches!(error.fault, Fault::CheckOption(_)));
    }
    let escape = directives.escape;
    let (statements, cutting) = statement::read(&source, Lines::new(&source, first_line, escape), escape);
    let is_cut_short = cutting.iter().any(|error| error.fault.ends_reading());
    errors.extend(cutting);
    let mut faults = Faults(errors);
    let contents = parse::contents(&statements, escape, &mut faults);
    let warnings = parse::warnings(&statements, &contents.stages, &directives.checks);
    let Faults(mut errors) = faults;
    errors.sort_by_key(|error| error.span);
    if is_cut_short || contents.stages.is_empty() {
        return Err(SyntaxErrors { source, errors });
    }
    let parse::Contents { global_args, stages } = contents;
    Ok(Parsed { dockerfile: Dockerfile { source, directives, global_args, stages, warnings }, errors })
}

/// Parses the instruction that an `ONBUILD` of a base image left in its config.
///
/// # Errors
/// All that is wrong with it, in order of lines; also when it is `FROM` or more than one instruction.
pub fn parse_trigger(expression: &str) -> Result<Instruction, SyntaxErrors> {
    single("ONBUILD trigger", expression)
}

/// Parses an instruction as `import --change` takes it.
///
/// # Errors
/// As [`parse_trigger`].
pub fn parse_change(change: &str) -> Result<Instruction, SyntaxErrors> {
    single("--change", change)
}

/// The one instruction of a text; errors name `place`.
fn single(place: &str, text: &str) -> Result<Instruction, SyntaxErrors> {
    let source = source(place, text.as_bytes())?;
    let (statements, errors) = statement::read(&source, Lines::new(&source, 1, '\\'), '\\');
    let mut faults = Faults(errors);
    let mut instructions: Vec<Instruction> = Vec::new();
    for statement in &statements {
        if statement.keyword.text.eq_ignore_ascii_case("FROM") {
            let fault = Fault::Trigger(statement.keyword.text.to_ascii_uppercase());
            faults.0.push(SyntaxError { span: statement.keyword.span, fault });
        } else {
            instructions.extend(parse::instruction(statement, '\\', &mut faults));
        }
    }
    let Faults(mut errors) = faults;
    match (<[Instruction; 1]>::try_from(instructions), errors.is_empty()) {
        (Ok([instruction]), true) => Ok(instruction),
        (_, no_errors) => {
            if no_errors {
                let span = Span { start: 0, end: source.text().len() };
                errors.push(SyntaxError { span, fault: Fault::NotOneInstruction });
            }
            errors.sort_by_key(|error| error.span);
            Err(SyntaxErrors { source, errors })
        }
    }
}

/// Checks size and encoding, and drops a byte order mark.
fn source(name: &str, bytes: &[u8]) -> Result<Source, SyntaxErrors> {
    let fail = |text: &str, offset: usize, fault| {
        let span = Span { start: offset, end: offset };
        SyntaxErrors { source: Source::new(name, text), errors: vec![SyntaxError { span, fault }] }
    };
    if bytes.len() > MAX_FILE_BYTES {
        return Err(fail("", 0, Fault::FileTooLarge));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| fail(&String::from_utf8_lossy(bytes), error.valid_up_to(), Fault::NotUtf8))?;
    Ok(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(text)))
}
