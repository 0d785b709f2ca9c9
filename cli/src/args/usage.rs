//! Wrong command lines, in docker's words.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;
use super::later;
use super::words;
use crate::error;
use crate::output::{self, note};

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

impl Usage {
    /// Prints help, or what is wrong with the command line.
    pub(crate) fn print(&self) -> ExitCode {
        match self {
            Usage::Help(text) => {
                output::print(text);
                ExitCode::SUCCESS
            }
            Usage::Wrong { text, code } => {
                note(text.trim_end());
                ExitCode::from(*code)
            }
        }
    }
}

/// clap's error about `args` in docker's words.
pub(super) fn usage(error: &clap::Error, args: &[OsString]) -> Usage {
    let command = addressed(args);
    let verb = name(&command);
    match error.kind() {
        ErrorKind::DisplayVersion => return Usage::Help(error.render().to_string()),
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand => return Usage::Help(help(command)),
        ErrorKind::InvalidSubcommand => {
            return Usage::Wrong { text: unknown_verb(error, &verb, args), code: error::FAILED };
        }
        _ => {}
    }
    match problem(error, &command, args) {
        Some((problem, code)) => {
            let text = format!(
                "{problem}\n\nUsage:  {}\n\nRun '{verb} --help' for more information",
                shape(&command)
            );
            Usage::Wrong { text, code }
        }
        None => Usage::Wrong { text: error.render().to_string(), code: error::USAGE },
    }
}

/// What is wrong with the words behind a verb, and the exit code; `None` when only clap can tell.
fn problem(error: &clap::Error, command: &Command, args: &[OsString]) -> Option<(String, u8)> {
    let verb = name(command);
    let invalid = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let flag = Some(invalid.split(['=', ' ', '[']).next().unwrap_or_default());
    let flag = flag.filter(|word| word.starts_with('-'));
    let value = context(error, ContextKind::InvalidValue).unwrap_or_default();
    Some(match (error.kind(), flag) {
        (ErrorKind::UnknownArgument, Some(flag)) => {
            let owner = if is_in_front(flag, args) { "gantry" } else { &verb };
            (later::refused_flag(owner, flag).unwrap_or_else(|| unknown_flag(flag)), error::USAGE)
        }
        (ErrorKind::MissingRequiredArgument, Some(flag)) => {
            (format!("required flag(s) \"{}\" not set", flag.trim_start_matches('-')), error::USAGE)
        }
        (ErrorKind::TooManyValues, Some(flag)) => {
            let flag = spelled(command, flag);
            (format!("invalid argument \"{value}\" for \"{flag}\" flag: it takes no value"), error::USAGE)
        }
        (
            ErrorKind::UnknownArgument | ErrorKind::TooManyValues | ErrorKind::MissingRequiredArgument,
            None,
        ) => (format!("gantry: '{verb}' {}", expected_arguments(command)), error::FAILED),
        (ErrorKind::InvalidValue, Some(_)) if value.is_empty() && ends_in_a_bare_flag(args) => {
            (needs_a_value(args), error::USAGE)
        }
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(flag)) => {
            let flag = spelled(command, flag);
            (format!("invalid argument \"{value}\" for \"{flag}\" flag: {}", why(error)), error::USAGE)
        }
        _ => return None,
    })
}

/// The text for a word that names no verb.
fn unknown_verb(error: &clap::Error, verb: &str, args: &[OsString]) -> String {
    let word = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
    later::refused_verb(&word).unwrap_or_else(|| match args.iter().any(|arg| arg == "help") {
        true => format!("unknown help topic: {word}"),
        false => {
            format!("gantry: unknown command: {verb} {word}\n\nRun '{verb} --help' for more information")
        }
    })
}

