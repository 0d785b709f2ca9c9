use std::io::{self, IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use common::client::docker_config::{self, Kept};
use common::client::{Cause, ClientError, Credentials};
use common::reference::DEFAULT_HOST;

use crate::context::Context;
use crate::error::verbatim;
use crate::output;

/// Log in to a registry
///
/// The password is verified by the registry, then kept by the credential helper that `config.json` names, or else in
/// `config.json` itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Host of the registry, with its port [default: docker.io]
    server: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password; other users of this machine can see it, so `--password-stdin` is better
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    if args.password.is_some() && args.password_stdin {
        return Err(verbatim("conflicting options: cannot specify both --password and --password-stdin"));
    }
    let server = args.server.as_deref().map_or(DEFAULT_HOST, bare_host).to_owned();
    let asked_for_nothing = args.username.is_none() && args.password.is_none() && !args.password_stdin;
    if asked_for_nothing && let Some(known) = docker_config::find(&context.docker_config_file(), &server)? {
        output::line("Authenticating with existing credentials...");
        match log_in(context, &server, known) {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(error) => output::note(format!("Login did not succeed, error: {error}")),
        }
    }
    let username = match &args.username {
        Some(name) => name.clone(),
        None if args.password_stdin => return Err(verbatim("Must provide --username with --password-stdin")),
        None => {
            if io::stdin().is_terminal() {
                output::line(format!("Logging in to {server}"));
            }
            prompt("Username: ")?
        }
    };
    let password = match &args.password {
        Some(password) => {
            output::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password.clone()
        }
        None if args.password_stdin => {
            let mut text = String::new();
            io::stdin()
                .take(1 << 20)
                .read_to_string(&mut text)
                .context("cannot read the password from stdin")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => prompt_hidden("Password: ")?,
    };
    if password.is_empty() {
        return Err(verbatim("password is empty"));
    }
    log_in(context, &server, Credentials::Password { username, password })?;
    Ok(ExitCode::SUCCESS)
}

/// Has the registry verify credentials, and keeps them.
fn log_in(context: &Context, server: &str, given: Credentials) -> Result<()> {
    let client = context.client()?;
    let kept = runtime()?.block_on(client.login(server, given)).map_err(refused)?;
    let file = context.docker_config_file();
    if docker_config::store(&file, server, &kept)? == Kept::File {
        output::note(format!("WARNING! Your credentials are stored unencrypted in '{}'.", file.display()));
    }
    output::line("Login Succeeded");
    Ok(())
}

/// docker's words for a password that the registry does not take: the usual hint, to log in, is of no use here.
fn refused(error: ClientError) -> anyhow::Error {
    let ClientError::Request { request, cause } = &error else { return error.into() };
    match &**cause {
        Cause::Status { status, errors, .. } if status.as_u16() == 401 => verbatim(match errors.first() {
            Some(said) => format!("Error: Get \"{}\": {said}", request.url),
            None => format!("Error: login attempt to {} failed with status: {status}", request.url),
        }),
        _ => error.into(),
    }
}

/// `https://host/v1/` means `host`.
pub(super) fn bare_host(server: &str) -> &str {
    let host = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = host.split('/').next().unwrap_or(host);
    if host == "index.docker.io" { DEFAULT_HOST } else { host }
}

/// A runtime for one command that speaks with a registry.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("cannot start the runtime")
}

fn prompt(question: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(verbatim("Error: Cannot perform an interactive login from a non TTY device"));
    }
    output::print(question);
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("cannot read from the terminal")?;
    Ok(line.trim().to_owned())
}

/// Reads a line that the terminal does not show.
fn prompt_hidden(question: &str) -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return prompt(question);
    }
    let before = tcgetattr(&stdin).context("cannot read the terminal's modes")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("cannot hide the password")?;
    let line = prompt(question);
    tcsetattr(&stdin, OptionalActions::Flush, &before).context("cannot show what is typed again")?;
    output::line("");
    line
}
