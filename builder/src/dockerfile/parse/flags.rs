//! Flags of an instruction, checked against those that it knows.

use super::Faults;
use crate::dockerfile::error::Fault;
use crate::dockerfile::source::Word;
use crate::dockerfile::suggest::nearest;

/// The flags of one instruction, each known and with a value.
pub(super) struct Flags {
    given: Vec<(&'static str, Word)>,
}

impl Flags {
    /// Checks `words` (`--name[=value]`). Only flags in `lists` may come more than once; those in `switches` may come
    /// without a value, which means `true`.
    pub(super) fn new(
        instruction: &'static str,
        words: &[Word],
        known: &Known,
        faults: &mut Faults,
    ) -> Flags {
        let mut given: Vec<(&'static str, Word)> = Vec::new();
        for word in words {
            let (typed, value) = split(word);
            let Some(name) = known.names.iter().find(|name| **name == typed.text) else {
                let nearest = nearest(&typed.text, known.names);
                let fault =
                    Fault::UnknownFlag { instruction, flag: typed.text.clone(), known: known.names, nearest };
                faults.add(word.part(0..word.text.find('=').unwrap_or(word.text.len())).span, fault);
                continue;
            };
            let is_switch = known.switches.contains(name);
            match value {
                _ if !known.lists.contains(name) && given.iter().any(|(other, _)| other == name) => {
                    faults.add(word.span, Fault::RepeatedFlag(typed.text));
                }
                Some(value) if is_switch && value.text.is_empty() => {
                    faults.add(word.span, Fault::FlagWithoutValue(typed.text));
                }
                Some(value) => given.push((name, value)),
                None if is_switch => given.push((name, Word { text: "true".to_owned(), span: word.span })),
                None => faults.add(word.span, Fault::FlagWithoutValue(typed.text)),
            }
        }
        Flags { given }
    }

    /// The value of a flag; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.all(name).find(|value| !value.text.is_empty()).cloned()
    }

    /// The values of a flag that may come more than once.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Word> {
        self.given.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value)
    }

    /// The value of a switch.
    pub(super) fn switch(&self, name: &'static str, faults: &mut Faults) -> Option<bool> {
        let value = self.all(name).next()?;
        if value.text.eq_ignore_ascii_case("true") {
            return Some(true);
        }
        if !value.text.eq_ignore_ascii_case("false") {
            faults.add(value.span, flag_value(name, value, "`true` or `false`"));
        }
        Some(false)
    }

    /// The value of a flag that knows a few words; the first of them is the default.
    pub(super) fn choice<T: Copy>(&self, name: &'static str, choices: &Choices<T>, faults: &mut Faults) -> T {
        let default = choices.values[0].1;
        let Some(value) = self.all(name).next() else { return default };
        let choice = choices.values.iter().find(|(text, _)| *text == value.text);
        if choice.is_none() {
            faults.add(value.span, flag_value(name, value, choices.expected));
        }
        choice.map_or(default, |(_, choice)| *choice)
    }

    /// The value of a flag as `read` understands it.
    pub(super) fn parse<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
        faults: &mut Faults,
    ) -> Option<T> {
        let value = self.text(name)?;
        let parsed = read(&value.text);
        if parsed.is_none() {
            faults.add(value.span, flag_value(name, &value, expected));
        }
        parsed
    }
}

/// Which flags an instruction has.
pub(super) struct Known {
    /// All of them.
    pub(super) names: &'static [&'static str],
    /// Those that are true or false.
    pub(super) switches: &'static [&'static str],
    /// Those that may come more than once.
    pub(super) lists: &'static [&'static str],
}

impl Known {
    pub(super) const NONE: Known = Known { names: &[], switches: &[], lists: &[] };
}

/// What a flag may say.
pub(super) struct Choices<T: 'static> {
    pub(super) values: &'static [(&'static str, T)],
    pub(super) expected: &'static str,
}

fn flag_value(flag: &'static str, value: &Word, expected: &'static str) -> Fault {
    Fault::FlagValue { flag, value: value.text.clone(), expected }
}

/// Name without `--`, and what stands behind `=`.
fn split(word: &Word) -> (Word, Option<Word>) {
    let end = word.text.find('=').unwrap_or(word.text.len());
    let value = (end < word.text.len()).then(|| word.part(end + 1..word.text.len()));
    (word.part(2.min(end)..end), value)
}
