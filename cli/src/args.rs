//! The command line: verbs, docker's grouped spellings, and docker's words for wrong flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    build, check, history, images, import, info, inspect, load, login, logout, ps, pull, push, rm, rmi, run,
    save, serve, tag, version,
};
use crate::report;

/// Build OCI images from Dockerfiles, serve a private registry and run containers, on one store and without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    disable_version_flag = true,
    disable_help_subcommand = false,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
The store is `--root DIR`, else `$GANTRY_ROOT`, else /var/lib/gantry for root and $XDG_DATA_HOME/gantry for others.
Credentials, certificates and mirrors are read where docker keeps them. Verbs, flags and exit codes are docker's:
`alias docker=gantry` is meant to work."
)]
pub(crate) struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every verb takes, in front of it or behind it.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder of the store
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
    /// Folder of docker's client configuration [default: $DOCKER_CONFIG or ~/.docker]
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// Log decisions to stderr, as with `--log-level debug`
    #[arg(short = 'D', long)]
    debug: bool,
    /// Log lines of this level and above go to stderr: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL", value_parser = ["trace", "debug", "info", "warn", "error", "fatal"])]
    log_level: Option<String>,
    /// Print the version and exit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Global {
    /// The level in `tracing`'s words.
    pub(crate) fn log_level(&self) -> &str {
        match self.log_level.as_deref() {
            Some("fatal") => "error",
            Some(level) => level,
            None if self.debug => "debug",
            None => "warn",
        }
    }
}

/// Every verb, docker's groups among them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Build(build::Args),
    Run(run::Args),
    Ps(ps::Args),
    Rm(rm::Args),
    Images(images::Args),
    Pull(pull::Args),
    Push(push::Args),
    Tag(tag::Args),
    Rmi(rmi::Args),
    Save(save::Args),
    Load(load::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    History(history::Args),
    Login(login::Args),
    Logout(logout::Args),
    Serve(serve::Args),
    Check(check::Args),
    Info(info::Args),
    Version(version::Args),
    /// Manage images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageVerb),
    /// Manage containers
    #[command(subcommand, arg_required_else_help = true)]
    Container(ContainerVerb),
    /// Manage builds
    #[command(subcommand, arg_required_else_help = true)]
    Builder(BuilderVerb),
    /// Extended build commands, as docker's plugin spells them
    #[command(subcommand, arg_required_else_help = true, hide = true)]
    Buildx(BuilderVerb),
    /// Manage this machine's part
    #[command(subcommand, arg_required_else_help = true)]
    System(SystemVerb),
}

/// `gantry image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    Build(build::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Inspect(inspect::ImageArgs),
    History(history::Args),
    Pull(pull::Args),
    Push(push::Args),
    Tag(tag::Args),
    Save(save::Args),
    Load(load::Args),
    Import(import::Args),
}

/// `gantry container …`
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
pub(crate) enum ContainerVerb {
    Run(run::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Inspect(inspect::ContainerArgs),
}

/// `gantry builder …`
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderVerb {
    Build(build::Args),
}

/// `gantry system …`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    Info(info::Args),
}

impl Verb {
    /// The exit code of a failure of this verb's own.
    pub(crate) fn failure_code(&self) -> u8 {
        match self {
            Verb::Run(_) | Verb::Container(ContainerVerb::Run(_)) => report::USAGE,
            _ => report::FAILED,
        }
    }
}

/// The command line asked for help, or is wrong.
#[derive(Debug)]
pub(crate) enum Usage {
    /// Print this to stdout.
    Help(String),
    /// Print this to stderr.
    Wrong {
        /// In docker's words where docker has some.
        text: String,
        /// Exit code.
        code: u8,
    },
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Cli, Usage> {
    parse_from(std::env::args_os().collect())
}

fn parse_from(args: Vec<OsString>) -> Result<Cli, Usage> {
    let matches = Cli::command().try_get_matches_from(&args);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| usage(&error, &args))
}

