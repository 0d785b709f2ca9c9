//! The arrows between crates, as ARCHITECTURE.md draws them: another edge is an error.

use std::collections::BTreeSet;

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

/// Inside `common` the arrows are values ← store ← layer ← snapshot, client → values and store, image → all.
#[test]
fn modules_of_common_point_downwards() {
    const ORDER: &[(&str, &[&str])] = &[
        ("store", &["layer", "snapshot", "client", "image"]),
        ("layer", &["snapshot", "client", "image"]),
        ("snapshot", &["client", "image"]),
        ("client", &["layer", "snapshot", "image"]),
        ("oci", &["store", "layer", "snapshot", "client", "image"]),
    ];
    let common =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace").join("common/src");
    for (module, forbidden) in ORDER {
        for (file, text) in sources(&common.join(module)) {
            for other in *forbidden {
                let names =
                    [format!("crate::{other}::"), format!("crate::{other};"), format!("crate::{{{other}")];
                let found = names.iter().find(|name| text.contains(name.as_str()));
                assert!(found.is_none(), "{file}: `{module}` must not know `{other}`");
            }
        }
    }
}

fn sources(folder: &std::path::Path) -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("readable folder").path();
        // Tests may use what they like.
        let name = path.file_stem().unwrap_or_default();
        if name == "tests" || name == "testing" {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            let text = std::fs::read_to_string(&path).expect("readable source");
            // Those at the end of a file, too.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            found.push((path.display().to_string(), text));
        }
    }
    found
}
