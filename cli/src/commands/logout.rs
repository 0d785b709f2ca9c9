use std::process::ExitCode;

use anyhow::Result;
use common::client::docker_config;
use common::reference::DEFAULT_HOST;

use super::login::bare_host;
use crate::context::Context;
use crate::output;

/// Log out from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Host of the registry, with its port [default: docker.io]
    server: Option<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let server = args.server.as_deref().map_or(DEFAULT_HOST, bare_host);
    output::line(format!("Removing login credentials for {server}"));
    if !docker_config::erase(&context.docker_config_file(), server)? {
        output::note(format!("Not logged in to {server}"));
    }
    Ok(ExitCode::SUCCESS)
}
