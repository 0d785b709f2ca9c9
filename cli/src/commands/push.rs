use std::process::ExitCode;

use anyhow::Result;
use common::image::names::{self, Purpose};
use common::image::push::{PushEvent, PushRequest, PushStep, push};
use common::layer::Codec;
use common::platform::Platform;
use common::reference::{Reference, Repository};

use super::login::runtime;
use crate::context::Context;
use crate::error::verbatim;
use crate::interrupt;
use crate::output;
use crate::progress::Transfers;

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
    disable_content_trust: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let references: Vec<Reference> = if args.all_tags {
        let repository: Repository =
            args.name.parse().map_err(|_| verbatim("tag can't be used with --all-tags/-a"))?;
        let tags = store.local(&repository).tags(None, None)?;
        if tags.is_empty() {
            if !args.quiet {
                output::line(format!("The push refers to repository [{repository}]"));
            }
            return Err(verbatim(format!(
                "An image does not exist locally with the tag: {}",
                repository.familiar()
            )));
        }
        tags.into_iter().map(|tag| Reference::Tag(repository.clone(), tag)).collect()
    } else {
        let reference: Reference = args.name.parse().map_err(|error| verbatim(format!("{error}")))?;
        if reference.digest().is_some() {
            return Err(verbatim("cannot push a digest reference"));
        }
        vec![reference]
    };
    if !args.all_tags && !args.quiet && args.name.parse::<Repository>().is_ok() {
        output::line("Using default tag: latest");
    }
    let interrupted = interrupt::exit_on_signal()?;
    let client = context.client()?;
    let runtime = runtime()?;
    if let (Some(first), false) = (references.first(), args.quiet) {
        output::line(format!("The push refers to repository [{}]", first.repository()));
    }
    for reference in &references {
        let found = names::find_reference(&store, reference, Purpose::Handle(&Platform::host()))?;
        let Some(found) = found else {
            let text = match store.local(reference.repository()).tags(None, None)?.is_empty() {
                true => {
                    let name = reference.repository().familiar();
                    format!("An image does not exist locally with the tag: {name}")
                }
                false => format!("tag does not exist: {}", reference.familiar()),
            };
            return Err(verbatim(text));
        };
        let request =
            PushRequest { id: &found.id, source: found.source.as_ref(), reference, codec: Codec::Gzip };
        let progress = Transfers::new(args.quiet);
        let pushed = runtime.block_on(push(&store, &client, request, &|event| show(&progress, &event)));
        progress.finish();
        let pushed = pushed?;
        if !args.quiet {
            let tag = reference.identifier();
            output::line(format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size_bytes));
        }
    }
    drop(interrupted);
    match references.first() {
        Some(first) if args.quiet && args.all_tags => output::line(first.repository()),
        Some(first) if args.quiet => output::line(first),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn show(progress: &Transfers, event: &PushEvent) {
    if let PushEvent::Layer { layer, step } = event {
        match step {
            PushStep::Pushing { sent, total } => progress.bytes(layer, &step.to_string(), *sent, *total),
            _ => progress.status(layer, &step.to_string()),
        }
    }
}
