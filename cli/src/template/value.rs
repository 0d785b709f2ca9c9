//! How Go prints, compares and judges values.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::field::{self, Nil};

/// A value with what is known of the field that it comes from.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) value: Value,
    /// What the field is when it holds nothing.
    pub(super) nil: Option<Nil>,
    /// The field's type in Go.
    go_type: Option<&'static str>,
    /// The field's name, when JSON does not have it.
    absent: Option<String>,
}

impl From<Value> for Typed {
    fn from(value: Value) -> Self {
        Typed { value, nil: None, go_type: None, absent: None }
    }
}

impl Typed {
    /// The value for what does not tell a nil list or map from an empty one.
    pub(super) fn filled(self) -> Self {
        let value = match (self.value, self.nil) {
            (Value::Null, Some(Nil::List)) => json!([]),
            (Value::Null, Some(Nil::Map | Nil::MapOfTexts)) => json!({}),
            (value, _) => value,
        };
        Typed { value, ..self }
    }

    /// As a template prints it.
    pub(super) fn shown(self) -> String {
        let is_pointer = self.nil == Some(Nil::Pointer);
        match self.filled() {
            Typed { value: Value::Null, .. } if !is_pointer => "<no value>".to_owned(),
            filled => filled.inside(),
        }
    }

    /// The same as an argument, where Go writes `<nil>`.
    pub(super) fn inside(&self) -> String {
        format(&self.value, self.is_map(), &plain)
    }

    /// `%q`: every text in quotes.
    pub(super) fn quoted(&self) -> String {
        format(&self.value, self.is_map(), &|value| match value {
            Value::String(text) => format!("{text:?}"),
            Value::Number(n) => match n.as_u64().and_then(|n| char::from_u32(u32::try_from(n).ok()?)) {
                Some(c) => format!("{c:?}"),
                None => format!("%!q({}={n})", kind(value)),
            },
            other => format!("%!q({}={})", kind(other), plain(other)),
        })
    }

    /// What `%T` prints: the type of docker's field.
    pub(super) fn type_name(&self) -> &'static str {
        self.go_type.unwrap_or(match &self.value {
            Value::Null => "<nil>",
            Value::Array(list) if list.iter().all(Value::is_string) => "[]string",
            Value::Object(map) if map.values().all(Value::is_string) => "map[string]string",
            other => kind(other),
        })
    }

    fn is_map(&self) -> bool {
        matches!(self.nil, Some(Nil::Map | Nil::MapOfTexts))
    }

    /// The field of this name.
    pub(super) fn field(self, name: &str) -> Result<Typed, String> {
        match (self.value, self.nil) {
            // A map has any key, a struct has not any field.
            (Value::Object(mut map), Some(Nil::Map | Nil::MapOfTexts)) => {
                Ok(map.remove(name).unwrap_or_default().into())
            }
            (Value::Null, Some(Nil::Map | Nil::MapOfTexts)) => Ok(Value::Null.into()),
            (Value::Object(mut map), _) => {
                let found = map.remove(name).or_else(|| map.remove(field::in_json(name)?));
                match (found, field::nil(name)) {
                    (None, None) => Err(no_entry(name)),
                    (None, Some(Nil::Text)) => Ok(json!("").into()),
                    (value, nil) => {
                        let absent = value.is_none().then(|| name.to_owned());
                        let go_type = field::go_type(name);
                        Ok(Typed { value: value.unwrap_or_default(), nil, go_type, absent })
                    }
                }
            }
            (Value::Null, _) if self.absent.is_some() => Err(no_entry(&self.absent.unwrap_or_default())),
            (Value::Null, _) => Err(format!("nil pointer evaluating interface {{}}.{name}")),
            (other, _) => Err(format!("can't evaluate field {name} in type {}", kind(&other))),
        }
    }
}

fn no_entry(name: &str) -> String {
    format!("map has no entry for key \"{name}\"")
}

/// `fmt.Print` of a value that no field is known of, as a template shows it.
pub(super) fn show(value: &Value) -> String {
    Typed::from(value.clone()).shown()
}

/// A value as `%v` writes it, with `simple` for texts, numbers and the like. What is no map is a struct: its values, in the
/// order of its fields.
fn format(value: &Value, is_map: bool, simple: &dyn Fn(&Value) -> String) -> String {
    let inner = |name: &str, value: &Value| {
        let is_map = matches!(field::nil(name), Some(Nil::Map | Nil::MapOfTexts));
        format(value, is_map, simple)
    };
    match value {
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(|item| format(item, false, simple)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) if is_map => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(name, _)| *name);
            let pair = |(name, value): (&String, &Value)| {
                format!("{}:{}", simple(&json!(name)), format(value, false, simple))
            };
            format!("map[{}]", pairs.into_iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let values: Vec<_> = fields.iter().map(|(name, value)| inner(name, value)).collect();
            format!("{{{}}}", values.join(" "))
        }
        value => simple(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Empty values are false: nil, false, 0, and strings, lists and maps without content.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Whether two values are equal; numbers by value, not by type.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// The order of two numbers or two strings.
pub(super) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// What Go calls the type of a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
