use std::process::ExitCode;

use anyhow::{Result, bail};
use common::snapshot::Snapshots;
use common::store::CheckOptions;

use crate::context::Context;
use crate::error;
use crate::output;
use crate::progress::Counter;

/// Verify the whole store
///
/// Reads every blob and compares it with its digest, follows every reference, reads every record, compares unpacked layers
/// with what they were made of, and looks for things left half done. Exit code 1 when something is wrong. Things that
/// nothing refers to are mentioned; they are not an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print only what is wrong
    #[arg(short, long)]
    quiet: bool,
    /// Remove damaged blobs, and damaged tars and tables of layers, so that a pull, push, load, import or build brings them
    /// again
    #[arg(long)]
    remove_damaged: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    if !store.exists()? {
        bail!("there is no store at {}", store.root().display());
    }
    let progress = Counter::new("verifying", !args.quiet);
    let options = CheckOptions {
        remove_damaged: args.remove_damaged,
        progress: &|event| progress.check(event),
        ..CheckOptions::default()
    };
    let report = store.check(&options)?;
    let trees = Snapshots::new(&store).check(options.threads)?;
    progress.finish();
    report.faults.iter().for_each(|fault| output::line(format!("fault: {fault}")));
    trees.faults.iter().for_each(|fault| output::line(format!("fault: {fault}")));
    let faults = report.faults.len() + trees.faults.len();
    if !args.quiet {
        report.notes.iter().for_each(|note| output::line(format!("note: {note}")));
        if trees.unknown > 0 {
            let unknown = counted(trees.unknown, "unpacked layer lies", "unpacked layers lie");
            output::line(format!("note: {unknown} upon layers that are gone, and cannot be compared"));
        }
        let verdict = match faults as u64 {
            0 => "sound".to_owned(),
            n => counted(n, "fault", "faults"),
        };
        output::line(format!(
            "{}: {} ({}), {}, {}, {}: {verdict}",
            store.root().display(),
            counted(report.blobs, "blob", "blobs"),
            output::size(report.size_bytes),
            counted(report.images, "image", "images"),
            counted(report.repositories, "served repository", "served repositories"),
            counted(report.tags, "tag", "tags"),
        ));
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(error::FAILED) })
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
