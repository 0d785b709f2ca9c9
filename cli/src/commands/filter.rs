//! `--filter name=value`, as lists take it.

use anyhow::Result;

use crate::error::{self, verbatim, verbatim_with_code};

/// One filter; those of one name are alternatives, those of different names must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// In front of the `=`.
    pub(super) name: String,
    /// Behind it.
    pub(super) value: String,
}

/// Reads filters, of which only `known` names are allowed.
pub(super) fn parse(texts: &[String], known: &[&str]) -> Result<Vec<Filter>> {
    texts.iter().map(|text| parse_one(text, known)).collect()
}

fn parse_one(text: &str, known: &[&str]) -> Result<Filter> {
    let Some((name, value)) = text.split_once('=') else {
        let text = format!(
            "invalid argument \"{text}\" for \"-f, --filter\" flag: bad format of filter (expected name=value)"
        );
        return Err(verbatim_with_code(text, error::USAGE));
    };
    let name = name.trim().to_ascii_lowercase();
    if !known.contains(&name.as_str()) {
        return Err(verbatim(format!("Error: Invalid filter '{name}'")));
    }
    Ok(Filter { name, value: value.trim().to_owned() })
}

/// The values of `name` must be among `known`; the error is the first one that is not.
pub(super) fn check_values<'a>(filters: &'a [Filter], name: &str, known: &[&str]) -> Result<(), &'a str> {
    let mut values = filters.iter().filter(|filter| filter.name == name).map(|filter| filter.value.as_str());
    values.find(|value| !known.contains(value)).map_or(Ok(()), Err)
}

/// Whether something passes: for each name that is asked for, one of its values must match, of labels all.
pub(super) fn all(filters: &[Filter], mut matches: impl FnMut(&Filter) -> bool) -> bool {
    let mut names: Vec<&str> = filters.iter().map(|filter| filter.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.iter().all(|name| {
        let mut values = filters.iter().filter(|filter| filter.name == *name);
        if *name == "label" { values.all(&mut matches) } else { values.any(&mut matches) }
    })
}

/// `*`, `?` and `[…]` of shell patterns; `*` does not go over a `/`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                let stop = text.iter().position(|c| *c == '/').unwrap_or(text.len());
                (0..=stop).any(|n| matches(rest, &text[n..]))
            }
            (['?', rest @ ..], [c, more @ ..]) if *c != '/' => matches(rest, more),
            (['[', rest @ ..], [c, more @ ..]) => {
                let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|n| n + 1) else {
                    return false;
                };
                let (set, negated) = match &rest[..end] {
                    ['^' | '!', set @ ..] => (set, true),
                    set => (set, false),
                };
                let inside =
                    set.contains(c) || set.windows(3).any(|w| w[1] == '-' && w[0] <= *c && *c <= w[2]);
                inside != negated && matches(&rest[end + 1..], more)
            }
            ([a, rest @ ..], [b, more @ ..]) => a == b && matches(rest, more),
            _ => false,
        }
    }
    let [pattern, text] = [pattern, text].map(|text| text.chars().collect::<Vec<_>>());
    matches(&pattern, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_name_are_alternatives() {
        let filters =
            parse(&["name=a".into(), "name=b".into(), "dangling=true".into()], &["name", "dangling"])
                .unwrap();
        assert!(all(&filters, |filter| filter.value == "b" || filter.name == "dangling"));
        assert!(!all(&filters, |filter| filter.name == "name"));
        let labels = parse(&["label=a".into(), "label=b".into()], &["label"]).unwrap();
        assert!(!all(&labels, |filter| filter.value == "b"));
        assert!(parse(&["x=1".into()], &["label"]).is_err());
        assert!(parse(&["label".into()], &["label"]).is_err());
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("b?x", "box", true),
            ("[a-c]x", "bx", true),
            ("[!a]x", "ax", false),
            ("a", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
