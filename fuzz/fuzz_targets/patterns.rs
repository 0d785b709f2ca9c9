//! Patterns of paths: `.dockerignore` files, `--exclude`, and the wildcards of COPY. An input is the patterns and a
//! path, a NUL between them.
//!
//! - It ends soon and takes little memory.
//! - A folder that a walk need not enter has nothing in it that is kept.
//! - Without exceptions a walk leaves out what the patterns match.
//! - A pattern of COPY that is the path with its wildcards escaped matches that path.
#![no_main]

// A private part of the builder that needs nothing else of it.
#[path = "../../builder/src/copy/glob.rs"]
#[allow(dead_code, reason = "only matching is fuzzed")]
mod glob;

use builder::ignore::Patterns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: fuzzing::plant("patterns", SEEDS), |data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (content, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let names: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"." | b"..")).collect();
    let path = names.join(&b'/');
    check_copy(content, &path);
    if let Ok(patterns) = Patterns::parse(content) {
        check(&patterns, &path, content.contains(&b'!'));
    }
    if let Ok(text) = str::from_utf8(content)
        && let Ok(patterns) = Patterns::new(text.lines())
    {
        check(&patterns, &path, text.contains('!'));
    }
});

const SEEDS: [&str; 13] = [
    "# comment\n*.md\n!README.md\n\0docs/a.md",
    "**/node_modules\n**/*.log\n/target\n\0a/b/node_modules/c",
    "a/**/b\n**/c/**\nd/**\0a/x/y/b",
    "[a-c]?x[^d]\\*\0abxe*",
    "!only\n*\n!*/keep\n\0x/keep",
    "./a/../b/\n//c//\n. \n\0b/c",
    "**\n!docs/**/*.md\n\0docs/x/y.md",
    "*\n!src\nsrc/gen\n!src/gen/keep\0src/gen/keep/it",
    "a*b*c*d*e*f\0abcdef",
    "*a*a*a*a*a*a*a*b\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "[\\-x]\n[]\n\0-",
    "\u{feff}caf\u{e9}\n\u{1f600}?\n\0caf\u{e9}",
    "*/*\n!*/*/*\n**/temp*\n\0a/b/temporary",
];

fn check(patterns: &Patterns, path: &[u8], has_exceptions: bool) {
    if path.is_empty() {
        return;
    }
    let mut folder = patterns.root();
    let mut closed = false;
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in slashes.chain([path.len()]) {
        let here = &path[..end];
        let is_out = patterns.matches_in(&folder, here);
        assert!(is_out || !closed, "a folder above `{}` was not entered", here.escape_ascii());
        if !has_exceptions {
            assert_eq!(is_out, patterns.matching(here).is_some(), "`{}`", here.escape_ascii());
        }
        folder = patterns.enter(&folder, here);
        closed |= patterns.is_closed(&folder, here);
    }
}

fn check_copy(patterns: &[u8], path: &[u8]) {
    patterns.split(|byte| *byte == b'\n').for_each(|pattern| _ = glob::matches(pattern, path));
    let escaped: Vec<u8> = path.iter().flat_map(|byte| [b'\\', *byte]).collect();
    assert!(glob::matches(&escaped, path));
    assert!(glob::matches(&[&escaped, &b"*"[..]].concat(), path));
}
