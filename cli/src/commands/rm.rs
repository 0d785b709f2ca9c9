use std::process::ExitCode;

use anyhow::Result;
use engine::containers::Containers;

use crate::context::Context;
use crate::error::{self, verbatim};
use crate::output;
use crate::report;

/// Remove containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
    /// Kill a container that runs; one that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// Accepted and without effect: there are no anonymous volumes yet
    #[arg(short, long)]
    volumes: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let containers = Containers::new(context.store()?.paths().containers());
    let mut code = ExitCode::SUCCESS;
    for reference in &args.containers {
        if reference.is_empty() {
            code = report::failure(&verbatim("Error: Container name cannot be empty"), error::FAILED);
            continue;
        }
        let removed =
            containers.find(reference).and_then(|container| containers.remove(container, args.force));
        match removed {
            Ok(()) => output::line(reference),
            Err(refused) => {
                let missing = matches!(refused, engine::containers::ContainerError::Unknown { .. });
                let text = format!("Error: {}", error::chain(&refused));
                let shown = report::failure(&verbatim(text), error::FAILED);
                if !(missing && args.force) {
                    code = shown;
                }
            }
        }
    }
    Ok(code)
}
