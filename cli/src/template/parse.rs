//! Tokens → a tree.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::ParseError;
use super::functions;
use super::lex::{self, Piece, Token};

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// `{{pipeline}}`
    Show(Action),
    If {
        condition: Action,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Action,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        list: Action,
        each: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// A pipeline with what it declares, and where it stood.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) column: usize,
    pub(super) source: String,
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) pipeline: Vec<Command>,
}

/// One stage of a pipeline: a value, or a function and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) words: Vec<Operand>,
}

#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) head: Head,
    /// `.A.B` behind it.
    pub(super) fields: Vec<String>,
    /// Where Go says that its fields stand: at the second one of a chain.
    pub(super) column: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Head {
    Dot,
    Nil,
    Variable(String),
    Function(String),
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Pipeline(Vec<Command>),
}

/// How deep blocks and parentheses may nest; each level takes some of the stack.
const MAX_DEPTH: usize = 100;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, ParseError> {
    let mut parser =
        Parser { pieces: lex::pieces(text)?.into_iter(), variables: vec![String::new()], loops: 0, depth: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(ParseError(format!("unexpected {{{{{}}}}}", end.keyword()))),
    }
}

/// What closes a block.
enum End {
    End,
    Else(Option<(String, usize, String, Vec<Token>)>),
}

impl End {
    fn keyword(&self) -> &'static str {
        match self {
            End::End => "end",
            End::Else(_) => "else",
        }
    }
}

struct Parser {
    pieces: IntoIter<Piece>,
    variables: Vec<String>,
    loops: u32,
    /// Of blocks.
    depth: usize,
}

impl Parser {
    /// Nodes up to `end`, `else` or the end of the text.
    fn block(&mut self) -> Result<(Vec<Node>, Option<End>), ParseError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (column, source, mut tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { column, source, tokens } => (column, source, tokens),
            };
            let keyword = match tokens.first() {
                Some(Token::Identifier(word)) => word.clone(),
                None => return Err(ParseError("missing value for command".into())),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" => return Ok((nodes, Some(End::End))),
                "else" => {
                    tokens.remove(0);
                    let chained = match tokens.first() {
                        None => None,
                        Some(Token::Identifier(word)) if word == "if" || word == "with" => {
                            let word = word.clone();
                            Some((word, column, source, tokens.split_off(1)))
                        }
                        Some(_) => return Err(ParseError("unexpected token in else".into())),
                    };
                    return Ok((nodes, Some(End::Else(chained))));
                }
                "if" | "with" | "range" => {
                    nodes.push(self.structure(&keyword, column, source, tokens.split_off(1))?);
                }
                "break" | "continue" if tokens.len() == 1 => {
                    if self.loops == 0 {
                        return Err(ParseError(format!("{{{{{keyword}}}}} outside {{{{range}}}}")));
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "template" | "block" => {
                    return Err(ParseError(format!("{{{{{keyword}}}}} is not supported in a format")));
                }
                _ => nodes.push(Node::Show(self.action(column, source, tokens)?)),
            }
        }
        Ok((nodes, None))
    }

