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
    // docker knows its own registry by the address of an older protocol.
    let shown = if server == DEFAULT_HOST { "https://index.docker.io/v1/" } else { server };
    output::line(format!("Removing login credentials for {shown}"));
    docker_config::erase(&context.docker_config_file(), server)?;
    Ok(ExitCode::SUCCESS)
}
