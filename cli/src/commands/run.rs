use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::digest::Digest;
use common::image::names::{self, NameError, Purpose};
use common::oci;
use common::platform::Platform;
use common::reference::Reference;
use common::snapshot::Snapshots;
use common::store::Store;
use engine::containers::{Config, Container, Containers, Streams};
use engine::{Attachment, Stream, WindowSize};

use self::id_file::IdFile;
use super::pull;
use crate::context::Context;
use crate::error::{self, chain, verbatim, verbatim_with_code};
use crate::output;
use crate::values;

mod environment;
mod id_file;
mod labels;
mod network;
mod volume;

/// Run a command in a new container
///
/// The container runs in the foreground, with docker's default capabilities and seccomp profile.
/// Its exit code is the command's; 125 means that gantry failed, 126 that the command cannot be
/// executed, 127 that it was not found, 128+n that signal n ended it.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "\
Examples:
  gantry run --rm -it debian bash
  gantry run --rm -v $PWD:/work -w /work --network host golang go build"
)]
pub(crate) struct Args {
    /// Name or ID of the image; one that is not here is pulled
    image: String,
    /// The command and its arguments instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Remove the container at its end
    #[arg(long)]
    rm: bool,
    /// Pass stdin on to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, a line each
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Show only these streams: `stdin`, `stdout`, `stderr`
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// Where the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who runs the command
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Show a folder or file of the host in the container: `/host/path:/path[:ro]`
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]")]
    volume: Vec<String>,
    /// Name of the container [default: a made-up one]
    #[arg(long)]
    name: Option<String>,
    /// Run this instead of the image's entry point
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// `host` or `none`; there are no bridges yet, so without this flag there is no network
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// Name of the host as seen inside [default: the beginning of the ID]
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Add a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file, a line each
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// The root cannot be changed
    #[arg(long)]
    read_only: bool,
    /// Pull the image first: `always`, `missing` or `never`
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"])]
    pull: String,
    /// The image for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_parser = values::platform)]
    platform: Option<Platform>,
    /// Write the container's ID to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        return Err(verbatim_with_code("gantry: running containers needs root so far", 125));
    }
    if args.interactive && args.tty && !io::stdin().is_terminal() {
        return Err(verbatim_with_code("the input device is not a TTY", 1));
    }
    let network = network::mode(&args.network)?;
    let labels = labels::given(&args.label_file, &args.label)?;
    let streams = attached(args)?;
    let env = environment::given(&args.env_file, &args.env)?;
    let mounts = volume::binds(&args.volume)?;
    let mut id_file = args.cidfile.as_deref().map(IdFile::create).transpose()?;
    let store = context.store_or_new()?;
    let id = image(args, context, &store)?;
    let image = names::config(&store, &id)?;
    if let Some(wanted) = &args.platform
        && let Some(other) = pull::other_platform(&image, wanted, &args.image)
    {
        return Err(verbatim(format!("gantry: {other}.")));
    }
    let env = environment::merged(env, &image.config.env);
    let config = Config {
        image: Some(id),
        image_name: args.image.clone(),
        process: process(args, &image.config, env, labels)?,
        hostname: args.hostname.clone().unwrap_or_default(),
        terminal: args.tty,
        open_stdin: args.interactive,
        attached: streams,
        network,
        mounts,
        read_only: args.read_only,
        auto_remove: args.rm,
        id_file: args.cidfile.clone(),
        ..Config::default()
    };
    // Unpacked before the container exists: a layer that cannot be unpacked leaves none behind.
    let lowers = Snapshots::new(&store).ensure(&image.rootfs.diff_ids)?.lowers;
    let containers = Containers::new(store.paths().containers());
    let name = args.name.as_deref().unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(name);
    let container =
        containers.create(config, name).map_err(|error| verbatim(format!("gantry: {}", chain(&error))))?;
    if let Some(file) = &mut id_file {
        file.write(container.id())?;
    }
    if args.network.is_empty() {
        output::note(
            "WARNING: there are no bridge networks yet, so this container has no network; --network host gives it the host's",
        );
    }
    if !(streams.stdout || streams.stderr) {
        output::line(container.id());
    }
    start(args, streams, &containers, container, lowers)
}

