//! Which users and groups this process can give a file to, and what follows from it for trees.
//!
//! A tree is made with one mapping of ids and is wrong under another, so the mapping is part of a tree's place:
//! `full` for a process that is root of the machine, `map-<12 hex>` in a user namespace (the digest of its two maps),
//! `user-<uid>` where every file belongs to the caller, whoever the layer says owns it.

use std::sync::LazyLock;

use crate::digest::Digest;
use crate::layer::Owners;

/// The id mapping of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Name of the folder of trees made with it.
    pub name: String,
    /// Whether files can be given to the owners that a layer names.
    pub owners: Owners,
}

impl Ids {
    /// The mapping that this process lives in.
    pub fn current() -> Self {
        let [uid_map, gid_map] = ["uid_map", "gid_map"].map(read_map);
        Ids::new(rustix::process::geteuid().as_raw(), &uid_map, &gid_map)
    }

    fn new(uid: u32, uid_map: &str, gid_map: &str) -> Self {
        if uid != 0 {
            return Ids { name: format!("user-{uid}"), owners: Owners::Ignore };
        }
        if uid_map == FULL && gid_map == FULL {
            return Ids { name: "full".to_owned(), owners: Owners::Keep };
        }
        let digest = Digest::sha256(format!("{uid_map}\n{gid_map}").as_bytes());
        let single = [uid_map, gid_map].iter().any(|map| mapped(map) <= 1);
        let owners = if single { Owners::Ignore } else { Owners::Keep };
        Ids { name: format!("map-{}", digest.short()), owners }
    }
}

/// Whether this process is outside the machine's own user namespace, where the kernel keeps `trusted.*` xattrs.
pub(super) fn in_user_namespace() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(|| read_map("uid_map") != FULL);
    *ANSWER
}

/// How the names of xattrs begin in which overlayfs keeps its notes.
pub(super) fn overlay_notes() -> &'static str {
    if in_user_namespace() { "user.overlay." } else { "trusted.overlay." }
}

/// The map of a machine's own user namespace: every id is itself.
const FULL: &str = "0 0 4294967295";

/// A map of this process with single blanks; a kernel without user namespaces has none, and maps every id to itself.
fn read_map(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_else(|_| FULL.to_owned());
    let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// How many ids a map holds.
fn mapped(map: &str) -> u64 {
    map.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_names_the_folder_of_trees() {
        assert_eq!(Ids::new(0, FULL, FULL), Ids { name: "full".into(), owners: Owners::Keep });
        assert_eq!(Ids::new(1000, FULL, FULL), Ids { name: "user-1000".into(), owners: Owners::Ignore });
        let sub = "0 1000 1\n1 100000 65536";
        let mapped = Ids::new(0, sub, sub);
        assert!(mapped.name.starts_with("map-") && mapped.owners == Owners::Keep);
        assert_ne!(mapped.name, Ids::new(0, sub, "0 1000 1\n1 200000 65536").name);
        assert_eq!(Ids::new(0, "0 1000 1", "0 1000 1").owners, Owners::Ignore);
    }
}
