//! Flags as docker's parser (Go's pflag) reads them, taught to clap.
//!
//! A flag without a value may be given one behind `=` (`--rm=false`), a flag with a value takes whatever word comes next
//! (`--name -x`), and of a flag that is given twice the last one counts.

use clap::{ArgAction, Command};

use crate::values;

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
            .value_parser(values::boolean),
        ArgAction::Set | ArgAction::Append if !argument.is_positional() => argument.allow_hyphen_values(true),
        _ => argument,
    }
}
