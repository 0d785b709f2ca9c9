//! Wrong command lines, in docker's words.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};

use super::Cli;
use super::later;
use crate::report;

/// The command line asked for help, or is wrong.
#[derive(Debug)]
pub(crate) enum Usage {
    /// Print this to stdout.
    Help(String),
    /// Print this to stderr.
    Wrong {
        /// In docker's words where docker has some.
        text: String,
        /// Exit code.
        code: u8,
    },
}

/// clap's error about `args` in docker's words.
pub(super) fn usage(error: &clap::Error, args: &[OsString]) -> Usage {
    let mut command = addressed(args);
    let verb = command.get_bin_name().unwrap_or("gantry").to_owned();
    let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = invalid.split(['=', ' ', '[']).next().unwrap_or_default();
    let (problem, code) = match error.kind() {
        ErrorKind::DisplayVersion => return Usage::Help(error.render().to_string()),
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => {
            return Usage::Help(help(command));
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => match later::refused_flag(&verb, flag) {
            Some(refusal) => (refusal, report::USAGE),
            None => (unknown_flag(flag), report::USAGE),
        },
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            let unknown = match args.iter().any(|arg| arg == "help") {
                true => format!("unknown help topic: {word}"),
                false => {
                    format!(
                        "gantry: unknown command: {verb} {word}\n\nRun '{verb} --help' for more information"
                    )
                }
            };
            let text = later::refused_verb(&word).unwrap_or(unknown);
            return Usage::Wrong { text, code: report::FAILED };
        }
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues | ErrorKind::MissingRequiredArgument => {
            (format!("gantry: '{verb}' {}", expected_arguments(&command)), report::FAILED)
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
            let problem = match value.is_empty() && !args.iter().any(|arg| arg.is_empty()) {
                true => needs_a_value(args),
                false => {
                    format!(
                        "invalid argument \"{value}\" for \"{}\" flag: {}",
                        spelled(&command, flag),
                        why(error)
                    )
                }
            };
            (problem, report::USAGE)
        }
        _ => return Usage::Wrong { text: error.render().to_string(), code: report::USAGE },
    };
    let shape = command.render_usage().to_string().replacen("Usage: ", "Usage:  ", 1);
    Usage::Wrong { text: format!("{problem}\n\n{shape}\n\nRun '{verb} --help' for more information"), code }
}

/// The whole text about a command, with a line a flag.
fn help(mut command: Command) -> String {
    if let Some(about) = command.get_long_about().cloned() {
        command = command.about(about);
    }
    // clap thinks that `--help` would say more.
    command.render_help().to_string().replace(" (see more with '--help')", "")
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    }
}

fn why(error: &clap::Error) -> String {
    match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("expected one of {}", valid.join(", ")),
        (None, _) => "it cannot be understood".to_owned(),
    }
}

fn unknown_flag(flag: &str) -> String {
    match flag.strip_prefix("--") {
        Some(_) => format!("unknown flag: {flag}"),
        None => {
            let letter: String = flag.chars().skip(1).take(1).collect();
            format!("unknown shorthand flag: '{letter}' in {flag}")
        }
    }
}

/// The last word is a flag that wants another one behind it.
fn needs_a_value(args: &[OsString]) -> String {
    let flag = args.last().map(|flag| flag.to_string_lossy().into_owned()).unwrap_or_default();
    match flag.chars().last() {
        Some(letter) if !flag.starts_with("--") => format!("flag needs an argument: '{letter}' in {flag}"),
        _ => format!("flag needs an argument: {flag}"),
    }
}

/// A flag with both its spellings: `-e, --env`.
fn spelled(command: &Command, flag: &str) -> String {
    let mut arguments = command.get_arguments();
    let found = arguments.find(|argument| {
        argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
            || argument.get_short().is_some_and(|short| flag == format!("-{short}"))
    });
    match found.map(|argument| (argument.get_short(), argument.get_long())) {
        Some((Some(short), Some(long))) => format!("-{short}, --{long}"),
        _ => flag.to_owned(),
    }
}

/// How many arguments a verb takes, in docker's words.
fn expected_arguments(command: &Command) -> String {
    let positionals: Vec<_> = command.get_positionals().collect();
    let least = positionals.iter().filter(|argument| argument.is_required_set()).count();
    let endless = positionals.iter().any(|argument| {
        argument.get_num_args().is_some_and(|count| count.max_values() > 1)
            || matches!(argument.get_action(), clap::ArgAction::Append)
    });
    let counted = |n: usize| if n == 1 { "1 argument".to_owned() } else { format!("{n} arguments") };
    match (least, positionals.len()) {
        (_, 0) => "accepts no arguments".to_owned(),
        (least, most) if least == most && !endless => format!("requires {}", counted(least)),
        (0, most) => format!("requires at most {}", counted(most)),
        (least, _) => format!("requires at least {}", counted(least)),
    }
}

/// The command that a command line is for: `gantry image ls`, as far as its words name one.
fn addressed(args: &[OsString]) -> Command {
    let mut command = Cli::command();
    command.build();
    let mut words = args.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| *word != "help");
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if takes_the_next_word(&command, word) {
                words.next();
            }
        } else if let Some(verb) = command.find_subcommand(word) {
            command = verb.clone();
        } else {
            break;
        }
    }
    command
}

fn takes_the_next_word(command: &Command, flag: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|argument| {
        matches!(argument.get_action(), clap::ArgAction::Set | clap::ArgAction::Append)
            && (argument.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long))
                || argument.get_short().is_some_and(|short| flag == format!("-{short}")))
    })
}
