use std::fs;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use common::image::archive::{self, ArchiveFormat, SaveError, Saved};
use common::image::names::{self, NameError, Purpose};
use common::platform::Platform;
use common::reference::{Reference, Repository};
use common::store::Store;

use crate::context::Context;
use crate::error::{system_words, verbatim};
use crate::interrupt;
use crate::whole_file;

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
    if let Some(path) = &args.output {
        check_output(path)?;
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
    let interrupted = interrupt::exit_on_signal()?;
    interrupted.leaves(interrupt::unwritten(args.output.as_deref()));
    let format = if args.format == "oci" { ArchiveFormat::Oci } else { ArchiveFormat::Docker };
    let save = |out: &mut dyn Write| Ok(archive::save(&store, &images, format, out, &|_| {})?);
    match &args.output {
        Some(path) => whole_file::write(path, save)?,
        None => {
            let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
            save(&mut out).map_err(|error| match error.downcast() {
                Ok(SaveError::Write(error)) => refused_by_stdout(&error),
                Ok(error) => error.into(),
                Err(error) => error,
            })?;
            out.flush().map_err(|error| refused_by_stdout(&error))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// docker's words for a stdout that takes no more.
fn refused_by_stdout(error: &io::Error) -> anyhow::Error {
    verbatim(format!("write /dev/stdout: {}", system_words(error)))
}

/// Refuses a path that cannot become a file, in docker's words and before anything is done.
fn check_output(path: &Path) -> Result<()> {
    let refused = |why: String| Err(verbatim(format!("failed to save image: {why}")));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => refused("cannot write to a directory".to_owned()),
        Ok(found) if found.file_type().is_block_device() || found.file_type().is_char_device() => {
            refused(format!(
                "invalid output path: \"{}\" must be a directory or a regular file: got a device",
                path.display()
            ))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
                refused(format!("invalid output path: directory \"{}\" does not exist", folder.display()))
            }
            _ => Ok(()),
        },
        Err(error) => refused(format!("stat {}: {}", path.display(), system_words(&error))),
        Ok(_) => Ok(()),
    }
}

/// The images that a word means, with the names that they are to be loaded by: all tags of a repository, the one tag that
/// was given, or none for an ID.
fn saved(store: &Store, wanted: &str) -> Result<Vec<Saved>> {
    if let Ok(repository) = wanted.parse::<Repository>() {
        let mut images = Vec::new();
        for tag in store.local(&repository).tags(None, None)? {
            let name = Reference::Tag(repository.clone(), tag);
            if let Some(found) = names::find_reference(store, &name, Purpose::Handle(&Platform::host()))? {
                images.push(Saved { id: found.id, names: vec![name] });
            }
        }
        if !images.is_empty() {
            return Ok(images);
        }
    }
    let found =
        names::find(store, wanted, Purpose::Handle(&Platform::host())).map_err(|error| match error {
            // Here docker completes no tag.
            NameError::NotFound { .. } => verbatim(format!("Error: No such image: {wanted}")),
            NameError::Reference(_) => verbatim(format!("Error: {error}")),
            other => other.into(),
        })?;
    let names = found.name.into_iter().filter(|name| name.tag().is_some()).collect();
    Ok(vec![Saved { id: found.id, names }])
}
