//! Nothing that a file may hold makes the parser panic or run away.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::dockerfile::{Expander, Kind, parse, parse_trigger};

/// Pieces that mean something to the grammar.
const PIECES: [&str; 60] = [
    "FROM ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "ONBUILD ",
    "HEALTHCHECK ",
    "CMD ",
    "SHELL ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "STOPSIGNAL ",
    "ENTRYPOINT ",
    "MAINTAINER ",
    " AS ",
    "\n",
    "\r\n",
    "\\\n",
    "`\n",
    "# escape=`\n",
    "# syntax=x\n",
    "# check=skip=all\n",
    "#\n",
    "\u{feff}",
    " ",
    "\t",
    "--mount=",
    "--from=",
    "--chown=",
    "--network=",
    "--device=",
    "--",
    "type=",
    "cache",
    "secret",
    ",",
    "=",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "$",
    "${",
    ":-",
    ":?",
    "##",
    "%",
    "/",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "\u{e9}\u{1f600}",
    "0",
    "\\",
];

fn mutated() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        1 => "[a-z0-9]{1,4}",
        1 => "\\PC{0,3}",
    ];
    vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

/// Real files, to be damaged. They are seeds of the fuzz target too.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dockerfile");
    let cases = fs::read_dir(folder).unwrap();
    cases.map(|case| fs::read(case.unwrap().path().join("Dockerfile")).unwrap()).collect()
}

/// A seed in which some bytes are other ones, some are missing and a piece comes twice.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let places = vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..6);
    (prop::sample::select(seeds()), places, any::<prop::sample::Index>()).prop_map(
        |(mut bytes, places, twice)| {
            for (at, byte, replace) in places {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                bytes.splice(at..=at, replace.then_some(byte));
            }
            let again = bytes[twice.index(bytes.len() + 1)..].to_vec();
            bytes.extend(again);
            bytes
        },
    )
}

/// Does with a text all that a builder would.
fn exercise(bytes: &[u8]) {
    let file = match parse("Dockerfile", bytes) {
        Ok(file) => file,
        Err(errors) => {
            assert!(!errors.errors.is_empty() && !errors.to_string().is_empty());
            return;
        }
    };
    file.check(0..file.stages.len());
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| format!("{name}/*"));
    let mut expander = Expander::new(file.directives.escape, &lookup);
    for stage in &file.stages {
        let text = file.source.text();
        assert!(text.get(stage.span.start..stage.span.end).is_some());
        drop(expander.word(&stage.base));
        for instruction in &stage.instructions {
            let span = instruction.span;
            assert!(text.get(span.start..span.end).is_some_and(|text| !text.is_empty()));
            assert!(!instruction.title().is_empty());
            if let Kind::Run(run) = &instruction.kind {
                run.script();
                run.mounts.iter().for_each(|mount| drop(mount.resolve(&mut expander)));
            }
            if let Kind::Onbuild(onbuild) = &instruction.kind {
                drop(parse_trigger(&onbuild.expression));
            }
            drop(expander.kind(&instruction.kind));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic(text in mutated()) {
        exercise(text.as_bytes());
        exercise(format!("FROM a\n{text}").as_bytes());
    }

    #[test]
    fn damaged_files_never_panic(bytes in damaged()) {
        exercise(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn random_words_never_panic(word in "[$\\\\{}:/#%?+'\"*a-b<\\- ]{0,40}") {
        let lookup = |name: &str| (name == "a").then(|| "b/a*\n?".to_owned());
        let mut expander = Expander::new('\\', &lookup);
        drop(expander.text(&word));
        drop(expander.list(&word));
        drop(expander.document(&word));
        expander.display(&word);
    }
}

#[test]
fn deep_and_wide_files_end_soon() {
    for (head, piece, count) in [
        ("RUN ", "${a:-", 10_000),
        ("CMD ", "[", 60_000),
        ("ONBUILD ", "ONBUILD ", 8_000),
        ("RUN cat ", "<<E ", 10_000),
        ("RUN x ", "\\\n# comment\n\n", 50_000),
        ("RUN x ", "\\\n b", 100_000),
        ("ENV ", "a=b ", 10_000),
        ("USER ", "${", 10_000),
        ("", "FROM a AS b\n", 20_000),
        ("", "COPPY\n", 20_000),
        ("EXPOSE ", "0-65535 ", 5_000),
        ("LABEL a=", "${x//y/", 5_000),
    ] {
        exercise(format!("FROM a\n{head}{}", piece.repeat(count)).as_bytes());
    }
    exercise(&vec![b'x'; 17 << 20]);
}
