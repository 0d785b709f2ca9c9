//! A step of a build.

use std::sync::atomic::AtomicBool;

use crate::error::RunError;
use crate::etc;
use crate::run::{Attachment, ExitStatus, Stream, run};
use crate::spec::RunSpec;

/// Runs a step: without input or terminal, with the files of `/etc` that a command needs to find other hosts, and so
/// that nothing but its own changes is left in the root. `cancel` ends it.
///
/// # Errors
/// [`RunError`], when it did not run. A step that fails is no error.
pub fn run_step(
    spec: &RunSpec,
    output: &mut dyn FnMut(Stream, &[u8]),
    cancel: Option<&AtomicBool>,
) -> Result<ExitStatus, RunError> {
    let mut mounts = etc::mounts(spec.network, &spec.hostname);
    mounts.retain(|mount| spec.mounts.iter().all(|own| own.destination != mount.destination));
    mounts.extend(spec.mounts.iter().cloned());
    let spec = RunSpec { mounts, is_step: true, terminal: None, ..spec.clone() };
    let attachment = Attachment {
        stdin: None,
        output: &mut |stream, bytes| {
            output(stream, bytes);
            Ok(())
        },
        terminal: None,
        forward_signals: false,
        cancel,
        started: &mut |_| {},
    };
    run(&spec, attachment)
}
