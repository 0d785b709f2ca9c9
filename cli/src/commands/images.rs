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
use serde_json::{Map, Value, json};

use super::filter::{self, Filter};
use crate::context::Context;
use crate::output::{self, Columns};
use crate::report::{self, verbatim};

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

const COLUMNS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

const COLUMNS_WITH_DIGESTS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "Digest"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

const HEADERS: Columns = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "Digest"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("CREATED AT", "CreatedAt"),
    ("SIZE", "Size"),
];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let filters = filter::parse(&args.filter, &["dangling", "label", "before", "since", "reference"])?;
    let (mut rows, mut damaged) = rows(&store)?;
    if let Some(name) = &args.name {
        rows.retain(|row| row.is_named(name));
    }
    let limits = Limits::new(&store, &filters)?;
    rows.retain(|row| filter::all(&filters, |filter| limits.pass(&store, row, filter)));
    rows.sort_by(|a, b| (b.image.created, &a.tag, &a.image.id).cmp(&(a.image.created, &b.tag, &b.image.id)));

    if args.quiet && args.format.is_none() {
        let ids: Vec<String> = rows.iter().map(|row| id_text(&row.image.id, args.no_trunc)).collect();
        ids.iter().for_each(output::line);
        return Ok(report::passed_over(&damaged));
    }
    let now = Timestamp::now();
    let mut sizes = Sizes::new(&store);
    let table: Vec<_> =
        rows.iter().filter_map(|row| Some(row.fields(sizes.of(&row.image.id)?, args, now))).collect();
    damaged.extend(sizes.damaged);
    let columns = if args.digests { COLUMNS_WITH_DIGESTS } else { COLUMNS };
    output::list(&table, columns, HEADERS, args.format.as_deref())?;
    Ok(report::passed_over(&damaged))
}

/// The image that a user means, or docker's words that there is none.
pub(super) fn require(store: &Store, wanted: &str) -> Result<Found> {
    names::find(store, wanted, Purpose::Handle(&Platform::host())).map_err(|error| match error {
        NameError::NotFound { .. } | NameError::Reference(_) => verbatim(format!("Error: {error}")),
        other => other.into(),
    })
}

/// One line of the list: a tag of an image, or an image without one.
struct Row {
    image: ImageRecord,
    tag: Option<Reference>,
    /// `repository@digest` of this repository.
    digest: Option<Digest>,
}

/// All lines, and what is wrong with the records that give none.
fn rows(store: &Store) -> Result<(Vec<Row>, Vec<String>)> {
    let mut tags = names::tags(store)?;
    let (images, damaged) = store.images()?;
    tags.damaged.extend(damaged);
    let mut rows = Vec::new();
    for image in images {
        let digest_in = |name: &Reference| {
            let same = image.names.iter().find(|other| other.repository() == name.repository());
            same.and_then(|name| name.digest().cloned())
        };
        let names = tags.by_image.remove(&image.id).unwrap_or_default();
        if names.is_empty() {
            let digest = image.names.first().and_then(|name| name.digest().cloned());
            rows.push(Row { image, tag: None, digest });
            continue;
        }
        rows.extend(names.into_iter().map(|name| {
            let digest = digest_in(&name);
            Row { image: image.clone(), tag: Some(name), digest }
        }));
    }
    Ok((rows, tags.damaged.iter().map(ToString::to_string).collect()))
}

impl Row {
    /// Whether the row's name is `wanted`: a repository, a repository with a tag, or a pattern of either.
    fn is_named(&self, wanted: &str) -> bool {
        let Some(tag) = &self.tag else { return false };
        let (familiar, repository) = (tag.familiar(), tag.repository().familiar());
        if let Ok(wanted) = wanted.parse::<Repository>() {
            return wanted.familiar() == repository;
        }
        if let Ok(wanted) = wanted.parse::<Reference>() {
            return wanted.familiar() == familiar;
        }
        filter::glob(wanted, &familiar) || filter::glob(wanted, &repository)
    }

    fn fields(&self, size_bytes: u64, args: &Args, now: Timestamp) -> Map<String, Value> {
        let created = Timestamp::from_second(self.image.created).unwrap_or(Timestamp::UNIX_EPOCH);
        let repository = match (&self.tag, self.image.names.first()) {
            (Some(tag), _) => tag.repository().familiar(),
            (None, Some(name)) => name.repository().familiar(),
            (None, None) => "<none>".to_owned(),
        };
        let tag = self.tag.as_ref().and_then(Reference::tag).map_or("<none>".to_owned(), ToString::to_string);
        let row = json!({
            "Containers": "N/A",
            "CreatedAt": output::timestamp(created),
            "CreatedSince": output::ago(created, now),
            "Digest": self.digest.as_ref().map_or("<none>".to_owned(), ToString::to_string),
            "ID": id_text(&self.image.id, args.no_trunc),
            "Repository": repository,
            "SharedSize": "N/A",
            "Size": output::size(size_bytes),
            "Tag": tag,
            "UniqueSize": "N/A",
            "VirtualSize": output::size(size_bytes),
        });
        row.as_object().cloned().unwrap_or_default()
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
            "dangling" => row.tag.is_none() == (filter.value == "true"),
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
