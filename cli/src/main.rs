//! gantry: builds images, serves a registry and runs containers.
//!
//! This crate joins the others: it reads arguments, environment and Docker's files, calls one library function a verb,
//! and prints. Only here is anything printed, read from the environment, or turned into an exit code.

mod args;
mod commands;
mod context;
mod error;
mod interrupt;
mod output;
mod progress;
mod report;
mod runner;
mod template;
mod values;
mod whole_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The hidden roles of the run engine ask for a process without threads: nothing may come before this line.
    engine::roles::dispatch();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(usage) => return usage.print(),
    };
    output::log_to_stderr(cli.global.log_level());
    let context = match context::Context::new(&cli.global) {
        Ok(context) => context,
        Err(error) => return report::failure(&error, cli.verb.failure_code()),
    };
    match cli.verb.run(&context) {
        Ok(code) => code,
        Err(error) => report::failure(&error, cli.verb.failure_code()),
    }
}
