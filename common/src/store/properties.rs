//! What holds for all inputs: pages put together are the whole, in order; a prefix finds what begins with it.

use std::collections::BTreeSet;
use std::fs;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::hashed_file::HashedFile;
use super::*;
use crate::digest::{Algorithm, Digest};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

/// Reads page after page until one is empty.
fn all_pages(limit: usize, mut page: impl FnMut(Option<&str>, usize) -> Vec<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let next = page(all.last().map(String::as_str), limit);
        assert!(next.len() <= limit);
        if next.is_empty() {
            return all;
        }
        all.extend(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_of_tags_are_the_sorted_list(
        tags in btree_set("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,6}", 0..30),
        limit in 1usize..12,
        start in "[a-zA-Z0-9._-]{0,3}",
    ) {
        let (_folder, store) = store();
        let repository = store.served(&"a".parse().unwrap());
        fs::create_dir_all(repository.paths().tags()).unwrap();
        for tag in &tags {
            fs::write(repository.paths().tag(&tag.parse().unwrap()), "").unwrap();
        }
        let page = |after: Option<&str>, limit| {
            let tags = repository.tags(after, Some(limit)).unwrap();
            tags.iter().map(|tag| tag.to_string()).collect()
        };
        prop_assert_eq!(all_pages(limit, page), tags.iter().cloned().collect::<Vec<_>>());
        let expected = tags.iter().filter(|tag| **tag > start).take(limit).cloned().collect::<Vec<_>>();
        prop_assert_eq!(page(Some(&start), limit), expected);
    }

    #[test]
    fn pages_of_the_catalog_are_the_sorted_list(
        names in btree_set("[a-c][b.-]?[a-c0](/[a-c]([.-]?[a-c]){0,2}){0,3}", 0..25),
        limit in 1usize..8,
        start in "[a-c.-]{0,2}(/[a-c]{0,2}){0,2}",
    ) {
        let (_folder, store) = store();
        for name in &names {
            fs::create_dir_all(store.served(&name.parse().unwrap()).paths().manifests()).unwrap();
        }
        let page = |after: Option<&str>, limit| {
            let names = store.served_repositories(after, Some(limit)).unwrap();
            names.iter().map(|name| name.to_string()).collect()
        };
        prop_assert_eq!(all_pages(limit, page), names.iter().cloned().collect::<Vec<_>>());
        let expected = names.iter().filter(|name| **name > start).take(limit).cloned().collect::<Vec<_>>();
        prop_assert_eq!(page(Some(&start), limit), expected);
    }

    #[test]
    fn a_prefix_finds_the_image_that_begins_with_it(
        seeds in btree_set(any::<u16>(), 1..40),
        digits in 1usize..6,
        named in any::<bool>(),
    ) {
        let (_folder, store) = store();
        let ids: BTreeSet<Digest> = seeds.iter().map(|seed| Digest::sha256(&seed.to_le_bytes())).collect();
        fs::create_dir_all(store.paths().images(Algorithm::Sha256)).unwrap();
        for id in &ids {
            fs::write(store.paths().image(id), "").unwrap();
        }
        for id in &ids {
            let digits = &id.hex()[..digits];
            let prefix = if named { format!("sha256:{digits}") } else { digits.to_owned() };
            let expected: Vec<_> = ids.iter().filter(|id| id.hex().starts_with(digits)).cloned().collect();
            match store.find_image(&prefix) {
                Ok(found) => prop_assert_eq!(found.into_iter().collect::<Vec<_>>(), expected),
                Err(FindError::Ambiguous { candidates, .. }) => {
                    prop_assert!(candidates.len() > 1);
                    prop_assert_eq!(candidates, expected);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }

    #[test]
    fn however_bytes_are_cut_the_file_and_its_digest_are_theirs(
        cuts in vec(prop_oneof![0usize..100, 200_000usize..300_000, 1_000_000usize..2_200_000], 0..6),
    ) {
        let mut file = tempfile::tempfile().unwrap();
        let mut hashed = HashedFile::new(file.try_clone().unwrap(), Algorithm::Sha256.hasher(), 0);
        let mut expected = Vec::new();
        for (n, cut) in cuts.into_iter().enumerate() {
            let piece: Vec<u8> = (0..cut).map(|i| (i * (n + 3)) as u8).collect();
            hashed.append(&piece).unwrap();
            expected.extend(piece);
            prop_assert_eq!(hashed.size_bytes(), expected.len() as u64);
        }
        prop_assert_eq!(hashed.finish().unwrap(), Digest::sha256(&expected));
        let mut bytes = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        prop_assert!(bytes == expected);
    }
}
