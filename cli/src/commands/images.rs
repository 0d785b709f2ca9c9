use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use common::digest::Digest;
use common::image::names::{self, Found, NameError, Purpose};
use common::image::record;
use common::platform::Platform;
use common::reference::{Reference, Repository};
use common::store::{ImageRecord, Store};
use jiff::Timestamp;
use serde_json::json;

use super::filter::{self, Filter};
use crate::context::Context;
use crate::error::{Verbatim, verbatim};
use crate::output::{self, Column, column};
use crate::report;

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only images of this name, or of names that match the pattern
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Show all images (there are no intermediate ones here: every step's result is a layer, not an image)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show only what matches: dangling, label, before, since, reference
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template a line
    #[arg(long)]
    format: Option<String>,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Show only IDs
    #[arg(short, long)]
    quiet: bool,
}

/// A row, and what a line says of it besides.
struct Line {
    row: Row,
    size_bytes: u64,
    /// Nothing is cut off.
    whole: bool,
    now: Timestamp,
}

const COLUMNS: &[Column<Line>] = &[
    column("Repository", "REPOSITORY", |line| json!(line.row.repository())),
    column("Tag", "TAG", |line| json!(line.row.tag())),
    column("Digest", "DIGEST", |line| {
        json!(line.row.digest.as_ref().map_or("<none>".to_owned(), ToString::to_string))
    }),
    column("ID", "IMAGE ID", |line| json!(id_text(&line.row.image.id, line.whole))),
    column("CreatedSince", "CREATED", |line| json!(output::ago(created(&line.row), line.now))),
    column("CreatedAt", "CREATED AT", |line| json!(output::timestamp(created(&line.row)))),
    column("Size", "SIZE", |line| json!(output::size(line.size_bytes))),
    column("VirtualSize", "SIZE", |line| json!(output::size(line.size_bytes))),
    column("SharedSize", "SHARED SIZE", |_| json!("N/A")),
    column("UniqueSize", "UNIQUE SIZE", |_| json!("N/A")),
    column("Containers", "CONTAINERS", |_| json!("N/A")),
];

const SHOWN: &[&str] = &["Repository", "Tag", "ID", "CreatedSince", "Size"];
const SHOWN_WITH_DIGESTS: &[&str] = &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let filters = filter::parse(&args.filter, &["dangling", "label", "before", "since", "reference"])?;
    let (mut rows, mut damaged) = rows(&store, args.digests)?;
    if let Some(name) = &args.name {
        rows.retain(|row| row.is_named(name));
    }
    let limits = Limits::new(&store, &filters)?;
    rows.retain(|row| filter::all(&filters, |filter| limits.pass(&store, row, filter)));
    rows.sort_by(|a, b| {
        (b.image.created, &a.name, &a.image.id).cmp(&(a.image.created, &b.name, &b.image.id))
    });

    if args.quiet && args.format.is_none() {
        let ids: Vec<String> = rows.iter().map(|row| id_text(&row.image.id, args.no_trunc)).collect();
        ids.iter().for_each(output::line);
        return Ok(report::passed_over(&damaged));
    }
    let now = Timestamp::now();
    let mut sizes = Sizes::new(&store);
    let line = |row: Row| {
        let size_bytes = sizes.of(&row.image.id)?;
        Some(Line { row, size_bytes, whole: args.no_trunc, now })
    };
    let lines: Vec<Line> = rows.into_iter().filter_map(line).collect();
    damaged.extend(sizes.damaged);
    let shown = if args.digests { SHOWN_WITH_DIGESTS } else { SHOWN };
    output::list(&lines, COLUMNS, shown, args.format.as_deref())?;
    Ok(report::passed_over(&damaged))
}

/// The image that a user means, or docker's words that there is none.
pub(super) fn require(store: &Store, wanted: &str) -> Result<Found> {
    names::find(store, wanted, Purpose::Handle(&Platform::host())).map_err(|error| {
        let words = format!("Error: {error}");
        let dockers = matches!(error, NameError::NotFound { .. } | NameError::Reference(_));
        let error = anyhow::Error::new(error);
        if dockers { error.context(Verbatim { text: words, code: None }) } else { error }
    })
}

/// One line of the list: a name of an image, or an image without one.
struct Row {
    image: ImageRecord,
    /// A tag; a digest in a repository where the image has no tag.
    name: Option<Reference>,
    /// That of the name's repository.
    digest: Option<Digest>,
    /// The image has a tag, here or in another row.
    tagged: bool,
}

