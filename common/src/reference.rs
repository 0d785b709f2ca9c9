//! References: how people and documents name images.
//!
//! Grammar: <https://github.com/distribution/reference/blob/main/reference.go>. What Docker adds to it: a bare name
//! is `docker.io/library/NAME`, `docker.io/NAME` without a slash likewise, `index.docker.io` is `docker.io`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// The registry that names without a host belong to.
pub const DEFAULT_HOST: &str = "docker.io";
/// The tag that names without tag and digest mean.
pub const DEFAULT_TAG: &str = "latest";

const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// Path of a repository within a registry, e.g. `library/debian`: lower-case components between slashes. A component
/// never begins with `_`, so folders that do can stand beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPath(Box<str>);

impl RepositoryPath {
    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepositoryPath {
    type Err = ReferenceError;

    /// Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>, `<name>`.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > NAME_LIMIT {
            return Err(ReferenceError::NameTooLong { length: text.len() });
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase);
        }
        if !text.split('/').all(is_path_component) {
            return Err(ReferenceError::Format);
        }
        Ok(RepositoryPath(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii() && alphanumeric(c as u8))
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

/// A tag, e.g. `latest`: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `latest`.
    pub fn latest() -> Self {
        Tag(DEFAULT_TAG.into())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let (first, rest) = text.as_bytes().split_first().ok_or(ReferenceError::Tag)?;
        let well_formed = text.len() <= TAG_LIMIT
            && word(*first)
            && rest.iter().all(|&b| word(b) || matches!(b, b'.' | b'-'));
        if well_formed { Ok(Tag(text.into())) } else { Err(ReferenceError::Tag) }
    }
}

/// A repository anywhere: registry host and path, e.g. `docker.io` and `library/debian`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: Box<str>,
    path: RepositoryPath,
}

impl Repository {
    /// A repository from its parts; `host` may carry a port.
    ///
    /// # Errors
    /// [`ReferenceError::Host`] when `host` is not a host name or address with an optional port.
    pub fn new(host: &str, path: RepositoryPath) -> Result<Self, ReferenceError> {
        if !is_host(host) {
            return Err(ReferenceError::Host);
        }
        if host.len() + 1 + path.as_str().len() > NAME_LIMIT {
            return Err(ReferenceError::NameTooLong { length: host.len() + 1 + path.as_str().len() });
        }
        Ok(Repository { host: host.into(), path })
    }

    /// Host of the registry, with its port when one was given: `docker.io`, `localhost:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path within the registry.
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// The name as docker's tables show it: without `docker.io/` and `library/`, unless it would name another repository
    /// then.
    pub fn familiar(&self) -> String {
        if &*self.host != DEFAULT_HOST {
            return self.to_string();
        }
        let path = self.path.as_str();
        match path.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ if path.split_once('/').is_some_and(|(first, _)| names_a_host(first)) => self.to_string(),
            _ => path.to_owned(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    /// Reads a name without tag and digest, completing it as docker does.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if names_a_host(first) => (first, rest),
            _ => (DEFAULT_HOST, text),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let completed;
        let path = if host == DEFAULT_HOST && !path.contains('/') && !path.is_empty() {
            completed = format!("library/{path}");
            &completed
        } else {
            path
        };
        Repository::new(host, path.parse()?)
    }
}

/// The first component of a name is a host when it could not be a path: a dot, a port, `localhost`, or upper case.
fn names_a_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Domain name, IPv4, or IPv6 in brackets, with an optional port.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) => {
            let address = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return address && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let component = |c: &str| {
        !c.is_empty()
            && !c.starts_with('-')
            && !c.ends_with('-')
            && c.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(component) && port.is_none_or(is_port)
}

/// Digits only: `u16` would also take a `+`.
fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// A name for one image: a repository with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// `debian:bookworm`: what the tag points at today.
    Tag(Repository, Tag),
    /// `debian@sha256:…`: these bytes.
    Digest(Repository, Digest),
    /// `debian:bookworm@sha256:…`: these bytes; the tag is for the reader.
    TagAndDigest(Repository, Tag, Digest),
}

