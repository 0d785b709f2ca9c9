//! Where tests find the corpora.

use std::path::{Path, PathBuf};

/// The folder of test data from outside: `$GANTRY_CORPORA`, else beside the workspace. Where there is none the test says that
/// it is skipped, and `None` comes back; a variable that leads nowhere is a failure.
pub(crate) fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member lies in the workspace");
    let wanted = std::env::var_os("GANTRY_CORPORA");
    let folder = root.join(wanted.as_deref().unwrap_or("../shared/corpora".as_ref()));
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(wanted.is_none(), "GANTRY_CORPORA is {}, which is no folder", folder.display());
    eprintln!(
        "skipped: THE CORPORA ARE MISSING: they are not at {}; GANTRY_CORPORA says where",
        folder.display()
    );
    None
}
