use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;

/// An image's config: what to run, how the root came to be, and its layers' diff IDs. Its digest is the image ID.
///
/// Fields stand in the order in which BuildKit writes them: by name here, by Go's struct in [`Config`]. Docker's additions (health check, shell, ONBUILD) are
/// included; fields known to nobody here are kept in `other`, so that a config built upon a foreign base loses nothing.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/config.md>,
/// <https://github.com/moby/docker-image-spec/blob/main/spec.md>
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// CPU architecture, in Go's words: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "or_null")]
    pub architecture: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// What to run in a container of this image.
    #[serde(default, deserialize_with = "or_null")]
    pub config: Config,
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// One entry a step, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub history: Vec<History>,
    /// Operating system, in Go's words.
    #[serde(default, deserialize_with = "or_null")]
    pub os: String,
    /// Features of the operating system (Windows).
    #[serde(
        rename = "os.features",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_null"
    )]
    pub os_features: Vec<String>,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// The layers by diff ID, lowest first.
    #[serde(default, deserialize_with = "or_null")]
    pub rootfs: RootFs,
    /// Variant of the CPU, e.g. `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What is not known here (`container_config`, `docker_version`, build metadata).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The part of the config that a container starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub user: String,
    /// `80/tcp` and such, as a JSON object of empty objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_or_null")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub env: Vec<String>,
    /// First words of the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The words after them, unless the user gives others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that become volumes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_or_null")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the command starts.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_null")]
    pub working_dir: String,
    /// Free text for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_or_null")]
    pub labels: BTreeMap<String, String>,
    /// What to send when the container shall stop: `SIGTERM` unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Windows: the command is one string already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_null")]
    pub args_escaped: bool,
    /// How to see whether the container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds upon this image.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub on_build: Vec<String>,
    /// Seconds between that signal and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u64>,
    /// What runs the shell form of RUN, CMD and ENTRYPOINT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The value of Go's `struct{}` in a map that is used as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// HEALTHCHECK. Durations are in nanoseconds, 0 means inherited or default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`, or `CMD` and words, or `CMD-SHELL` and one command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_null")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_null")]
    pub interval: i64,
    /// Until a check counts as failed.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_null")]
    pub timeout: i64,
    /// After the start, during which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_null")]
    pub start_period: i64,
    /// Between two checks within the start period.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_null")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero", deserialize_with = "or_null")]
    pub retries: i64,
}

/// One step of how the image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// MAINTAINER, or `commit -a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who wrote the entry, e.g. `buildkit.dockerfile.v0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_null")]
    pub empty_layer: bool,
}

/// The layers of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers", deserialize_with = "layers_or_null")]
    pub kind: String,
    /// Digests of the uncompressed tars, lowest first.
    #[serde(default, deserialize_with = "or_null")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: layers(), diff_ids: Vec::new() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

fn layers_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(layers))
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Go reads `null` as the empty value, whatever the type.
fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The same, and for the values of a map.
fn map_or_null<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    let map: BTreeMap<String, Option<T>> = or_null(deserializer)?;
    Ok(map.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

impl ImageConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// When the bytes are not JSON of this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes whose digest is the image ID: compact JSON, fields in the order above.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps have string keys and no value fails to serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_unknown_fields_stay_what_they_are() {
        let text = br#"{"architecture":"amd64","os":"linux","x":160666666666666666666666666666666666}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(ImageConfig::parse(&config.to_bytes()).unwrap(), config);
    }

    #[test]
    fn docker_nulls_are_read_as_empty() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Volumes":null,"OnBuild":null,"Labels":null},"rootfs":{"type":"layers","diff_ids":null},"docker_version":"20"}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.config, Config::default());
        assert_eq!(config.other["docker_version"], "20");
    }

    #[test]
    fn null_is_read_as_empty_wherever_it_stands() {
        let text = br#"{"architecture":null,"os":null,"created":null,"history":[{"created_by":null,"empty_layer":null}],"config":{"User":null,"WorkingDir":null,"ArgsEscaped":null,"Entrypoint":null,"StopSignal":null,"Healthcheck":{"Interval":null,"Retries":null},"ExposedPorts":{"80/tcp":null},"Labels":{"a":null}},"rootfs":{"type":null,"diff_ids":null}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.rootfs, RootFs::default());
        assert_eq!(config.history, [History::default()]);
        assert_eq!(config.config.healthcheck, Some(Healthcheck::default()));
        assert_eq!(config.config.labels["a"], "");
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        let config = ImageConfig::parse(br#"{"config":null,"rootfs":null,"history":null}"#).unwrap();
        assert_eq!(config, ImageConfig::default());
    }

    #[test]
    fn an_empty_image_is_written_as_buildkit_writes_it() {
        let config =
            ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        assert_eq!(
            String::from_utf8(config.to_bytes()).unwrap(),
            r#"{"architecture":"amd64","config":{},"os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }
}
