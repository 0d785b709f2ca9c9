use std::process::ExitCode;

use anyhow::Result;
use common::image::names::{self, NameError, Purpose};
use common::platform::Platform;
use common::store::Store;
use engine::containers::{ContainerError, Containers};
use serde_json::Value;

use crate::context::Context;
use crate::error::{self, verbatim, verbatim_with_code};
use crate::output::{self, DocumentFormat};
use crate::report;

mod container;
mod image;

/// Show everything about images and containers, as JSON
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Names or IDs
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
    /// `json` or a Go template, e.g. `{{.Config.Env}}` or `{{json .RootFS}}`
    #[arg(short, long)]
    format: Option<String>,
    /// Only things of this kind: `image` or `container`
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Show the sizes of containers
    #[arg(short, long)]
    size: bool,
}

/// Show everything about images, as JSON
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImageArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    names: Vec<String>,
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Show everything about containers, as JSON
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ContainerArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
    /// `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Show the sizes of containers
    #[arg(short, long)]
    size: bool,
}

impl From<ImageArgs> for Args {
    fn from(args: ImageArgs) -> Self {
        Args { names: args.names, format: args.format, kind: Some("image".to_owned()), size: false }
    }
}

impl From<ContainerArgs> for Args {
    fn from(args: ContainerArgs) -> Self {
        Args { names: args.names, format: args.format, kind: Some("container".to_owned()), size: args.size }
    }
}

/// docker's other kinds, of which there is nothing here.
const NOT_HERE: &[&str] = &["network", "volume", "node", "service", "task", "plugin", "secret", "config"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let known = |kind: &str| ["image", "container"].contains(&kind) || NOT_HERE.contains(&kind);
    if let Some(kind) = args.kind.as_deref().filter(|kind| !known(kind)) {
        return Err(verbatim(format!("\"{kind}\" is not a valid value for --type")));
    }
    let format = args.format.as_deref().filter(|format| !format.is_empty()).map(DocumentFormat::parse);
    let format =
        format.transpose().map_err(|error| verbatim_with_code(error.to_string(), error::WRONG_TEMPLATE))?;
    let store = context.store()?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &args.names {
        match inspect(&store, name, args) {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error),
        }
    }
    match format {
        Some(format) => {
            let mut lines = Vec::new();
            for value in &found {
                match format.show(value) {
                    Ok(line) => lines.push(line),
                    Err(error) => failures.push(verbatim(error.to_string())),
                }
            }
            // Where nothing can be shown docker ends a line all the same.
            output::line(lines.join("\n"));
        }
        None => output::line(indented(&Value::Array(found))),
    }
    let mut code = ExitCode::SUCCESS;
    for error in failures {
        code = report::failure(&error, error::FAILED);
    }
    Ok(code)
}

/// Containers come before images, as with docker.
fn inspect(store: &Store, name: &str, args: &Args) -> Result<Value> {
    let kind = args.kind.as_deref();
    if let Some(kind) = kind.filter(|kind| NOT_HERE.contains(kind)) {
        return Err(verbatim(format!("Error: No such {kind}: {name}")));
    }
    if kind != Some("image") {
        match Containers::new(store.paths().containers()).find(name) {
            Ok(container) => return container::document(store, &container, args.size),
            Err(ContainerError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let none = |text: String| verbatim(format!("Error: {text}"));
    if kind == Some("container") {
        return Err(none(format!("No such container: {name}")));
    }
    match names::find(store, name, Purpose::Handle(&Platform::host())) {
        Ok(found) => image::document(store, &found.id),
        Err(error @ (NameError::NotFound { .. } | NameError::Reference(_))) => Err(none(match kind {
            Some(_) => format!("no such image: {name}: {error}"),
            None => format!("No such object: {name}"),
        })),
        Err(other) => Err(other.into()),
    }
}

/// JSON as docker indents it: four blanks.
fn indented(value: &Value) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).expect("a JSON value serialises into memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}
