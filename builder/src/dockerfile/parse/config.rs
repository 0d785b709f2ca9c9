//! Instructions that only change the image's config, and `WORKDIR` and `ARG`, whose operands are as simple.

use std::time::Duration;

use super::flags::{Flags, Known};
use super::{Faults, Parsed};
use crate::dockerfile::error::Fault;
use crate::dockerfile::go;
use crate::dockerfile::instruction::{Arg, CommandLine, Healthcheck, Kind, Onbuild, Pair};
use crate::dockerfile::source::Word;
use crate::dockerfile::statement::Operands;

pub(super) fn arg(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    if parsed.words.is_empty() {
        return faults.fail(parsed.statement.span, Fault::NoArguments("ARG"));
    }
    let args = parsed.words.iter().map(|word| {
        let equals = word.text.find('=');
        let name = word.part(0..equals.unwrap_or(word.text.len()));
        if name.text.is_empty() {
            faults.add(word.span, Fault::EmptyName("ARG"));
        }
        let value = equals.map(|at| word.part(at + 1..word.text.len()));
        Arg { description: description(&parsed.statement.comments, &name.text), name, value }
    });
    Some(Kind::Arg(args.collect()))
}

/// What a comment `name what it is for` says.
fn description(comments: &[Word], name: &str) -> Option<String> {
    let about = |comment: &Word| Some(comment.text.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    comments.iter().find_map(about)
}

pub(super) fn pairs(
    name: &'static str,
    kind: fn(Vec<Pair>) -> Kind,
    parsed: &Parsed<'_>,
    faults: &mut Faults,
) -> Option<Kind> {
    parsed.flags(name, &Known::NONE, faults);
    let Operands::Pairs(pairs) = &parsed.statement.operands else { return None };
    if pairs.is_empty() {
        return faults.fail(parsed.statement.span, Fault::NoArguments(name));
    }
    for pair in pairs.iter().filter(|pair| pair.key.text.is_empty()) {
        faults.add(pair.value.span, Fault::EmptyName(name));
    }
    Some(kind(pairs.clone()))
}

/// An instruction with one text behind it.
pub(super) fn single(
    name: &'static str,
    kind: fn(Word) -> Kind,
    parsed: &Parsed<'_>,
    faults: &mut Faults,
) -> Option<Kind> {
    // BuildKit never looks at flags of STOPSIGNAL.
    if name != "STOPSIGNAL" {
        parsed.flags(name, &Known::NONE, faults);
    }
    match parsed.words {
        [word] => Some(kind(word.clone())),
        _ => faults.fail(parsed.statement.span, Fault::NoArgument(name)),
    }
}

/// An instruction with any number of words behind it, but not none.
pub(super) fn list(
    name: &'static str,
    kind: fn(Vec<Word>) -> Kind,
    parsed: &Parsed<'_>,
    faults: &mut Faults,
) -> Option<Kind> {
    parsed.flags(name, &Known::NONE, faults);
    if parsed.words.is_empty() {
        return faults.fail(parsed.statement.span, Fault::NoArguments(name));
    }
    Some(kind(parsed.words.to_vec()))
}

pub(super) fn volume(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    let trimmed = |volumes: Vec<Word>| {
        let trim = |volume: Word| Word { text: volume.text.trim().to_owned(), ..volume };
        Kind::Volume(volumes.into_iter().map(trim).collect())
    };
    let kind = list("VOLUME", trimmed, parsed, faults);
    for volume in parsed.words.iter().filter(|volume| volume.text.trim().is_empty()) {
        faults.add(volume.span, Fault::EmptyVolume);
    }
    kind
}

pub(super) fn command(
    name: &'static str,
    kind: fn(CommandLine) -> Kind,
    parsed: &Parsed<'_>,
    faults: &mut Faults,
) -> Option<Kind> {
    parsed.flags(name, &Known::NONE, faults);
    Some(kind(parsed.command_line()))
}

pub(super) fn shell(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    parsed.flags("SHELL", &Known::NONE, faults);
    match parsed.command_line() {
        _ if parsed.words.is_empty() => faults.fail(parsed.statement.span, Fault::NoArguments("SHELL")),
        CommandLine::Exec(shell) => Some(Kind::Shell(shell)),
        CommandLine::Shell(_) => faults.fail(parsed.statement.span, Fault::NotJson("SHELL")),
    }
}

const HEALTHCHECK_FLAGS: Known = Known {
    names: &["interval", "timeout", "start-period", "start-interval", "retries"],
    switches: &[],
    lists: &[],
};

pub(super) fn healthcheck(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    let [kind, command @ ..] = parsed.words else {
        return faults.fail(parsed.statement.span, Fault::NoArguments("HEALTHCHECK"));
    };
    if kind.text.eq_ignore_ascii_case("NONE") {
        if let [first, ..] = command {
            faults.add(first.span, Fault::HealthcheckNone);
        }
        return Some(Kind::Healthcheck(Healthcheck::None));
    }
    let flags = parsed.flags("HEALTHCHECK", &HEALTHCHECK_FLAGS, faults);
    if !kind.text.eq_ignore_ascii_case("CMD") {
        return faults.fail(kind.span, Fault::HealthcheckKind(kind.text.clone()));
    }
    if command.is_empty() {
        return faults.fail(kind.span, Fault::HealthcheckCommand);
    }
    let retries = |text: &str| text.parse::<i32>().ok().and_then(|retries| u32::try_from(retries).ok());
    let check = Healthcheck::Check {
        interval: duration("interval", &flags, faults),
        timeout: duration("timeout", &flags, faults),
        start_period: duration("start-period", &flags, faults),
        start_interval: duration("start-interval", &flags, faults),
        retries: flags.parse("retries", "a number", retries, faults).unwrap_or_default(),
        command: Parsed { words: command, ..*parsed }.command_line(),
    };
    Some(Kind::Healthcheck(check))
}

/// Zero means that nothing was said.
fn duration(name: &'static str, flags: &Flags, faults: &mut Faults) -> Duration {
    let read = |text: &str| {
        go::parse_duration(text).filter(|time| time.is_zero() || *time >= Duration::from_millis(1))
    };
    flags.parse(name, "a duration of at least `1ms`, like `1m30s`", read, faults).unwrap_or_default()
}

pub(super) fn onbuild(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    parsed.flags("ONBUILD", &Known::NONE, faults);
    let Operands::Nested(nested) = &parsed.statement.operands else {
        return faults.fail(parsed.statement.span, Fault::NoArguments("ONBUILD"));
    };
    let trigger = nested.keyword.clone();
    let name = trigger.text.to_ascii_uppercase();
    if matches!(name.as_str(), "FROM" | "MAINTAINER") {
        return faults.fail(trigger.span, Fault::Trigger(name));
    }
    let bodies = parsed.statement.heredocs.iter().map(|body| format!("\n{}{}", body.content, body.name));
    let expression = nested.text.clone() + &bodies.collect::<String>();
    Some(Kind::Onbuild(Onbuild { expression, trigger }))
}
