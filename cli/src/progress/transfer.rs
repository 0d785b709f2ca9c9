//! Progress of pull and push, a line a layer, in docker's words.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use common::digest::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::output;

/// A line for each layer.
#[derive(Debug)]
pub(crate) struct Transfers {
    shown: Shown,
    lines: Mutex<BTreeMap<Digest, Line>>,
}

#[derive(Debug)]
enum Shown {
    Bars(MultiProgress),
    Lines,
    Nothing,
}

#[derive(Debug, Default)]
struct Line {
    bar: Option<ProgressBar>,
    status: String,
}

impl Transfers {
    /// Bars on a terminal, else a line a change of status; nothing when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = match (quiet, output::stderr_is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bars(MultiProgress::new()),
            (false, false) => Shown::Lines,
        };
        Transfers { shown, lines: Mutex::default() }
    }

    /// Sets the words behind a layer's short digest.
    pub(crate) fn status(&self, digest: &Digest, status: &str) {
        self.with(digest, |line| {
            if line.status == status {
                return;
            }
            line.status = status.to_owned();
            match &line.bar {
                Some(bar) => {
                    bar.set_style(style("{prefix}: {msg}"));
                    bar.set_message(status.to_owned());
                    bar.tick();
                }
                None if matches!(self.shown, Shown::Lines) => {
                    output::note(format!("{}: {status}", digest.short()))
                }
                None => {}
            }
        });
    }

    /// Shows how far a layer has come.
    pub(crate) fn bytes(&self, digest: &Digest, status: &str, done: u64, total: u64) {
        self.with(digest, |line| match &line.bar {
            Some(bar) => {
                bar.set_style(style(&with_bar(super::console_width())));
                bar.set_message(status.to_owned());
                bar.set_length(total);
                bar.set_position(done);
                line.status = status.to_owned();
            }
            None if line.status != status && matches!(self.shown, Shown::Lines) => {
                line.status = status.to_owned();
                output::note(format!("{}: {status} ({})", digest.short(), output::size(total)));
            }
            None => {}
        });
    }

    /// Leaves the lines as they are.
    pub(crate) fn finish(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.values().filter_map(|line| line.bar.as_ref()).for_each(ProgressBar::abandon);
    }

    fn with(&self, digest: &Digest, change: impl FnOnce(&mut Line)) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(digest.clone()).or_insert_with(|| match &self.shown {
            Shown::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(0));
                bar.set_style(style("{prefix}: {msg}"));
                bar.set_prefix(digest.short().to_owned());
                Line { bar: Some(bar), status: String::new() }
            }
            Shown::Lines | Shown::Nothing => Line::default(),
        });
        change(line);
    }
}

/// The template of a transfer on a terminal so wide: without a bar where a line would not hold one.
fn with_bar(width: usize) -> String {
    // `0123456789ab: Downloading [] 123.4MB/123.4MB`
    match width.saturating_sub(46).min(50) {
        0..8 => "{prefix}: {msg} {done}/{whole}".to_owned(),
        bar => format!("{{prefix}}: {{msg}} [{{bar:{bar}}}] {{done}}/{{whole}}"),
    }
}

/// A style whose `{done}` and `{whole}` are bytes as docker writes them.
fn style(template: &str) -> ProgressStyle {
    // It cannot be said to anybody that a line of progress did not fit into memory.
    let size = |bytes: u64, out: &mut dyn Write| {
        let _ = out.write_str(&output::size(bytes));
    };
    ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .progress_chars("=> ")
        .with_key("done", move |state: &ProgressState, out: &mut dyn Write| size(state.pos(), out))
        .with_key("whole", move |state: &ProgressState, out: &mut dyn Write| {
            size(state.len().unwrap_or_default(), out);
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_on_every_terminal() {
        for (width, bar) in [(40, None), (53, None), (54, Some(8)), (80, Some(34)), (200, Some(50))] {
            let expected = bar.map(|bar| format!("[{{bar:{bar}}}]"));
            let template = with_bar(width);
            assert_eq!(
                template.split(' ').find(|word| word.starts_with('[')),
                expected.as_deref(),
                "{width}"
            );
        }
    }
}
