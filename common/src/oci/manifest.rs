use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Descriptor, media_type};

/// An image of one platform, or an artifact: a config and layers. OCI and Docker schema 2 share this shape.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/manifest.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config's bytes.
    #[serde(deserialize_with = "object")]
    pub config: Descriptor,
    /// Lowest layer first. `null`, which some builders write, is read as none.
    #[serde(default, deserialize_with = "objects_or_null")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object_or_null")]
    pub subject: Option<Descriptor>,
    /// Free text for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_or_null")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, most often one a platform.
///
/// Spec: <https://github.com/opencontainers/image-spec/blob/main/image-index.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, best first for a client that matches several.
    #[serde(default, deserialize_with = "objects_or_null")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object_or_null")]
    pub subject: Option<Descriptor>,
    /// Free text for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "map_or_null")]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest digest may turn out to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// A manifest of one platform.
    Manifest(Box<Manifest>),
    /// A list of manifests.
    Index(Box<Index>),
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or not of the right shape.
    #[error("not a well-formed manifest")]
    Json(#[from] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("manifest has schema version {0}, only 2 is supported")]
    SchemaVersion(u32),
    /// The type told outside differs from the one in the document.
    #[error("manifest says it is `{inside}` but was sent as `{outside}`")]
    MediaType {
        /// What the document says.
        inside: String,
        /// What the header or descriptor said.
        outside: String,
    },
    /// Both `manifests` and `layers` or `config`: it would mean different things to different readers
    /// (CVE-2021-41190).
    #[error("manifest has the fields of an index and of an image at once")]
    Ambiguous,
    /// An index with the fields of an image or the reverse: without `mediaType` inside, who is told another type, or
    /// none, would read another document in the same bytes.
    #[error("manifest has other fields than `{0}` has")]
    OtherFields(String),
    /// A type that this program does not read.
    #[error("manifest type `{0}` is not supported")]
    Unsupported(String),
}

impl ManifestOrIndex {
    /// Reads `bytes`, told by their sender to be of type `media_type` (parameters behind `;` already cut off;
    /// `None` when nobody said).
    ///
    /// # Errors
    /// [`ParseError`] for anything that two readers could understand differently.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ParseError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let Object(probe) = serde_json::from_slice::<Object<Probe>>(bytes)?;
        if probe.schema_version != 2 {
            return Err(ParseError::SchemaVersion(probe.schema_version));
        }
        let (is_index, is_image) =
            (probe.manifests.is_some(), probe.config.is_some() || probe.layers.is_some());
        if is_index && is_image {
            return Err(ParseError::Ambiguous);
        }
        let kind = match (probe.media_type, media_type) {
            (Some(inside), Some(outside)) if inside != outside => {
                return Err(ParseError::MediaType { inside, outside: outside.to_owned() });
            }
            (Some(inside), _) => inside,
            (None, Some(outside)) => outside.to_owned(),
            (None, None) if is_index => media_type::OCI_INDEX.to_owned(),
            (None, None) => media_type::OCI_MANIFEST.to_owned(),
        };
        if media_type::is_manifest(&kind) && is_index || media_type::is_index(&kind) && is_image {
            Err(ParseError::OtherFields(kind))
        } else if media_type::is_manifest(&kind) {
            Ok(ManifestOrIndex::Manifest(serde_json::from_slice(bytes)?))
        } else if media_type::is_index(&kind) {
            Ok(ManifestOrIndex::Index(serde_json::from_slice(bytes)?))
        } else {
            Err(ParseError::Unsupported(kind))
        }
    }
}

/// A JSON object and nothing else: serde reads a list, too, as the fields in their order; nobody else does.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyObject<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyObject<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(OnlyObject(PhantomData)).map(Object)
    }
}

fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Object::deserialize(deserializer)?.0)
}

pub(super) fn object_or_null<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(value)| value))
}

fn objects_or_null<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects: Option<Vec<Object<T>>> = Option::deserialize(deserializer)?;
    Ok(objects.into_iter().flatten().map(|Object(value)| value).collect())
}

pub(super) fn map_or_null<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    #[test]
    fn null_layers_are_no_layers() {
        let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":null}}"#);
        let Ok(ManifestOrIndex::Manifest(manifest)) = ManifestOrIndex::parse(text.as_bytes(), None) else {
            panic!("a manifest");
        };
        assert!(manifest.layers.is_empty());
    }

    #[test]
    fn a_list_is_no_document() {
        let text = format!(r#" [2, null, null, {CONFIG}, []]"#);
        assert!(matches!(ManifestOrIndex::parse(text.as_bytes(), None), Err(ParseError::Json(_))));
    }

    #[test]
    fn a_list_is_no_descriptor() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let list = format!(r#"["{}","{digest}",0]"#, media_type::OCI_CONFIG);
        let platform = CONFIG.replace("}", r#","platform":["amd64","linux"]}"#);
        for text in [
            format!(r#"{{"schemaVersion":2,"config":{list}}}"#),
            format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[{list}]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{CONFIG},"subject":{list}}}"#),
            format!(r#"{{"schemaVersion":2,"manifests":[{list}]}}"#),
            format!(r#"{{"schemaVersion":2,"manifests":[{platform}]}}"#),
            format!(r#"{{"schemaVersion":2,"manifests":[],"subject":{list}}}"#),
        ] {
            let Err(ParseError::Json(error)) = ManifestOrIndex::parse(text.as_bytes(), None) else {
                panic!("{text}");
            };
            assert!(error.to_string().starts_with("invalid type: sequence, expected an object"), "{error}");
        }
    }

    #[test]
    fn a_document_that_is_both_image_and_index_is_refused() {
        let text = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}"#);
        assert!(matches!(ManifestOrIndex::parse(text.as_bytes(), None), Err(ParseError::Ambiguous)));
    }

    #[test]
    fn a_document_is_not_another_one_for_who_is_told_another_type() {
        let image = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[]}}"#);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        for (text, told) in [(image.as_str(), media_type::OCI_INDEX), (index, media_type::OCI_MANIFEST)] {
            assert!(ManifestOrIndex::parse(text.as_bytes(), None).is_ok());
            let parsed = ManifestOrIndex::parse(text.as_bytes(), Some(told));
            assert!(matches!(parsed, Err(ParseError::OtherFields(_))), "{text} as {told}");
        }
    }

    #[test]
    fn a_type_that_differs_from_the_header_is_refused() {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
        let parsed = ManifestOrIndex::parse(text.as_bytes(), Some(media_type::DOCKER_MANIFEST_LIST));
        assert!(matches!(parsed, Err(ParseError::MediaType { .. })));
    }

    #[test]
    fn an_index_without_a_type_is_an_index() {
        let parsed = ManifestOrIndex::parse(br#"{"schemaVersion":2,"manifests":[]}"#, None);
        assert!(matches!(parsed, Ok(ManifestOrIndex::Index(_))));
    }
}
