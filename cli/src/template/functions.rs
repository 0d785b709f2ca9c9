//! Go's predefined functions and docker's.

use serde_json::{Value, json};

use super::field::Nil;
use super::value::{Typed, equal, kind, order, show, truth};

const NAMES: &[&str] = &[
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "eq", "ne", "lt", "le", "gt",
    "ge", "html", "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
    "trim",
];

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Applies a function; the error is the part of Go's message behind `error calling NAME:`.
pub(super) fn call(name: &str, args: &[Typed]) -> Result<Value, String> {
    let first =
        || args.first().ok_or_else(|| format!("wrong number of args for {name}: want at least 1 got 0"));
    let shown = || first().map(|value| value.clone().shown());
    // What is printed shows of which type it is.
    Ok(match name {
        "index" => index(first()?, &args[1..])?,
        "print" => json!(print(args)),
        "println" => {
            json!(args.iter().map(|arg| arg.clone().shown()).collect::<Vec<_>>().join(" ") + "\n")
        }
        "printf" => {
            let values: Vec<Value> = args.iter().take(1).map(|arg| arg.value.clone()).collect();
            json!(printf(text(name, &values, 0)?, &args[1..]))
        }
        "html" => json!(html(&shown()?)),
        "js" => json!(shown()?.replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\\\"")),
        "urlquery" => json!(urlquery(&shown()?)),
        _ => of_values(name, &args.iter().map(|arg| arg.value.clone()).collect::<Vec<_>>())?,
    })
}

fn of_values(name: &str, args: &[Value]) -> Result<Value, String> {
    let first =
        || args.first().ok_or_else(|| format!("wrong number of args for {name}: want at least 1 got 0"));
    Ok(match name {
        "and" => args.iter().find(|v| !truth(v)).or(args.last()).cloned().unwrap_or(Value::Null),
        "or" => args.iter().find(|v| truth(v)).or(args.last()).cloned().unwrap_or(Value::Null),
        "not" => json!(!truth(first()?)),
        "len" => json!(length(first()?)?),
        "slice" => slice(first()?, &args[1..])?,
        "json" => json!(first()?.to_string()),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => json!(compare(name, args)?),
        _ => of_docker(name, args)?,
    })
}

/// The header of a column of labels, which is not the label's whole name: `com.example.my-label` is `my label`.
pub(super) fn label_header(name: &str) -> String {
    name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")
}

/// Go sets a blank between two operands when neither is a text.
fn print(args: &[Typed]) -> String {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        if n > 0 && !arg.value.is_string() && !args[n - 1].value.is_string() {
            out.push(' ');
        }
        out.push_str(&arg.inside());
    }
    out
}

/// The functions that docker adds, all of them on texts.
fn of_docker(name: &str, args: &[Value]) -> Result<Value, String> {
    let text = |n| text(name, args, n);
    let count = |n: usize| {
        let number = args.get(n).and_then(Value::as_i64);
        number.ok_or_else(|| format!("wrong number or type of args for {name}"))
    };
    Ok(match name {
        "split" => json!(text(0)?.split(text(1)?).collect::<Vec<_>>()),
        "join" => match args.first() {
            Some(Value::Array(list)) => json!(list.iter().map(show).collect::<Vec<_>>().join(text(1)?)),
            Some(Value::Null) => json!(""),
            Some(other) => {
                return Err(format!("wrong type for value; expected []string; got {}", kind(other)));
            }
            None => return Err("wrong number of args for join: want 2 got 0".into()),
        },
        "title" => json!(title(text(0)?)),
        "lower" => json!(text(0)?.to_lowercase()),
        "upper" => json!(text(0)?.to_uppercase()),
        "trim" => json!(text(0)?.trim()),
        "pad" => {
            let blanks = |n: i64| " ".repeat(usize::try_from(n).unwrap_or(0).min(10_000));
            match text(0)? {
                "" => json!(""),
                inner => json!(format!("{}{inner}{}", blanks(count(1)?), blanks(count(2)?))),
            }
        }
        "truncate" => {
            json!(text(0)?.chars().take(usize::try_from(count(1)?).unwrap_or(0)).collect::<String>())
        }
        _ => return Err("no such function".into()),
    })
}

/// The argument at `n`, which must be a text.
fn text<'a>(name: &str, args: &'a [Value], n: usize) -> Result<&'a str, String> {
    match args.get(n) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", kind(other))),
        None => Err(format!("wrong number of args for {name}: got {}", args.len())),
    }
}