/// The whole text about a command, as docker lays it out, with a line a flag.
fn help(mut command: Command) -> String {
    if let Some(about) = command.get_long_about().cloned() {
        command = command.about(about);
    }
    let shape = shape(&command);
    command = command
        .override_usage(shape)
        .help_template("Usage:  {usage}\n\n{about-with-newline}\n{all-args}{after-help}\n");
    // clap thinks that `--help` would say more; and it gives up its two columns where a description needs a second line.
    let wide = command.term_width(0).render_help().to_string().replace(" (see more with '--help')", "");
    wide.lines().map(|line| wrapped(line, width())).collect()
}

/// Columns of the terminal, a hundred at most.
fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| size.ws_col);
    if columns == 0 { 100 } else { usize::from(columns).clamp(40, 100) }
}

/// A line of help cut at blanks; what goes on in the next line stands below the second column, if there is one.
fn wrapped(line: &str, width: usize) -> String {
    let words = line.trim_start();
    let begin = line.len() - words.len();
    let second =
        words.find("  ").map(|gap| begin + gap + words[gap..].len() - words[gap..].trim_start().len());
    let indent = second.filter(|second| begin > 0 && second + 20 < width).unwrap_or(begin);
    let mut text = line[..indent].to_owned();
    let mut used = indent;
    for word in line[indent..].split(' ') {
        let length = word.chars().count();
        if used > indent && used + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        } else if used > indent {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += length;
    }
    text.push('\n');
    text
}

/// How a command is called, as docker writes it: `gantry run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
fn shape(command: &Command) -> String {
    let mut words = vec![name(command)];
    if command.has_subcommands() {
        words.extend(["[OPTIONS]", "COMMAND"].map(str::to_owned));
        return words.join(" ");
    }
    words.push("[OPTIONS]".to_owned());
    for argument in command.get_positionals() {
        let value = argument
            .get_value_names()
            .and_then(<[_]>::first)
            .map_or_else(|| argument.get_id().as_str().to_uppercase(), |value| value.to_string());
        words.push(match (argument.is_required_set(), is_endless(argument)) {
            (true, true) => format!("{value} [{value}...]"),
            (true, false) => value,
            (false, true) if argument.is_trailing_var_arg_set() => format!("[{value}] [ARG...]"),
            (false, true) => format!("[{value}...]"),
            (false, false) => format!("[{value}]"),
        });
    }
    words.join(" ")
}

/// `gantry image ls`
fn name(command: &Command) -> String {
    command.get_bin_name().unwrap_or("gantry").to_owned()
}

/// Whether an argument may be given several times.
fn is_endless(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|count| count.max_values() > 1)
        || matches!(argument.get_action(), ArgAction::Append)
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

/// Whether nothing is behind the last flag, not even an empty word.
fn ends_in_a_bare_flag(args: &[OsString]) -> bool {
    args.last()
        .and_then(|word| word.to_str())
        .is_some_and(|word| word.starts_with('-') && !word.contains('='))
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
    let endless = positionals.iter().any(|argument| is_endless(argument));
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
    let words: Vec<OsString> = args.iter().filter(|word| *word != "help").cloned().collect();
    words::walk(&built(), &words).command.clone()
}

/// Whether a flag stands in front of the verb, where those of the program itself are.
fn is_in_front(flag: &str, args: &[OsString]) -> bool {
    let place = args.iter().position(|word| word.to_string_lossy().starts_with(flag));
    words::walk(&built(), args).verb.is_none_or(|verb| place.is_some_and(|place| place < verb))
}

fn built() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_of_help_go_on_below_their_column() {
        let check = |line: &str, expected: &[&str]| assert_eq!(wrapped(line, 44), expected.join("\n") + "\n");
        check("short", &["short"]);
        check("", &[""]);
        check(
            "  -f, --file <FILE>  What is in the folder of it",
            &["  -f, --file <FILE>  What is in the folder", "                     of it"],
        );
        check(
            "A sentence that is longer than the forty-four",
            &["A sentence that is longer than the", "forty-four"],
        );
        check("  an example    stays as it is", &["  an example    stays as it is"]);
    }
}
