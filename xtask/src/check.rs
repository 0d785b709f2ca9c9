//! `cargo xtask check`: all that a review needs.

use anyhow::Result;

use crate::{shell, tests, tools};

const CARGO_DENY: &str = "0.20.2";

/// Formats nothing and fixes nothing; says what is wrong.
pub fn run() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    dependencies()?;
    tests::run(&[])
}

fn cargo(args: &[&str]) -> Result<()> {
    eprintln!("check: cargo {}", args.join(" "));
    shell::run(&mut shell::command(env!("CARGO"), args))
}

/// Bans, licences and sources from `deny.toml`; advisories where their database can be reached.
fn dependencies() -> Result<()> {
    let deny = tools::ensure("cargo-deny", CARGO_DENY)?;
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
