//! Dockerfiles.
//!
//! - Every span, of a word, an instruction or an error, lies inside the text and between characters.
//! - A refused file has errors, in order of lines, each shown with a line that exists.
//! - All that a builder does with a file ends, with an error at worst.
#![no_main]

use std::fs;
use std::path::Path;

use builder::dockerfile::{
    Dockerfile, Expander, Instruction, Kind, Source, Span, SyntaxError, SyntaxErrors, Transfer, Word,
    history, parse_leniently, parse_trigger,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fuzzing::plant("dockerfile", seeds()), |data: &[u8]| check(data));

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/dockerfile");
    let cases = fs::read_dir(folder).expect("the fixtures are there");
    let read =
        |case: fs::DirEntry| fs::read(case.path().join("Dockerfile")).expect("a case has a Dockerfile");
    cases.map(|case| read(case.expect("the fixtures can be listed"))).collect()
}

fn check(bytes: &[u8]) {
    match parse_leniently("Dockerfile", bytes) {
        Ok(parsed) => {
            let errors = parsed.all_errors(0..parsed.dockerfile.stages.len());
            errors.iter().for_each(|error| check_error(&parsed.dockerfile.source, error));
            check_file(&parsed.dockerfile);
        }
        Err(errors) => check_errors(&errors),
    }
}

fn check_file(file: &Dockerfile) {
    let source = &file.source;
    spans(file).into_iter().for_each(|span| check_span(source, span));
    // Some variables exist, and hold what means something to shells and patterns.
    let lookup = |name: &str| name.len().is_multiple_of(2).then(|| format!("{name}/*"));
    let mut expander = Expander::new(file.directives.escape, &lookup);
    for stage in &file.stages {
        expander.word(&stage.base).map(drop).unwrap_or_else(|error| check_error(source, &error));
        for instruction in &stage.instructions {
            carry_out(file, instruction, &mut expander);
        }
    }
}

/// Does with an instruction what the builder would.
fn carry_out(file: &Dockerfile, instruction: &Instruction, expander: &mut Expander<'_>) {
    assert!(!instruction.title().is_empty());
    match &instruction.kind {
        Kind::Run(run) => {
            run.script();
            for mount in &run.mounts {
                mount.resolve(expander).map(drop).unwrap_or_else(|error| check_error(&file.source, &error));
            }
        }
        Kind::Onbuild(onbuild) => {
            drop(parse_trigger(&onbuild.expression).map_err(|errors| check_errors(&errors)))
        }
        _ => {}
    }
    match expander.kind(&instruction.kind) {
        Ok(kind) => drop(history::created_by(&kind, &["/bin/sh".to_owned(), "-c".to_owned()])),
        Err(error) => check_error(&file.source, &error),
    }
}

fn check_errors(SyntaxErrors { source, errors }: &SyntaxErrors) {
    assert!(!errors.is_empty(), "refused without an error");
    assert!(errors.is_sorted_by_key(|error| error.span), "errors out of order: {errors:?}");
    errors.iter().for_each(|error| check_error(source, error));
}

fn check_error(source: &Source, error: &SyntaxError) {
    check_span(source, error.span);
    let place = format!("\n  {}:{}", source.name, source.line_range(error.span).0);
    assert!(error.report(source).contains(&place), "no place in: {}", error.report(source));
}

fn check_span(source: &Source, span: Span) {
    let text = source.text();
    assert!(text.get(span.start..span.end).is_some(), "{span:?} of {} bytes", text.len());
    let (first, last) = source.line_range(span);
    assert!(1 <= first && first <= last && last <= source.line_count(), "{span:?}: lines {first} to {last}");
}

/// Where everything in the file stands.
fn spans(file: &Dockerfile) -> Vec<Span> {
    let mut words: Vec<&Word> = file.directives.syntax.iter().collect();
    let mut spans: Vec<Span> = file.warnings.iter().map(|warning| warning.span).collect();
    for arg in &file.global_args {
        words.extend([&arg.name].into_iter().chain(&arg.value));
    }
    for stage in &file.stages {
        words.extend([&stage.keyword, &stage.base].into_iter().chain(&stage.platform).chain(&stage.comments));
        words.extend(stage.alias.iter().flat_map(|alias| [&alias.keyword, &alias.typed]));
        spans.push(stage.span);
        for instruction in &stage.instructions {
            words.extend([&instruction.keyword].into_iter().chain(&instruction.comments));
            spans.push(instruction.span);
            spans_of(&instruction.kind, &mut words, &mut spans);
        }
    }
    spans.extend(words.iter().map(|word| word.span));
    spans
}

fn spans_of<'f>(kind: &'f Kind, words: &mut Vec<&'f Word>, spans: &mut Vec<Span>) {
    match kind {
        Kind::Add(add) => {
            words.extend(&add.checksum);
            spans_of_transfer(&add.transfer, words, spans);
        }
        Kind::Copy(copy) => {
            words.extend(&copy.from);
            spans_of_transfer(&copy.transfer, words, spans);
        }
        Kind::Arg(args) => {
            args.iter().for_each(|arg| words.extend([&arg.name].into_iter().chain(&arg.value)))
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            words.extend(pairs.iter().flat_map(|pair| [&pair.key, &pair.value]));
        }
        Kind::Expose(list) | Kind::Volume(list) => words.extend(list),
        Kind::Maintainer(word) | Kind::Stopsignal(word) | Kind::User(word) | Kind::Workdir(word) => {
            words.push(word);
        }
        Kind::Onbuild(onbuild) => words.push(&onbuild.trigger),
        Kind::Run(run) => {
            spans.extend(run.heredocs.iter().map(|heredoc| heredoc.span));
            spans.extend(run.devices.iter().map(|device| device.span));
            for mount in &run.mounts {
                spans.push(mount.span);
                words.extend(
                    mount.fields.iter().flat_map(|field| [&field.key].into_iter().chain(&field.value)),
                );
            }
        }
        Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_) | Kind::Shell(_) => {}
    }
}

fn spans_of_transfer<'f>(transfer: &'f Transfer, words: &mut Vec<&'f Word>, spans: &mut Vec<Span>) {
    words.extend(transfer.sources.iter().chain([&transfer.destination]).chain(&transfer.exclude));
    words.extend(transfer.chown.iter().chain(&transfer.chmod));
    spans.extend(transfer.documents.iter().map(|document| document.span));
}
