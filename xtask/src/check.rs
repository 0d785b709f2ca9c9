//! `cargo xtask check`: all that a review needs.

use anyhow::{Context, Result};

use crate::{packages, shell, tests, tools};

const CARGO_DENY: &str = "0.20.2";

/// Formats nothing and fixes nothing; says what is wrong.
pub fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    fuzz_targets()?;
    dependencies()?;
    tests::run(&[])
}

fn cargo(args: &[&str]) -> Result<()> {
    eprintln!("check: cargo {}", args.join(" "));
    shell::run(&mut shell::command(env!("CARGO"), args))
}

/// They are a workspace of their own, which nothing above compiles.
fn fuzz_targets() -> Result<()> {
    packages::ensure(packages::FUZZ)?;
    let folder = shell::target_dir().join("fuzz-check");
    let folder = folder.to_str().context("the target folder's name is not UTF-8")?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])?;
    cargo(&[
        "clippy",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target-dir",
        folder,
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

/// Bans, licences and sources from `deny.toml`; advisories where their database can be reached.
fn dependencies() -> Result<()> {
    let deny = tools::install("cargo-deny", CARGO_DENY)?;
    eprintln!("check: cargo deny check bans licenses sources");
    shell::run(&mut shell::command(
        &deny,
        ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"],
    ))?;
    match shell::output(&mut shell::command(&deny, ["fetch", "db"])) {
        Ok(_) => shell::run(&mut shell::command(&deny, ["check", "--hide-inclusion-graph", "advisories"])),
        Err(_) => {
            eprintln!("check: skipped: advisories, their database cannot be reached from here");
            Ok(())
        }
    }
}
