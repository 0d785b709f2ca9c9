//! What a registry asks for in `WWW-Authenticate`, and the rights a request needs.
//!
//! Spec: <https://distribution.github.io/distribution/spec/auth/token/>,
//! <https://distribution.github.io/distribution/spec/auth/scope/>

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::reference::RepositoryPath;

/// One challenge: a scheme in lower case and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// All challenges of an answer: several headers, or several in one.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse).collect()
}

/// `Bearer realm="…",service="…", Basic realm=x`: a word without `=` begins a challenge.
fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        match after.trim_start().strip_prefix('=') {
            Some(after) => {
                let (value, after) = parameter_value(after.trim_start());
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
}

/// A token or a quoted string with `\` escapes, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Rights: for each resource (`repository:library/debian`) a set of actions. Two scopes merge into one that asks for
/// both, so that one token serves a push and the mount from another repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    pub(super) fn none() -> Self {
        Scopes::default()
    }

    pub(super) fn pull(repository: &RepositoryPath) -> Self {
        Scopes::none().with(&format!("repository:{repository}"), "pull")
    }

    pub(super) fn push(repository: &RepositoryPath) -> Self {
        Scopes::none().with(&format!("repository:{repository}"), "pull,push")
    }

    pub(super) fn catalog() -> Self {
        Scopes::none().with("registry:catalog", "*")
    }

    /// Reads what a challenge names: `repository:a/b:pull,push repository:c:pull`.
    pub(super) fn parse(text: &str) -> Self {
        let entries = text.split_ascii_whitespace().filter_map(|entry| entry.rsplit_once(':'));
        entries.fold(Scopes::none(), |scopes, (resource, actions)| scopes.with(resource, actions))
    }

    pub(super) fn merge(mut self, other: &Scopes) -> Self {
        for (resource, actions) in &other.0 {
            self.0.entry(resource.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    pub(super) fn covers(&self, other: &Scopes) -> bool {
        other
            .0
            .iter()
            .all(|(resource, actions)| self.0.get(resource).is_some_and(|held| held.is_superset(actions)))
    }

    /// One text a resource, as the token server wants them.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(resource, actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        })
    }

    fn with(mut self, resource: &str, actions: &str) -> Self {
        let held = self.0.entry(resource.to_owned()).or_default();
        held.extend(actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned));
        self
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entries().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parse(value: &str, expected: &[(&str, &[(&str, &str)])]) {
        let found = parse(value);
        assert_eq!(found.len(), expected.len(), "{value}: {found:?}");
        for (challenge, (scheme, parameters)) in found.iter().zip(expected) {
            assert_eq!(challenge.scheme, *scheme);
            let parameters: BTreeMap<String, String> =
                parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(challenge.parameters, parameters, "{value}");
        }
    }

    #[test]
    fn challenges_are_told_apart_within_one_header() {
        check_parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.docker.io/token"),
                    ("service", "registry.docker.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check_parse(
            r#"Basic realm=x, bearer Realm = "a\"b" , error=insufficient_scope"#,
            &[
                ("basic", &[("realm", "x")]),
                ("bearer", &[("realm", "a\"b"), ("error", "insufficient_scope")]),
            ],
        );
        check_parse("Negotiate", &[("negotiate", &[])]);
        check_parse(r#"Basic realm="unterminated"#, &[("basic", &[("realm", "unterminated")])]);
        check_parse("", &[]);
        check_parse("=x", &[]);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read_without_harm(value in r#"[ -~]{0,80}|[a-z =",\\\\]{0,80}"#) {
            parse(&value);
            Scopes::parse(&value);
        }
    }

    #[test]
    fn scopes_of_one_resource_are_merged_and_several_kept_apart() {
        let push = Scopes::push(&"a/b".parse().unwrap());
        let merged = push.clone().merge(&Scopes::parse("repository:c:pull repository:a/b:delete"));
        assert_eq!(merged.to_string(), "repository:a/b:delete,pull,push repository:c:pull");
        assert!(merged.covers(&push));
        assert!(!push.covers(&merged));
        assert!(push.covers(&Scopes::none()));
    }
}
