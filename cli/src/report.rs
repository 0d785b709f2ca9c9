//! Errors as the user sees them: what happened, why, and what to do about it.

use std::io::ErrorKind;
use std::process::ExitCode;

use builder::BuildError;
use common::client::ClientError;
use common::image::archive::LoadError;
use common::image::import::ImportError;
use common::image::names::NameError;
use common::image::pull::PullError;
use common::image::push::PushError;
use common::store::StoreError;
use registry::ServeError;

use crate::error::{FAILED, Verbatim};
use crate::output::{note, stderr_is_terminal};

/// Prints a failure: what happened, then the chain of causes, one a line.
pub(crate) fn failure(error: &anyhow::Error, code: u8) -> ExitCode {
    if let Some(Verbatim { text, code: own }) = error.downcast_ref() {
        if !text.is_empty() {
            note(text.trim_end());
        }
        return ExitCode::from(own.unwrap_or(code));
    }
    if is_dockers(error) {
        note(format!("Error: {error}"));
        hint(error).iter().for_each(|hint| note(format!("  hint: {hint}")));
        return ExitCode::from(code);
    }
    let mut chain = error.chain().map(ToString::to_string);
    let first = chain.next().unwrap_or_default();
    note(format!("error: {first}"));
    let mut last = first;
    // That of an instruction shows its causes by itself.
    let shows_causes = matches!(error.downcast_ref(), Some(BuildError::Instruction(_)));
    for cause in chain.filter(|_| !shows_causes) {
        // A wrapper that repeats its source says nothing new.
        if !last.contains(&cause) {
            note(format!("  cause: {}", cause.replace('\n', "\n  ")));
        }
        last = cause;
    }
    if let Some(hint) = hint(error) {
        note(format!("  hint: {hint}"));
    }
    ExitCode::from(code)
}

/// Whether docker defines all that is said about an error.
fn is_dockers(error: &anyhow::Error) -> bool {
    let of_pull = |error: &PullError| {
        matches!(
            error,
            PullError::Denied { .. } | PullError::ManifestUnknown { .. } | PullError::NameUnknown { .. }
        )
    };
    error.downcast_ref().is_some_and(of_pull)
        || matches!(error.downcast_ref(), Some(PushError::Denied { .. } | PushError::Digest))
}

/// Warns of the damage that a list goes on without; the list's exit code.
pub(crate) fn passed_over(damaged: &[String]) -> ExitCode {
    for what in damaged {
        note(format!("WARNING: {what}: it is passed over"));
    }
    match damaged {
        [] => ExitCode::SUCCESS,
        _ => {
            note(format!("  hint: {OF_A_DAMAGED_RECORD}"));
            ExitCode::from(FAILED)
        }
    }
}

const OF_A_DAMAGED_RECORD: &str = "`gantry check` lists all damage; `rmi NAME` takes a damaged name or image away, \
                                   `pull`, `load` and `build -t` write it anew, `tag` only a name";

/// What to do about an error. Where docker defines what is printed about it, the hint is for people only: for a terminal.
fn hint(error: &anyhow::Error) -> Option<String> {
    let of_a_build = error.chain().any(|cause| cause.is::<BuildError>());
    let of_docker =
        || (of_a_build || stderr_is_terminal()).then(|| hint_besides_dockers_text(error)).flatten();
    hint_of_ours(error).or_else(of_docker)
}

/// About errors that docker does not know.
fn hint_of_ours(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref() {
        Some(ServeError::PlainBeyondLoopback { .. }) => {
            return Some(
                "give `--tls-cert` and `--tls-key`, or `--insecure` where the network is trusted".to_owned(),
            );
        }
        Some(ServeError::AddressInUse { .. }) => {
            return Some("choose another one by `--addr HOST:PORT`; port 0 takes a free one".to_owned());
        }
        Some(ServeError::Listen { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            return Some("ports below 1024 need root; choose another one by `--addr`".to_owned());
        }
        _ => {}
    }
    let of_archive = error.chain().find_map(|cause| {
        let load = cause.downcast_ref::<LoadError>().map(LoadError::hint);
        load.or_else(|| cause.downcast_ref::<ImportError>().map(ImportError::hint)).flatten()
    });
    if of_archive.is_some() {
        return of_archive.map(str::to_owned);
    }
    if is_disk_full(error) {
        return Some("the disk is full; free some space and try again, the store is sound".to_owned());
    }
    match error.chain().find_map(of_store)? {
        StoreError::Damaged { .. } => Some(OF_A_DAMAGED_RECORD.to_owned()),
        StoreError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Some("choose a store that you may write with `--root DIR` or `$GANTRY_ROOT`".to_owned())
        }
        _ => None,
    }
}

fn is_disk_full(error: &anyhow::Error) -> bool {
    let is_full =
        |io: &std::io::Error| matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    error.chain().find_map(|cause| cause.downcast_ref()).is_some_and(is_full)
}

/// The failure of the store in one link of a chain; a transparent wrapper shows it as its own.
fn of_store<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e StoreError> {
    if let Some(NameError::Store(error)) = cause.downcast_ref() {
        return Some(error);
    }
    if let Some(PullError::Store(error)) = cause.downcast_ref() {
        return Some(error);
    }
    cause.downcast_ref()
}

/// About errors whose text is docker's.
fn hint_besides_dockers_text(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let pull = cause.downcast_ref::<PullError>().map(PullError::hint);
        let push = || cause.downcast_ref::<PushError>().map(PushError::hint);
        let client = || cause.downcast_ref::<ClientError>().map(ClientError::hint);
        pull.or_else(push).or_else(client).flatten()
    })
}
