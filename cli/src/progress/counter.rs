use common::store::CheckEvent;
use indicatif::{ProgressBar, ProgressStyle};

/// One bar that counts bytes; nothing where there is no terminal.
#[derive(Debug)]
pub(crate) struct Counter {
    bar: ProgressBar,
}

impl Counter {
    /// A bar with a word in front; hidden unless `shown`.
    pub(crate) fn new(what: &'static str, shown: bool) -> Self {
        let bar = if shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {eta}");
        bar.set_style(style.expect("the template is well formed").progress_chars("=> "));
        bar.set_message(what);
        Counter { bar }
    }

    /// Takes note of the progress of a check.
    pub(crate) fn check(&self, event: CheckEvent) {
        match event {
            CheckEvent::Reading { size_bytes, .. } => self.bar.set_length(size_bytes),
            CheckEvent::Read { size_bytes } => self.bar.inc(size_bytes),
        }
    }

    /// More is to come.
    pub(crate) fn expect(&self, size_bytes: u64) {
        self.bar.inc_length(size_bytes);
    }

    /// Some of it came.
    pub(crate) fn add(&self, size_bytes: u64) {
        self.bar.inc(size_bytes);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
