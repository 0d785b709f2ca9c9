//! Cargo's own tools that chores need, built once into the target folder.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::shell;

/// Where the program `name` of that version is; installs it when it is not there.
pub fn ensure(name: &str, version: &str) -> Result<PathBuf> {
    let tools = shell::target_dir().join("tools");
    let program = tools.join("bin").join(name);
    if !program.is_file() {
        eprintln!("tools: installing {name} {version}");
        let root = tools.to_str().context("the target folder's name is not UTF-8")?;
        // For this host's default target: a tool need not be static.
        let args = ["install", "--quiet", "--locked", "--root", root, "--version", version, name];
        shell::run(&mut shell::command(env!("CARGO"), args))?;
    }
    Ok(program)
}
