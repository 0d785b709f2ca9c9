use std::process::ExitCode;

use anyhow::Result;
use common::image::push::{self, PushEvent, PushStep};
use common::reference::{Reference, Repository};

use super::images::require;
use super::login::runtime;
use crate::context::Context;
use crate::interrupt;
use crate::output;
use crate::progress::Transfers;
use crate::report::verbatim;

/// Send an image to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the image, which says where it goes
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Send all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Accepted and without effect, as with docker unless content trust is switched on
    #[arg(long, hide = true)]
    disable_content_trust: Option<bool>,
}
