use crate::client::ClientError;
use crate::digest::Digest;
use crate::image::said;
use crate::layer::{LayerError, StackError};
use crate::oci::ParseError;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::{CommitError, ReadError, StoreError};

/// Why an image was not pulled. Where docker has a text it is that one.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// There is no such repository, or not for us.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login': {}",
        said(source)
    )]
    Denied {
        /// The repository as docker shows it.
        name: String,
        /// The registry's answer.
        source: ClientError,
    },
    /// The repository has no such tag or digest.
    #[error("manifest for {reference} not found: {}", said(source))]
    ManifestUnknown {
        /// The reference as docker shows it.
        reference: String,
        /// The registry's answer.
        source: ClientError,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {}", said(source))]
    NameUnknown {
        /// The repository as docker shows it.
        name: String,
        /// The registry's answer.
        source: ClientError,
    },
    /// The registry failed otherwise.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody has written this format since 2017.
    #[error("{reference} is in docker's old format (manifest schema 1), which is not supported")]
    Schema1 {
        /// The reference as docker shows it.
        reference: String,
    },
    /// The manifest is not to be understood.
    #[error("manifest {digest} cannot be understood")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        source: ParseError,
    },
    /// The index lists nothing for the platform.
    #[error("no matching manifest for {wanted} in the manifest list entries; {}", listed(have))]
    Platform {
        /// What was wanted.
        wanted: Box<Platform>,
        /// What there is.
        have: Vec<String>,
    },
    /// A manifest has another length than the index says of it.
    #[error("manifest {digest} has {actual} bytes, but its index says {expected}")]
    ManifestSize {
        /// The manifest.
        digest: Digest,
        /// What the index says.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// Indexes within indexes without end.
    #[error("index {digest} leads to too many others")]
    Nested {
        /// The one where following ended.
        digest: Digest,
    },
    /// The manifest is of something else: a chart, a signature …
    #[error("{reference} is not an image: its config is of type `{}`", media_type.escape_debug())]
    NotAnImage {
        /// The reference as docker shows it.
        reference: String,
        /// Type of the config.
        media_type: String,
    },
    /// The config is not to be understood.
    #[error("config {id} cannot be understood")]
    Config {
        /// Its digest.
        id: Digest,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Config and manifest do not belong together.
    #[error("config {id} lists {diff_ids} diff IDs, but the manifest {layers} layers")]
    LayerCount {
        /// The config.
        id: Digest,
        /// How many the config lists.
        diff_ids: usize,
        /// How many the manifest lists.
        layers: usize,
    },
    /// A layer that is to be got from elsewhere.
    #[error(
        "layer {digest} is kept outside of the registry ({media_type}): such layers may not be passed on and are not supported"
    )]
    Foreign {
        /// The layer's blob.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// A layer of a kind that nobody knows here.
    #[error("layer {digest} is of type `{media_type}`, which is not supported")]
    LayerType {
        /// The layer's blob.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// A layer is not what manifest and config say, or is refused.
    #[error("cannot take in layer {digest}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// What is wrong.
        source: LayerError,
    },
    /// The layers do not fit upon each other.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A manifest or config cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A manifest or config that is here cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an index has.
fn listed(have: &[String]) -> String {
    match have {
        [] => "it lists no image at all".to_owned(),
        have => format!("it has {}", have.join(", ")),
    }
}

impl PullError {
    /// What the user can do about it, when something can be done.
    pub fn hint(&self) -> Option<String> {
        match self {
            PullError::Denied { source, .. }
            | PullError::ManifestUnknown { source, .. }
            | PullError::NameUnknown { source, .. }
            | PullError::Client(source) => source.hint(),
            PullError::Schema1 { .. } => Some(
                "whoever made the image can push it again with any docker since 1.10; a copy in today's format is made \
                 by `skopeo copy --format v2s2`"
                    .to_owned(),
            ),
            PullError::Layer { source, .. } => source.hint().map(str::to_owned),
            PullError::Stack(error) => error.source.hint().map(str::to_owned),
            PullError::Platform { have, .. } if !have.is_empty() => Some("choose one of these with `--platform`".to_owned()),
            _ => None,
        }
    }

    /// Names what docker names in the registry's refusals.
    pub(super) fn of(reference: &Reference, source: ClientError) -> Self {
        let name = reference.repository().familiar();
        if source.has_code(&["DENIED"]) {
            PullError::Denied { name, source }
        } else if source.has_code(&["NAME_UNKNOWN"]) {
            PullError::NameUnknown { name, source }
        } else if source.has_code(&["MANIFEST_UNKNOWN", "NOT_FOUND"]) {
            PullError::ManifestUnknown { reference: reference.familiar(), source }
        } else {
            PullError::Client(source)
        }
    }
}
