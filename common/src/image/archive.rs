//! Images in one file: docker's archive and OCI's image layout, as `save` writes and `load` reads them.
//!
//! ```text
//! oci-layout                {"imageLayoutVersion": "1.0.0"}
//! index.json                one descriptor an image and name
//! manifest.json             docker's list: config, layers and names of each image
//! repositories              repository, tag, top layer: written for old readers, never read
//! blobs/<alg>/<hex>         manifests, configs, layers
//! ```
//! We write both at once, as docker does since version 25, so every reader finds what it knows. In docker's form the
//! layers are plain tars; in OCI's they are compressed as for a push. What is read may be compressed, may have its parts in
//! any order, and may be an archive of older dockers, where layers are called `<id>/layer.tar`.
//!
//! Spec: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>,
//! <https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format>

mod load;
mod save;

pub use load::{LoadError, Loaded, load};
pub use save::{ArchiveFormat, SaveError, Saved, save};

use serde::{Deserialize, Serialize};

/// The annotation by which containerd and docker keep the whole name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// OCI's annotation for a name: a tag for most, the whole name for some.
const OCI_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DockerEntry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

#[cfg(test)]
mod tests;
