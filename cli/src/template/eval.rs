//! Applying the tree to data.

use serde_json::{Value, json};

use super::EvalError;
use super::functions;
use super::parse::{Action, Command, Head, Node, Operand};
use super::value::{Typed, show, truth};

/// Applies a template to data; for a line of `headers`, data holds these.
pub(super) fn render(nodes: &[Node], data: &Value, headers: bool) -> Result<String, EvalError> {
    let variables = vec![(String::new(), data.clone().into())];
    let mut evaluator = Evaluator { out: String::new(), variables, headers };
    evaluator.block(nodes, &data.clone().into())?;
    Ok(evaluator.out)
}

struct Evaluator {
    out: String,
    variables: Vec<(String, Typed)>,
    headers: bool,
}

/// Why a pipeline has no value.
struct Wrong {
    what: String,
    /// Column and text of the operand, where it is one that is wrong and not the whole action.
    at: Option<(usize, String)>,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(what: T) -> Self {
        Wrong { what: what.into(), at: None }
    }
}

/// How a block ended.
#[derive(PartialEq)]
enum Flow {
    Through,
    Break,
    Continue,
}

impl Evaluator {
    fn block(&mut self, nodes: &[Node], dot: &Typed) -> Result<Flow, EvalError> {
        let scope = self.variables.len();
        let mut flow = Flow::Through;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::Through {
                break;
            }
        }
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Typed) -> Result<Flow, EvalError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Show(action) => {
                let value = self.action(action, dot)?;
                if action.variables.is_empty() {
                    self.out.push_str(&value.shown());
                }
            }
            Node::If { condition, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.action(condition, dot)?;
                let flow = self.block(if truth(&value.value) { then } else { otherwise }, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With { value, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.action(value, dot)?;
                let flow =
                    if truth(&value.value) { self.block(then, &value)? } else { self.block(otherwise, dot)? };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range { list, each, otherwise } => return self.range(list, each, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Through)
    }

    fn range(
        &mut self,
        list: &Action,
        each: &[Node],
        otherwise: &[Node],
        dot: &Typed,
    ) -> Result<Flow, EvalError> {
        let value = self.pipeline(&list.pipeline, dot).map_err(|wrong| failed(list, wrong))?;
        let items: Vec<(Value, Value)> = match value.value {
            Value::Array(items) => items.into_iter().enumerate().map(|(n, item)| (json!(n), item)).collect(),
            Value::Object(map) => {
                let mut pairs: Vec<_> = map.into_iter().map(|(name, value)| (json!(name), value)).collect();
                pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
                pairs
            }
            Value::Number(n) => {
                (0..n.as_i64().unwrap_or(0).min(1_000_000)).map(|n| (json!(n), json!(n))).collect()
            }
            Value::Null => Vec::new(),
            other => return Err(failed(list, format!("range can't iterate over {}", show(&other)))),
        };
        if items.is_empty() {
            return self.block(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            let item = Typed::from(item);
            match &list.variables[..] {
                [value] => self.variables.push((value.clone(), item.clone())),
                [name, value] => {
                    self.variables.push((name.clone(), key.into()));
                    self.variables.push((value.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.block(each, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    fn action(&mut self, action: &Action, dot: &Typed) -> Result<Typed, EvalError> {
        let value = self.pipeline(&action.pipeline, dot).map_err(|wrong| failed(action, wrong))?;
        if let Some(name) = action.variables.first() {
            match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, slot)) if !action.declares => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn pipeline(&self, commands: &[Command], dot: &Typed) -> Result<Typed, Wrong> {
        let mut piped = None;
        for command in commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or_else(|| Value::Null.into()))
    }

    fn command(&self, command: &Command, dot: &Typed, piped: Option<Typed>) -> Result<Typed, Wrong> {
        let (head, rest) = command.words.split_first().ok_or("missing value for command")?;
        let Head::Function(name) = &head.head else {
            let value = self.operand(head, dot)?;
            return match (&value.value, rest, piped) {
                (_, [], None) => Ok(value),
                // docker's `.Label "name"` is a method there and a map here.
                (Value::Object(map), [key], None) => {
                    let key = self.operand(key, dot)?.value;
                    let found = key.as_str().and_then(|key| map.get(key)).cloned();
                    Ok(found.unwrap_or_else(|| json!("")).into())
                }
                (Value::String(_), [key], None) if self.headers => {
                    let key = self.operand(key, dot)?.value;
                    Ok(json!(functions::label_header(key.as_str().unwrap_or_default())).into())
                }
                _ => Err("can't give argument to non-function".into()),
            };
        };
        // These tell nil from empty.
        let exact = matches!(name.as_str(), "json" | "eq" | "ne");
        let argument = |typed: Typed| if exact { typed } else { typed.filled() };
        let mut args = Vec::new();
        for word in rest {
            let value = self.operand(word, dot)?;
            // `and` and `or` stop at the first value that decides.
            if matches!(name.as_str(), "and" | "or") && truth(&value.value) == (name == "or") {
                return Ok(value);
            }
            args.push(argument(value));
        }
        args.extend(piped.map(argument));
        Ok(call(name, &args)?)
    }

    fn operand(&self, operand: &Operand, dot: &Typed) -> Result<Typed, Wrong> {
        let head = match &operand.head {
            Head::Dot => dot.clone(),
            Head::Nil => Value::Null.into(),
            Head::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).unwrap_or_else(|| Value::Null.into())
            }
            Head::Function(name) => call(name, &[])?,
            Head::String(text) => json!(text).into(),
            Head::Integer(n) => json!(n).into(),
            Head::Float(n) => json!(n).into(),
            Head::Bool(b) => json!(b).into(),
            Head::Pipeline(commands) => self.pipeline(commands, dot)?,
        };
        let fields = operand.fields.iter().try_fold(head, |value, name| value.field(name));
        fields.map_err(|what| Wrong { what, at: chain(operand).map(|text| (operand.column, text)) })
    }
}

/// `.A.B` or `$x.A.B` as it was written.
fn chain(operand: &Operand) -> Option<String> {
    let fields = operand.fields.join(".");
    match &operand.head {
        Head::Dot => Some(format!(".{fields}")),
        Head::Variable(name) => Some(format!("${name}.{fields}")),
        _ => None,
    }
}

fn call(name: &str, args: &[Typed]) -> Result<Typed, String> {
    let result = functions::call(name, args).map_err(|what| format!("error calling {name}: {what}"));
    result.map(Typed::from)
}

fn failed(action: &Action, wrong: impl Into<Wrong>) -> EvalError {
    let Wrong { what, at } = wrong.into();
    let (column, at) = at.unwrap_or_else(|| (action.column, action.source.clone()));
    EvalError { column, at, what }
}
