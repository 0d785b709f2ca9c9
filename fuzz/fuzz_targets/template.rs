//! Templates of `--format`.
//!
//! - Parsing and applying end, with an error at worst.
//! - A text without actions is shown as it is.
#![no_main]

// A private part of the command line that needs nothing else of it.
#[path = "../../cli/src/template/mod.rs"]
#[allow(dead_code, reason = "what tables make of templates is not fuzzed")]
mod template;

use libfuzzer_sys::fuzz_target;
use serde_json::json;

use template::Template;

fuzz_target!(init: fuzzing::plant("template", SEEDS), |data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        check(text);
    }
});

/// A template can double a text in 20 bytes and count to a million in as many: that is its author's wish, and not ours.
const MAX_BYTES: usize = 256;

const SEEDS: [&str; 14] = [
    "plain",
    "{{.Id}} {{.Size}} {{.Nothing}} {{.Absent}} {{json .}}",
    "{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$t}}{{end}}",
    "{{range .Tags}}{{if eq . \"b:2\"}}{{break}}{{else}}{{continue}}{{end}}{{else}}none{{end}}",
    "{{with .Config}}{{len .Env}}{{else}}{{end}}",
    "{{index .Tags 1}} {{index .Config.Labels \"x\"}}{{slice .Id 1 2}}",
    "{{printf \"%-5s|%q %05d %5.2f %v %x %%\" .Id .Id .Size .Ratio .Up .Size}}",
    "{{ (index (split \"a/b\" \"/\") 1) }}{{truncate .Id 2}}{{pad .Id 1 2}}",
    "{{$x := 1}}{{$x = 2}}{{$x}} {{println .Id}}{{not .Up}} {{or .Nothing .Id}}{{and .Up 1.5}}",
    "a {{- 1 -}} b {{/* comment */}}",
    "{{\"\\t\\x41\\u00e9\\U0001f600\"}}{{`raw`}}{{'a'}}{{-0x1f}}{{+1e3}}",
    "{{join .Tags \",\" | upper | title | html | js | urlquery | trim}}",
    "{{.Config.Labels \"x\"}}{{lt 1 2}}{{.Id.Deeper}}",
    "{{((((.))))}}",
];

fn check(text: &str) {
    let Ok(template) = Template::parse(text) else { return };
    template.fields();
    let counts = text.contains("range") && text.contains(|c: char| c.is_ascii_digit() || c == '\'');
    if text.len() > MAX_BYTES || counts {
        return;
    }
    let data = json!({
        "Id": "abc\u{e9}", "Size": 12, "Ratio": 1.5, "Up": true, "Nothing": null, "Empty": [], "Big": u64::MAX,
        "Tags": ["a:1", "b:2"], "Config": {"Env": ["A=1", "B=2"], "Labels": {"y": "2", "x": "1"}},
    });
    let rendered = template.render(&data);
    if !text.contains("{{") {
        assert_eq!(rendered.as_deref(), Ok(text));
    }
}
