//! The command line: verbs, docker's grouped spellings, and docker's words for wrong flags.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    build, check, history, images, import, info, inspect, load, login, logout, ps, pull, push, rm, rmi, run,
    save, serve, tag, version,
};
use crate::context::{Context, Global};
use crate::error;

mod flags;
mod later;
mod usage;
mod words;

pub(crate) use usage::Usage;

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
The store is `--root DIR`, else `$GANTRY_ROOT`, else /var/lib/gantry for root and \
$XDG_DATA_HOME/gantry for others. Credentials, certificates and mirrors are read where docker \
keeps them. Verbs and flags are docker's: `alias docker=gantry` is meant to work.

Exit codes: 0 done; 1 failed, the message says why; 125 wrong flags, or `run` failed before its \
command was started; 126 and 127 the command of `run` cannot be executed or was not found; \
128+n ended by signal n; else `run` ends with the code of its command.

`gantry help VERB` explains a verb."
)]
pub(crate) struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Every verb, docker's groups among them.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Build(Box<build::Args>),
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
    Build(Box<build::Args>),
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
    Build(Box<build::Args>),
}

/// `gantry system …`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    Info(info::Args),
}

impl Verb {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> Result<ExitCode> {
        match self {
            Verb::Build(args)
            | Verb::Image(ImageVerb::Build(args))
            | Verb::Builder(BuilderVerb::Build(args))
            | Verb::Buildx(BuilderVerb::Build(args)) => build::run(args, context),
            Verb::Run(args) | Verb::Container(ContainerVerb::Run(args)) => run::run(args, context),
            Verb::Ps(args) | Verb::Container(ContainerVerb::Ls(args)) => ps::run(args, context),
            Verb::Rm(args) | Verb::Container(ContainerVerb::Rm(args)) => rm::run(args, context),
            Verb::Images(args) | Verb::Image(ImageVerb::Ls(args)) => images::run(args, context),
            Verb::Pull(args) | Verb::Image(ImageVerb::Pull(args)) => pull::run(args, context),
            Verb::Push(args) | Verb::Image(ImageVerb::Push(args)) => push::run(args, context),
            Verb::Tag(args) | Verb::Image(ImageVerb::Tag(args)) => tag::run(args, context),
            Verb::Rmi(args) | Verb::Image(ImageVerb::Rm(args)) => rmi::run(args, context),
            Verb::Save(args) | Verb::Image(ImageVerb::Save(args)) => save::run(args, context),
            Verb::Load(args) | Verb::Image(ImageVerb::Load(args)) => load::run(args, context),
            Verb::Import(args) | Verb::Image(ImageVerb::Import(args)) => import::run(args, context),
            Verb::Inspect(args) => inspect::run(args, context),
            Verb::Image(ImageVerb::Inspect(args)) => inspect::run(&args.clone().into(), context),
            Verb::Container(ContainerVerb::Inspect(args)) => inspect::run(&args.clone().into(), context),
            Verb::History(args) | Verb::Image(ImageVerb::History(args)) => history::run(args, context),
            Verb::Login(args) => login::run(args, context),
            Verb::Logout(args) => logout::run(args, context),
            Verb::Serve(args) => serve::run(args, context),
            Verb::Check(args) => check::run(args, context),
            Verb::Info(args) | Verb::System(SystemVerb::Info(args)) => info::run(args, context),
            Verb::Version(args) => version::run(args, context),
        }
    }