/// All lines, with `every_digest` one for each that a name has, and what is wrong with the records that give none.
fn rows(store: &Store, every_digest: bool) -> Result<(Vec<Row>, Vec<String>)> {
    let mut tags = names::tags(store)?;
    let (images, damaged) = store.images()?;
    tags.damaged.extend(damaged);
    let mut rows = Vec::new();
    for image in images {
        let mut names = tags.by_image.remove(&image.id).unwrap_or_default();
        let tagged = !names.is_empty();
        for digest in &image.names {
            if !names.iter().any(|name| name.repository() == digest.repository()) {
                names.push(digest.clone());
            }
        }
        if names.is_empty() {
            rows.push(Row { image, name: None, digest: None, tagged });
            continue;
        }
        for name in names {
            let same = image.names.iter().filter(|other| other.repository() == name.repository());
            let mut digests: Vec<_> = same.map(|name| name.digest().cloned()).collect();
            digests.truncate(if every_digest { digests.len() } else { 1 });
            if digests.is_empty() {
                digests.push(None);
            }
            rows.extend(digests.into_iter().map(|digest| Row {
                image: image.clone(),
                name: Some(name.clone()),
                digest,
                tagged,
            }));
        }
    }
    Ok((rows, tags.damaged.iter().map(ToString::to_string).collect()))
}

fn created(row: &Row) -> Timestamp {
    Timestamp::from_second(row.image.created).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Row {
    fn repository(&self) -> String {
        self.name.as_ref().map_or("<none>".to_owned(), |name| name.repository().familiar())
    }

    fn tag(&self) -> String {
        self.name.as_ref().and_then(Reference::tag).map_or("<none>".to_owned(), ToString::to_string)
    }

    /// Whether the row's name is `wanted`: a repository, a repository with a tag, or a pattern of either.
    fn is_named(&self, wanted: &str) -> bool {
        let Some(name) = &self.name else { return false };
        let (familiar, repository) = (name.familiar(), name.repository().familiar());
        if let Ok(wanted) = wanted.parse::<Repository>() {
            return wanted.familiar() == repository;
        }
        if let Ok(wanted) = wanted.parse::<Reference>() {
            return wanted.familiar() == familiar;
        }
        filter::glob(wanted, &familiar) || filter::glob(wanted, &repository)
    }
}

/// What images hold, each looked up once however many names it has.
struct Sizes<'s> {
    store: &'s Store,
    known: BTreeMap<Digest, Option<u64>>,
    /// Images whose config or tables are missing or damaged, and what is wrong.
    damaged: Vec<String>,
}

impl<'s> Sizes<'s> {
    fn new(store: &'s Store) -> Self {
        Sizes { store, known: BTreeMap::new(), damaged: Vec::new() }
    }

    /// In bytes; `None` when the image is damaged.
    fn of(&mut self, id: &Digest) -> Option<u64> {
        if let Some(known) = self.known.get(id) {
            return *known;
        }
        let size_bytes = names::config(self.store, id)
            .map_err(anyhow::Error::from)
            .and_then(|config| Ok(record::size_bytes(self.store, &config)?))
            .inspect_err(|error| self.damaged.push(format!("image {}: {error:#}", id.short())))
            .ok();
        self.known.insert(id.clone(), size_bytes);
        size_bytes
    }
}

/// An ID as tables show it: the first twelve digits, or all with their algorithm.
pub(super) fn id_text(id: &Digest, whole: bool) -> String {
    if whole { id.to_string() } else { id.short().to_owned() }
}

/// The images that `before` and `since` name, looked up once.
struct Limits {
    before: Option<i64>,
    since: Option<i64>,
}

impl Limits {
    fn new(store: &Store, filters: &[Filter]) -> Result<Self> {
        let created = |name: &str| -> Result<Option<i64>> {
            let Some(filter) = filters.iter().find(|filter| filter.name == name) else { return Ok(None) };
            let found = require(store, &filter.value)?;
            Ok(store.image(&found.id)?.map(|image| image.created))
        };
        filter::check_values(filters, "dangling", &["true", "false"])
            .map_err(|wrong| verbatim(format!("Error: Invalid filter 'dangling=[{wrong}]'")))?;
        Ok(Limits { before: created("before")?, since: created("since")? })
    }

    fn pass(&self, store: &Store, row: &Row, filter: &Filter) -> bool {
        match filter.name.as_str() {
            "dangling" if filter.value == "true" => !row.tagged,
            "dangling" => row.name.is_some(),
            "reference" => row.is_named(&filter.value),
            "before" => self.before.is_some_and(|limit| row.image.created < limit),
            "since" => self.since.is_some_and(|limit| row.image.created > limit),
            "label" => names::config(store, &row.image.id).is_ok_and(|config| {
                let labels = config.config.labels;
                match filter.value.split_once('=') {
                    Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
                    None => labels.contains_key(&filter.value),
                }
            }),
            _ => false,
        }
    }
}
