//! Applying the tree to data.

use serde_json::{Value, json};

use super::EvalError;
use super::functions;
use super::parse::{Action, Command, Head, Node, Operand};
use super::value::{kind, show, truth};

pub(super) fn render(nodes: &[Node], data: &Value) -> Result<String, EvalError> {
    let mut evaluator = Evaluator { out: String::new(), variables: vec![(String::new(), data.clone())] };
    evaluator.block(nodes, data)?;
    Ok(evaluator.out)
}

struct Evaluator {
    out: String,
    variables: Vec<(String, Value)>,
}

/// How a block ended.
#[derive(PartialEq)]
enum Flow {
    Through,
    Break,
    Continue,
}

impl Evaluator {
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, EvalError> {
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

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, EvalError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Show(action) => {
                let value = self.action(action, dot)?;
                if action.variables.is_empty() {
                    self.out.push_str(&show(&value));
                }
            }
            Node::If { condition, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.action(condition, dot)?;
                let flow = self.block(if truth(&value) { then } else { otherwise }, dot)?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With { value, then, otherwise } => {
                let scope = self.variables.len();
                let value = self.action(value, dot)?;
                let flow =
                    if truth(&value) { self.block(then, &value)? } else { self.block(otherwise, dot)? };
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
        dot: &Value,
    ) -> Result<Flow, EvalError> {
        let value = self.pipeline(&list.pipeline, dot).map_err(|what| failed(list, what))?;
        let items: Vec<(Value, Value)> = match value {
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
            match &list.variables[..] {
                [value] => self.variables.push((value.clone(), item.clone())),
                [name, value] => {
                    self.variables.push((name.clone(), key));
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

    fn action(&mut self, action: &Action, dot: &Value) -> Result<Value, EvalError> {
        let value = self.pipeline(&action.pipeline, dot).map_err(|what| failed(action, what))?;
        if let Some(name) = action.variables.first() {
            match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, slot)) if !action.declares => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn pipeline(&self, commands: &[Command], dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in commands {
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(&self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let (head, rest) = command.words.split_first().ok_or("missing value for command")?;
        let Head::Function(name) = &head.head else {
            let value = self.operand(head, dot)?;
            return match (&value, rest, piped) {
                (_, [], None) => Ok(value),
                // docker's `.Label "name"` is a method there and a map here.
                (Value::Object(map), [key], None) => {
                    let key = self.operand(key, dot)?;
                    Ok(key.as_str().and_then(|key| map.get(key)).cloned().unwrap_or_else(|| json!("")))
                }
                _ => Err("can't give argument to non-function".into()),
            };
        };
        let mut args = Vec::new();
        for word in rest {
            args.push(self.operand(word, dot)?);
            // `and` and `or` stop at the first value that decides.
            let decided = args.last().is_some_and(truth) == (name == "or");
            if decided && (name == "or" || name == "and") {
                return Ok(args.pop().unwrap_or(Value::Null));
            }
        }
        args.extend(piped);
        functions::call(name, &args).map_err(|what| format!("error calling {name}: {what}"))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let mut value = match &operand.head {
            Head::Dot => dot.clone(),
            Head::Nil => Value::Null,
            Head::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).unwrap_or(Value::Null)
            }
            Head::Function(name) => {
                functions::call(name, &[]).map_err(|what| format!("error calling {name}: {what}"))?
            }
            Head::String(text) => json!(text),
            Head::Integer(n) => json!(n),
            Head::Float(n) => json!(n),
            Head::Bool(b) => json!(b),
            Head::Pipeline(commands) => self.pipeline(commands, dot)?,
        };
        for field in &operand.fields {
            value = match value {
                Value::Object(mut map) => map.remove(field).unwrap_or(Value::Null),
                Value::Null => return Err(format!("nil pointer evaluating interface {{}}.{field}")),
                other => return Err(format!("can't evaluate field {field} in type {}", kind(&other))),
            };
        }
        Ok(value)
    }
}

fn failed(action: &Action, what: String) -> EvalError {
    EvalError { column: action.column + 2, at: action.source.clone(), what }
}
