//! Build progress as BuildKit shows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use builder::{Event, VertexId};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::output;

/// How the progress of a build is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// One line an event, numbered: `#3 DONE 0.1s`.
    Plain,
    /// A line a vertex, redrawn in place.
    Terminal,
    /// Nothing.
    Quiet,
}

/// How many lines of a running command are shown on a terminal, and repeated when it fails.
const TAIL: usize = 6;
const TAIL_OF_FAILED: usize = 20;

/// Takes the events of a build and shows them.
#[derive(Debug)]
pub(crate) struct BuildProgress {
    style: Style,
    begun: Instant,
    bars: MultiProgress,
    header: ProgressBar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    vertices: BTreeMap<VertexId, Vertex>,
    last: Option<VertexId>,
    finished: usize,
    warnings: Vec<String>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Vertex {
    name: String,
    begun: Instant,
    cached: bool,
    bar: Option<ProgressBar>,
    /// The line that is not complete yet.
    partial: Vec<u8>,
    tail: VecDeque<String>,
    /// What of it is done, each as a line that begins with a line break.
    parts: String,
}

/// The vertex that ended the build.
#[derive(Debug, Clone)]
struct Failed {
    name: String,
    tail: Vec<String>,
}

impl BuildProgress {
    pub(crate) fn new(style: Style) -> Self {
        let bars = MultiProgress::new();
        let header = match style {
            Style::Terminal => bars.add(ProgressBar::new_spinner()),
            Style::Plain | Style::Quiet => ProgressBar::hidden(),
        };
        header.set_style(timed("[+] Building {seconds} {msg}"));
        header.enable_steady_tick(Duration::from_millis(100));
        BuildProgress { style, begun: Instant::now(), bars, header, state: Mutex::default() }
    }

