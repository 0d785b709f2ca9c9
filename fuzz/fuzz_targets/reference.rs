//! References, digests, tags and platforms.
//!
//! - What was read is shown as a text that reads as the same; so is the short form that docker shows.
//! - What a name is made of could stand in a path of the store: no empty part, none of dots alone.
#![no_main]

use common::digest::Digest;
use common::platform::Platform;
use common::reference::{Reference, Repository, RepositoryPath, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fuzzing::plant("reference", seeds()), |data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        check_reference(text);
        check_shown::<Repository>(text);
        check_shown::<RepositoryPath>(text);
        check_shown::<Tag>(text);
        check_shown::<Digest>(text);
        check_shown::<Platform>(text);
    }
});

fn seeds() -> Vec<String> {
    let digest = Digest::sha256(b"");
    let texts = [
        "busybox",
        "docker.io/busybox",
        "index.docker.io/a/b:1",
        "localhost/a",
        "localhost:5000/a",
        "[::1]:5000/a:x",
        "127.0.0.1:5000/a/b__c/d---e:V_1.2-3",
        "docker.io/library/a/b",
        "docker.io/localhost/a",
        "linux/arm64/v8",
        "x86_64",
    ];
    let digests =
        [format!("a@{digest}"), format!("a:t@{digest}"), digest.to_string(), digest.hex().to_owned()];
    texts.map(str::to_owned).into_iter().chain(digests).collect()
}

fn check_shown<T>(text: &str)
where
    T: std::str::FromStr<Err: std::fmt::Debug + PartialEq> + std::fmt::Display + std::fmt::Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}

fn check_reference(text: &str) {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
    assert_eq!(reference.familiar().parse().as_ref(), Ok(&reference), "shown as {}", reference.familiar());
    let repository = reference.repository();
    assert_eq!(repository.to_string().parse().as_ref(), Ok(repository));
    assert_eq!(repository.familiar().parse().as_ref(), Ok(repository), "shown as {}", repository.familiar());
    let names = [repository.host()].into_iter().chain(repository.path().as_str().split('/'));
    for name in names.chain(reference.tag().map(Tag::as_str)) {
        assert!(!matches!(name, "" | "." | "..") && !name.contains(['/', '\0', '+']), "`{name}`");
    }
}
