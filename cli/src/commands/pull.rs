use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Result;
use common::digest::Digest;
use common::image::names;
use common::image::pull::{self, PullEvent, PullStep, Pulled};
use common::image::record;
use common::oci::ImageConfig;
use common::platform::Platform;
use common::reference::{Reference, Repository};

use super::login::runtime;
use crate::context::Context;
use crate::error::verbatim;
use crate::interrupt;
use crate::output;
use crate::progress::Transfers;
use crate::values;

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
    #[arg(long, value_name = "OS/ARCH", value_parser = values::platform)]
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
    let say = (!args.quiet).then_some(output::line as fn(String));
    if args.all_tags {
        let repository: Repository =
            args.name.parse().map_err(|error| match args.name.parse::<Reference>() {
                Ok(_) => verbatim("tag can't be used with --all-tags/-a"),
                Err(_) => verbatim(format!("{error}")),
            })?;
        let client = context.client()?;
        let mut old = true;
        for reference in runtime()?.block_on(pull::tags(&client, &repository))? {
            old &= announced(context, &reference, &platform, say)?.up_to_date;
        }
        end(args.quiet, old, &repository.familiar(), &repository);
        return Ok(ExitCode::SUCCESS);
    }
    let reference: Reference = args.name.parse().map_err(|error| verbatim(format!("{error}")))?;
    if !args.quiet && args.name.parse::<Repository>().is_ok() && reference.digest().is_none() {
        output::line("Using default tag: latest");
    }
    let pulled = announced(context, &reference, &platform, say)?;
    if args.platform.is_some() {
        let image = names::config(&context.store()?, &pulled.id)?;
        if let Some(other) = other_platform(&image, &platform, &reference.familiar()) {
            output::note(format!("WARNING: {other}"));
        }
    }
    end(args.quiet, pulled.up_to_date, &reference.familiar(), &reference);
    Ok(ExitCode::SUCCESS)
}

/// docker's words for an image that is not for the platform that was asked for: a registry gives an image of one platform
/// whatever is wanted.
pub(super) fn other_platform(image: &ImageConfig, wanted: &Platform, name: &str) -> Option<String> {
    let actual = record::platform(image);
    actual.fitness(wanted).is_none().then(|| {
        format!(
            "image with reference {name} was found but does not match the specified platform: \
             wanted {wanted}, actual: {actual}"
        )
    })
}

/// Pulls one image for `run`, whose stdout belongs to the command: docker's lines go to stderr.
pub(super) fn for_run(context: &Context, reference: &Reference, platform: &Platform) -> Result<Pulled> {
    let pulled = announced(context, reference, platform, Some(output::note))?;
    output::note(status(pulled.up_to_date, &reference.familiar()));
    Ok(pulled)
}

/// Pulls one image between docker's lines about it; without `say` in silence.
fn announced(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
    say: Option<fn(String)>,
) -> Result<Pulled> {
    let Some(say) = say else { return one(context, reference, platform, true) };
    let found = || say(format!("{}: Pulling from {}", reference.identifier(), reference.repository().path()));
    let pulled = one_found(context, reference, platform, false, &found)?;
    say(format!("Digest: {}", pulled.digest));
    Ok(pulled)
}

/// docker's last lines: what came of it, and the whole name.
fn end(quiet: bool, up_to_date: bool, familiar: &str, name: &dyn Display) {
    if !quiet {
        output::line(status(up_to_date, familiar));
    }
    output::line(name);
}

fn status(up_to_date: bool, familiar: &str) -> String {
    let status = if up_to_date { "Image is up to date" } else { "Downloaded newer image" };
    format!("Status: {status} for {familiar}")
}

/// Pulls one image; also used by `build` for images that are not here.
pub(super) fn one(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
    quiet: bool,
) -> Result<Pulled> {
    one_found(context, reference, platform, quiet, &|| {})
}

/// Pulls one image, and calls `found` once the registry has it.
fn one_found(
    context: &Context,
    reference: &Reference,
    platform: &Platform,
    quiet: bool,
    found: &(dyn Fn() + Sync),
) -> Result<Pulled> {
    let (store, client) = (context.store_or_new()?, context.client()?);
    let progress = Transfers::new(quiet);
    let interrupted = interrupt::exit_on_signal()?;
    let pulled =
        runtime()?.block_on(pull::pull(&store, &client, reference, platform, &|event| match event {
            PullEvent::Found { .. } => found(),
            PullEvent::Layer { blob, step } => show(&progress, &blob, step),
        }));
    drop(interrupted);
    progress.finish();
    Ok(pulled?)
}

fn show(progress: &Transfers, blob: &Digest, step: PullStep) {
    match step {
        PullStep::Downloading { received, total } => progress.bytes(blob, &step.to_string(), received, total),
        _ => progress.status(blob, &step.to_string()),
    }
}
