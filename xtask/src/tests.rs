//! `cargo xtask test`: every test, and a count of those that could not run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{gantry, packages, shell, tools};

/// Sets up and runs the tests; `filter` goes to the test harness.
pub fn run(filter: &[&str]) -> Result<()> {
    packages::ensure(packages::TEST)?;
    let tools = tools::clients()?;
    let binary = gantry::build_checked()?;
    // A test that cannot run here prints `skipped: REASON`; the harness shows what passed tests print only when asked.
    let mut cargo =
        shell::command(env!("CARGO"), ["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    cargo.args(filter).env("GANTRY_BIN", &binary).env("PATH", path_with(&tools)?).stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo test")?;
    let mut summary = Summary::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        summary.take_in(&line.context("cannot read what cargo test prints")?);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    summary.print();
    if !status.success() || summary.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Our own PATH, and at its end a folder of programs.
fn path_with(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([folder.to_owned()]);
    std::env::join_paths(folders).context("the target folder's name cannot stand in the PATH")
}

#[derive(Default)]
struct Summary {
    passed: u64,
    failed: u64,
    /// The test whose output is being shown.
    section: String,
    /// Why tests could not run, or not to their end; each test counts once.
    skipped: BTreeMap<String, String>,
}

impl Summary {
    fn take_in(&mut self, line: &str) {
        if let Some(section) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            section.clone_into(&mut self.section);
        } else if let Some(reason) = line.trim_start().strip_prefix("skipped: ") {
            self.skipped.entry(self.section.clone()).or_insert_with(|| reason.to_owned());
        } else if line.starts_with("test ") && line.ends_with("... ok") {
            self.passed += 1;
        } else if line.starts_with("test ") && line.ends_with("FAILED") {
            self.failed += 1;
        }
        if !is_noise(line) {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    fn print(&self) {
        println!();
        for (test, reason) in &self.skipped {
            println!("skipped {test}: {reason}");
        }
        // A skipped test counts as passed for the harness, and as skipped only here.
        let skipped = self.skipped.len() as u64;
        println!("{} passed, {} failed, {skipped} skipped", self.passed.saturating_sub(skipped), self.failed);
    }
}

/// Empty harnesses (binaries and documentation without tests) say nothing of interest.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line == "running 0 tests"
        || line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored")
}
