//! Error texts, pinned whole: `fixtures/dockerfile/<case>/{Dockerfile,expected.txt}`. `UPDATE_GOLDEN=1` rewrites them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dockerfile::{Parsed, SyntaxErrors, parse_leniently};

/// What the user sees: errors, else warnings, else that all is well.
fn shown(bytes: &[u8]) -> String {
    let checked = |parsed: Parsed| {
        let errors = parsed.all_errors(0..parsed.dockerfile.stages.len());
        let file = parsed.dockerfile;
        if errors.is_empty() { Ok(file) } else { Err(SyntaxErrors { source: file.source, errors }) }
    };
    match parse_leniently("Dockerfile", bytes).and_then(checked) {
        Err(errors) => format!("error: {errors}"),
        Ok(file) if file.warnings.is_empty() => "ok".to_owned(),
        Ok(file) => {
            let line = |span| file.source.line_range(span).0;
            let warnings = file.warnings.iter().map(|w| format!("warning: line {}: {w}", line(w.span)));
            warnings.collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn errors_look_as_they_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dockerfile");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = Vec::new();
    for case in cases {
        let actual = shown(&fs::read(case.join("Dockerfile")).unwrap()) + "\n";
        let expected = case.join("expected.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &actual).unwrap();
        }
        let text = fs::read_to_string(&expected).unwrap_or_default();
        if actual != text {
            wrong.push(format!("{}\nexpected:\n{text}\nactual:\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 rewrites", wrong.join("\n"));
}
