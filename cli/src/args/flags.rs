//! Flags as docker's parser (Go's pflag) reads them, taught to clap.
//!
//! A flag without a value may be given one behind `=` (`--rm=false`), a flag with a value takes whatever word comes next
//! (`--name -x`), and of a flag that is given twice the last one counts.

use clap::{ArgAction, Command};
use common::platform::Platform;

/// Makes a command and its verbs read flags as docker does. Help is shown from the command as it was before, since there a
/// flag is a flag and not `--rm[=<RM>]`.
pub(super) fn as_docker_reads_them(command: Command) -> Command {
    command.args_override_self(true).mut_args(argument).mut_subcommands(as_docker_reads_them)
}

fn argument(argument: clap::Arg) -> clap::Arg {
    match argument.get_action() {
        ArgAction::SetTrue => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(boolean),
        ArgAction::Set | ArgAction::Append if !argument.is_positional() => argument.allow_hyphen_values(true),
        _ => argument,
    }
}

/// What Go's `strconv.ParseBool` takes, with its words for all else.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// What Go's `strconv.ParseInt` takes, with its words for all else.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
}

/// A platform; nothing, as a script's empty variable gives it, is this machine's.
pub(crate) fn platform(text: &str) -> Result<Platform, <Platform as std::str::FromStr>::Err> {
    if text.is_empty() { Ok(Platform::host()) } else { text.parse() }
}
