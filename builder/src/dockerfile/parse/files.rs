//! `ADD` and `COPY`.

use super::flags::{Flags, Known};
use super::{Faults, Parsed};
use crate::dockerfile::error::Fault;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{Add, Copy, Document, Kind, Transfer};
use crate::dockerfile::source::Word;
use crate::dockerfile::statement::{Statement, heredoc};

const ADD_FLAGS: Known = Known {
    names: &["chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"],
    switches: &["link", "keep-git-dir", "unpack"],
    lists: &["exclude"],
};

const COPY_FLAGS: Known = Known {
    names: &["chown", "from", "chmod", "link", "exclude", "parents"],
    switches: &["link", "parents"],
    lists: &["exclude"],
};

pub(super) fn add(parsed: &Parsed<'_>, faults: &mut Faults) -> Option<Kind> {
    let flags = parsed.flags("ADD", &ADD_FLAGS, faults);
    let add = Add {
        checksum: flags.text("checksum"),
        keep_git_dir: flags.switch("keep-git-dir", faults),
        unpack: flags.switch("unpack", faults),
        transfer: transfer("ADD", parsed, &flags, faults)?,
    };
    Some(Kind::Add(add))
}

pub(super) fn copy(parsed: &Parsed<'_>, escape: char, faults: &mut Faults) -> Option<Kind> {
    let flags = parsed.flags("COPY", &COPY_FLAGS, faults);
    let from = flags.text("from");
    if let Some(from) = &from {
        let expanded = Expander::new(escape, &|_| None).text(&from.text);
        if expanded.as_ref() != Ok(&from.text) {
            faults.add(from.span, Fault::FromExpansion);
        }
    }
    let parents = flags.switch("parents", faults).unwrap_or_default();
    let transfer = transfer("COPY", parsed, &flags, faults)?;
    Some(Kind::Copy(Copy { transfer, from, parents }))
}

fn transfer(
    instruction: &'static str,
    parsed: &Parsed<'_>,
    flags: &Flags,
    faults: &mut Faults,
) -> Option<Transfer> {
    let link = flags.switch("link", faults).unwrap_or_default();
    let [operands @ .., destination] = parsed.words else {
        return faults.fail(parsed.statement.span, Fault::NoDestination { instruction });
    };
    if operands.is_empty() {
        return faults.fail(parsed.statement.span, Fault::NoDestination { instruction });
    }
    if document(destination, parsed.statement).is_some() {
        return faults.fail(destination.span, Fault::HeredocDestination(instruction));
    }
    let mut transfer = Transfer {
        destination: destination.clone(),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link,
        exclude: flags.all("exclude").cloned().collect(),
        ..Transfer::default()
    };
    for operand in operands {
        match document(operand, parsed.statement) {
            Some(document) => transfer.documents.push(document),
            None => transfer.sources.push(operand.clone()),
        }
    }
    Some(transfer)
}

/// The file that `<<name` stands for. Of two bodies of one name the later one counts; without a body it is empty.
fn document(word: &Word, statement: &Statement) -> Option<Document> {
    let announced = heredoc(&word.text, word.span).ok().flatten()?;
    let body = statement.heredocs.iter().rev().find(|heredoc| heredoc.name == announced.name);
    let content = body.map(|heredoc| heredoc.content.as_str()).unwrap_or_default();
    Some(Document {
        content: if announced.strip_tabs { strip_tabs(content) } else { content.to_owned() },
        name: announced.name,
        expand: announced.expand,
        span: word.span,
    })
}

/// `content` without the tabs that its lines begin with.
pub(in crate::dockerfile) fn strip_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}
