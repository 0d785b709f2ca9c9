use std::process::ExitCode;

use anyhow::Result;
use common::digest::Digest;
use common::image::names::{self, NameError, Purpose};
use common::platform::Platform;
use common::store::Store;
use engine::containers::{Container, ContainerError, Containers, Mount, MountSource, Status};
use jiff::Timestamp;
use regex::Regex;
use serde_json::json;

use super::filter::{self, Filter};
use super::state::{Sizes, is_running, network_word, short_id, status_text, status_word, time};
use crate::context::Context;
use crate::error::{chain, verbatim};
use crate::output::{self, Column, column};
use crate::values;

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
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, hide_default_value = true, value_parser = values::integer)]
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

/// A container, and what a line says of it besides.
struct Line {
    container: Container,
    /// The image's name, or its ID where that name means another image by now.
    image: String,
    size: String,
    /// Nothing is cut off.
    whole: bool,
    now: Timestamp,
}

const COLUMNS: &[Column<Line>] = &[
    column("ID", "CONTAINER ID", |line| json!(id_text(&line.container, line.whole))),
    column("Image", "IMAGE", |line| json!(line.image)),
    column("Command", "COMMAND", |line| json!(command_text(&line.container.config.args(), line.whole))),
    column("RunningFor", "CREATED", |line| json!(output::ago(created(&line.container), line.now))),
    column("CreatedAt", "CREATED AT", |line| json!(output::timestamp(created(&line.container)))),
    column("Status", "STATUS", |line| json!(status_text(&line.container, line.now))),
    column("State", "STATE", |line| json!(status_word(&line.container))),
    column("Ports", "PORTS", |_| json!("")),
    column("Names", "NAMES", |line| json!(line.container.name())),
    column("Labels", "LABELS", |line| json!(labels_text(&line.container))),
    column("Label", "LABEL", |line| json!(line.container.config.process.labels)),
    column("Mounts", "MOUNTS", |line| json!(mounts_text(&line.container, line.whole))),
    column("Networks", "NETWORKS", |line| json!(network_word(&line.container))),
    column("LocalVolumes", "LOCAL VOLUMES", |_| json!("0")),
    column("Size", "SIZE", |line| json!(line.size)),
];

/// What the table shows unless it is asked for something else; the last with `--size` only.
const SHOWN: &[&str] = &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", "Size"];

const KNOWN_FILTERS: &[&str] = &[
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume", "health",
    "publish", "expose", "is-task",
];

/// Of these there is `none` here yet.
const HEALTH_WORDS: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// All that docker has; of some there is no container here yet.
const STATUS_WORDS: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let filters = filter::parse(&args.filter, KNOWN_FILTERS)?;
    let mut containers = Containers::new(store.paths().containers()).list()?;
    containers.sort_by_key(|container| std::cmp::Reverse(container.config.created_ns));
    let newest = if args.latest { 1 } else { args.last };
    let by_state = filters.iter().any(|filter| matches!(filter.name.as_str(), "status" | "exited"));
    let limits = Limits::new(&store, &containers, &filters)?;
    if !args.all && newest < 0 && !by_state {
        containers.retain(is_running);
    }
    containers.retain(|container| filter::all(&filters, |filter| limits.pass(container, filter)));
    if let Ok(limit) = usize::try_from(newest) {
        containers.truncate(limit);
    }
    if args.quiet && args.format.is_none() {
        containers.iter().map(|container| id_text(container, args.no_trunc)).for_each(output::line);
        warn_of_damage(containers.iter());
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let sizes = args.size || args.format.as_ref().is_some_and(|format| format.contains(".Size"));
    let mut lines = Vec::new();
    for container in containers {
        let size = if sizes { size_text(&store, &container)? } else { "0B".to_owned() };
        let image = image_text(&store, &container, args.no_trunc);
        lines.push(Line { container, image, size, whole: args.no_trunc, now });
    }
    let shown = if args.size { SHOWN } else { &SHOWN[..SHOWN.len() - 1] };
    output::list(&lines, COLUMNS, shown, args.format.as_deref())?;
    warn_of_damage(lines.iter().map(|line| &line.container));
    Ok(ExitCode::SUCCESS)
}

