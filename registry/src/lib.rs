//! The registry: the OCI distribution spec v1.1 over the store.
//!
//! ```text
//! serve ─► router ─► auth (who, and may they?) ─► blobs │ uploads │ manifests │ tags │ referrers │ catalog
//!   │                                                └─ pieces (out)  └─ intake (in)
//!   └─ tls, stall
//! ```
//! One file per noun of the spec. A handler is a plain function: parse, one call of the store on a thread where it may
//! block, respond. Every handler takes an `Authorized` value that only `auth` can make; `error` alone knows codes
//! and statuses.
//!
//! The state of a server is its open connections and two caches; all else is in the store, so several servers may serve
//! one store, a server may be killed at any moment, and what another process adds or removes is seen at once. Nothing
//! is read when a server starts.
//!
//! # What is not here
//!
//! Collecting unused blobs, proxying other registries, rules for users, and any printing.
//!
//! Spec: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>

mod auth;
mod blobs;
mod cache;
mod call;
mod catalog;
mod condition;
mod error;
mod htpasswd;
mod intake;
mod manifests;
mod page;
mod pieces;
mod range;
mod referrers;
mod router;
mod serve;
mod stall;
mod tags;
mod tls;
mod uploads;
mod watched;

pub use htpasswd::{HtpasswdError, LineError};
pub use serve::{Limits, ServeError, ServeOptions, Server, bind, parse_address};
pub use tls::{TlsError, TlsFiles};
