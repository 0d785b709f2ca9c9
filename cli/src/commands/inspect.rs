use std::process::ExitCode;

use anyhow::Result;
use common::digest::Digest;
use common::image::names::{self, NameError};
use common::image::record;
use common::oci::ImageConfig;
use common::platform::Platform;
use common::reference::Reference;
use common::store::Store;
use engine::containers::{ContainerError, Containers};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output;
use crate::report::{self, verbatim};

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
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image", "container"])]
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

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &args.names {
        match inspect(&store, name, args.kind.as_deref()) {
            Ok(value) => found.push(value),
            Err(error) => failures.push(error),
        }
    }
    match &args.format {
        Some(format) => found.iter().try_for_each(|value| output::document(value, format))?,
        None => {
            let text = indented(&Value::Array(found));
            output::line(text);
        }
    }
    let mut code = ExitCode::SUCCESS;
    for error in failures {
        code = report::failure(&error, report::FAILED);
    }
    Ok(code)
}

/// Containers come before images, as with docker.
fn inspect(store: &Store, name: &str, kind: Option<&str>) -> Result<Value> {
    if kind != Some("image") {
        match Containers::new(store.paths().containers()).find(name) {
            Ok(container) => return Ok(super::ps::inspect(&container)),
            Err(ContainerError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let what = match kind {
        Some("image") => "image",
        Some(kind) => kind,
        None => "object",
    };
    let none = || verbatim(format!("Error: No such {what}: {name}"));
    if kind == Some("container") {
        return Err(none());
    }
    match names::find(store, name, &Platform::host()) {
        Ok(found) => image(store, &found.id),
        Err(NameError::NotFound { .. } | NameError::Reference(_)) => Err(none()),
        Err(other) => Err(other.into()),
    }
}

/// docker's document of an image.
fn image(store: &Store, id: &Digest) -> Result<Value> {
    let config: ImageConfig = names::config(store, id)?;
    let record = store.image(id)?;
    let tags = names::tags(store)?.remove(id).unwrap_or_default();
    let digests: Vec<String> =
        record.iter().flat_map(|record| &record.names).map(Reference::familiar).collect();
    let created = match (&config.created, &record) {
        (Some(created), _) => created.clone(),
        (None, Some(record)) => {
            Timestamp::from_second(record.created).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
        }
        (None, None) => String::new(),
    };
    let size = record::size_bytes(store, &config)?;
    let comment = config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default();
    let mut value = json!({
        "Id": id,
        "RepoTags": tags.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment,
        "Created": created,
        "DockerVersion": config.other.get("docker_version").cloned().unwrap_or_else(|| json!("")),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config_document(&config),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Data": null, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = json!(variant);
    }
    Ok(value)
}

/// docker shows the fields that a template may ask for, also when the image has none.
pub(super) fn config_document(config: &ImageConfig) -> Value {
    let config = &config.config;
    let or_null = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let mut value = json!({
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": or_null(&config.env),
        "Cmd": config.cmd,
        "Image": "",
        "Volumes": if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) },
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": or_null(&config.on_build),
        "Labels": if config.labels.is_empty() { Value::Null } else { json!(config.labels) },
    });
    let optional = [
        ("ExposedPorts", (!config.exposed_ports.is_empty()).then(|| json!(config.exposed_ports))),
        ("Healthcheck", config.healthcheck.as_ref().map(|check| json!(check))),
        ("StopSignal", config.stop_signal.as_ref().map(|signal| json!(signal))),
        ("StopTimeout", config.stop_timeout.map(|seconds| json!(seconds))),
        ("Shell", config.shell.as_ref().map(|shell| json!(shell))),
    ];
    for (name, field) in optional {
        if let Some(field) = field {
            value[name] = field;
        }
    }
    value
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
