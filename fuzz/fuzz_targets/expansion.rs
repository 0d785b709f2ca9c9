//! Variables, quotes and escapes in words. An input is a word and the values of `A`, `B` and `C`, NULs between them.
//!
//! - It ends soon, and at most 16 MiB of values are put in; libFuzzer watches time and memory.
//! - Variables that are said to have been found have values, those said to be unset have none.
//! - A list has the text's characters, in their order: it is split, nothing else.
//! - Without variables and escapes the text that progress shows is the text that was written, but for `//`, of which
//!   BuildKit shows one `/`.
#![no_main]

use builder::dockerfile::Expander;
use libfuzzer_sys::fuzz_target;

const MAX_VALUE_BYTES: usize = 16 << 20;

fuzz_target!(init: fuzzing::plant("expansion", SEEDS), |data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        let mut parts = text.split('\0');
        let word = parts.next().unwrap_or_default();
        let values: Vec<&str> = parts.take(3).collect();
        for escape in ['\\', '`'] {
            check(word, &values, escape);
        }
        check_display(word);
    }
});

const SEEDS: [&str; 14] = [
    "$A${B}$NO\0a\0b",
    "${A:-w}${NO:-w}${A:+w}${NO+w}${A-x}\0\0",
    "${NO:?must $A}${A?}\0a",
    "${A#*/}${A##*/}${A%.*}${A%%.*}\0/x/y/z.tar.gz",
    "${A/x/$B}${A//\\//-}${A//?/$C}\0/x/y\0b\0c",
    "${A:-${B:-${C:-d}}}",
    "'$A'\"$A \\$A \\\" `$A\"\\$A `$B\0a b\0c",
    "one \"$A\" $A two\\ three << EOF\0x  y",
    "cat <<-EOF \"${A}\" 'x y' \0z",
    "${A//a/$B}${A//a/$B}${A//a/$B}\0aaaaaaaaaaaaaaaaaaaa\0bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "${A//*a*a*a*a*b/x}\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "${@}${*}${#}${?}${-}${$}${!}${1}${12}$1$@",
    "\u{e9}\u{1f600}${A#\u{e9}}\0\u{e9}\u{1f600}",
    "${A/\\*/\\}}${A#\\?}${A%\\\\}\0*?\\",
];

fn check(word: &str, values: &[&str], escape: char) {
    let lookup = |name: &str| {
        let at = ["A", "B", "C"].iter().position(|known| *known == name)?;
        values.get(at).map(|value| (*value).to_owned())
    };
    // Limits hold for all that one expander does, so each gets its own.
    let expander = || Expander::new(escape, &lookup);
    let mut noting = expander();
    let text = noting.text(word);
    let (list, document) = (expander().list(word), expander().document(word));
    let shown = expander().display(word);
    for text in text.iter().chain(&document).chain([&shown]) {
        assert!(text.len() <= word.len() + MAX_VALUE_BYTES, "{} bytes", text.len());
    }
    assert!(noting.used.iter().all(|name| lookup(name).is_some()), "{:?}", noting.used);
    assert!(noting.unset.iter().all(|name| lookup(name).is_none()), "{:?}", noting.unset);
    match (text, list) {
        (Ok(text), Ok(list)) => {
            assert!(list.iter().all(|word| !word.is_empty()));
            let visible = |text: &str| text.chars().filter(|ch| !ch.is_whitespace()).collect::<String>();
            assert_eq!(visible(&list.concat()), visible(&text));
        }
        (text, list) => assert_eq!(text.err(), list.err(), "a list fails as a word does"),
    }
}

fn check_display(word: &str) {
    if !word.contains('\\') && !word.contains("//") {
        assert_eq!(Expander::new('\\', &|_| None).display(word), word);
    }
}
