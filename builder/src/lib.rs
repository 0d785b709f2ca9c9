//! From a Dockerfile to an image.

pub mod dockerfile;
pub mod ignore;

#[cfg(test)]
mod corpora;
