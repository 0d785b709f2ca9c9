//! Images as a whole: what their names mean on this machine, and how they come and go.
//!
//! This stands on top of everything else in `common`. An image is its config digest (docker's image ID). A manifest is
//! made when one is first needed; a pulled image keeps the manifest it came as.
//!
//! - [`names`]: from what a user types to an image, and tags of this machine

pub mod names;
