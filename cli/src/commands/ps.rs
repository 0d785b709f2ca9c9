use std::process::ExitCode;

use anyhow::Result;
use common::store::Store;
use engine::containers::{Container, Containers, Mount, MountSource, Status};
use jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::filter::{self, Filter};
use super::state::{Sizes, is_running, network_word, short_id, status_text, status_word, time};
use crate::args::flags;
use crate::context::Context;
use crate::output::{self, Columns};
use crate::report::verbatim;

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Show only what matches: id, name, label, status, exited, ancestor, before, since, network, volume, health
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
    /// Show how much each has written
    #[arg(short, long)]
    size: bool,
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

const COLUMNS_WITH_SIZE: Columns = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
    ("SIZE", "Size"),
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
    ("SIZE", "Size"),
];

const KNOWN_FILTERS: &[&str] = &[
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume", "health",
];

/// All that docker has; of some there is no container here yet.
const STATUS_WORDS: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let filters = filter::parse(&args.filter, KNOWN_FILTERS)?;
    let mut containers = Containers::new(store.paths().containers()).list()?;
    containers.sort_by_key(|container| std::cmp::Reverse(container.config.created_ns));
    let newest = if args.latest { 1 } else { args.last };
    let by_state = filters.iter().any(|filter| matches!(filter.name.as_str(), "status" | "exited"));
    let limits = Limits::new(&containers, &filters)?;
    if !args.all && newest < 0 && !by_state {
        containers.retain(is_running);
    }
    containers.retain(|container| filter::all(&filters, |filter| limits.pass(container, filter)));
    if let Ok(limit) = usize::try_from(newest) {
        containers.truncate(limit);
    }
    if args.quiet && args.format.is_none() {
        containers.iter().map(|container| id_text(container, args.no_trunc)).for_each(output::line);
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let sizes = args.size || args.format.as_ref().is_some_and(|format| format.contains(".Size"));
    let mut rows = Vec::new();
    for container in &containers {
        let size = if sizes { size_text(&store, container)? } else { "0B".to_owned() };
        rows.push(row(container, args.no_trunc, now, &size));
    }
    let columns = if args.size { COLUMNS_WITH_SIZE } else { COLUMNS };
    output::list(&rows, columns, HEADERS, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn id_text(container: &Container, whole: bool) -> String {
    if whole { container.id().to_owned() } else { short_id(container).to_owned() }
}

/// What the filters compare with, looked up and compiled once.
struct Limits {
    /// When the containers that `before` and `since` name were created.
    before: Option<i64>,
    since: Option<i64>,
    /// The values of `name`, with the patterns that they are.
    names: Vec<(String, Regex)>,
}

impl Limits {
    fn new(containers: &[Container], filters: &[Filter]) -> Result<Self> {
        let named = |name| filters.iter().filter(move |filter: &&Filter| filter.name == name);
        let created = |name| -> Result<Option<i64>> {
            let Some(filter) = named(name).next_back() else { return Ok(None) };
            let wanted = filter.value.trim_start_matches('/');
            let mut found = containers.iter();
            let found =
                found.find(|container| container.name() == wanted || container.id().starts_with(wanted));
            match found {
                Some(container) => Ok(Some(container.config.created_ns)),
                None => Err(verbatim(format!("Error: No such container: {wanted}"))),
            }
        };
        filter::check_values(filters, "status", STATUS_WORDS)
            .map_err(|wrong| verbatim(format!("Error: Invalid filter 'status={wrong}'")))?;
        let names = named("name").map(|filter| {
            let pattern = Regex::new(&filter.value).map_err(|_| {
                verbatim(format!("Error: Invalid filter 'name': `{}` is no pattern", filter.value))
            })?;
            Ok((filter.value.clone(), pattern))
        });
        Ok(Limits {
            before: created("before")?,
            since: created("since")?,
            names: names.collect::<Result<_>>()?,
        })
    }

    fn pass(&self, container: &Container, filter: &Filter) -> bool {
        let (config, value) = (&container.config, filter.value.as_str());
        match filter.name.as_str() {
            "id" => container.id().starts_with(value),
            "name" => self.names.iter().any(|(text, pattern)| {
                let name = container.name();
                text == value && (pattern.is_match(name) || pattern.is_match(&format!("/{name}")))
            }),
            "status" => status_word(container) == value,
            "exited" => {
                container.state.status == Status::Exited && container.state.exit_code.to_string() == value
            }
            "ancestor" => {
                let id = config.image.as_ref().map(ToString::to_string).unwrap_or_default();
                let named = [&config.image_name, config.image_name.trim_end_matches(":latest")];
                named.contains(&value.trim_end_matches(":latest"))
                    || id == value
                    || id.trim_start_matches("sha256:").starts_with(value)
            }
            "before" => self.before.is_some_and(|limit| config.created_ns < limit),
            "since" => self.since.is_some_and(|limit| config.created_ns > limit),
            "network" => network_word(container) == value,
            "volume" => config.mounts.iter().any(|mount| {
                let MountSource::Bind(source) = &mount.source;
                source.as_os_str() == value || mount.destination.as_os_str() == value
            }),
            "health" => value == "none",
            "label" => match value.split_once('=') {
                Some((name, value)) => config.process.labels.get(name).is_some_and(|found| found == value),
                None => config.process.labels.contains_key(value),
            },
            _ => false,
        }
    }
}

fn row(container: &Container, whole: bool, now: Timestamp, size: &str) -> Map<String, Value> {
    let config = &container.config;
    let created = time(Some(config.created_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    let command = command_text(&config.args(), whole);
    let labels: Vec<String> =
        config.process.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<String> = config.mounts.iter().map(|mount| mount_text(mount, whole)).collect();
    let row = json!({
        "Command": command,
        "CreatedAt": output::timestamp(created),
        "ID": id_text(container, whole),
        "Image": config.image_name,
        "Label": config.process.labels,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": mounts.join(","),
        "Names": container.name(),
        "Networks": network_word(container),
        "Ports": "",
        "RunningFor": output::ago(created, now),
        "Size": size,
        "State": status_word(container),
        "Status": status_text(container, now),
    });
    row.as_object().cloned().unwrap_or_default()
}

/// A mount as docker's list shows it: its source, of fifteen characters at most.
fn mount_text(mount: &Mount, whole: bool) -> String {
    let MountSource::Bind(source) = &mount.source;
    let source = source.display().to_string();
    if whole { source } else { output::ellipsis(&source, 15) }
}

/// How much it has written, and how much it would be with its image.
fn size_text(store: &Store, container: &Container) -> Result<String> {
    let Sizes { written, whole } = Sizes::of(store, container)?;
    Ok(format!("{} (virtual {})", output::size(written), output::size(whole)))
}

/// The command as docker shows it: words with blanks in quotes, the whole in Go's quotes, twenty characters at most.
fn command_text(args: &[String], whole: bool) -> String {
    let word = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    let line = args.iter().map(word).collect::<Vec<_>>().join(" ");
    format!("{:?}", if whole { line } else { output::ellipsis(&line, 20) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_and_cut_as_docker_does() {
        let args: Vec<String> = ["sh", "-c", r#"echo "a b" && sleep 1000"#].map(str::to_owned).into();
        assert_eq!(command_text(&args, false), r#""sh -c 'echo \"a b\" &…""#);
        assert_eq!(command_text(&args, true), r#""sh -c 'echo \"a b\" && sleep 1000'""#);
    }
}
