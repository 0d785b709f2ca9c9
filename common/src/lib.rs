//! What an image is, where it is kept and how it travels.
//!
//! `digest`, `reference`, `platform`, `passwd` and `oci` are values and do no I/O. `store` keeps bytes and records. Upon it
//! stand `layer` (tar files and their tables), `snapshot` (unpacked layers) and `client` (registries elsewhere).
//! Arrows point downwards only: values ← store ← layer ← snapshot, and client → values and store.

pub mod client;
pub mod decompress;
pub mod digest;
pub mod image;
pub mod layer;
pub mod oci;
pub mod passwd;
pub mod platform;
pub mod reference;
pub mod snapshot;
pub mod store;
