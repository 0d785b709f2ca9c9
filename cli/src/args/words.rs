//! Which words of a command line are flags, before clap reads them.
//!
//! docker's `run` stops reading flags at its first word that is none: what follows the image is the container's, also when
//! it looks like a flag of ours. clap only does so behind the *second* such word, or behind `--`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};

/// How far the words of a command line lead.
pub(super) struct Walk<'c> {
    /// The verb that they name.
    pub(super) command: &'c Command,
    /// Where the first word of it stands.
    pub(super) verb: Option<usize>,
    /// Where its first word stands that is neither a flag nor a flag's value.
    operand: Option<usize>,
}

/// Follows `args` from the program's name to the first operand of the verb; `command` is built.
pub(super) fn walk<'c>(mut command: &'c Command, args: &[OsString]) -> Walk<'c> {
    let (mut place, mut first) = (1, None);
    while let Some(word) = args.get(place) {
        let text = word.to_str().unwrap_or_default();
        if word == "--" {
            break;
        } else if text.len() > 1 && text.starts_with('-') {
            place += usize::from(takes_the_next_word(command, text));
        } else if let Some(verb) = command.find_subcommand(word) {
            command = verb;
            first = first.or(Some(place));
        } else {
            return Walk { command, verb: first, operand: Some(place) };
        }
        place += 1;
    }
    Walk { command, verb: first, operand: None }
}

/// The command line with `--` before the image of `run`; `command` is built.
pub(super) fn with_operands_marked(command: &Command, args: &[OsString]) -> Vec<OsString> {
    let walk = walk(command, args);
    let mut args = args.to_vec();
    if let Some(operand) = walk.operand
        && walk.command.get_positionals().any(Arg::is_trailing_var_arg_set)
    {
        args.insert(operand, OsStr::new("--").to_owned());
    }
    args
}

/// Whether the value of the flag, or of the last of several letters, is the next word.
fn takes_the_next_word(command: &Command, word: &str) -> bool {
    if let Some(long) = word.strip_prefix("--") {
        // With `=` the value is in the word itself, and no flag has such a name.
        return command.get_arguments().any(|argument| takes_a_value(argument) && is_called(argument, long));
    }
    for (place, letter) in word.char_indices().skip(1) {
        let mut arguments = command.get_arguments();
        if arguments.any(|argument| takes_a_value(argument) && argument.get_short() == Some(letter)) {
            return place + letter.len_utf8() == word.len();
        }
    }
    false
}

fn takes_a_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) && !argument.is_require_equals_set()
}

fn is_called(argument: &Arg, long: &str) -> bool {
    argument.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long))
}
