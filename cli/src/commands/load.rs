use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::image::archive::{self, Loaded};
use common::platform::Platform;

use crate::context::Context;
use crate::error::{system_words, verbatim};
use crate::interrupt;
use crate::output;
use crate::progress::Counter;
use crate::values;

/// `None` is any.
type AnyPlatform = Option<Platform>;

/// Load images from an archive
///
/// docker's archives and OCI layouts are read, plain or compressed with gzip, bzip2, xz or zstd.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read from this file and not from stdin
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only images for this platform [default: all that are in it]
    #[arg(long, value_name = "OS/ARCH", value_parser = values::platform_or_any)]
    platform: Option<AnyPlatform>,
    /// Print no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let input: Box<dyn Read + Send> = match &args.input {
        Some(path) => Box::new(open(path)?),
        None if io::stdin().is_terminal() => {
            return Err(verbatim("requested load from stdin, but stdin is empty"));
        }
        None => Box::new(io::stdin()),
    };
    let store = context.store_or_new()?;
    let progress = Counter::new("loading", !args.quiet);
    let platform = args.platform.as_ref().and_then(Option::as_ref);
    let interrupted = interrupt::exit_on_signal()?;
    let loaded = archive::load(&store, input, platform, &|size_bytes| {
        progress.expect(size_bytes);
        progress.add(size_bytes);
    });
    let loaded = loaded.with_context(|| match &args.input {
        Some(path) => format!("cannot load `{}`", path.display()),
        None => "cannot load what came on stdin".to_owned(),
    })?;
    drop(interrupted);
    progress.finish();
    for name in loaded.iter().flat_map(|image| &image.refused_names) {
        output::note(format!("WARNING: `{name}` in the archive is no valid name: the image does not get it"));
    }
    loaded.iter().flat_map(lines).for_each(output::line);
    Ok(ExitCode::SUCCESS)
}

/// Opens a file that the user named, with docker's words when that cannot be read.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = File::open(path)
        .map_err(|error| verbatim(format!("open {}: {}", path.display(), system_words(&error))))?;
    match file.metadata() {
        Ok(found) if found.is_dir() => Err(verbatim(format!("read {}: is a directory", path.display()))),
        _ => Ok(file),
    }
}

fn lines(loaded: &Loaded) -> Vec<String> {
    match loaded.names.as_slice() {
        [] => vec![format!("Loaded image ID: {}", loaded.id)],
        names => names.iter().map(|name| format!("Loaded image: {}", name.familiar())).collect(),
    }
}
