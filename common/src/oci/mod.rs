//! The documents of an image as they travel: descriptors, manifests, indexes and configs.
//!
//! These are plain values; no I/O happens here. A document that came from elsewhere keeps its bytes: parse it to
//! look inside, pass the bytes on, never serialise it again, or its digest changes.

mod config;
mod descriptor;
mod manifest;
pub mod media_type;

pub use config::{Config, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use manifest::{Index, Manifest, ManifestOrIndex, ParseError};

/// A manifest or index may have this many bytes at most, as registries agree.
///
/// Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests>
pub const MANIFEST_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// An image config may have this many bytes at most; the largest seen in the wild are some hundred KiB.
pub const CONFIG_LIMIT_BYTES: u64 = 8 * 1024 * 1024;
