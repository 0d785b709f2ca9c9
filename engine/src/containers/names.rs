//! Names of containers: which are allowed, and those that are made up for containers without one.

use super::ContainerError;

/// What a name may look like: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// # Errors
/// [`ContainerError::Name`], in docker's words.
pub(super) fn check(name: &str) -> Result<(), ContainerError> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_alphanumeric());
    let others = characters.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && others && name.len() > 1 {
        return Ok(());
    }
    Err(ContainerError::Name { name: name.to_owned() })
}

/// A name made of `seed`: an adjective and the name of somebody who changed how we compute.
pub(super) fn made_up(seed: u32) -> String {
    let seed = seed as usize;
    let adjective = ADJECTIVES[seed % ADJECTIVES.len()];
    let surname = SURNAMES[seed / ADJECTIVES.len() % SURNAMES.len()];
    format!("{adjective}_{surname}")
}

const ADJECTIVES: [&str; 64] = [
    "airy", "amber", "ample", "apt", "astute", "avid", "balmy", "bold", "breezy", "brisk", "calm", "candid",
    "cheery", "civil", "clear", "cosy", "crisp", "deft", "dapper", "eager", "early", "earnest", "fair",
    "fleet", "fluent", "frank", "gallant", "gentle", "genial", "glad", "golden", "handy", "hardy", "hearty",
    "honest", "humble", "jaunty", "jolly", "keen", "kindly", "lively", "loyal", "lucid", "mellow", "merry",
    "mild", "neat", "nimble", "patient", "placid", "plucky", "proud", "quick", "quiet", "ready", "robust",
    "serene", "spry", "steady", "sunny", "tidy", "upbeat", "warm", "witty",
];

const SURNAMES: [&str; 96] = [
    "adleman",
    "aiken",
    "allen",
    "atanasoff",
    "babbage",
    "backus",
    "bartik",
    "berners",
    "blum",
    "booth",
    "borg",
    "brooks",
    "cerf",
    "chomsky",
    "church",
    "clarke",
    "cocke",
    "codd",
    "conway",
    "cook",
    "cray",
    "dahl",
    "daemen",
    "dennis",
    "diffie",
    "dijkstra",
    "eckert",
    "engelbart",
    "estrin",
    "feinler",
    "floyd",
    "forsythe",
    "goldberg",
    "goldwasser",
    "goldstine",
    "gosper",
    "gray",
    "hamilton",
    "hamming",
    "hartmanis",
    "hellman",
    "hoare",
    "holberton",
    "hollerith",
    "hopcroft",
    "hopper",
    "huffman",
    "iverson",
    "jacquard",
    "johnson",
    "kahan",
    "kahn",
    "karp",
    "kay",
    "keller",
    "kernighan",
    "kilburn",
    "kleene",
    "knuth",
    "lamarr",
    "lampson",
    "lamport",
    "landin",
    "liskov",
    "lovelace",
    "mauchly",
    "mccarthy",
    "mccluskey",
    "merkle",
    "micali",
    "milner",
    "minsky",
    "moore",
    "naur",
    "nygaard",
    "pearl",
    "perlis",
    "perlman",
    "postel",
    "rabin",
    "ritchie",
    "rivest",
    "scott",
    "shamir",
    "shannon",
    "sutherland",
    "tarjan",
    "thacker",
    "thompson",
    "turing",
    "valiant",
    "wilkes",
    "wilkinson",
    "wirth",
    "yao",
    "zuse",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_in_dockers_words() {
        for name in ["ab", "a.", "web-1_x.y", "0a"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "x", "a/b", "-abc", "_x", "ä1", "a b", "a\n"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert_eq!(
            check("a/b").unwrap_err().to_string(),
            "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn made_up_names_are_allowed_and_all_different() {
        let all: std::collections::HashSet<_> = (0..64 * 96).map(made_up).collect();
        assert_eq!(all.len(), 64 * 96);
        assert!(all.iter().all(|name| check(name).is_ok() && name.len() < 24));
        assert!(!made_up(u32::MAX).is_empty());
    }
}
