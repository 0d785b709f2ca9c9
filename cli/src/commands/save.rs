use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::image::archive::{self, ArchiveFormat, Saved};
use common::image::names;
use common::platform::Platform;
use common::reference::{Reference, Repository};
use common::store::Store;

use super::images::require;
use crate::context::Context;
use crate::report::verbatim;

/// Write images into an archive
///
/// Everything that is needed to load them elsewhere: configs, layers, names.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names or IDs; a name without a tag means all its tags
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Write to this file and not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// `docker`: plain layers, which every `load` reads; `oci`: an image layout with compressed layers
    #[arg(long, value_name = "FORMAT", default_value = "docker", value_parser = ["docker", "oci"])]
    format: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if args.output.is_none() && io::stdout().is_terminal() {
        return Err(verbatim("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let store = context.store()?;
    let mut images: Vec<Saved> = Vec::new();
    for wanted in &args.images {
        for saved in saved(&store, wanted)? {
            match images.iter_mut().find(|other| other.id == saved.id) {
                Some(other) => other.names.extend(saved.names),
                None => images.push(saved),
            }
        }
    }
    for image in &mut images {
        image.names.sort();
        image.names.dedup();
    }
    let format = if args.format == "oci" { ArchiveFormat::Oci } else { ArchiveFormat::Docker };
    match &args.output {
        None => archive::save(&store, &images, format, BufWriter::new(io::stdout().lock()), &|_| {})?,
        Some(path) => {
            // Written beside and renamed: a file that was there stays as it is until the new one is whole.
            let half = half_name(path);
            let write = || -> Result<()> {
                let file =
                    fs::File::create(&half).with_context(|| format!("cannot write {}", half.display()))?;
                let mut out = BufWriter::with_capacity(256 << 10, file);
                archive::save(&store, &images, format, &mut out, &|_| {})?;
                out.flush().with_context(|| format!("cannot write {}", half.display()))?;
                drop(out);
                fs::rename(&half, path).with_context(|| format!("cannot write {}", path.display()))
            };
            if let Err(error) = write() {
                let _ = fs::remove_file(&half);
                return Err(error);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A name for a file that is not whole yet.
pub(super) fn half_name(path: &std::path::Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".half-{}", std::process::id()));
    path.with_file_name(name)
}

/// The images that a word means, with the names that they are to be loaded by: all tags of a repository, the one tag that
/// was given, or none for an ID.
fn saved(store: &Store, wanted: &str) -> Result<Vec<Saved>> {
    if let Ok(repository) = wanted.parse::<Repository>() {
        let mut images = Vec::new();
        for tag in store.local(&repository).tags(None, None)? {
            let name = Reference::Tag(repository.clone(), tag);
            if let Some(found) = names::find_reference(store, &name, &Platform::host())? {
                images.push(Saved { id: found.id, names: vec![name] });
            }
        }
        if !images.is_empty() {
            return Ok(images);
        }
    }
    let found = require(store, wanted)?;
    let names = found.name.into_iter().filter(|name| name.tag().is_some()).collect();
    Ok(vec![Saved { id: found.id, names }])
}
