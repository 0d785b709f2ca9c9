//! `--env` and `--env-file`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::report::verbatim;

/// What the user sets: the files' variables, then the flags', each `NAME=value`. A name without a value is taken from our
/// environment, and left out where that has none.
pub(super) fn given(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for file in files {
        entries.extend(read(file)?);
    }
    for flag in flags {
        if flag.is_empty() || flag.starts_with('=') {
            return Err(verbatim(format!(
                "invalid argument \"{flag}\" for \"-e, --env\" flag: invalid environment variable: {flag}"
            )));
        }
        entries.push(flag.clone());
    }
    let mut variables: Vec<String> = Vec::new();
    for entry in entries.into_iter().filter_map(from_us) {
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
    all
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

fn from_us(entry: String) -> Option<String> {
    match entry.contains('=') {
        true => Some(entry),
        false => std::env::var(&entry).ok().map(|value| format!("{entry}={value}")),
    }
}

/// A file of variables, a line each; it is no shell: quotes and blanks behind a value belong to it.
fn read(file: &Path) -> Result<Vec<String>> {
    let shown = file.display();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(verbatim(format!("open {shown}: no such file or directory")));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read env file {shown}")),
    };
    parse(&text).map_err(|wrong| verbatim(format!("invalid env file ({shown}): {wrong}")))
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
        assert_eq!(merged(user, &strings(&["A=1", "B=2"])), strings(&["A=y", "C=3", "B=2"]));
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
