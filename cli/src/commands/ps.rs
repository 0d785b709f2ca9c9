use std::process::ExitCode;

use anyhow::Result;
use engine::containers::{Container, Containers, Status};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::filter::{self, Filter};
use crate::args::flags;
use crate::context::Context;
use crate::output::{self, Columns};

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Show only what matches: id, name, label, status, exited, ancestor, network
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template a line
    #[arg(long)]
    format: Option<String>,
    /// The newest N, whatever their state
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, hide_default_value = true, value_parser = flags::integer)]
    last: i64,
    /// The newest, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// Show whole IDs and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show only IDs
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

const HEADERS: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("CREATED AT", "CreatedAt"),
    ("STATUS", "Status"),
    ("STATE", "State"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
    ("LABELS", "Labels"),
    ("MOUNTS", "Mounts"),
    ("NETWORKS", "Networks"),
];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let known = ["id", "name", "label", "status", "exited", "ancestor", "network"];
    let filters = filter::parse(&args.filter, &known)?;
    let mut containers = Containers::new(store.paths().containers()).list()?;
    containers.sort_by_key(|container| std::cmp::Reverse(container.config.created_ns));
    let newest = if args.latest { 1 } else { args.last };
    let by_state = filters.iter().any(|filter| matches!(filter.name.as_str(), "status" | "exited"));
    if !args.all && newest < 0 && !by_state {
        containers.retain(is_running);
    }
    containers.retain(|container| filter::all(&filters, |filter| passes(container, filter)));
    if let Ok(limit) = usize::try_from(newest) {
        containers.truncate(limit);
    }
    if args.quiet && args.format.is_none() {
        containers.iter().map(|container| id_text(container, args.no_trunc)).for_each(output::line);
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let rows: Vec<_> = containers.iter().map(|container| row(container, args.no_trunc, now)).collect();
    output::list(&rows, COLUMNS, HEADERS, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// Whether its first process lives.
pub(super) fn is_running(container: &Container) -> bool {
    container.state.status == Status::Running
}

fn id_text(container: &Container, whole: bool) -> String {
    if whole { container.id().to_owned() } else { short_id(container).to_owned() }
}

/// The first twelve digits, as tables show them.
pub(super) fn short_id(container: &Container) -> &str {
    container.id().get(..12).unwrap_or(container.id())
}

fn passes(container: &Container, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    match filter.name.as_str() {
        "id" => container.id().starts_with(value),
        "name" => container.name().contains(value.trim_start_matches(['^', '/']).trim_end_matches('$')),
        "status" => status_word(container) == value,
        "exited" => {
            container.state.status == Status::Exited && container.state.exit_code.to_string() == value
        }
        "ancestor" => {
            let id = container.config.image.as_ref().map(ToString::to_string).unwrap_or_default();
            container.config.image_name == value || id.trim_start_matches("sha256:").starts_with(value)
        }
        "network" => network_word(container) == value,
        "label" => match value.split_once('=') {
            Some((name, value)) => container.config.labels.get(name).is_some_and(|found| found == value),
            None => container.config.labels.contains_key(value),
        },
        _ => false,
    }
}

fn status_word(container: &Container) -> &'static str {
    match container.state.status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Exited => "exited",
    }
}

fn network_word(container: &Container) -> &'static str {
    match container.config.network {
        engine::Network::Host => "host",
        engine::Network::None => "none",
    }
}

fn time(nanoseconds: Option<i64>) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds?.into()).ok()
}

/// docker's words: `Up 2 minutes`, `Exited (0) 3 seconds ago`, `Created`.
fn status_text(container: &Container, now: Timestamp) -> String {
    let state = &container.state;
    let since = |at: Option<i64>| time(at).map_or(0, |at| now.as_second() - at.as_second());
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", output::duration(since(state.started_ns))),
        Status::Exited => {
            format!("Exited ({}) {} ago", state.exit_code, output::duration(since(state.finished_ns)))
        }
    }
}

fn row(container: &Container, whole: bool, now: Timestamp) -> Map<String, Value> {
    let config = &container.config;
    let created = time(Some(config.created_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    let command = config.args.join(" ");
    let command = match command.chars().count() {
        21.. if !whole => command.chars().take(19).chain(['…']).collect(),
        _ => command,
    };
    let labels: Vec<String> = config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<String> =
        config.mounts.iter().map(|mount| mount.destination.display().to_string()).collect();
    let row = json!({
        "Command": format!("\"{command}\""),
        "CreatedAt": output::timestamp(created),
        "ID": id_text(container, whole),
        "Image": config.image_name,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": mounts.join(","),
        "Names": container.name(),
        "Networks": network_word(container),
        "Ports": "",
        "RunningFor": output::ago(created, now),
        "Size": "0B",
        "State": status_word(container),
        "Status": status_text(container, now),
    });
    row.as_object().cloned().unwrap_or_default()
}

/// docker's document of a container.
pub(super) fn inspect(container: &Container) -> Value {
    let (config, state) = (&container.config, &container.state);
    let instant = |at: Option<i64>| time(at).map_or("0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
    let running = is_running(container);
    let (path, rest) = config.args.split_first().map_or(("", &[][..]), |(path, rest)| (path.as_str(), rest));
    let mounts: Vec<Value> = config
        .mounts
        .iter()
        .map(|mount| {
            let (kind, source) = match &mount.source {
                engine::Source::Bind(path) => ("bind", path.display().to_string()),
                _ => ("tmpfs", String::new()),
            };
            json!({
                "Type": kind,
                "Source": source,
                "Destination": mount.destination,
                "Mode": if mount.read_only { "ro" } else { "" },
                "RW": !mount.read_only,
                "Propagation": "rprivate",
            })
        })
        .collect();
    json!({
        "Id": container.id(),
        "Created": instant(Some(config.created_ns)),
        "Path": path,
        "Args": rest,
        "State": {
            "Status": status_word(container),
            "Running": running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": false,
            "Dead": false,
            "Pid": state.process.as_ref().filter(|_| running).map_or(0, |process| process.pid),
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": instant(state.started_ns),
            "FinishedAt": instant(state.finished_ns),
        },
        "Image": config.image,
        "ResolvConfPath": container.etc_file("resolv.conf"),
        "HostnamePath": container.etc_file("hostname"),
        "HostsPath": container.etc_file("hosts"),
        "LogPath": "",
        "Name": format!("/{}", container.name()),
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "HostConfig": {
            "NetworkMode": network_word(container),
            "AutoRemove": config.auto_remove,
            "ReadonlyRootfs": config.read_only,
            "Privileged": false,
        },
        "Mounts": mounts,
        "Config": {
            "Hostname": config.hostname,
            "Domainname": "",
            "User": config.user,
            "Tty": config.terminal,
            "OpenStdin": config.open_stdin,
            "Env": config.env,
            "Cmd": config.args,
            "Image": config.image_name,
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
        },
        "NetworkSettings": {"Networks": {network_word(container): {"IPAddress": ""}}},
    })
}