    /// Shows one event.
    pub(crate) fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { vertex, name } => self.started(&mut state, vertex, name),
            Event::Cached { vertex } => {
                if let Some(found) = state.vertices.get_mut(&vertex) {
                    found.cached = true;
                }
            }
            Event::Output { vertex, bytes, .. } => self.output(&mut state, vertex, bytes),
            Event::Finished { vertex } => self.finished(&mut state, vertex),
            Event::Failed { vertex, error } => self.failed(&mut state, vertex, error),
            Event::Part { vertex, name } => self.part(&mut state, vertex, name),
            Event::Doubtful { warning, line } => state.warnings.push(format!("{warning} (line {line})")),
            Event::Warning(text) => state.warnings.push(text.to_owned()),
            _ => {}
        }
    }

    fn started(&self, state: &mut State, id: VertexId, name: &str) {
        self.plain(state, id, |number| format!("#{number} {name}"));
        let bar = (self.style == Style::Terminal).then(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(timed(" => {wide_msg} {seconds:>6}"));
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let vertex = Vertex {
            name: name.to_owned(),
            begun: Instant::now(),
            cached: false,
            bar,
            partial: Vec::new(),
            tail: VecDeque::new(),
            parts: String::new(),
        };
        state.vertices.insert(id, vertex);
        self.count(state);
    }

    fn output(&self, state: &mut State, id: VertexId, bytes: &[u8]) {
        let Some(vertex) = state.vertices.get_mut(&id) else { return };
        vertex.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = vertex.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = vertex.partial.drain(..=end).collect();
            lines.push(printable(&line));
        }
        let seconds = vertex.begun.elapsed().as_secs_f64();
        self.lines(state, id, &lines, seconds);
    }

    fn lines(&self, state: &mut State, id: VertexId, lines: &[String], seconds: f64) {
        for line in lines {
            self.plain(state, id, |number| format!("#{number} {seconds:.3} {line}"));
        }
        let Some(vertex) = state.vertices.get_mut(&id) else { return };
        for line in lines {
            vertex.tail.push_back(line.clone());
            if vertex.tail.len() > TAIL_OF_FAILED {
                vertex.tail.pop_front();
            }
        }
        if let Some(bar) = &vertex.bar
            && !lines.is_empty()
        {
            let newest = vertex.tail.iter().rev().take(TAIL).rev();
            let tail: String = newest.map(|line| format!("\n => => # {}", clipped(line))).collect();
            bar.set_style(timed(" => {wide_msg} {seconds:>6}{prefix}"));
            bar.set_prefix(tail);
        }
    }

    fn part(&self, state: &mut State, id: VertexId, name: &str) {
        self.plain(state, id, |number| format!("#{number} {name} done"));
        if let Some(vertex) = state.vertices.get_mut(&id) {
            vertex.parts += &format!("\n => => {name}");
        }
    }

    fn finished(&self, state: &mut State, id: VertexId) {
        self.flush(state, id);
        let Some(vertex) = state.vertices.get(&id) else { return };
        let (cached, seconds) = (vertex.cached, vertex.begun.elapsed().as_secs_f64());
        if let Some(bar) = &vertex.bar {
            let name = if cached { format!("CACHED {}", vertex.name) } else { vertex.name.clone() };
            bar.set_style(timed(" => {wide_msg} {seconds:>6}{prefix}"));
            bar.set_prefix(vertex.parts.clone());
            bar.finish_with_message(name);
        }
        self.plain(state, id, |number| match cached {
            true => format!("#{number} CACHED"),
            false => format!("#{number} DONE {seconds:.1}s"),
        });
        state.finished += 1;
        self.count(state);
    }

    fn failed(&self, state: &mut State, id: VertexId, error: &str) {
        self.flush(state, id);
        // The whole of it comes at the end.
        let first_line = error.lines().next().unwrap_or_default();
        self.plain(state, id, |number| format!("#{number} ERROR: {first_line}"));
        let Some(vertex) = state.vertices.get(&id) else { return };
        if let Some(bar) = &vertex.bar {
            bar.set_prefix("");
            bar.abandon_with_message(format!("ERROR {}", vertex.name));
        }
        let failed = Failed { name: vertex.name.clone(), tail: vertex.tail.iter().cloned().collect() };
        state.failed.get_or_insert(failed);
    }

    /// A last line without a line break.
    fn flush(&self, state: &mut State, id: VertexId) {
        let Some(vertex) = state.vertices.get_mut(&id) else { return };
        if !vertex.partial.is_empty() {
            let line = printable(&std::mem::take(&mut vertex.partial));
            let seconds = vertex.begun.elapsed().as_secs_f64();
            self.lines(state, id, &[line], seconds);
        }
    }

    /// Prints a plain line, with a blank one in front when another vertex spoke last.
    fn plain(&self, state: &mut State, id: VertexId, line: impl FnOnce(u32) -> String) {
        if self.style != Style::Plain {
            return;
        }
        if state.last.is_some_and(|last| last != id) {
            output::note("");
        }
        state.last = Some(id);
        output::note(line(id.0));
    }

    fn count(&self, state: &State) {
        self.header.set_message(format!("({}/{})", state.finished, state.vertices.len()));
    }

    /// Ends the show: the output of a failed command is repeated, warnings come last.
    pub(crate) fn finish(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.style == Style::Terminal {
            let done = if state.failed.is_some() { "" } else { " FINISHED" };
            let text =
                format!("[+] Building {seconds:.1}s ({}/{}){done}", state.finished, state.vertices.len());
            self.header
                .set_style(ProgressStyle::with_template("{msg}").expect("the template is well formed"));
            self.header.finish_with_message(text);
        }
        if let Some(failed) = state.failed.as_ref().filter(|failed| !failed.tail.is_empty()) {
            output::note("------");
            output::note(format!(" > {}:", failed.name));
            failed.tail.iter().for_each(output::note);
            output::note("------");
        }
        if self.style != Style::Quiet && !state.warnings.is_empty() {
            output::note(format!("\n {}", warnings(&state.warnings)));
        }
    }
}

/// The list of warnings as buildx prints it.
fn warnings(warnings: &[String]) -> String {
    let found = match warnings.len() {
        1 => "1 warning found".to_owned(),
        number => format!("{number} warnings found"),
    };
    let lines: String = warnings.iter().map(|warning| format!("\n - {warning}")).collect();
    format!("{found} (use docker --debug to expand):{lines}")
}

/// A style whose `{seconds}` are what BuildKit shows: `1.5s`.
fn timed(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    style.with_key("seconds", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // It cannot be said to anybody that a line of progress did not fit into memory.
        let _ = write!(out, "{:.1}s", state.elapsed().as_secs_f64());
    })
}

/// A line of a command's output without its line break and without what would confuse the terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(['\n', '\r']);
    // What is behind the last carriage return is what a terminal would show.
    text.rsplit('\r').next().unwrap_or_default().to_owned()
}

fn clipped(line: &str) -> String {
    let width = super::console_width().saturating_sub(10);
    line.chars().filter(|c| !c.is_control()).take(width).collect()
}
