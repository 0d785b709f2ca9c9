use std::process::ExitCode;

use anyhow::Result;
use common::platform::Platform;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output;

/// Show the version
///
/// docker's fields are kept, since tools read them: client and server are this one program.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// The Engine API whose behaviour this program has.
const API_VERSION: &str = "1.41";

pub(crate) fn run(args: &Args, _context: &Context) -> Result<ExitCode> {
    let version = version();
    match &args.format {
        Some(format) => output::document(&version, format)?,
        None => {
            for side in ["Client", "Server"] {
                let field = |name: &str| version[side][name].as_str().unwrap_or_default().to_owned();
                output::line(format!("{side}: gantry"));
                output::line(format!(" Version:           {}", field("Version")));
                output::line(format!(" API version:       {}", field("ApiVersion")));
                output::line(format!(" OS/Arch:           {}/{}", field("Os"), field("Arch")));
                if side == "Client" {
                    output::line("");
                } else {
                    output::line(format!(" Kernel version:    {}", field("KernelVersion")));
                    output::line(" (there is no daemon: the server is this program)");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn version() -> Value {
    let host = Platform::host();
    let kernel = rustix::system::uname();
    let version = env!("CARGO_PKG_VERSION");
    let kernel = kernel.release().to_string_lossy();
    let client = json!({
        "Platform": {"Name": "gantry"},
        "Version": version,
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": host.os,
        "Arch": host.architecture,
        "BuildTime": "",
        "Context": "default",
        "Experimental": false,
    });
    let server = json!({
        "Platform": {"Name": "gantry"},
        "Components": [{"Name": "Engine", "Version": version, "Details": {
            "ApiVersion": API_VERSION,
            "Arch": host.architecture,
            "Experimental": "false",
            "KernelVersion": kernel,
            "MinAPIVersion": API_VERSION,
            "Os": host.os,
        }}],
        "Version": version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": host.os,
        "Arch": host.architecture,
        "KernelVersion": kernel,
        "Experimental": false,
        "BuildTime": "",
    });
    json!({"Client": client, "Server": server})
}
