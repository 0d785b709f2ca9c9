//! One file a verb: an args struct whose doc comment is the help, one library call, and output.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{ImageVerb, Verb};
use crate::context::Context;

pub(crate) mod check;
mod filter;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod pull;
pub(crate) mod save;
pub(crate) mod serve;
pub(crate) mod tag;
pub(crate) mod version;

/// Runs one verb.
pub(crate) fn run(verb: &Verb, context: &Context) -> Result<ExitCode> {
    match verb {
        Verb::Images(args) | Verb::Image(ImageVerb::Ls(args)) => images::run(args, context),
        Verb::Pull(args) | Verb::Image(ImageVerb::Pull(args)) => pull::run(args, context),
        Verb::Tag(args) | Verb::Image(ImageVerb::Tag(args)) => tag::run(args, context),
        Verb::Save(args) | Verb::Image(ImageVerb::Save(args)) => save::run(args, context),
        Verb::Load(args) | Verb::Image(ImageVerb::Load(args)) => load::run(args, context),
        Verb::Import(args) | Verb::Image(ImageVerb::Import(args)) => import::run(args, context),
        Verb::History(args) | Verb::Image(ImageVerb::History(args)) => history::run(args, context),
        Verb::Login(args) => login::run(args, context),
        Verb::Logout(args) => logout::run(args, context),
        Verb::Serve(args) => serve::run(args, context),
        Verb::Check(args) => check::run(args, context),
        Verb::Version(args) => version::run(args, context),
    }
}
