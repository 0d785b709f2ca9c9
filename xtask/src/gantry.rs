//! The program under demonstration, test or measurement: building it, and calling it with a store of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Builds the binary that users get, optimised, and returns its path.
pub fn build_release() -> Result<PathBuf> {
    build(&["--release"])
}

/// Builds the binary with the checks that a release leaves out (overflow, debug assertions); its dependencies are those
/// of the tests, so they are built once.
pub fn build_checked() -> Result<PathBuf> {
    build(&[])
}

fn build(profile: &[&str]) -> Result<PathBuf> {
    let mut cargo = shell::command(env!("CARGO"), ["build"]);
    cargo.args(profile).args(["--package", "cli", "--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the build failed");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "gantry")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no executable `gantry`")
}

/// `gantry --root STORE …`
pub fn command(binary: &Path, store: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--root").arg(store).current_dir(shell::workspace());
    command
}
