//! Texts of `created_by` in an image's history, letter for letter as BuildKit writes them.

use super::go;
use super::instruction::{CommandLine, Healthcheck, Kind, Pair, Transfer};
use super::source::Word;

/// The text for an instruction that has been expanded; `shell` is the one in force. `None` for `ONBUILD`, which leaves
/// no entry, and for `ARG`, `RUN` and `WORKDIR`, which have functions of their own here.
pub fn created_by(kind: &Kind, shell: &[String]) -> Option<String> {
    Some(match kind {
        Kind::Add(add) => transfer("ADD", false, &add.transfer),
        Kind::Copy(copy) => transfer("COPY", copy.parents, &copy.transfer),
        Kind::Cmd(command) => format!("CMD {}", go::quote_list(&with_shell(command, shell))),
        Kind::Entrypoint(command) => format!("ENTRYPOINT {}", go::quote_list(&with_shell(command, shell))),
        Kind::Env(pairs) => format!("ENV{}", joined(pairs)),
        Kind::Label(pairs) => format!("LABEL{}", joined(pairs)),
        Kind::Expose(ports) => format!("EXPOSE {}", list(ports)),
        Kind::Volume(volumes) => format!("VOLUME {}", list(volumes)),
        Kind::Healthcheck(check) => format!("HEALTHCHECK {}", healthcheck(check)),
        Kind::Maintainer(name) => format!("MAINTAINER {name}"),
        Kind::Shell(shell) => format!("SHELL [{}]", shell.join(" ")),
        Kind::Stopsignal(signal) => format!("STOPSIGNAL {signal}"),
        Kind::User(user) => format!("USER {user}"),
        Kind::Arg(_) | Kind::Onbuild(_) | Kind::Run(_) | Kind::Workdir(_) => return None,
    })
}

/// `RUN |1 VERSION=2 /bin/sh -c make # buildkit`: the arguments of the process, and before them the build arguments in
/// scope, each once, with their values.
pub fn run(args: &[String], build_args: &[(String, String)]) -> String {
    let mut text = String::from("RUN ");
    if !build_args.is_empty() {
        text += &format!("|{} ", build_args.len());
    }
    for (name, value) in build_args {
        text += &format!("{name}={value} ");
    }
    text + &args.join(" ") + " # buildkit"
}

/// `ARG VERSION=2 DEBUG`, with the values that the arguments got.
pub fn arg(args: &[(String, Option<String>)]) -> String {
    let texts = args.iter().map(|(name, value)| match value {
        Some(value) => format!(" {name}={value}"),
        None => format!(" {name}"),
    });
    format!("ARG{}", texts.collect::<String>())
}

/// `WORKDIR /app`, with the absolute path.
pub fn workdir(path: &str) -> String {
    format!("WORKDIR {path}")
}

/// The arguments of a process: those of the exec form, or the shell's with the text behind them.
pub fn with_shell(command: &CommandLine, shell: &[String]) -> Vec<String> {
    match command {
        CommandLine::Exec(args) => args.clone(),
        CommandLine::Shell(text) => shell.iter().chain([text]).cloned().collect(),
    }
}

fn transfer(name: &str, parents: bool, transfer: &Transfer) -> String {
    let mut text = name.to_owned();
    if parents {
        text += " --parents";
    }
    for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
        if let Some(value) = value {
            text += &format!(" --{flag}={value}");
        }
    }
    for source in &transfer.sources {
        text += &format!(" {source}");
    }
    for document in &transfer.documents {
        text += &format!(" <<{}", document.name);
    }
    format!("{text} {} # buildkit", transfer.destination)
}

fn joined(pairs: &[Pair]) -> String {
    pairs.iter().map(|pair| format!(" {}={}", pair.key, pair.value)).collect()
}

fn list(words: &[Word]) -> String {
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    format!("[{}]", texts.join(" "))
}

fn healthcheck(check: &Healthcheck) -> String {
    let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } = check
    else {
        return "{Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}".to_owned();
    };
    let test = match command {
        CommandLine::Exec(args) => format!("CMD {}", args.join(" ")),
        CommandLine::Shell(text) => format!("CMD-SHELL {text}"),
    };
    let [interval, timeout, start_period, start_interval] =
        [interval, timeout, start_period, start_interval].map(|time| go::format_duration(*time));
    format!(
        "{{Test:[{test}] Interval:{interval} Timeout:{timeout} StartPeriod:{start_period} \
         StartInterval:{start_interval} Retries:{retries}}}"
    )
}
