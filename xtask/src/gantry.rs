//! The program under demonstration, test or measurement: building it, and calling it with a store of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Builds the release binary and returns its path.
pub fn build() -> Result<PathBuf> {
    let mut cargo = shell::command(
        env!("CARGO"),
        ["build", "--release", "--package", "cli", "--message-format", "json-render-diagnostics"],
    );
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the release build failed");
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
