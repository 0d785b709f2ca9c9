//! BuildKit's own tables: syntax trees of Dockerfiles, and words before and after expansion.
//!
//! They lie outside the repository; `GANTRY_CORPORA` says where.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::corpora;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::go::{quote, quote_list};
use crate::dockerfile::parse;
use crate::dockerfile::source::Source;
use crate::dockerfile::statement::{self, Operands, Statement};
use crate::dockerfile::{directives, lines::Lines};

/// The syntax tree as BuildKit's dumper prints it; `None` when the file cannot be cut up.
fn dump(text: &str) -> Option<String> {
    let source = Source::new("Dockerfile", text.strip_prefix('\u{feff}').unwrap_or(text));
    let (directives, errors, first) = directives::read(&source);
    let lines = Lines::new(&source, first, directives.escape);
    let (statements, more) = statement::read(&source, lines, directives.escape);
    if !errors.is_empty() || !more.is_empty() {
        return None;
    }
    Some(statements.iter().map(|statement| format!("({})\n", dump_statement(statement))).collect())
}

fn dump_statement(statement: &Statement) -> String {
    let mut text = statement.keyword.text.to_lowercase();
    if !statement.flags.is_empty() {
        let flags: Vec<String> = statement.flags.iter().map(|flag| flag.text.clone()).collect();
        text += &format!(" {}", quote_list(&flags));
    }
    match &statement.operands {
        Operands::Words(words) | Operands::Json(words) => {
            for word in words {
                text += &format!(" {}", quote(&word.text));
            }
        }
        Operands::Pairs(pairs) => {
            for pair in pairs {
                let separator = if pair.legacy { "" } else { "=" };
                text +=
                    &format!(" {} {} {}", quote(&pair.key.text), quote(&pair.value.text), quote(separator));
            }
        }
        Operands::Nested(nested) => text += &format!(" ({})", dump_statement(nested)),
    }
    text
}

fn cases(corpora: &Path, folder: &str) -> Vec<PathBuf> {
    let folder = corpora.join("dockerfile-parser").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn parser_corpora_give_the_same_trees() {
    let Some(corpora) = corpora::folder() else { return };
    let mut wrong = Vec::new();
    for case in cases(&corpora, "testfiles") {
        let text = fs::read_to_string(case.join("Dockerfile")).unwrap();
        let expected = fs::read_to_string(case.join("result")).unwrap();
        let actual = dump(&text).unwrap_or_else(|| "does not parse".to_owned());
        if actual.trim() != expected.trim() {
            wrong.push(format!("{}\nexpected:\n{expected}\nactual:\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn negative_parser_corpora_are_refused() {
    let Some(corpora) = corpora::folder() else { return };
    for case in cases(&corpora, "negative") {
        let text = fs::read(case.join("Dockerfile")).unwrap();
        assert!(parse("Dockerfile", &text).is_err(), "{}", case.display());
    }
}

/// What is wrong with one row of the expansion table.
fn expansion_fault(row: &HashMap<&str, &str>) -> Option<String> {
    let env: HashMap<String, String> = serde_json::from_str(row["env"]).unwrap();
    let input: String = serde_json::from_str(row["input"]).unwrap();
    let lookup = |name: &str| env.get(name).cloned();
    let mut expander = Expander::new('\\', &lookup);
    let result = match row["mode"] {
        "word" => expander.text(&input).map(serde_json::Value::from),
        "words" => expander.list(&input).map(serde_json::Value::from),
        other => panic!("unknown mode {other}"),
    };
    let expected: serde_json::Value = serde_json::from_str(row["expected"]).unwrap();
    let right = match (&result, row["result"]) {
        (Ok(value), "ok") => *value == expected,
        (Err(error), "error") => error.to_string().contains(expected.as_str().unwrap_or_default()),
        _ => false,
    };
    (!right)
        .then(|| format!("{}: {input:?} gives {result:?}, expected {} {expected}", row["id"], row["result"]))
}

#[test]
fn expansion_corpora_give_the_same_words() {
    let Some(corpora) = corpora::folder() else { return };
    let text = fs::read_to_string(corpora.join("variable-expansion.tsv")).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let rows = lines.map(|line| header.iter().copied().zip(line.split('\t')).collect::<HashMap<_, _>>());
    let wrong: Vec<String> = rows.filter_map(|row| expansion_fault(&row)).collect();
    assert!(wrong.is_empty(), "{} rows differ\n{}", wrong.len(), wrong.join("\n"));
}

/// The Dockerfiles of the build cases: those that BuildKit builds must parse.
#[test]
fn build_corpora_parse() {
    let Some(corpora) = corpora::folder() else { return };
    let (mut wrong, mut parsed) = (Vec::new(), 0);
    for entry in fs::read_dir(corpora.join("build-cases")).unwrap() {
        let case = entry.unwrap().path();
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(case.join(name)).unwrap()).unwrap()
        };
        let dockerfile = json("case.json")["dockerfile"].as_str().unwrap().to_owned();
        let is_ok = json("expected.json")["result"] == "ok";
        // Some cases build from a Dockerfile that they make themselves.
        let Ok(text) = fs::read(case.join("context").join(dockerfile)) else { continue };
        parsed += 1;
        match parse("Dockerfile", &text) {
            Err(errors) if is_ok => wrong.push(format!("{}\n{errors}", case.display())),
            _ => {}
        }
    }
    assert!(parsed > 0, "no case has a Dockerfile");
    assert!(wrong.is_empty(), "{} files are refused\n{}", wrong.len(), wrong.join("\n"));
}