/// `eq` compares the first with any of the others, the rest the first with the second.
fn compare(name: &str, args: &[Value]) -> Result<bool, String> {
    let [one, others @ ..] = args else { return Err("missing argument for comparison".into()) };
    let Some(other) = others.first() else { return Err("missing argument for comparison".into()) };
    let ordering = || order(one, other).ok_or("incompatible types for comparison");
    Ok(match name {
        "eq" => others.iter().any(|other| equal(one, other)),
        "ne" => !equal(one, other),
        "lt" => ordering()?.is_lt(),
        "le" => ordering()?.is_le(),
        "gt" => ordering()?.is_gt(),
        _ => ordering()?.is_ge(),
    })
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of type {}", kind(other))),
    }
}

fn index(indexed: &Typed, keys: &[Typed]) -> Result<Value, String> {
    let mut value = indexed.value.clone();
    for (n, key) in keys.iter().enumerate() {
        value = match (&value, &key.value) {
            (Value::Array(list), Value::Number(n)) => {
                let at = n.as_i64().and_then(|n| usize::try_from(n).ok());
                at.and_then(|at| list.get(at)).cloned().ok_or_else(|| format!("index out of range: {n}"))?
            }
            (Value::Object(map), Value::String(name)) => {
                let absent = || if n == 0 { absent(indexed.nil, map) } else { Value::Null };
                map.get(name).cloned().unwrap_or_else(absent)
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (Value::Array(_), other) => {
                return Err(format!("cannot index slice/array with type {}", kind(other)));
            }
            (Value::Object(_), other) => {
                return Err(format!("value has type {}; should be string", kind(other)));
            }
            (other, _) => return Err(format!("can't index item of type {}", kind(other))),
        };
    }
    Ok(value)
}

/// What `index` gives for a key that is not there: a map of texts has an empty one.
fn absent(nil: Option<Nil>, map: &serde_json::Map<String, Value>) -> Value {
    let has_texts = match nil {
        Some(Nil::MapOfTexts) => true,
        Some(_) => false,
        None => map.values().all(Value::is_string),
    };
    if has_texts { json!("") } else { Value::Null }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bound = |n: usize, default: usize| match bounds.get(n) {
        None => Ok(default),
        Some(bound) => bound
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| format!("cannot index slice/array with type {}", kind(bound))),
    };
    let size = length(value)?;
    let (from, to) = (bound(0, 0)?, bound(1, size)?);
    if from > to || to > size {
        return Err(format!("index out of range: {}", from.max(to)));
    }
    match value {
        Value::String(text) => {
            text.get(from..to).map(|part| json!(part)).ok_or_else(|| "index inside a character".into())
        }
        Value::Array(list) => Ok(json!(list[from..to])),
        other => Err(format!("can't slice item of type {}", kind(other))),
    }
}

/// `%v %s %d %q %t %T %f %x %%` with flags, width and precision, as scripts use them.
fn printf(format: &str, args: &[Typed]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            flags.push(flag);
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
            number.parse::<usize>().ok().map(|n| n.min(10_000))
        };
        let width = digits(&mut chars).unwrap_or(0);
        let precision = chars.next_if_eq(&'.').map(|_| digits(&mut chars).unwrap_or(0));
        let verb = chars.next().unwrap_or('!');
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let body = match (verb, &arg.value) {
            ('q', _) => arg.quoted(),
            ('f', Value::Number(n)) => format!("{:.*}", precision.unwrap_or(6), n.as_f64().unwrap_or(0.0)),
            ('x', Value::Number(n)) => format!("{:x}", n.as_i64().unwrap_or(0)),
            ('x', Value::String(text)) => common::digest::hex(text.as_bytes()),
            ('s', Value::Number(_) | Value::Bool(_)) => wrong_verb(verb, arg),
            ('s' | 'v', _) => match precision {
                Some(precision) => arg.inside().chars().take(precision).collect(),
                None => arg.inside(),
            },
            ('T', _) => arg.type_name().to_owned(),
            ('d', Value::Number(_)) | ('t', Value::Bool(_)) => arg.inside(),
            (verb, _) => wrong_verb(verb, arg),
        };
        out.push_str(&padded(&body, width, &flags));
    }
    let extra: Vec<_> = args.map(|arg| format!("{}={}", arg.type_name(), arg.inside())).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn wrong_verb(verb: char, arg: &Typed) -> String {
    format!("%!{verb}({}={})", arg.type_name(), arg.inside())
}

fn padded(body: &str, width: usize, flags: &str) -> String {
    let missing = width.saturating_sub(body.chars().count());
    if flags.contains('-') {
        format!("{body}{}", " ".repeat(missing))
    } else {
        let fill = if flags.contains('0') { "0" } else { " " };
        format!("{}{body}", fill.repeat(missing))
    }
}

fn title(text: &str) -> String {
    let mut begins = true;
    text.chars()
        .flat_map(|c| {
            let upper = begins && c.is_lowercase();
            begins = !c.is_alphanumeric() && c != '_' && c != '\'';
            if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn urlquery(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b' ' => "+".to_owned(),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
