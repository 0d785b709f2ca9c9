use std::process::ExitCode;

use anyhow::Result;
use common::image::names;
use common::platform::Platform;
use common::reference::{Reference, Tag};
use common::store::TaggedImage;

use super::images::require;
use crate::context::Context;
use crate::error::verbatim;

/// Give an image another name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or ID of the image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// The new name, e.g. `localhost:5000/team/app:1.2`
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let target: Reference = args.target.parse().map_err(|error| {
        verbatim(format!(
            "Error parsing reference: \"{}\" is not a valid repository/tag: {error}",
            args.target
        ))
    })?;
    if target.digest().is_some() {
        return Err(verbatim("Error: refusing to create a tag with a digest reference"));
    }
    check_new_name(&target)?;
    let found = require(&store, &args.source)?;
    let config = names::config(&store, &found.id)?;
    let image = TaggedImage {
        platform: Platform::new(&config.os, &config.architecture, config.variant.as_deref()),
        source: store.image(&found.id)?.and_then(|record| {
            let source = found.source.as_ref()?;
            record.manifests.into_values().find(|manifest| manifest.digest == *source)
        }),
        config: found.id,
    };
    let tag = target.tag().cloned().unwrap_or_else(Tag::latest);
    names::set_tag(&store, target.repository(), &tag, image)?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a name that reads as a digest: `sha256:abc`.
pub(super) fn check_new_name(name: &Reference) -> Result<()> {
    match name.repository().familiar().as_str() {
        "sha256" | "sha512" => {
            Err(verbatim("Error: refusing to create an ambiguous tag using digest algorithm as name"))
        }
        _ => Ok(()),
    }
}
