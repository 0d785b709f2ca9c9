//! What an instruction asks for and cannot have.
//!
//! Most of it shows without the values of variables, so it is looked for in all needed stages before any base image is
//! fetched; the same checks are made again when the words are expanded.

use super::{Command, Planner};
use crate::copy::mode::Chmod;
use crate::dockerfile::{Add, CommandLine, Kind, Mount, MountFlag, Run, Security, Span, Transfer, Word};
use crate::error::{Cause, Problem};
use crate::ignore;
use crate::tree;

/// Which words of an instruction are to blame when it is not all of them, and why.
pub(crate) type Refusal = (Option<Span>, Cause);

impl Planner<'_> {
    /// All that is wrong with a command of stage `number` whatever the values of variables.
    pub(crate) fn refusals(&self, number: usize, command: &Command) -> Vec<Problem> {
        let mut refusals: Vec<Refusal> = Vec::new();
        let sources = command.sources.iter().flatten();
        refusals.extend(sources.filter_map(|from| self.check_is_earlier(number, *from).err()));
        match &command.instruction.kind {
            Kind::Add(add) => {
                refusals.extend(self.check_constants(add).err());
                refusals.extend(self.check_mode(&add.transfer).err());
            }
            Kind::Copy(copy) => {
                let sources = copy.transfer.sources.iter().filter_map(|word| self.dockerfile.constant(word));
                refusals.extend(sources.filter_map(|word| check_copy(&word).err()));
                refusals.extend(self.check_mode(&copy.transfer).err());
            }
            Kind::Run(run) => refusals.extend(check_run(run)),
            _ => {}
        }
        refusals.into_iter().map(|refusal| self.refused(number, command, refusal)).collect()
    }

    /// A refusal with its place. Words of a trigger have none in this file: their errors have that of the `FROM` line.
    pub(crate) fn refused(&self, number: usize, command: &Command, (span, cause): Refusal) -> Problem {
        let span = span.filter(|_| !command.is_trigger).unwrap_or(command.span);
        self.problem(span, number, cause)
    }

    fn check_constants(&self, add: &Add) -> Result<(), Refusal> {
        let checksum = add.checksum.as_ref().and_then(|word| self.dockerfile.constant(word));
        let sources = add.transfer.sources.iter().map(|word| self.dockerfile.constant(word));
        match sources.collect::<Option<Vec<Word>>>() {
            Some(sources) => check_add(&sources, checksum.as_ref()),
            None => Ok(()),
        }
    }

    fn check_mode(&self, transfer: &Transfer) -> Result<(), Refusal> {
        let word = transfer.chmod.as_ref().and_then(|word| self.dockerfile.constant(word));
        word.filter(|word| !word.text.is_empty()).map_or(Ok(()), |word| chmod(&word).map(drop))
    }

    /// A stage sees only those above it.
    pub(crate) fn check_is_earlier(&self, number: usize, from: usize) -> Result<(), Refusal> {
        let (own, other) = (&self.states[number], &self.states[from]);
        if other.is_stage && from >= number {
            return Err((None, Cause::LaterStage { from: other.label.clone(), stage: own.label.clone() }));
        }
        Ok(())
    }
}

/// An expanded `--chmod`.
pub(crate) fn chmod(word: &Word) -> Result<Chmod, Refusal> {
    Chmod::parse(&word.text).map_err(|error| (Some(word.span), error.into()))
}

/// Refuses what is not local, and flags that are for that alone; of an ADD with its words expanded.
pub(crate) fn check_add(sources: &[Word], checksum: Option<&Word>) -> Result<(), Refusal> {
    let checksum = checksum.filter(|checksum| !checksum.text.is_empty());
    if let Some(checksum) = checksum.filter(|_| sources.len() != 1) {
        return Err((Some(checksum.span), Cause::ChecksumOfMany));
    }
    for source in sources {
        check_is_local(&source.text).map_err(|cause| (Some(source.span), cause))?;
        check_pattern(source)?;
    }
    checksum.map_or(Ok(()), |checksum| Err((Some(checksum.span), Cause::ChecksumOfFile)))
}

/// Refuses a URL and a malformed pattern as a source of COPY, expanded.
pub(crate) fn check_copy(source: &Word) -> Result<(), Refusal> {
    let is_url = ["http://", "https://"].iter().any(|scheme| source.text.starts_with(scheme));
    if is_url { Err((Some(source.span), Cause::CopyOfUrl)) } else { check_pattern(source) }
}

/// A malformed pattern would match nothing, in silence.
fn check_pattern(source: &Word) -> Result<(), Refusal> {
    let refusal = |reason| (Some(source.span), Cause::SourcePattern { pattern: source.text.clone(), reason });
    ignore::check_glob(&source.text).map_err(refusal)
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

/// A mount upon the root would hide all of it.
pub(crate) fn check_mount(flag: &MountFlag, mount: &Mount, working_dir: &str) -> Result<(), Refusal> {
    match mount.target() {
        Some(target) if tree::absolute(working_dir, target) == "/" => {
            Err((Some(flag.span), Cause::MountTarget("/".to_owned())))
        }
        _ => Ok(()),
    }
}

/// A RUN of nothing, and what RUN cannot have yet.
pub(crate) fn check_run(run: &Run) -> impl Iterator<Item = Refusal> {
    let is_empty = matches!(&run.command, CommandLine::Exec(words) if words.is_empty());
    let empty = is_empty.then_some((None, Cause::NoCommand));
    let insecure = (run.security == Security::Insecure)
        .then_some((None, Cause::Unsupported("`RUN --security=insecure`")));
    let devices = run.devices.iter().filter(|device| device.required);
    let devices = devices.map(|device| (Some(device.span), Cause::Unsupported("`RUN --device`")));
    empty.into_iter().chain(insecure).chain(devices)
}