/// Damaged containers and those of a newer program are listed, with what is known of them.
fn warn_of_damage<'c>(containers: impl Iterator<Item = &'c Container>) {
    for container in containers {
        let Some(damage) = container.damage() else { continue };
        let (id, why) = (short_id(container), chain(damage));
        output::note(match damage {
            ContainerError::Version { .. } => format!("WARNING: container {id}: {why}"),
            _ => format!("WARNING: container {id} is damaged: {why}; `rm -f {id}` removes it"),
        });
    }
}

fn id_text(container: &Container, whole: bool) -> String {
    if whole { container.id().to_owned() } else { short_id(container).to_owned() }
}

/// What the filters compare with, looked up and compiled once.
struct Limits {
    /// When the containers that `before` and `since` name were created.
    before: Option<i64>,
    since: Option<i64>,
    /// The values of `ancestor` that name images, with these.
    ancestors: Vec<(String, Digest)>,
    /// The values of `name`, with the patterns that they are.
    names: Vec<(String, Regex)>,
}

impl Limits {
    fn new(store: &Store, containers: &[Container], filters: &[Filter]) -> Result<Self> {
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
        filter::check_values(filters, "is-task", &["true", "false"])
            .map_err(|wrong| verbatim(format!("Error: Invalid filter 'is-task=[{wrong}]'")))?;
        filter::check_values(filters, "health", HEALTH_WORDS)
            .map_err(|wrong| verbatim(format!("Error: Unrecognised filter value for health: {wrong}")))?;
        if let Some(wrong) = named("exited").find(|filter| filter.value.parse::<i64>().is_err()) {
            let value = &wrong.value;
            return Err(verbatim(format!("Error: strconv.Atoi: parsing \"{value}\": invalid syntax")));
        }
        let names = named("name").map(|filter| {
            let pattern = Regex::new(&filter.value).map_err(|_| {
                verbatim(format!("Error: Invalid filter 'name': `{}` is no pattern", filter.value))
            })?;
            Ok((filter.value.clone(), pattern))
        });
        let ancestor = |filter: &Filter| {
            let found = names::find(store, &filter.value, Purpose::Handle(&Platform::host())).ok()?;
            Some((filter.value.clone(), found.id))
        };
        Ok(Limits {
            before: created("before")?,
            since: created("since")?,
            ancestors: named("ancestor").filter_map(ancestor).collect(),
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
            "ancestor" => self
                .ancestors
                .iter()
                .any(|(text, image)| text == value && config.image.as_ref() == Some(image)),
            "before" => self.before.is_some_and(|limit| config.created_ns < limit),
            "since" => self.since.is_some_and(|limit| config.created_ns > limit),
            "network" => network_word(container) == value,
            "volume" => config.mounts.iter().any(|mount| {
                let MountSource::Bind(source) = &mount.source;
                source.as_os_str() == value || mount.destination.as_os_str() == value
            }),
            "health" => value == "none",
            // Nothing is published yet, and there are no services.
            "is-task" => value == "false",
            "label" => match value.split_once('=') {
                Some((name, value)) => config.process.labels.get(name).is_some_and(|found| found == value),
                None => config.process.labels.contains_key(value),
            },
            _ => false,
        }
    }
}

fn created(container: &Container) -> Timestamp {
    time(Some(container.config.created_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The image as it was named, if that still means the same image.
fn image_text(store: &Store, container: &Container, whole: bool) -> String {
    let config = &container.config;
    let Some(id) = &config.image else { return config.image_name.clone() };
    match names::find(store, &config.image_name, Purpose::Handle(&Platform::host())) {
        Ok(found) if found.id != *id => super::images::id_text(id, whole),
        Err(NameError::NotFound { .. }) => super::images::id_text(id, whole),
        _ => config.image_name.clone(),
    }
}

fn labels_text(container: &Container) -> String {
    let labels = container.config.process.labels.iter();
    labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn mounts_text(container: &Container, whole: bool) -> String {
    let mounts = container.config.mounts.iter();
    mounts.map(|mount| mount_text(mount, whole)).collect::<Vec<_>>().join(",")
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
