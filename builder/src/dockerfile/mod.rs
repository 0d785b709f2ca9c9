//! Dockerfiles: text → tree of typed instructions, with the place of every word.
//!
//! The language is that of BuildKit's Dockerfile frontend 1.27.

mod error;
mod instruction;
mod mount;
mod source;

pub use error::{Rule, Warning};
pub use instruction::*;
pub use mount::{Access, Field, Mount, MountFlag, Sharing};
pub use source::{Source, Span, Word};