    /// The exit code of a failure of this verb's own.
    pub(crate) fn failure_code(&self) -> u8 {
        match self {
            Verb::Run(_) | Verb::Container(ContainerVerb::Run(_)) => error::USAGE,
            _ => error::FAILED,
        }
    }
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Cli, Usage> {
    parse_from(std::env::args_os().collect())
}

fn parse_from(args: Vec<OsString>) -> Result<Cli, Usage> {
    let mut command = flags::as_docker_reads_them(Cli::command());
    command.build();
    let words = words::with_operands_marked(&command, &args);
    let matches = command.try_get_matches_from(words);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| usage::usage(&error, &args))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
        for words in
            ["-v /:/host /host", "--network host", "--root /x", "--help", "-l x", "--rm -it", "-- ls", "--"]
        {
            for front in ["run", "run --rm -ite A=b", "run --net none", "--root /y container run", "run --"] {
                let line = format!("{front} busybox {words}");
                let cli = parse(&line).unwrap();
                assert!(cli.global.root.is_none_or(|root| root == *"/y"), "{line}");
                let (Verb::Run(args) | Verb::Container(ContainerVerb::Run(args))) = cli.verb else {
                    panic!("run")
                };
                assert_eq!(args.command.join(" "), words, "{line}");
            }
        }
    }

    #[test]
    fn wrong_command_lines_are_dockers_errors() {
        for (line, text, code) in [
            ("run --no-such-flag busybox true", "unknown flag: --no-such-flag", 125),
            ("images -X", "unknown shorthand flag: 'X' in -X", 125),
            ("run --detach busybox", "gantry run: docker's flag --detach is not here yet", 125),
            ("run -p 80:80 busybox", "gantry run: docker's flag --publish is not here yet", 125),
            ("run --name", "flag needs an argument: --name", 125),
            ("run -ite", "flag needs an argument: 'e' in -ite", 125),
            (
                "run --rm=maybe busybox",
                r#"invalid argument "maybe" for "--rm" flag: strconv.ParseBool: parsing "maybe": invalid syntax"#,
                125,
            ),
            (
                "ps -n x",
                r#"invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
                125,
            ),
            ("nosuchcommand", "gantry: unknown command: gantry nosuchcommand", 1),
            ("exec x true", "gantry: docker's command 'exec' is not here yet", 1),
            ("image nosuch", "gantry: unknown command: gantry image nosuch", 1),
            ("help nosuch", "unknown help topic: nosuch", 1),
            ("run", "gantry: 'gantry run' requires at least 1 argument", 1),
            ("tag a", "gantry: 'gantry tag' requires 2 arguments", 1),
            ("--root /x tag a", "gantry: 'gantry tag' requires 2 arguments", 1),
            ("pull", "gantry: 'gantry pull' requires 1 argument", 1),
            ("images a b", "gantry: 'gantry images' requires at most 1 argument", 1),
            ("version x", "gantry: 'gantry version' accepts no arguments", 1),
            ("import", "gantry: 'gantry import' requires at least 1 argument", 1),
            ("serve --tls-cert c.pem", r#"required flag(s) "tls-key" not set"#, 125),
            ("serve --tls-key k.pem", r#"required flag(s) "tls-cert" not set"#, 125),
            (
                "pull --platform=x busybox",
                r#"invalid argument "x" for "--platform" flag: `x` is not a platform; expected `os/architecture[/variant]`, e.g. `linux/amd64`"#,
                125,
            ),
            ("images --help=foo", r#"invalid argument "foo" for "-h, --help" flag: it takes no value"#, 125),
        ] {
            assert_eq!(wrong(line), (text.to_owned(), code), "{line}");
        }
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        for line in [
            "run --rm=true --tty=false -itw /x -e -e --name -x busybox",
            "run --rm --rm=false --rm -itw=/x -i=1 --name=-x busybox",
            "ps -aq -n -1 --no-trunc=false --latest=F",
            "history --human=false -q=false busybox",
            "pull --disable-content-trust=false -q busybox",
            "pull --platform= busybox",
            "import -c -x - name",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        }
    }

    #[test]
    fn usage_lines_look_as_dockers_do() {
        for (line, expected) in [
            ("run --help", "gantry run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
            ("container run --help", "gantry container run [OPTIONS] IMAGE [COMMAND] [ARG...]"),
            ("rmi --help", "gantry rmi [OPTIONS] IMAGE [IMAGE...]"),
            ("tag --help", "gantry tag [OPTIONS] SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]"),
            ("images --help", "gantry images [OPTIONS] [REPOSITORY[:TAG]]"),
            ("login --help", "gantry login [OPTIONS] [SERVER]"),
            ("image", "gantry image [OPTIONS] COMMAND"),
            ("", "gantry [OPTIONS] COMMAND"),
        ] {
            let Err(Usage::Help(text)) = parse(line) else { panic!("{line}") };
            assert_eq!(text.lines().next(), Some(&*format!("Usage:  {expected}")), "{line}");
        }
    }

    #[test]
    fn help_of_every_verb_is_a_line_a_flag() {
        for line in ["help run", "run --help", "image ls -h", "help image ls", "", "container"] {
            let Err(Usage::Help(text)) = parse(line) else { panic!("{line}") };
            assert!(text.contains("Usage:  gantry"), "{text}");
            assert!(!text.contains("--rm["), "{text}");
        }
    }
}
