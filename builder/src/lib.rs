//! From a Dockerfile to an image.

pub mod dockerfile;

#[cfg(test)]
mod corpora;
