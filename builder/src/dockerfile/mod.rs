//! Dockerfiles: text → tree of typed instructions, with the place of every word.
//!
//! The language is that of BuildKit's Dockerfile frontend 1.27.

mod error;
mod expand;
mod instruction;
mod mount;
mod pattern;
mod source;

pub use error::{Rule, Warning};
pub use expand::{ExpandError, Expander};
pub use instruction::*;
pub use mount::{Access, Field, Mount, MountFlag, Sharing};
pub use pattern::PatternError;
pub use source::{Source, Span, Word};
