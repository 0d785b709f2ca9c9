//! `cargo xtask fuzz`: libFuzzer over every parser of foreign bytes, one target after the other.
//!
//! The targets are in `fuzz/fuzz_targets`, and each says there what it holds its parser to. They run on the toolchain
//! that builds everything else: without a sanitizer cargo-fuzz asks for nothing unstable, and the code under test has
//! no unsafe blocks. Inputs worth keeping stay in `fuzz/corpus`, findings in `fuzz/artifacts`, what libFuzzer said in
//! the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{packages, shell, tools};

const CARGO_FUZZ: &str = "0.13.1";

const DEFAULT_SECONDS: u64 = 60;
/// One input may take this long…
const INPUT_SECONDS: u64 = 10;
/// … and the process this much memory.
const MEMORY_MIB: u64 = 2048;

/// How many lines of a finding are shown; the log has the others.
const SHOWN_LINES: usize = 30;

/// Runs the targets that `args` names, or all of them. Goes on past a finding and fails at the end.
pub fn run(args: &[&str]) -> Result<()> {
    let (seconds, targets) = parse(args, all_targets()?)?;
    packages::ensure(packages::FUZZ)?;
    let fuzzer = Fuzzer { program: tools::install("cargo-fuzz", CARGO_FUZZ)?, seconds };
    fs::create_dir_all(fuzzer.folder()).context("cannot make the folder of the logs")?;
    let mut broken = Vec::new();
    for target in targets {
        fuzzer.build(&target)?;
        eprintln!("fuzz: {target}: {seconds} s");
        if !fuzzer.run(&target)? {
            broken.push(target);
        }
    }
    ensure!(broken.is_empty(), "fuzzing broke {}", broken.join(", "));
    Ok(())
}

/// `[--seconds N] [TARGET…]`
fn parse(args: &[&str], known: Vec<String>) -> Result<(u64, Vec<String>)> {
    let (mut seconds, mut targets) = (DEFAULT_SECONDS, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--seconds" => {
                let number = args.next().and_then(|number| number.parse().ok());
                // libFuzzer takes 0 for no end at all
                seconds = number.filter(|n| *n > 0).context("`--seconds` needs a number above 0")?;
            }
            target if known.iter().any(|known| known == target) => targets.push(target.to_owned()),
            other => bail!("there is no fuzz target `{other}`; there are {}", known.join(", ")),
        }
    }
    Ok((seconds, if targets.is_empty() { known } else { targets }))
}

fn all_targets() -> Result<Vec<String>> {
    let folder = shell::workspace().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names = files.map(|file| Ok(file?.path().file_stem().unwrap_or_default().display().to_string()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

struct Fuzzer {
    program: PathBuf,
    seconds: u64,
}

impl Fuzzer {
    /// Of the instrumented build and the logs.
    fn folder(&self) -> PathBuf {
        shell::target_dir().join("fuzz")
    }

    fn command(&self, verb: &str, target: &str) -> Command {
        let mut command =
            shell::command(&self.program, ["fuzz", verb, "--fuzz-dir", "fuzz", "--sanitizer", "none"]);
        command.arg("--target-dir").arg(self.folder()).arg(target);
        command
    }

    fn build(&self, target: &str) -> Result<()> {
        shell::run(&mut self.command("build", target))
    }

    /// Whether nothing was found; says what was.
    fn run(&self, target: &str) -> Result<bool> {
        let log = self.folder().join(format!("{target}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command("run", target);
        command
            .arg("--")
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
            .arg("-print_final_stats=1")
            .stdout(output.try_clone().context("cannot write the log twice")?)
            .stderr(output);
        let status = command.status().with_context(|| format!("cannot start {}", shell::show(&command)))?;
        let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let said = String::from_utf8_lossy(&said);
        if status.success() {
            let inputs = value(&said, "stat::number_of_executed_units:").unwrap_or("?");
            eprintln!("fuzz: {target}: nothing found in {inputs} inputs");
        } else {
            self.show_finding(target, &said, &log);
        }
        Ok(status.success())
    }

    fn show_finding(&self, target: &str, said: &str, log: &Path) {
        // The finding begins where the progress lines, `#123 NEW …`, end.
        let lines: Vec<&str> = said.lines().collect();
        let is_progress = |line: &&str| line.starts_with('#') && line.contains(" cov: ");
        let begin = lines.iter().rposition(is_progress).map_or(0, |last| last + 1);
        for line in lines[begin..].iter().take(SHOWN_LINES) {
            eprintln!("  {line}");
        }
        eprintln!("fuzz: {target}: BROKEN, all that was said is in {}", log.display());
        if let Some(input) = value(said, "Test unit written to ") {
            eprintln!("  input: {input}");
            let mut again = self.command("run", target);
            eprintln!("  again: {}", shell::show(again.arg(input)));
        }
    }
}

/// What follows `label` on its line.
fn value<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once(label)).map(|(_, value)| value.trim())
}
