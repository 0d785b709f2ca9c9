//! Images as a whole: what their names mean on this machine, and how they come and go.
//!
//! This stands on top of everything else in `common`. An image is its config digest (docker's image ID). A manifest is
//! made when one is first needed; a pulled image keeps the manifest it came as.
//!
//! - [`names`]: from what a user types to an image, and tags of this machine
//! - [`record`]: an image's place in the store
//! - [`mod@import`]: a root file system becomes an image
//! - [`manifest`]: the manifest by which an image travels
//! - [`archive`]: several images in one file
//! - [`mod@pull`]: images from a registry

pub mod archive;
pub mod import;
pub mod manifest;
pub mod names;
pub mod pull;
pub mod record;
#[cfg(test)]
mod testing;
