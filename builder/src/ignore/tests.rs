use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::corpora;

#[derive(Deserialize)]
struct Corpus {
    parse: Vec<ParseRow>,
    #[serde(rename = "match")]
    rows: Vec<MatchRow>,
}

#[derive(Deserialize)]
struct ParseRow {
    content: String,
    patterns: Vec<String>,
}

#[derive(Deserialize)]
struct MatchRow {
    patterns: Vec<String>,
    path: String,
    ignored: bool,
    error: bool,
}

fn corpus() -> Option<Corpus> {
    let text = std::fs::read(corpora::folder()?.join("dockerignore.json")).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

#[test]
fn dockerignore_corpora_match_the_same_paths() {
    let Some(corpus) = corpus() else { return };
    for row in corpus.rows {
        let about = format!("{:?} {}", row.patterns, row.path);
        match Patterns::new(row.patterns.iter().map(String::as_str)) {
            Err(error) => assert!(row.error, "{about}: {error}"),
            Ok(patterns) => {
                assert!(!row.error, "{about}");
                assert_eq!(patterns.matching(row.path.as_bytes()).is_some(), row.ignored, "{about}");
            }
        }
    }
}

#[test]
fn dockerignore_corpora_read_the_same_patterns() {
    let Some(corpus) = corpus() else { return };
    for row in corpus.parse {
        let patterns: Vec<String> = lines(&row.content).map(|(_, text)| text).collect();
        assert_eq!(patterns, row.patterns, "{:?}", row.content);
    }
}

fn patterns(text: &str) -> Patterns {
    Patterns::parse(text.as_bytes()).unwrap()
}

fn text_of(pattern: Option<&Pattern>) -> Option<(usize, &str)> {
    pattern.map(|pattern| (pattern.line, pattern.text.as_str()))
}

#[test]
fn the_deciding_line_is_named() {
    let patterns = patterns("# all\n*\n!src/\n\nsrc/**/*.o\n");
    assert_eq!(text_of(patterns.matching(b"doc/x")), Some((2, "*")));
    assert_eq!(text_of(patterns.matching(b"src/a/b.c")), None);
    assert_eq!(text_of(patterns.matching(b"src/a/b.o")), Some((5, "src/**/*.o")));
    let error = Patterns::parse(b"a\n!\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: `!` without a pattern");
    let error = Patterns::parse(b"a\n[x\n").unwrap_err();
    assert_eq!(error.to_string(), "line 2: `[x`: `[` is not closed, or nothing stands between `[` and `]`");
}

#[test]
fn paths_are_cleaned() {
    for (path, expected) in [
        ("a//b/./c/", "a/b/c"),
        ("/a/../b", "/b"),
        ("../a/..", ".."),
        ("/..", "/"),
        ("./", "."),
        ("a/../..", ".."),
    ] {
        assert_eq!(clean(path), expected, "{path}");
    }
}

/// Walks `paths` (each folder before what is in it) and gives what is kept.
fn walk(patterns: &Patterns, paths: &[&str]) -> Vec<String> {
    let mut folders = vec![(String::new(), patterns.root())];
    let mut closed: BTreeSet<String> = BTreeSet::new();
    let mut kept = Vec::new();
    for path in paths {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if closed.iter().any(|folder| path.starts_with(&format!("{folder}/"))) {
            continue;
        }
        let (_, state) = folders.iter().find(|(folder, _)| folder == parent).unwrap();
        if !patterns.matches_in(state, path.as_bytes()) {
            kept.push((*path).to_owned());
        }
        let folder = patterns.enter(state, path.as_bytes());
        if patterns.is_closed(&folder, path.as_bytes()) {
            closed.insert((*path).to_owned());
        }
        folders.push(((*path).to_owned(), folder));
    }
    kept
}

#[test]
fn a_walk_skips_what_no_exception_reaches() {
    let patterns = patterns("*\n!src\nsrc/gen\n!src/gen/keep/*.rs\n");
    let root = patterns.root();
    let target = patterns.enter(&root, b"target");
    assert!(target.is_matched && patterns.is_closed(&target, b"target"));
    let generated = patterns.enter(&patterns.enter(&root, b"src"), b"src/gen");
    assert!(generated.is_matched && !patterns.is_closed(&generated, b"src/gen"));
    let paths =
        ["src", "src/a", "src/gen", "src/gen/a", "src/gen/keep", "src/gen/keep/b.rs", "target", "target/c"];
    assert_eq!(walk(&patterns, &paths), ["src", "src/a", "src/gen/keep/b.rs"]);
}

#[test]
fn a_walk_takes_back_only_what_was_left_out() {
    let patterns = patterns("**/*.md\n!docs\n");
    assert_eq!(walk(&patterns, &["docs", "docs/a.md", "docs/b"]), ["docs", "docs/b"]);
    assert!(patterns.matching(b"docs/a.md").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Skipping closed folders changes nothing.
    #[test]
    fn closed_folders_hold_nothing(lines in prop::collection::vec("!?(\\*\\*/)?[ab*?]{1,2}(/[ab*]{1,2}){0,2}", 1..6)) {
        let Ok(patterns) = Patterns::new(lines.iter().map(String::as_str)) else { return Ok(()) };
        let names = ["a", "b", "ab"];
        let mut paths: Vec<String> = Vec::new();
        for x in names {
            paths.push(x.to_owned());
            for y in names {
                paths.push(format!("{x}/{y}"));
                paths.extend(names.iter().map(|z| format!("{x}/{y}/{z}")));
            }
        }
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let kept = walk(&patterns, &paths);
        for path in paths {
            let mut state = patterns.root();
            let mut is_matched = false;
            for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
                is_matched = patterns.matches_in(&state, &path.as_bytes()[..end]);
                state = patterns.enter(&state, &path.as_bytes()[..end]);
            }
            prop_assert_eq!(!is_matched, kept.contains(&path.to_owned()), "{}", path);
        }
    }

    #[test]
    fn no_pattern_panics(content in "[\\\\!*?\\[\\]^a-b./\n -]{0,30}", path in prop::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(patterns) = Patterns::parse(content.as_bytes()) {
            patterns.matching(&path);
            let folder = patterns.enter(&patterns.root(), &path);
            patterns.is_closed(&folder, &path);
        }
    }
}

#[test]
fn many_stars_end_soon() {
    let patterns = patterns(&("**/*a*/".repeat(40) + "*c?"));
    assert!(patterns.matching("ab/".repeat(100).as_bytes()).is_none());
}

#[test]
fn a_pattern_longer_than_any_path_is_refused() {
    let error = Patterns::parse(format!("ok\n{}", "?*".repeat(1 << 20)).as_bytes()).unwrap_err();
    assert!(matches!(error, PatternError::Glob { line: 2, source: GlobError::TooLong, .. }));
}

#[test]
fn twenty_thousand_files_take_a_moment() {
    let text =
        "**/node_modules\n**/*.pyc\n.git\ntarget/**\n*.log\n!keep.log\ndocs/**/*.md\n!docs/README.md\n";
    let patterns = patterns(text);
    let root = patterns.root();
    let src = patterns.enter(&root, b"src");
    let kept =
        (0..20_000).filter(|n| !patterns.matches_in(&src, format!("src/module_{n}/file.pyx").as_bytes()));
    assert_eq!(kept.count(), 20_000);
}
