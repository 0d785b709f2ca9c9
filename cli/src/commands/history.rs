use std::process::ExitCode;

use anyhow::Result;
use common::image::{names, record};
use jiff::Timestamp;
use serde_json::json;

use super::images::{id_text, require};
use crate::context::Context;
use crate::output::{self, Column, column};

/// Show how an image was made, newest step first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or ID
    image: String,
    /// `table`, `table TEMPLATE`, `json`, or a Go template a line
    #[arg(long)]
    format: Option<String>,
    /// Write sizes and times for people (`--human=false`: bytes and dates)
    #[arg(short = 'H', long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = clap::ArgAction::Set, hide_possible_values = true, value_name = "BOOL")]
    human: bool,
    /// Show whole IDs and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Show only IDs
    #[arg(short, long)]
    quiet: bool,
}

/// One step of how an image was made.
struct Line {
    id: String,
    created: Option<Timestamp>,
    created_by: String,
    size: String,
    comment: String,
    now: Timestamp,
}

const COLUMNS: &[Column<Line>] = &[
    column("ID", "IMAGE", |line| json!(line.id)),
    column("CreatedSince", "CREATED", |line| {
        json!(line.created.map_or("N/A".to_owned(), |created| output::ago(created, line.now)))
    }),
    column("CreatedAt", "CREATED AT", |line| {
        let date = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!(line.created.map_or(String::new(), date))
    }),
    column("CreatedBy", "CREATED BY", |line| json!(line.created_by)),
    column("Size", "SIZE", |line| json!(line.size)),
    column("Comment", "COMMENT", |line| json!(line.comment)),
];

const SHOWN: &[&str] = &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
const SHOWN_WITH_DATES: &[&str] = &["ID", "CreatedAt", "CreatedBy", "Size", "Comment"];

pub(crate) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let store = context.store()?;
    let id = require(&store, &args.image)?.id;
    let config = names::config(&store, &id)?;
    let mut diff_ids = config.rootfs.diff_ids.iter();
    let mut sizes = Vec::new();
    for step in &config.history {
        let layer = if step.empty_layer { None } else { diff_ids.next() };
        sizes.push(match layer {
            Some(diff_id) => record::layer_size_bytes(&store, diff_id)?,
            None => 0,
        });
    }
    let now = Timestamp::now();
    let steps = config.history.iter().zip(sizes).rev().enumerate();
    let lines = steps.map(|(n, (step, size))| {
        let by = step.created_by.clone().unwrap_or_default();
        Line {
            id: if n == 0 { id_text(&id, args.no_trunc) } else { "<missing>".to_owned() },
            created: step.created.as_deref().and_then(|text| text.parse().ok()),
            created_by: if args.no_trunc { by } else { output::ellipsis(&by.replace('\t', " "), 45) },
            size: if args.human { output::size(size) } else { size.to_string() },
            comment: step.comment.clone().unwrap_or_default(),
            now,
        }
    });
    let lines: Vec<Line> = lines.collect();
    if args.quiet && args.format.is_none() {
        lines.iter().for_each(|line| output::line(&line.id));
        return Ok(ExitCode::SUCCESS);
    }
    let shown = if args.human { SHOWN } else { SHOWN_WITH_DATES };
    output::list(&lines, COLUMNS, shown, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
