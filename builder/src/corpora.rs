//! Where tests find the corpora.

use std::path::{Path, PathBuf};

/// A file or folder of the corpora.
pub(crate) fn path(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member lies in the workspace");
    let folder = match std::env::var_os("GANTRY_CORPORA") {
        Some(folder) => root.join(folder),
        None => root.join("../shared/corpora"),
    };
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing; GANTRY_CORPORA says where the corpora are", path.display());
    path
}
