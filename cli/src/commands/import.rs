use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::image::import::{ImportRequest, import};
use common::platform::Platform;
use common::reference::Reference;

use super::load::open;
use super::tag::check_new_name;
use crate::context::Context;
use crate::error::verbatim;
use crate::interrupt;
use crate::output;
use crate::values;

/// Make an image of a root file system
///
/// The archive is a tar, plain or compressed with gzip, bzip2, xz or zstd. Prints the image ID.
#[derive(Debug, clap::Args)]
#[command(after_help = r#"Examples:
  mmdebstrap bookworm - | gantry import -c 'CMD ["bash"]' - debian:bookworm"#)]
pub(crate) struct Args {
    /// The archive, `-` for stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Apply a Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME
    /// or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Comment in the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What the image runs on [default: this machine]
    #[arg(long, value_name = "OS/ARCH", value_parser = values::platform)]
    platform: Option<Platform>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let name = args.name.as_deref().map(str::parse::<Reference>).transpose();
    let name = name.map_err(|error| verbatim(format!("Error: {error}")))?;
    name.as_ref().map_or(Ok(()), check_new_name)?;
    let config = builder::apply_changes(&args.change).map_err(|error| verbatim(format!("Error: {error}")))?;
    let stdin = args.file == Path::new("-");
    if let Some(url) =
        args.file.to_str().filter(|file| file.starts_with("http://") || file.starts_with("https://"))
    {
        return Err(verbatim(format!(
            "Error: images are not imported from URLs; fetch it first: curl -L {url} | gantry import - NAME"
        )));
    }
    let input: Box<dyn Read + Send> = if stdin { Box::new(io::stdin()) } else { Box::new(open(&args.file)?) };
    let source = if stdin { "-".to_owned() } else { args.file.display().to_string() };
    let request = ImportRequest {
        name,
        config,
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        message: args.message.clone().unwrap_or_else(|| format!("Imported from {source}")),
        created: None,
    };
    let store = context.store_or_new()?;
    let interrupted = interrupt::exit_on_signal()?;
    let id = import(&store, input, &request, &|_| {}).with_context(|| match stdin {
        true => "cannot import what came on stdin".to_owned(),
        false => format!("cannot import `{source}`"),
    })?;
    drop(interrupted);
    output::line(id);
    Ok(ExitCode::SUCCESS)
}
