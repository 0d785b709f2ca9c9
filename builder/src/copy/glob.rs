//! Wildcards of COPY and ADD sources: Go's `filepath.Match`, on bytes.
//!
//! `*` is any text without `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` classes, `\` takes the next character as
//! it is. `**` is two stars, no more. Rules: <https://pkg.go.dev/path/filepath#Match>

/// Whether `text` holds a wildcard that is not behind a backslash.
pub(crate) fn has_wildcards(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// The components of `path` before the first one with a wildcard, and those from it on.
pub(crate) fn split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let components: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    let fixed = components.iter().position(|part| has_wildcards(part)).unwrap_or(components.len());
    (components[..fixed].join(&b'/'), components[fixed..].join(&b'/'))
}

/// Whether the whole of `name` fits `pattern`; a malformed pattern fits nothing.
pub(crate) fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // The pattern behind the last star, and the name from where this star may take one more byte.
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(behind) = pattern.strip_prefix(b"*") {
            last_star = Some((behind, name));
            pattern = behind;
        } else if pattern.is_empty() && name.is_empty() {
            return true;
        } else if let Some(rest) = match_character(pattern, name) {
            (pattern, name) = rest;
        } else {
            // Stars before the last one need not be tried again: what they could take, the last one can.
            match last_star {
                Some((behind, [taken, rest @ ..])) if *taken != b'/' => {
                    last_star = Some((behind, rest));
                    (pattern, name) = (behind, rest);
                }
                _ => return false,
            }
        }
    }
}

/// What follows in `pattern`, which begins with no star, and in `name` when their first characters fit.
fn match_character<'p, 'n>(pattern: &'p [u8], name: &'n [u8]) -> Option<(&'p [u8], &'n [u8])> {
    let (first, rest) = pattern.split_first()?;
    let got = name.first()?;
    match first {
        b'?' if *got != b'/' => Some((rest, &name[character_len(name)..])),
        b'[' if *got != b'/' => {
            let (fits, behind) = class(rest, name)?;
            fits.then(|| (behind, &name[character_len(name)..]))
        }
        b'?' | b'[' => None,
        b'\\' => {
            let (wanted, behind) = rest.split_first()?;
            (wanted == got).then(|| (behind, &name[1..]))
        }
        _ => (first == got).then(|| (rest, &name[1..])),
    }
}

/// Reads a class behind its `[`: whether the first character of `name` is in it, and the pattern behind `]`.
/// `None` when the class is malformed.
fn class<'p>(pattern: &'p [u8], name: &[u8]) -> Option<(bool, &'p [u8])> {
    let wanted = &name[..character_len(name)];
    let (negated, mut rest) = match pattern.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let mut found = false;
    let mut empty = true;
    loop {
        if let (Some(behind), false) = (rest.strip_prefix(b"]"), empty) {
            return Some((found != negated, behind));
        }
        empty = false;
        let low = class_character(&mut rest)?;
        let high = match rest.strip_prefix(b"-") {
            None => low,
            Some(behind) => {
                rest = behind;
                class_character(&mut rest)?
            }
        };
        // UTF-8 sorts as the characters do.
        found |= (low..=high).contains(&wanted);
    }
}

fn class_character<'p>(pattern: &mut &'p [u8]) -> Option<&'p [u8]> {
    if matches!(pattern.first(), None | Some(b'-' | b']')) {
        return None;
    }
    *pattern = pattern.strip_prefix(b"\\").unwrap_or(pattern);
    let len = character_len(pattern);
    let (character, rest) = pattern.split_at(len);
    *pattern = rest;
    // A class must end: its last character is followed by something.
    (len > 0 && !rest.is_empty()).then_some(character)
}

/// Length in bytes of the first character; bytes that are not UTF-8 count one by one.
fn character_len(text: &[u8]) -> usize {
    let len = match text.first() {
        None => return 0,
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) => 1,
    };
    match text.get(..len) {
        Some(bytes) if std::str::from_utf8(bytes).is_ok() => len,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let cases: &[(&str, &str, bool)] = &[
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[-x]", "x", false),
            ("a[", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("**/*.txt", "a/b.txt", true),
            ("**/*.txt", "b.txt", false),
            ("**/*.txt", "a/b/c.txt", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), *expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_path_is_split_before_its_first_wildcard() {
        assert_eq!(split(b"/a/b*/c"), (b"a".to_vec(), b"b*/c".to_vec()));
        assert_eq!(split(b"a/b"), (b"a/b".to_vec(), Vec::new()));
        assert_eq!(split(b"a\\*"), (b"a\\*".to_vec(), Vec::new()));
    }

    #[test]
    fn many_stars_take_no_more_than_a_moment() {
        let name = "a".repeat(255);
        assert!(!matches("*a".repeat(60).as_bytes(), b"b"));
        assert!(!matches(("*a".repeat(60) + "b").as_bytes(), name.as_bytes()));
        assert!(matches("*".repeat(1_000_000).as_bytes(), name.as_bytes()));
    }
}
