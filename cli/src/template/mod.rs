//! Go's text/template, as far as `--format` has it: docker's users write their scripts in it.
//!
//! Language: <https://pkg.go.dev/text/template>; functions that docker adds:
//! <https://docs.docker.com/engine/cli/formatting/>. Data is JSON. What Go prints for maps and lists is printed here, too.

mod eval;
mod field;
mod functions;
mod lex;
mod parse;
mod value;

use serde_json::Value;

/// A template that was parsed without error.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    body: Vec<parse::Node>,
}

/// Why a template is wrong, or could not be applied. The words are Go's where scripts may see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: template: :1: {0}")]
pub(crate) struct ParseError(String);

/// Why a template could not be applied to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: template: :1:{column}: executing \"\" at <{at}>: {what}")]
pub(crate) struct EvalError {
    /// Byte offset of the action in the template.
    pub(crate) column: usize,
    /// The expression as it was written.
    pub(crate) at: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

impl Template {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        Ok(Template { body: parse::parse(text)? })
    }

    /// Applies the template to `data`.
    pub(crate) fn render(&self, data: &Value) -> Result<String, EvalError> {
        eval::render(&self.body, data, false)
    }

    /// The line of headers of a `table` format: `headers` holds them by field.
    pub(crate) fn headers(&self, headers: &Value) -> Result<String, EvalError> {
        eval::render(&self.body, headers, true)
    }