/// Runs the container to its end.
fn start(
    args: &Args,
    streams: Streams,
    containers: &Containers,
    mut container: Container,
    lowers: Vec<PathBuf>,
) -> Result<ExitCode> {
    let stdin = if args.interactive { Some(duplicate(io::stdin())?) } else { None };
    let terminal = if args.tty && io::stdin().is_terminal() { Some(duplicate(io::stdin())?) } else { None };
    let size = match &terminal {
        Some(terminal) => engine::window_size(terminal.as_fd()).unwrap_or(WindowSize { rows: 0, columns: 0 }),
        None => WindowSize { rows: 0, columns: 0 },
    };
    let mut lost = None;
    let attachment = Attachment {
        stdin,
        output: &mut |stream, bytes| pass_on(streams, stream, bytes, &mut lost),
        terminal,
        forward_signals: true,
        cancel: None,
        started: &mut |_| {},
    };
    let outcome = container.run(lowers, size, attachment);
    if let Some(error) = container.unrecorded() {
        output::note(format!("gantry: {}", chain(error)));
    }
    if args.rm {
        containers.remove(container, true)?;
    }
    match (outcome, lost) {
        (Ok(status), _) if status.forced => {
            Err(verbatim_with_code("\ngot 3 SIGTERM/SIGINTs, forcefully exiting", error::FAILED))
        }
        (Ok(_), None) if !(streams.stdout || streams.stderr) => Ok(ExitCode::SUCCESS),
        (Ok(_), Some(lost)) => Err(verbatim_with_code(lost, error::FAILED)),
        (Ok(status), None) => Ok(ExitCode::from(u8::try_from(status.code).unwrap_or(u8::MAX))),
        (Err(error), _) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(u8::MAX);
            Err(verbatim_with_code(format!("gantry: {}", chain(&error)), code))
        }
    }
}

/// Writes a piece of output to our stream of that name. What could not be written is `lost`: output that is cut off must
/// not pass for the whole. A reader that has gone away wanted no more.
fn pass_on(streams: Streams, stream: Stream, bytes: &[u8], lost: &mut Option<String>) -> io::Result<()> {
    let (name, written) = match stream {
        Stream::Stdout if streams.stdout => {
            ("stdout", io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()))
        }
        Stream::Stderr if streams.stderr => ("stderr", io::stderr().lock().write_all(bytes)),
        _ => return Ok(()),
    };
    if let Err(error) = &written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        lost.get_or_insert_with(|| output::not_written(name, error));
    }
    written
}

/// Which streams of the command are ours: its output, unless `--attach` chooses, and its input where that is open.
fn attached(args: &Args) -> Result<Streams> {
    let all = args.attach.is_empty();
    let mut streams = Streams { stdin: args.interactive, stdout: all, stderr: all };
    for name in &args.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => {
                return Err(verbatim(format!(
                    "invalid argument \"{name}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                )));
            }
        }
    }
    Ok(streams)
}

fn duplicate(stream: impl AsFd) -> Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned().context("cannot duplicate stdin")
}

/// The image, pulled where need be.
fn image(args: &Args, context: &Context, store: &Store) -> Result<Digest> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let reference = args.image.parse::<Reference>();
    if args.pull == "always"
        && let Ok(reference) = &reference
    {
        return Ok(pull::for_run(context, reference, &platform)?.id);
    }
    match (names::find(store, &args.image, Purpose::Run(&platform)), reference) {
        (Ok(found), _) => Ok(found.id),
        (Err(NameError::NotFound { .. } | NameError::Platform { .. }), Ok(reference))
            if args.pull == "missing" =>
        {
            output::note(format!("Unable to find image '{}' locally", reference.familiar()));
            Ok(pull::for_run(context, &reference, &platform)?.id)
        }
        (Err(error), _) => Err(verbatim(format!("gantry: {error}"))),
    }
}

/// What to run: the image's config with what the user says in its place.
fn process(
    args: &Args,
    image: &oci::Config,
    env: Vec<String>,
    own_labels: Vec<(String, String)>,
) -> Result<oci::Config> {
    let entrypoint = args.entrypoint.as_ref().map(|entrypoint| vec![entrypoint.clone()]);
    let command = engine::command(image, entrypoint.as_deref(), &args.command)
        .map_err(|error| verbatim(format!("gantry: {error}")))?;
    let mut labels = image.labels.clone();
    labels.extend(own_labels);
    Ok(oci::Config {
        user: args.user.clone().unwrap_or_else(|| image.user.clone()),
        env,
        entrypoint: command.entrypoint,
        cmd: command.cmd,
        working_dir: working_dir(args, image)?,
        labels,
        // These are about builds upon the image.
        on_build: Vec::new(),
        shell: None,
        ..image.clone()
    })
}

fn working_dir(args: &Args, image: &oci::Config) -> Result<String> {
    match args.workdir.as_ref().filter(|dir| !dir.is_empty()) {
        Some(dir) if !Path::new(dir).is_absolute() => Err(verbatim(format!(
            "gantry: the working directory '{dir}' is invalid, it needs to be an absolute path"
        ))),
        Some(dir) => Ok(dir.clone()),
        None => Ok(image.working_dir.clone()),
    }
}