/// clap's error in docker's words.
fn usage(error: &clap::Error, args: &[OsString]) -> Usage {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let verb = verb_words(args);
    let see = |text: String| format!("{text}\n\nRun '{verb} --help' for more information");
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Usage::Help(error.render().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Usage::Help(error.render().to_string()),
        ErrorKind::UnknownArgument => {
            let flag = text(ContextKind::InvalidArg).unwrap_or_default();
            let flag = flag.split(['=', ' ']).next().unwrap_or_default();
            if verb.ends_with(" run") && RUN_FLAGS_TO_COME.contains(&flag) {
                let text = format!(
                    "gantry has no {flag} yet: containers run in the foreground, with network none or host and without limits"
                );
                Usage::Wrong { text, code: report::USAGE }
            } else if flag.starts_with('-') {
                Usage::Wrong { text: see(unknown_flag(flag)), code: report::USAGE }
            } else {
                Usage::Wrong {
                    text: see(format!("'{verb}' takes fewer arguments: `{flag}` is one too many")),
                    code: report::FAILED,
                }
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            if VERBS_TO_COME.contains(&word.as_str()) {
                let text = format!("gantry: docker's command '{word}' is not here yet");
                return Usage::Wrong { text, code: report::FAILED };
            }
            let meant =
                text(ContextKind::SuggestedSubcommand).map(|meant| format!("\n\nDid you mean '{meant}'?"));
            let text = format!("gantry: unknown command: {verb} {word}{}", meant.unwrap_or_default());
            Usage::Wrong { text: see(text), code: report::FAILED }
        }
        ErrorKind::MissingRequiredArgument => {
            let count = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(missing)) => missing.len(),
                _ => 1,
            };
            let text = match count {
                1 => format!("'{verb}' requires at least 1 argument"),
                n => format!("'{verb}' requires {n} arguments"),
            };
            Usage::Wrong { text: see(text), code: report::FAILED }
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            let flag = text(ContextKind::InvalidArg).unwrap_or_default();
            let flag = flag.split(' ').next().unwrap_or_default();
            let why =
                std::error::Error::source(error).map(ToString::to_string).unwrap_or_else(|| {
                    match error.get(ContextKind::ValidValue) {
                        Some(ContextValue::Strings(valid)) => format!("expected one of {}", valid.join(", ")),
                        _ => "a value is needed".to_owned(),
                    }
                });
            let text = if value.is_empty() {
                format!("flag needs an argument: {flag}")
            } else {
                format!("invalid argument \"{value}\" for \"{flag}\" flag: {why}")
            };
            Usage::Wrong { text: see(text), code: report::USAGE }
        }
        _ => Usage::Wrong { text: error.render().to_string(), code: report::USAGE },
    }
}

/// docker's verbs that this program does not have so far; a user who types one has not mistyped.
const VERBS_TO_COME: &[&str] = &[
    "attach", "commit", "cp", "create", "diff", "events", "exec", "export", "kill", "logs", "network",
    "pause", "port", "prune", "rename", "restart", "search", "start", "stats", "stop", "top", "unpause",
    "update", "volume", "wait",
];

/// docker's flags of `run` that this program does not have so far.
const RUN_FLAGS_TO_COME: &[&str] = &[
    "-d",
    "--detach",
    "-p",
    "--publish",
    "-P",
    "--publish-all",
    "-m",
    "--memory",
    "--memory-swap",
    "--cpus",
    "-c",
    "--cpu-shares",
    "--cpuset-cpus",
    "--restart",
    "--link",
    "--ip",
    "--dns",
    "--add-host",
    "--tmpfs",
    "--mount",
    "--privileged",
    "--cap-add",
    "--cap-drop",
    "--security-opt",
    "--device",
    "--pid",
    "--ipc",
    "--init",
    "-a",
    "--attach",
    "--env-file",
    "--ulimit",
    "--shm-size",
    "--volumes-from",
    "--expose",
    "--group-add",
    "--log-driver",
    "--log-opt",
    "--health-cmd",
    "--pids-limit",
    "--blkio-weight",
    "--device-read-bps",
    "--device-write-iops",
    "--runtime",
];

fn unknown_flag(flag: &str) -> String {
    match flag.strip_prefix("--") {
        Some(_) => format!("unknown flag: {flag}"),
        None => {
            let letter: String = flag.chars().skip(1).take(1).collect();
            format!("unknown shorthand flag: '{letter}' in {flag}")
        }
    }
}

/// `gantry image ls` of a command line: what stands in front of the first flag or argument that is no verb.
fn verb_words(args: &[OsString]) -> String {
    let root = Cli::command();
    let mut command = &root;
    let mut words = vec!["gantry".to_owned()];
    for word in args.iter().skip(1).filter_map(|word| word.to_str()) {
        match command.find_subcommand(word) {
            Some(found) => {
                words.push(found.get_name().to_owned());
                command = found;
            }
            // Global flags and their values may stand in front of the verb.
            None if words.len() == 1 => {}
            None => break,
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, Usage> {
        parse_from(std::iter::once("gantry").chain(line.split_whitespace()).map(OsString::from).collect())
    }

    fn wrong(line: &str) -> (String, u8) {
        match parse(line) {
            Err(Usage::Wrong { text, code }) => (text.lines().next().unwrap_or_default().to_owned(), code),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_root_may_stand_anywhere() {
        for line in ["--root /x images", "images --root /x", "image ls --root=/x", "image --root /x ls"] {
            assert_eq!(parse(line).unwrap().global.root, Some(PathBuf::from("/x")), "{line}");
        }
    }

    #[test]
    fn flags_behind_the_image_belong_to_the_container() {
        let Verb::Run(args) = parse("run --rm busybox ls --root -la").unwrap().verb else { panic!("run") };
        assert_eq!(args.command, ["ls", "--root", "-la"]);
    }

    #[test]
    fn wrong_command_lines_are_dockers_errors() {
        assert_eq!(wrong("run --no-such-flag busybox true"), ("unknown flag: --no-such-flag".into(), 125));
        assert_eq!(wrong("nosuchcommand").1, 1);
        assert_eq!(wrong("run").1, 1);
        assert_eq!(wrong("images -X").0, "unknown shorthand flag: 'X' in -X");
        assert!(wrong("run -d busybox").0.starts_with("gantry has no -d yet"));
        assert!(wrong("exec x true").0.contains("is not here yet"));
    }
}
