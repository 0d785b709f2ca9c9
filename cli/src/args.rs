//! The command line: verbs, docker's grouped spellings, and docker's words for wrong flags.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{check, history, images, import, load, login, logout, pull, save, serve, tag, version};
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
    Images(images::Args),
    Pull(pull::Args),
    Tag(tag::Args),
    Save(save::Args),
    Load(load::Args),
    Import(import::Args),
    History(history::Args),
    Login(login::Args),
    Logout(logout::Args),
    Serve(serve::Args),
    Check(check::Args),
    Version(version::Args),
    /// Manage images
    #[command(subcommand, arg_required_else_help = true)]
    Image(ImageVerb),
}

/// `gantry image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    #[command(visible_alias = "list")]
    Ls(images::Args),
    History(history::Args),
    Pull(pull::Args),
    Tag(tag::Args),
    Save(save::Args),
    Load(load::Args),
    Import(import::Args),
}

impl Verb {
    /// The exit code of a failure of this verb's own.
    pub(crate) fn failure_code(&self) -> u8 {
        match self {
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
            if flag.starts_with('-') {
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