    /// The fields of the data that the template shows first-hand, in order: `table` formats make their header of them.
    pub(crate) fn fields(&self) -> Vec<String> {
        let mut found = Vec::new();
        parse::first_fields(&self.body, &mut found);
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_render(text: &str, expected: &str) {
        let data = json!({
            "Id": "abc", "Size": 12, "Ratio": 1.5, "Up": true, "Nothing": null, "Empty": [],
            "Tags": ["a:1", "b:2"], "Config": {"Env": ["A=1", "B=2"], "Labels": {"y": "2", "x": "1"}},
        });
        let rendered = Template::parse(text)
            .map_err(|e| e.to_string())
            .and_then(|t| t.render(&data).map_err(|e| e.to_string()));
        assert_eq!(rendered.as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn values_are_printed_as_go_prints_them() {
        check_render("{{.Id}} {{.Size}} {{.Ratio}} {{.Up}}", "abc 12 1.5 true");
        check_render("{{.Tags}} {{.Config.Labels}} {{.Empty}}", "[a:1 b:2] map[x:1 y:2] []");
        check_render("{{.Nothing}} {{.Config.Labels.absent}}", "<no value> <no value>");
        check_render("{{json .Config.Labels}}", r#"{"y":"2","x":"1"}"#);
        check_render(
            "{{json .}}x{{/* comment */}}y",
            &format!(
                "{}xy",
                json!({
                    "Id": "abc", "Size": 12, "Ratio": 1.5, "Up": true, "Nothing": null, "Empty": [],
                    "Tags": ["a:1", "b:2"], "Config": {"Env": ["A=1", "B=2"], "Labels": {"y": "2", "x": "1"}},
                })
            ),
        );
    }

    #[test]
    fn fields_that_hold_nothing_are_what_their_type_in_go_prints() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let data =
                json!({"Config": {"Cmd": null, "Null": null, "Volumes": null, "Labels": {}}, "Os": "linux"});
            let rendered = Template::parse(text).unwrap().render(&data).map_err(|error| error.what);
            assert_eq!(rendered.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("{{.Config.Cmd}} {{.Config.Volumes}} {{.Config.Labels}}", Ok("[] map[] map[]"));
        check("{{.Config.Shell}} {{.Config.Healthcheck}} ({{.Config.StopSignal}})", Ok("[] <nil> ()"));
        check("{{json .Config.Cmd}} {{.Config.Volumes | json}} {{json .Config.Labels}}", Ok("null null {}"));
        check("{{$x := .Config.Cmd}}{{$x}} {{json $x}} {{eq .Config.Volumes nil}}", Ok("[] null true"));
        check(
            "{{len .Config.Volumes}} {{println .Config.Cmd}}{{printf \"%v\" .Config.Volumes}}",
            Ok("0 []\nmap[]"),
        );
        check(
            "{{.Config.Labels.a}} ({{index .Config.Labels \"a\"}}) {{.Config.Volumes.a}} {{index .Config.Volumes \"a\"}}",
            Ok("<no value> () <no value> <no value>"),
        );
        check("{{index (index .Config.Volumes \"a\") 0}}", Err("error calling index: index of untyped nil"));
        check(
            "{{range .Config.Cmd}}x{{else}}none{{end}} {{with .Config.Volumes}}y{{else}}n{{end}}",
            Ok("none n"),
        );
        check("{{if .State}}x{{end}}", Err("map has no entry for key \"State\""));
        check("{{.Config.Nope.Deeper}}", Err("map has no entry for key \"Nope\""));
        check("{{.Config.Healthcheck.Test}}", Err("map has no entry for key \"Healthcheck\""));
        check("{{.Config.Null.Test}}", Err("nil pointer evaluating interface {}.Test"));
        check("{{.Os.Foo}}", Err("can't evaluate field Foo in type string"));
    }

    #[test]
    fn control_structures_nest() {
        check_render("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>");
        check_render("{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$i}}={{$t}}{{end}}", "0=a:1,1=b:2");
        check_render("{{range $k, $v := .Config.Labels}}{{$k}}{{$v}} {{end}}", "x1 y2 ");
        check_render("{{range .Empty}}x{{else}}none{{end}}", "none");
        check_render("{{with .Config}}{{len .Env}}{{end}}", "2");
        check_render("{{with .Nothing}}x{{else}}y{{end}}", "y");
        check_render("{{if and .Up (gt .Size 10)}}big{{else if .Up}}small{{else}}down{{end}}", "big");
        check_render("{{range .Tags}}{{if eq . \"b:2\"}}{{break}}{{end}}{{.}}{{end}}", "a:1");
        check_render("{{range .Tags}}{{$.Id}}{{end}}", "abcabc");
    }

    #[test]
    fn functions_and_pipelines() {
        check_render("{{index .Tags 1}} {{index .Config.Labels \"x\"}}", "b:2 1");
        check_render("{{join .Tags \",\"}} {{upper .Id}} {{.Id | printf \"%-5s|\"}}", "a:1,b:2 ABC abc  |");
        check_render("{{slice .Id 1 2}} {{title \"hello you\"}}", "b Hello You");
        check_render("{{printf \"%q %d %5.2f %v %%\" .Id .Size .Ratio .Up}}", "\"abc\" 12  1.50 true %");
        check_render("{{ (index (split \"a/b\" \"/\") 1) }}{{truncate .Id 2}}{{pad .Id 1 2}}", "bab abc  ");
        check_render(
            "{{$x := 1}}{{$x = 2}}{{$x}} {{println .Id}}{{not .Up}} {{or .Nothing .Id}}",
            "2 abc\nfalse abc",
        );
        check_render("{{eq .Id \"x\" \"abc\"}} {{ne 1 2}} {{le 2 2}} {{len .Id}}", "true true true 3");
        check_render("a {{- 1 -}} b", "a1b");
        check_render("{{\"\\t\"}}{{`raw`}}{{'a'}}", "\traw97");
    }

    #[test]
    fn print_and_types_are_gos() {
        check_render(
            r#"{{print 1 2 "a"}} {{print "a" 1 2 "b" "c" 3 true}} {{print}}|"#,
            "1 2a a1 2bc3 true |",
        );
        check_render(
            r#"{{printf "%T %T %T" 1 1.5 "s"}} {{printf "%T %T %T" .Tags .Config.Labels .Nothing}}"#,
            "int float64 string []string map[string]string <nil>",
        );
        check_render(
            r#"{{printf "%T %q %q %q %q" .Size .Tags .Config.Labels .Id 65}} {{printf "%s|%d" 1 "x"}}"#,
            r#"int64 ["a:1" "b:2"] map["x":"1" "y":"2"] "abc" 'A' %!s(int=1)|%!d(string=x)"#,
        );
    }

    #[test]
    fn structs_show_their_values_and_fields_have_the_names_of_go() {
        let data = json!({
            "Id": "abc", "Policy": {"Name": "no", "Count": 0}, "ExposedPorts": {"80/tcp": {}},
            "Mounts": [{"Type": "bind", "RW": true, "Labels": {"a": "b"}}], "Client": {"ApiVersion": "1.41"},
        });
        let show = |text: &str| Template::parse(text).unwrap().render(&data).unwrap();
        assert_eq!(
            show("{{.ID}} {{.Client.APIVersion}} {{json .Client}}"),
            r#"abc 1.41 {"ApiVersion":"1.41"}"#
        );
        assert_eq!(
            show("{{.Policy}} {{.ExposedPorts}} {{.Mounts}}"),
            "{no 0} map[80/tcp:{}] [{bind true map[a:b]}]"
        );
        assert_eq!(show(r#"{{printf "%v" .ExposedPorts}} {{print .Policy}}"#), "map[80/tcp:{}] {no 0}");
    }

    #[test]
    fn a_table_of_labels_has_their_names_as_headers() {
        let template = Template::parse("{{.Label \"com.example.my-label\"}}\t{{.Names}}").unwrap();
        let headers = template.headers(&json!({"Label": "LABEL", "Names": "NAMES"})).unwrap();
        assert_eq!(headers, "my label\tNAMES");
        let line = template.render(&json!({"Label": {"com.example.my-label": "x"}, "Names": "web"})).unwrap();
        assert_eq!(line, "x\tweb");
    }

    #[test]
    fn errors_name_the_place_as_go_does() {
        let data = json!({"Config": {"A": {}}});
        for (text, expected) in [
            ("{{.NoSuch}}", ":1:2: executing \"\" at <.NoSuch>"),
            ("ab {{- .Config.NoSuch}}", ":1:14: executing \"\" at <.Config.NoSuch>"),
            ("{{.Config}} {{ .Config.NoSuch.B | json}}", ":1:22: executing \"\" at <.Config.NoSuch.B>"),
            ("{{ index .Config 1}}", ":1:3: executing \"\" at <index .Config 1>"),
            ("{{-  len 1 }}", ":1:5: executing \"\" at <len 1>"),
            ("{{$x := .Config}}{{$x.A.B}}", ":1:21: executing \"\" at <$x.A.B>"),
        ] {
            let error = Template::parse(text).unwrap().render(&data).unwrap_err().to_string();
            assert!(error.starts_with(&format!("template parsing error: template: {expected}: ")), "{error}");
        }
        let error = Template::parse("{{if}}x{{end}}").unwrap_err();
        assert_eq!(error.to_string(), "template parsing error: template: :1: missing value for if");
    }

    #[test]
    fn deep_templates_are_errors() {
        let nested: [fn(usize) -> String; 3] = [
            |depth| format!("{{{{{}.{}}}}}", "(".repeat(depth), ")".repeat(depth)),
            |depth| "{{if .}}".repeat(depth) + &"{{end}}".repeat(depth),
            |depth| format!("{{{{if .}}}}{}{{{{end}}}}", "{{else if .}}".repeat(depth)),
        ];
        for nested in nested {
            assert!(Template::parse(&nested(50)).is_ok(), "{}", nested(50));
            assert!(Template::parse(&nested(50_000)).is_err(), "{}…", &nested(50_000)[..40]);
        }
    }

    #[test]
    fn wrong_templates_are_errors_and_never_panic() {
        for text in [
            "{{",
            "{{.Id",
            "{{if}}",
            "{{end}}",
            "{{range .Tags}}",
            "{{nosuch .}}",
            "{{.Id | }}",
            "{{else}}",
            "{{\"x}}",
            "{{)}}",
            "{{$x}}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        for text in
            ["{{index .Tags 9}}", "{{.Id.Deeper}}", "{{len .Size}}", "{{slice .Id 5}}", "{{lt .Id 1}}"]
        {
            let template = Template::parse(text).unwrap();
            assert!(template.render(&json!({"Id": "abc", "Tags": [], "Size": 1})).is_err(), "{text}");
        }
    }
}
