//! `--label` and `--label-file`.

use std::path::PathBuf;

use anyhow::Result;

use super::environment;
use crate::error::verbatim;

/// The names and values of `NAME[=VALUE]`: the files', of which docker passes over those without a value, then the flags'.
pub(super) fn given(files: &[PathBuf], flags: &[String]) -> Result<Vec<(String, String)>> {
    let mut labels = Vec::new();
    for file in files {
        let lines = environment::read(file)?;
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        labels.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for flag in flags {
        labels.push(label(flag)?);
    }
    Ok(labels)
}

fn label(flag: &str) -> Result<(String, String)> {
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    // docker passes over blanks in front of a name, and keeps them.
    let wrong = match name.trim_start() {
        "" => format!("invalid label '{flag}': empty name"),
        name if name.contains(char::is_whitespace) => format!("label '{name}' contains whitespaces"),
        _ => return Ok((name.to_owned(), value.to_owned())),
    };
    Err(verbatim(format!("invalid argument \"{flag}\" for \"-l, --label\" flag: {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_name_without_blanks() {
        let label = |flag| label(flag).map_err(|error| error.to_string());
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(label("a=b=c"), pair("a", "b=c"));
        assert_eq!(label("a"), pair("a", ""));
        assert_eq!(label(" a= b"), pair(" a", " b"));
        let wrong = |flag: &str, text: &str| {
            Err(format!("invalid argument \"{flag}\" for \"-l, --label\" flag: {text}"))
        };
        assert_eq!(label(""), wrong("", "invalid label '': empty name"));
        assert_eq!(label("=x"), wrong("=x", "invalid label '=x': empty name"));
        assert_eq!(label("a b=c"), wrong("a b=c", "label 'a b' contains whitespaces"));
    }
}
