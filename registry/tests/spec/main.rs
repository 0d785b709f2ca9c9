//! The sentences of the distribution spec, over HTTP against a running server.
//!
//! A test names what it holds; the comment in front of it quotes the section and the sentence. Each has a store and a
//! server of its own on a free port and ends with [`support::World::end`], which verifies the whole store.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and one that cannot run says so"
)]

mod access;
mod base;
mod clients;
mod conformance;
mod discovery;
mod faults;
mod management;
mod names;
mod pull;
mod push_blobs;
mod push_manifests;
mod support;
mod tls;
