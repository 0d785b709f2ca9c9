//! `--env` and `--env-file`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::{self, verbatim};

/// What the user sets: the files' variables, then the flags', each `NAME=value`. A name without a value is taken from our
/// environment. Where that has none a file's is left out; a flag's stays a bare name, which takes the image's away.
pub(super) fn given(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for file in files {
        entries.extend(read(file)?.into_iter().map(from_us).filter(|entry| entry.contains('=')));
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(verbatim(format!(
                "invalid argument \"{flag}\" for \"-e, --env\" flag: invalid environment variable: {flag}"
            )));
        }
        entries.push(from_us(flag.clone()));
    }
    let mut variables: Vec<String> = Vec::new();
    for entry in entries {
        match variables.iter_mut().find(|other| name(other) == name(&entry)) {
            Some(earlier) => *earlier = entry,
            None => variables.push(entry),
        }
    }
    Ok(variables)
}

/// The user's variables, then those of the image that the user does not set: docker's order.
pub(super) fn merged(user: Vec<String>, image: &[String]) -> Vec<String> {
    let mut all = user;
    for entry in image {
        if !all.iter().any(|other| name(other) == name(entry)) {
            all.push(entry.clone());
        }
    }
    all.retain(|entry| entry.contains('='));
    all
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// A bare name with the value that it has here, if it has one.
fn from_us(entry: String) -> String {
    match std::env::var(&entry) {
        Ok(value) if !entry.contains('=') => format!("{entry}={value}"),
        _ => entry,
    }
}

/// A file of variables, a line each; it is no shell: quotes and blanks behind a value belong to it.
pub(super) fn read(file: &Path) -> Result<Vec<String>> {
    let shown = &file.display();
    // docker opens it before it reads it, and says which of these failed.
    let failed =
        |what: &str, error: io::Error| verbatim(format!("{what} {shown}: {}", error::system_words(&error)));
    let mut opened = File::open(file).map_err(|error| failed("open", error))?;
    let mut bytes = Vec::new();
    opened.read_to_end(&mut bytes).map_err(|error| failed("read", error))?;
    let wrong = |wrong: String| verbatim(format!("invalid env file ({shown}): {wrong}"));
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("invalid utf8 bytes at line {line}"))
    })?;
    parse(text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(variable).collect()
}

fn variable(line: &str) -> Result<String, String> {
    match line.split_once('=') {
        Some(("", _)) => Err(format!("no variable name on line '{line}'")),
        Some((name, _)) if name.contains(char::is_whitespace) => {
            Err(format!("variable '{name}' contains whitespaces"))
        }
        Some(_) => Ok(line.to_owned()),
        None => Ok(line.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn variables_of_the_user_come_first_and_the_last_of_a_name_counts() {
        let user = given(&[], &strings(&["A=x", "C=3", "SURELY_NOT_SET_ANYWHERE", "A=y"])).unwrap();
        let image = strings(&["A=1", "SURELY_NOT_SET_ANYWHERE=image", "B=2"]);
        assert_eq!(merged(user, &image), strings(&["A=y", "C=3", "B=2"]));
        assert!(given(&[], &strings(&["=1"])).is_err());
    }

    #[test]
    fn files_of_variables_are_no_shell() {
        let text = "\u{feff}# comment\n\n  LEAD=x\r\nQ=\"quoted\"\nTRAIL=t  \nEMPTY=\nBARE\n";
        let expected = strings(&["LEAD=x", "Q=\"quoted\"", "TRAIL=t  ", "EMPTY=", "BARE"]);
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("A B=1").unwrap_err(), "variable 'A B' contains whitespaces");
        assert_eq!(parse("=1").unwrap_err(), "no variable name on line '=1'");
    }
}
