//! `.dockerignore` files and `--exclude`: lists of patterns that say which paths of a tree are left out.
//!
//! A pattern matches a path or a folder above it. Of all patterns that match the last one counts; one that begins with
//! `!` takes the path back in. Patterns are relative to the root of the tree.
//!
//! For one path there is [`Patterns::matching`]. A walk over a tree carries a [`Folder`] down, so that a path costs
//! one look at each pattern and whole folders can be skipped; the two differ in one corner, where a walk does as
//! BuildKit's does: an exception like `!docs` that finds nothing to take back at `docs` itself takes nothing back in
//! it either, so `**/*.md` leaves out `docs/a.md`.
//!
//! Reference: <https://docs.docker.com/build/concepts/context/#dockerignore-files>

mod glob;

use self::glob::Glob;
pub use self::glob::GlobError;

/// A list of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    list: Vec<Pattern>,
}

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As it was cleaned: no `./`, no slash at the ends, `!` first if it is an exception.
    pub text: String,
    /// Its line in the file, or its place in the list, from 1.
    pub line: usize,
    /// Begins with `!`.
    pub is_exception: bool,
    glob: Glob,
}

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Wildcards that cannot be understood.
    #[error("line {line}: `{text}`: {source}")]
    Glob {
        /// From 1.
        line: usize,
        /// The pattern.
        text: String,
        /// Why.
        source: GlobError,
    },
    /// A `!` alone.
    #[error("line {line}: `!` without a pattern")]
    EmptyException {
        /// From 1.
        line: usize,
    },
}

/// What a walk knows about a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Which patterns matched it or a folder above it.
    matched: Vec<bool>,
    /// Whether it is left out itself; what is in it need not be.
    is_matched: bool,
}

impl Patterns {
    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(content: &[u8]) -> Result<Self, PatternError> {
        let content = String::from_utf8_lossy(content);
        let lines = lines(&content).map(|(line, text)| Pattern::new(line, text));
        Ok(Patterns { list: lines.collect::<Result<_, _>>()? })
    }

    /// Patterns of flags.
    ///
    /// # Errors
    /// The first that is no pattern.
    pub fn new<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, PatternError> {
        let texts = texts.into_iter().enumerate().filter(|(_, text)| !text.trim().is_empty());
        let list = texts.map(|(index, text)| Pattern::new(index + 1, clean_pattern(text.trim(), clean)));
        Ok(Patterns { list: list.collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The pattern that leaves `path` out, itself or with a folder above it; `None` when it is kept.
    pub fn matching(&self, path: &[u8]) -> Option<&Pattern> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([path.len()]).collect();
        let mut found: Option<&Pattern> = None;
        for pattern in &self.list {
            let could_change = pattern.is_exception == found.is_some();
            if could_change && ends.iter().rev().any(|end| pattern.glob.matches(&path[..*end])) {
                found = (!pattern.is_exception).then_some(pattern);
            }
        }
        found
    }

    /// Where a walk begins: the root of the tree, which is never left out.
    pub fn root(&self) -> Folder {
        Folder { matched: vec![false; self.list.len()], is_matched: false }
    }

    /// Whether a walk in `parent` leaves `path` (from the root) out.
    pub fn matches_in(&self, parent: &Folder, path: &[u8]) -> bool {
        self.decide(parent, path, |_| {})
    }

    /// The folder at `path` (from the root) in `parent`.
    pub fn enter(&self, parent: &Folder, path: &[u8]) -> Folder {
        let mut matched = vec![false; self.list.len()];
        let is_matched = self.decide(parent, path, |index| matched[index] = true);
        Folder { matched, is_matched }
    }

    fn decide(&self, parent: &Folder, path: &[u8], mut on_match: impl FnMut(usize)) -> bool {
        let mut is_matched = false;
        for (index, pattern) in self.list.iter().enumerate() {
            let could_change = pattern.is_exception == is_matched;
            if parent.matched[index] || could_change && pattern.glob.matches(path) {
                on_match(index);
                is_matched = !pattern.is_exception;
            }
        }
        is_matched
    }

    /// Whether nothing inside the folder at `path` can be kept, so that a walk need not go there.
    pub fn is_closed(&self, folder: &Folder, path: &[u8]) -> bool {
        // Exceptions before the last pattern that holds for all of the folder come too early to change anything.
        let holds = |index: &usize| folder.matched[*index] && !self.list[*index].is_exception;
        let Some(last) = (0..self.list.len()).rev().find(holds) else { return false };
        let later = self.list[last + 1..].iter();
        folder.is_matched
            && !later.filter(|pattern| pattern.is_exception).any(|pattern| pattern.glob.may_match_below(path))
    }
}

/// Whether `text` can be understood as a pattern.
pub(crate) fn check_glob(text: &str) -> Result<(), GlobError> {
    Glob::new(text).map(drop)
}

impl Pattern {
    fn new(line: usize, text: String) -> Result<Self, PatternError> {
        let (is_exception, bare) = match text.strip_prefix('!') {
            Some("") => return Err(PatternError::EmptyException { line }),
            Some(bare) => (true, bare),
            None => (false, text.as_str()),
        };
        match Glob::new(bare) {
            Ok(glob) => Ok(Pattern { line, is_exception, glob, text }),
            Err(source) => Err(PatternError::Glob { line, text, source }),
        }
    }
}

/// Line numbers and cleaned patterns of a file, without comments and empty lines.
fn lines(content: &str) -> impl Iterator<Item = (usize, String)> {
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    content.lines().enumerate().filter_map(|(index, line)| {
        let text = line.trim();
        let is_pattern = !line.starts_with('#') && !text.is_empty();
        is_pattern.then(|| (index + 1, clean_pattern(text, clean_from_root)))
    })
}

fn clean_pattern(text: &str, clean: fn(&str) -> String) -> String {
    match text.strip_prefix('!').map(str::trim) {
        Some("") => "!".to_owned(),
        Some(path) => format!("!{}", clean(path)),
        None => clean(text),
    }
}

/// In a file a slash in front means nothing.
fn clean_from_root(path: &str) -> String {
    let path = clean(path);
    match path.strip_prefix('/') {
        None | Some("") => path,
        Some(relative) => relative.to_owned(),
    }
}

/// The shortest path that means the same.
fn clean(path: &str) -> String {
    let root = if path.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", _) if !root.is_empty() => {}
            _ => parts.push(part),
        }
    }
    match (root, parts.is_empty()) {
        ("", true) => ".".to_owned(),
        _ => root.to_owned() + &parts.join("/"),
    }
}

#[cfg(test)]
mod tests;
