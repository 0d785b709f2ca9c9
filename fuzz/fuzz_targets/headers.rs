//! Headers of HTTP that are more than a word: `WWW-Authenticate`, `Range` and `Content-Range`.
//!
//! - Challenges that are written out and read again are the same; so are scopes.
//! - A scope covers what it was merged from.
//! - A range that is sent lies inside the blob and is not empty.
#![no_main]

// Private parts of two crates that need nothing else of these.
#[path = "../../common/src/client/challenge.rs"]
#[allow(dead_code, reason = "what makes scopes for requests is not fuzzed")]
mod challenge;
#[path = "../../registry/src/range.rs"]
mod range;

use common::reference;
use http::HeaderMap;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use libfuzzer_sys::fuzz_target;

use challenge::{Challenge, Scopes};
use range::Asked;

fuzz_target!(init: fuzzing::plant("headers", SEEDS), |data: &[u8]| {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        check_challenges(value);
    }
    if let Ok(text) = str::from_utf8(data) {
        check_scopes(text);
        check_ranges(text);
    }
});

const SEEDS: [&str; 10] = [
    r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
    r#"Basic realm=x, bearer Realm = "a\"b" , error=insufficient_scope"#,
    r#"Negotiate, Basic realm="unterminated"#,
    "repository:a/b:pull,push repository:c:pull registry:catalog:*",
    "bytes=0-499",
    "bytes=-500",
    "bytes=9500-",
    "bytes=0-18446744073709551615",
    "0-1023",
    "18446744073709551615-18446744073709551615",
];

const PARAMETERS: [&str; 4] = ["realm", "service", "scope", "error"];

fn check_challenges(value: HeaderValue) {
    let read = |value: HeaderValue| challenge::challenges(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
    for found in read(value) {
        let again = read(HeaderValue::from_str(&written(&found)).expect("what was read can be sent"));
        assert_eq!(again.len(), 1, "{found:?} was read as {again:?}");
        assert_eq!(again[0].scheme, found.scheme);
        for name in PARAMETERS {
            assert_eq!(again[0].parameter(name), found.parameter(name));
        }
    }
}

fn written(challenge: &Challenge) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let parameter = |name: &&str| Some(format!("{name}=\"{}\"", quoted(challenge.parameter(name)?)));
    let parameters: Vec<String> = PARAMETERS.iter().filter_map(parameter).collect();
    format!("{} {}", challenge.scheme, parameters.join(", "))
}

fn check_scopes(text: &str) {
    let scopes = Scopes::parse(text);
    assert_eq!(Scopes::parse(&scopes.to_string()), scopes);
    let other = Scopes::parse("repository:a/b:pull,push");
    let merged = scopes.clone().merge(&other);
    assert!(merged.covers(&scopes) && merged.covers(&other));
}

fn check_ranges(text: &str) {
    for size_bytes in [0, 1, 1000, u64::MAX] {
        if let Asked::Part(part) = range::asked(Some(text), size_bytes) {
            assert!(part.start < part.end && part.end <= size_bytes, "{part:?} of {size_bytes}");
        }
    }
    if let Some(chunk) = range::chunk(text) {
        assert!(chunk.start < chunk.end);
        assert_eq!(range::chunk(&format!("{}-{}", chunk.start, chunk.end - 1)), Some(chunk.clone()));
        assert_eq!(range::chunk(&range::received(chunk.end)), Some(0..chunk.end));
    }
}