    fn structure(
        &mut self,
        keyword: &str,
        column: usize,
        source: String,
        tokens: Vec<Token>,
    ) -> Result<Node, ParseError> {
        self.depth += 1;
        check_depth(self.depth)?;
        if tokens.is_empty() {
            return Err(ParseError(format!("missing value for {keyword}")));
        }
        let scope = self.variables.len();
        let action = self.action(column, source, tokens)?;
        self.loops += u32::from(keyword == "range");
        let (then, end) = self.block()?;
        self.loops -= u32::from(keyword == "range");
        let otherwise = match end {
            None => return Err(ParseError("unexpected EOF".into())),
            Some(End::End) => Vec::new(),
            Some(End::Else(None)) => match self.block()? {
                (nodes, Some(End::End)) => nodes,
                (_, None) => return Err(ParseError("unexpected EOF".into())),
                (_, Some(End::Else(_))) => return Err(ParseError("expected end; found {{else}}".into())),
            },
            Some(End::Else(Some((word, column, source, tokens)))) => {
                vec![self.structure(&word, column, source, tokens)?]
            }
        };
        self.variables.truncate(scope);
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: action, then, otherwise },
            "with" => Node::With { value: action, then, otherwise },
            _ => Node::Range { list: action, each: then, otherwise },
        })
    }

    fn action(&mut self, column: usize, source: String, tokens: Vec<Token>) -> Result<Action, ParseError> {
        let (variables, declares, rest) = self.declaration(tokens)?;
        check_depth(parentheses(&rest))?;
        let mut tokens = rest.into_iter().peekable();
        let pipeline = self.pipeline(&mut tokens)?;
        if tokens.next().is_some() {
            return Err(ParseError("unexpected \")\" in command".into()));
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Action { column, source, variables, declares, pipeline })
    }

    /// `$x :=`, `$k, $v :=` or `$x =` in front of a pipeline.
    fn declaration(&self, tokens: Vec<Token>) -> Result<(Vec<String>, bool, Vec<Token>), ParseError> {
        let Some(operator) = tokens.iter().position(|t| matches!(t, Token::Declare | Token::Assign)) else {
            return Ok((Vec::new(), false, tokens));
        };
        let declares = tokens[operator] == Token::Declare;
        let variables = match &tokens[..operator] {
            [Token::Variable(one)] => vec![one.clone()],
            [Token::Variable(one), Token::Comma, Token::Variable(two)] => vec![one.clone(), two.clone()],
            _ => return Err(ParseError("expected a variable in front of `=`".into())),
        };
        if !declares {
            self.known(&variables)?;
        }
        Ok((variables, declares, tokens[operator + 1..].to_vec()))
    }

    fn known(&self, variables: &[String]) -> Result<(), ParseError> {
        match variables.iter().find(|name| !self.variables.contains(name)) {
            Some(name) => Err(ParseError(format!("undefined variable \"${name}\""))),
            None => Ok(()),
        }
    }

    fn pipeline(&self, tokens: &mut Peekable<IntoIter<Token>>) -> Result<Vec<Command>, ParseError> {
        let mut commands = Vec::new();
        loop {
            let words = self.words(tokens)?;
            if words.is_empty() {
                return Err(ParseError("missing value for command".into()));
            }
            commands.push(Command { words });
            if tokens.next_if_eq(&Token::Pipe).is_none() {
                return Ok(commands);
            }
        }
    }

    fn words(&self, tokens: &mut Peekable<IntoIter<Token>>) -> Result<Vec<Operand>, ParseError> {
        let mut words = Vec::new();
        while let Some(token) = tokens.next_if(|t| !matches!(t, Token::Pipe | Token::Close)) {
            let mut fields = Vec::new();
            let mut place = 0;
            let head = match token {
                Token::Dot => Head::Dot,
                Token::Field { name, column, .. } => {
                    fields.push(name);
                    place = column;
                    Head::Dot
                }
                Token::Variable(name) => {
                    self.known(std::slice::from_ref(&name))?;
                    Head::Variable(name)
                }
                Token::Identifier(word) => match word.as_str() {
                    "true" => Head::Bool(true),
                    "false" => Head::Bool(false),
                    "nil" => Head::Nil,
                    _ if functions::exists(&word) => Head::Function(word),
                    _ => return Err(ParseError(format!("function \"{word}\" not defined"))),
                },
                Token::String(text) => Head::String(text),
                Token::Integer(n) => Head::Integer(n),
                Token::Float(n) => Head::Float(n),
                Token::Open => {
                    let inner = self.pipeline(tokens)?;
                    if tokens.next() != Some(Token::Close) {
                        return Err(ParseError("unclosed left paren".into()));
                    }
                    Head::Pipeline(inner)
                }
                Token::Comma | Token::Declare | Token::Assign | Token::Pipe | Token::Close => {
                    return Err(ParseError("unexpected operator in command".into()));
                }
            };
            let mut chained = false;
            while let Some(Token::Field { name, column, .. }) =
                tokens.next_if(|t| matches!(t, Token::Field { glued: true, .. }))
            {
                fields.push(name);
                place = if chained { place } else { column };
                chained = true;
            }
            words.push(Operand { head, fields, column: place });
        }
        Ok(words)
    }
}

fn check_depth(depth: usize) -> Result<(), ParseError> {
    if depth > MAX_DEPTH { Err(ParseError(format!("nested more than {MAX_DEPTH} deep"))) } else { Ok(()) }
}

/// How many parentheses are open at once at most.
fn parentheses(tokens: &[Token]) -> usize {
    let mut open = 0_usize;
    let depths = tokens.iter().map(|token| {
        match token {
            Token::Open => open += 1,
            Token::Close => open = open.saturating_sub(1),
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}

/// Appends the first field of each shown action, as far as it shows one.
pub(super) fn first_fields(nodes: &[Node], found: &mut Vec<String>) {
    for node in nodes {
        let (action, blocks): (_, &[&Vec<Node>]) = match node {
            Node::Show(action) => (action, &[]),
            Node::If { condition, then, otherwise } => (condition, &[then, otherwise]),
            Node::With { value, then, otherwise } => (value, &[then, otherwise]),
            Node::Range { list, each, otherwise } => (list, &[each, otherwise]),
            Node::Text(_) | Node::Break | Node::Continue => continue,
        };
        let words = action.pipeline.iter().flat_map(|command| &command.words);
        found.extend(
            words.filter(|word| matches!(word.head, Head::Dot)).find_map(|word| word.fields.last().cloned()),
        );
        for block in blocks {
            first_fields(block, found);
        }
    }
}
