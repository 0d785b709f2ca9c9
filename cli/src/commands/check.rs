use std::process::ExitCode;

use anyhow::Result;
use common::store::CheckOptions;

use crate::context::Context;
use crate::output;
use crate::progress::Counter;
use crate::report;

/// Verify the whole store
///
/// Reads every blob and compares it with its digest, follows every reference, and looks for things left half done. Exit
/// code 1 when something is wrong. Things that nothing refers to are mentioned; they are not an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only what is wrong
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let progress = Counter::new("verifying", !args.quiet);
    let report =
        store.check(&CheckOptions { progress: &|event| progress.check(event), ..CheckOptions::default() })?;
    progress.finish();
    report.faults.iter().for_each(|fault| output::line(format!("fault: {fault}")));
    if !args.quiet {
        report.notes.iter().for_each(|note| output::line(format!("note: {note}")));
        let verdict = match report.faults.len() {
            0 => "sound".to_owned(),
            1 => "1 fault".to_owned(),
            n => format!("{n} faults"),
        };
        output::line(format!(
            "{}: {} blobs ({}), {} images, {} repositories, {} tags: {verdict}",
            store.root().display(),
            report.blobs,
            output::size(report.size_bytes),
            report.images,
            report.repositories,
            report.tags,
        ));
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(report::FAILED) })
}
