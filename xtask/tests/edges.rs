//! The arrows between crates, as ARCHITECTURE.md draws them: another edge is an error.

use std::collections::BTreeSet;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may know whom. `tests` and `xtask` stand outside of the product.
const ALLOWED: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("builder", &["common"]),
    ("registry", &["common"]),
    ("engine", &["common"]),
    ("cli", &["builder", "common", "engine", "registry"]),
    ("tests", &["common"]),
    ("xtask", &[]),
];

#[test]
fn crates_know_only_whom_they_may_know() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "the table of this test lists every crate of the workspace");
    for package in &metadata.packages {
        let (_, allowed) =
            ALLOWED.iter().find(|(name, _)| *name == package.name.as_str()).expect("listed above");
        for dependency in &package.dependencies {
            let inside =
                members.contains(dependency.name.as_str()) && dependency.kind == DependencyKind::Normal;
            assert!(
                !inside || allowed.contains(&dependency.name.as_str()),
                "`{}` must not depend on `{}`",
                package.name,
                dependency.name
            );
        }
    }
}

/// Inside `common` the arrows are values ← store ← layer ← snapshot, client → values and store, image → all. Files of
/// tests may use what they like.
#[test]
fn modules_of_common_point_downwards() {
    const ABOVE_VALUES: &[&str] = &["store", "layer", "snapshot", "client", "image"];
    const FORBIDDEN: &[(&str, &[&str])] = &[
        ("decompress.rs", ABOVE_VALUES),
        ("digest.rs", ABOVE_VALUES),
        ("oci", ABOVE_VALUES),
        ("passwd.rs", ABOVE_VALUES),
        ("platform.rs", ABOVE_VALUES),
        ("reference.rs", ABOVE_VALUES),
        ("store", &["layer", "snapshot", "client", "image"]),
        ("layer", &["snapshot", "client", "image"]),
        ("snapshot", &["client", "image"]),
        ("client", &["layer", "snapshot", "image"]),
        ("image", &[]),
    ];
    let common = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace").join("common/src");
    let listed: BTreeSet<String> = FORBIDDEN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found: BTreeSet<String> = std::fs::read_dir(&common)
        .expect("readable folder")
        .map(|entry| entry.expect("readable folder").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lib.rs")
        .collect();
    assert_eq!(found, listed, "the table of this test lists every module of common");
    for (module, forbidden) in FORBIDDEN {
        let sources = sources(&common.join(module));
        assert!(!sources.is_empty(), "{module} has sources");
        for (file, text) in sources {
            for other in uses(&text) {
                assert!(!forbidden.contains(&other.as_str()), "{file}: `{module}` must not know `{other}`");
            }
        }
    }
}

/// The modules of the crate that a text names: `crate::layer::…`, `use crate::{oci, layer}`.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let group = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(group, _)| group);
        for path in group.unwrap_or(rest).split(',').take(if group.is_some() { usize::MAX } else { 1 }) {
            let name =
                path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn every_spelling_of_a_use_is_seen() {
    let text = "use crate::{oci, layer::Kind};\nlet x = crate::store::Store::open(y);\npub(in crate::client) fn f() {}";
    let expected = ["client", "layer", "oci", "store"].map(str::to_owned);
    assert_eq!(uses(text), BTreeSet::from(expected));
}

/// The sources below a path without those of tests: a file's `#[cfg(test)] mod … { … }`, which stands at its end, and files
/// named after tests.
fn sources(path: &Path) -> Vec<(String, String)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if ["tests", "testing", "faults"].contains(&&*name) {
        return Vec::new();
    }
    if path.is_dir() {
        let entries = std::fs::read_dir(path).expect("readable folder");
        return entries.flat_map(|entry| sources(&entry.expect("readable folder").path())).collect();
    }
    let text = std::fs::read_to_string(path).expect("readable source");
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    vec![(path.display().to_string(), text[..tests].to_owned())]
}
