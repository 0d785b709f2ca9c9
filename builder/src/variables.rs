//! The variables that a Dockerfile's words may hold: predefined, global, of a stage.
//!
//! - **Global**: the platform arguments and each `ARG` before the first `FROM`. Words of `FROM` see these. A stage sees one
//!   only after its own `ARG NAME` without a default.
//! - **Stage**: `ENV` of the base image and of the Dockerfile, and each `ARG` from its line on. `FROM stage` goes on with all
//!   that the other stage had; `ENV` wins over an `ARG` of the same name that came from below.
//! - A `--build-arg` gives a declared `ARG` its value. One that nobody declares is only worth a warning, unless it is a
//!   proxy: those reach the environment of RUN, neither the cache key nor the history.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::platform::Platform;

/// Names and values in the order in which they were last set, which is that of RUN's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    /// By the number of their setting.
    entries: BTreeMap<u64, (String, String)>,
    /// Where in `entries` a name stands.
    places: HashMap<String, u64>,
    settings: u64,
    /// Names that would have been set if it had not failed.
    forgotten: BTreeSet<String>,
    /// Whether other names may be set too, by what has not been looked at.
    is_open: bool,
}

impl Variables {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|at| self.entries[at].1.as_str())
    }

    /// Whether nobody can say what the value is.
    pub(crate) fn is_unknown(&self, name: &str) -> bool {
        self.forgotten.contains(name) || (self.is_open && !self.places.contains_key(name))
    }

    /// What would have set `name` failed.
    pub(crate) fn forget(&mut self, name: &str) {
        self.forgotten.insert(name.to_owned());
    }

    /// From now on a name that is not set is unknown.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.forgotten.remove(name);
        self.settings += 1;
        if let Some(before) = self.places.insert(name.to_owned(), self.settings) {
            self.entries.remove(&before);
        }
        self.entries.insert(self.settings, (name.to_owned(), value.to_owned()));
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.values().map(|(name, _)| name.as_str())
    }

    /// Each as `NAME=value`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.entries.values().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// What every Dockerfile may use in its `FROM` lines without declaring it; a `--build-arg` of the name wins.
///
/// Reference: <https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope>
pub(crate) fn predefined(
    build: &Platform,
    target: &Platform,
    stage: &str,
    build_args: &BTreeMap<String, String>,
) -> Variables {
    let mut variables = Variables::default();
    for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", platform.os_version.clone().unwrap_or_default()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            let name = format!("{prefix}{name}");
            let value = build_args.get(&name).cloned().unwrap_or(value);
            variables.set(&name, &value);
        }
    }
    let stage = if stage.is_empty() { "default" } else { stage };
    variables.set("TARGETSTAGE", build_args.get("TARGETSTAGE").map_or(stage, String::as_str));
    variables
}

const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// The build argument that stands for `# check=`.
pub(crate) const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Whether a build argument means something without being declared.
pub(crate) fn is_predefined(name: &str) -> bool {
    let is_platform = name
        .strip_prefix("BUILD")
        .or_else(|| name.strip_prefix("TARGET"))
        .is_some_and(|rest| matches!(rest, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT" | "STAGE"));
    is_platform
        || matches!(name, "SOURCE_DATE_EPOCH" | CHECK_ARG)
        || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// The proxies among the build arguments as RUN sees them: each in capital and in small letters, and an empty one not
/// at all.
pub(crate) fn proxy_lines(build_args: &BTreeMap<String, String>) -> Vec<String> {
    let mut lines = Vec::new();
    for proxy in PROXIES {
        let given = build_args.iter().rfind(|(name, _)| proxy.eq_ignore_ascii_case(name));
        if let Some((_, value)) = given.filter(|(_, value)| !value.is_empty()) {
            lines.push(format!("{}={value}", proxy.to_ascii_uppercase()));
            lines.push(format!("{proxy}={value}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_argument_wins_over_the_platform() {
        let build_args = BTreeMap::from([("TARGETARCH".to_owned(), "pdp11".to_owned())]);
        let host: Platform = "linux/amd64".parse().unwrap();
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        let variables = predefined(&host, &arm, "", &build_args);
        assert_eq!(variables.get("TARGETARCH"), Some("pdp11"));
        assert_eq!(variables.get("TARGETVARIANT"), Some("v7"));
        assert_eq!(variables.get("BUILDPLATFORM"), Some("linux/amd64"));
        assert_eq!(variables.get("TARGETSTAGE"), Some("default"));
    }

    #[test]
    fn what_is_set_again_comes_last() {
        let mut variables = Variables::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            variables.set(name, value);
        }
        assert_eq!(variables.lines(), ["B=2", "A=3"]);
        assert_eq!(variables.get("A"), Some("3"));
    }

    #[test]
    fn proxies_are_seen_in_both_cases() {
        let build_args = BTreeMap::from([("HTTP_PROXY".to_owned(), "http://p".to_owned())]);
        assert_eq!(proxy_lines(&build_args), ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    }
}
