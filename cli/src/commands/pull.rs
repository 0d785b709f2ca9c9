use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Result;
use common::image::pull::{self, PullEvent, PullStep, Pulled};
use common::platform::Platform;
use common::reference::{Reference, Repository};

use super::login::runtime;
use crate::context::Context;
use crate::interrupt;
use crate::output;
use crate::progress::Transfers;
use crate::report::verbatim;

/// Get an image from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to get; without a tag `latest`
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Get all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
    /// Accepted and without effect, as with docker unless content trust is switched on
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    if args.all_tags {
        let repository: Repository =
            args.name.parse().map_err(|error| match args.name.parse::<Reference>() {
                Ok(_) => verbatim("tag can't be used with --all-tags/-a"),
                Err(_) => verbatim(format!("{error}")),
            })?;
        let client = context.client()?;
        let mut old = true;
        for reference in runtime()?.block_on(pull::tags(&client, &repository))? {
            old &= announced(context, &reference, &platform, args.quiet)?.up_to_date;
        }
        end(args.quiet, old, &repository.familiar(), &repository);
        return Ok(ExitCode::SUCCESS);
    }
    let reference: Reference = args.name.parse().map_err(|error| verbatim(format!("{error}")))?;
    if !args.quiet && args.name.parse::<Repository>().is_ok() && reference.digest().is_none() {
        output::line("Using default tag: latest");
    }
    let pulled = announced(context, &reference, &platform, args.quiet)?;
    end(args.quiet, pulled.up_to_date, &reference.familiar(), &reference);
    Ok(ExitCode::SUCCESS)
}

/// Pulls one image between docker's lines about it.
fn announced(context: &Context, reference: &Reference, platform: &Platform, quiet: bool) -> Result<Pulled> {
    if !quiet {
        let repository = reference.repository();
        output::line(format!("{}: Pulling from {}", reference.identifier(), repository.path()));
    }
    let pulled = one(context, reference, platform, quiet)?;
    if !quiet {
        output::line(format!("Digest: {}", pulled.digest));
    }
    Ok(pulled)
}

/// docker's last lines: what came of it, and the whole name.
fn end(quiet: bool, up_to_date: bool, familiar: &str, name: &dyn Display) {
    if !quiet {
        let status = if up_to_date { "Image is up to date" } else { "Downloaded newer image" };
        output::line(format!("Status: {status} for {familiar}"));
    }
    output::line(name);
}

/// Pulls one image; also used by `run` and `build` for images that are not here.
pub(super) fn one(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
    quiet: bool,
) -> Result<Pulled> {
    let (store, client) = (context.store_or_new()?, context.client()?);
    let progress = Transfers::new(quiet);
    let interrupted = interrupt::exit_on_signal()?;
    let pulled = runtime()?
        .block_on(pull::pull(&store, &client, reference, platform, &|event| show(&progress, &event)));
    drop(interrupted);
    progress.finish();
    Ok(pulled?)
}

fn show(progress: &Transfers, event: &PullEvent) {
    if let PullEvent::Layer { blob, step } = event {
        match step {
            PullStep::Downloading { received, total } => {
                progress.bytes(blob, &step.to_string(), *received, *total)
            }
            _ => progress.status(blob, &step.to_string()),
        }
    }
}
