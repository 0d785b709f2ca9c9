//! One file a verb: an args struct whose doc comment is the help, one library call, and output.

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{BuilderVerb, ContainerVerb, ImageVerb, SystemVerb, Verb};
use crate::context::Context;

pub(crate) mod build;
pub(crate) mod check;
mod filter;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod serve;
mod state;
pub(crate) mod tag;
pub(crate) mod version;

/// Runs one verb.
pub(crate) fn run(verb: &Verb, context: &Context) -> Result<ExitCode> {
    match verb {
        Verb::Build(args)
        | Verb::Image(ImageVerb::Build(args))
        | Verb::Builder(BuilderVerb::Build(args))
        | Verb::Buildx(BuilderVerb::Build(args)) => build::run(args, context),
        Verb::Run(args) | Verb::Container(ContainerVerb::Run(args)) => run::run(args, context),
        Verb::Ps(args) | Verb::Container(ContainerVerb::Ls(args)) => ps::run(args, context),
        Verb::Rm(args) | Verb::Container(ContainerVerb::Rm(args)) => rm::run(args, context),
        Verb::Images(args) | Verb::Image(ImageVerb::Ls(args)) => images::run(args, context),
        Verb::Pull(args) | Verb::Image(ImageVerb::Pull(args)) => pull::run(args, context),
        Verb::Push(args) | Verb::Image(ImageVerb::Push(args)) => push::run(args, context),
        Verb::Tag(args) | Verb::Image(ImageVerb::Tag(args)) => tag::run(args, context),
        Verb::Rmi(args) | Verb::Image(ImageVerb::Rm(args)) => rmi::run(args, context),
        Verb::Save(args) | Verb::Image(ImageVerb::Save(args)) => save::run(args, context),
        Verb::Load(args) | Verb::Image(ImageVerb::Load(args)) => load::run(args, context),
        Verb::Import(args) | Verb::Image(ImageVerb::Import(args)) => import::run(args, context),
        Verb::Inspect(args) => inspect::run(args, context),
        Verb::Image(ImageVerb::Inspect(args)) => inspect::run(&args.clone().into(), context),
        Verb::Container(ContainerVerb::Inspect(args)) => inspect::run(&args.clone().into(), context),
        Verb::History(args) | Verb::Image(ImageVerb::History(args)) => history::run(args, context),
        Verb::Login(args) => login::run(args, context),
        Verb::Logout(args) => logout::run(args, context),
        Verb::Serve(args) => serve::run(args, context),
        Verb::Check(args) => check::run(args, context),
        Verb::Info(args) | Verb::System(SystemVerb::Info(args)) => info::run(args, context),
        Verb::Version(args) => version::run(args, context),
    }
}
