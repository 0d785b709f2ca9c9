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
//! - [`mod@pull`], [`mod@push`]: images from a registry and to one

pub mod archive;
pub mod import;
pub mod manifest;
pub mod names;
pub mod pull;
pub mod push;
pub mod record;
#[cfg(test)]
mod testing;

use crate::client::ClientError;

/// What the registry said, in docker's form: the first of its errors.
fn said(error: &ClientError) -> String {
    error.registry_errors().first().map(ToString::to_string).unwrap_or_default()
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("blocking tasks are not aborted"),
    })
}