impl Reference {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        match self {
            Reference::Tag(repository, _)
            | Reference::Digest(repository, _)
            | Reference::TagAndDigest(repository, ..) => repository,
        }
    }

    /// The tag, when there is one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Reference::Tag(_, tag) | Reference::TagAndDigest(_, tag, _) => Some(tag),
            Reference::Digest(..) => None,
        }
    }

    /// The digest, when there is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Reference::Digest(_, digest) | Reference::TagAndDigest(_, _, digest) => Some(digest),
            Reference::Tag(..) => None,
        }
    }

    /// What stands behind `/manifests/` in a request: the digest if there is one, else the tag.
    pub fn identifier(&self) -> String {
        match self {
            Reference::Tag(_, tag) => tag.to_string(),
            Reference::Digest(_, digest) | Reference::TagAndDigest(_, _, digest) => digest.to_string(),
        }
    }

    /// The reference as docker shows it: `debian:bookworm` for `docker.io/library/debian:bookworm`.
    pub fn familiar(&self) -> String {
        self.with_name(&self.repository().familiar())
    }

    fn with_name(&self, name: &str) -> String {
        match self {
            Reference::Tag(_, tag) => format!("{name}:{tag}"),
            Reference::Digest(_, digest) => format!("{name}@{digest}"),
            Reference::TagAndDigest(_, tag, digest) => format!("{name}:{tag}@{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_name(&self.repository().to_string()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads `[host/]path[:tag][@digest]`; without tag and digest the tag is `latest`. 64 hex digits alone are
    /// refused: they are an image ID, and a repository of that name could never be told from one.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::ImageId);
        }
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') && !name.is_empty() => (name, Some(tag.parse::<Tag>()?)),
            _ => (named, None),
        };
        let repository = name.parse()?;
        Ok(match (tag, digest) {
            (Some(tag), Some(digest)) => Reference::TagAndDigest(repository, tag, digest),
            (None, Some(digest)) => Reference::Digest(repository, digest),
            (Some(tag), None) => Reference::Tag(repository, tag),
            (None, None) => Reference::Tag(repository, Tag::latest()),
        })
    }
}

/// Why a text is not a reference. The words are docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("repository name must have at least one component")]
    Empty,
    /// Not of the grammar.
    #[error("invalid reference format")]
    Format,
    /// Repository names are lower case.
    #[error("invalid reference format: repository name must be lowercase")]
    UpperCase,
    /// Over 255 bytes.
    #[error("repository name must not be more than 255 characters, got {length}")]
    NameTooLong {
        /// Length of the name in bytes.
        length: usize,
    },
    /// The tag is malformed.
    #[error("invalid reference format: invalid tag")]
    Tag,
    /// The host is malformed.
    #[error("invalid reference format: invalid registry host")]
    Host,
    /// 64 hex digits: an image ID, not a name.
    #[error("invalid repository name, cannot specify 64-byte hexadecimal strings")]
    ImageId,
    /// The digest is malformed.
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(RepositoryPath, Tag, Repository, Reference);

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parse(text: &str, canonical: &str, familiar: &str) {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(canonical.parse(), Ok(reference.clone()));
        assert_eq!(familiar.parse(), Ok(reference));
    }

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        check_parse("busybox", "docker.io/library/busybox:latest", "busybox:latest");
        check_parse("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest");
        check_parse("index.docker.io/a/b:1", "docker.io/a/b:1", "a/b:1");
        check_parse("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check_parse("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest");
        check_parse("[::1]:5000/a:x", "[::1]:5000/a:x", "[::1]:5000/a:x");
        check_parse(
            "127.0.0.1:5000/a/b__c/d---e:V_1.2-3",
            "127.0.0.1:5000/a/b__c/d---e:V_1.2-3",
            "127.0.0.1:5000/a/b__c/d---e:V_1.2-3",
        );
    }

    #[test]
    fn a_short_form_never_names_another_registry() {
        check_parse("docker.io/localhost/a", "docker.io/localhost/a:latest", "docker.io/localhost/a:latest");
        check_parse("docker.io/b.c/a", "docker.io/b.c/a:latest", "docker.io/b.c/a:latest");
        check_parse("docker.io/library/b.c", "docker.io/library/b.c:latest", "b.c:latest");
    }

    #[test]
    fn a_digest_may_stand_with_and_without_a_tag() {
        let digest = Digest::sha256(b"");
        check_parse(&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"), &format!("a@{digest}"));
        check_parse(
            &format!("a:t@{digest}"),
            &format!("docker.io/library/a:t@{digest}"),
            &format!("a:t@{digest}"),
        );
    }

    #[test]
    fn malformed_references_are_refused() {
        let long = "a/".repeat(127) + "bcd";
        let id = "0".repeat(64);
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":tag",
            "@",
            "a:",
            "a@sha256:00",
            "A",
            "a/B",
            "a//b",
            "/a",
            "a/",
            "a/_b",
            "_catalog",
            "a/../b",
            "a..b",
            "a___b",
            "a.-b",
            "-a",
            "a b",
            "a:t/b",
            "a:.t",
            "host:port/a",
            "host:+80/a",
            "[::1]:+80/a",
            "[::1]:/a",
            "h..x/a",
            "é",
            &long,
            &id,
            &tag,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert_eq!("Ubuntu".parse::<Reference>(), Err(ReferenceError::UpperCase));
    }
}
