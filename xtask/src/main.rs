//! Repository chores: `cargo xtask <name>`.
//!
//! What a chore needs that cargo does not bring is installed by [`packages`], or named when that is not possible.

mod bench;
mod check;
mod demo;
mod fuzz;
mod gantry;
mod packages;
mod shell;
mod tests;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <CHORE>

  demo      set up, then build, serve, push, pull and run a small image, step by step
  test      set up, then run every test: unit, corpora and end to end with the real clients
  check     what a review needs: format, lints, crate edges, dependencies (bans, licences, sources), tests
  bench     measure against the rivals, side by side   [cached-rebuild | blob-pull | run]
  fuzz      feed the parsers of foreign bytes with what they do not expect   [--seconds N] [TARGET…]

Packages are installed only as root on a Debian family; elsewhere the missing ones are listed and the chore goes on
with what it can do.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["demo"] => demo::run(),
        ["test", ref rest @ ..] => tests::run(rest),
        ["check"] => check::run(),
        ["bench", ref rows @ ..] => bench::run(rows),
        ["fuzz", ref rest @ ..] => fuzz::run(rest),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
