use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use registry::{ServeOptions, TlsFiles};

use crate::context::Context;
use crate::output;

/// Serve this store as a registry
///
/// Plain HTTP is served on loopback only, unless `--insecure` is given: everyone who can reach the port could read and
/// change images, and passwords would travel in the clear. Clients find it ready when `/v2/` answers.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry serve                                        on 127.0.0.1:5000
  gantry serve --addr 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --htpasswd users
  htpasswd -Bbn alice PASSWORD >> users               makes such a file")]
pub(crate) struct Args {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5000")]
    addr: String,
    /// Certificate chain in PEM, the server's own first
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Users and their bcrypt password hashes; read again when it changes
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Allow plain HTTP beyond loopback
    #[arg(long)]
    insecure: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let mut options = ServeOptions::new(registry::parse_address(&args.addr)?);
    options.insecure = args.insecure;
    options.htpasswd = args.htpasswd.clone();
    options.tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(TlsFiles { certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    let store = context.store_or_new()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let root = store.root().display().to_string();
        let server = registry::bind(store, &options)?;
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        output::note(format!("serving {root} on {scheme}://{}/v2/", server.address()));
        let stopped = stop_signal()?;
        server.serve(stopped).await?;
        output::note("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// Ends with Ctrl-C or SIGTERM: running transfers may still end.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        output::note("stopping: running transfers may end");
    })
}
