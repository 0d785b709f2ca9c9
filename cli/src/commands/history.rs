use std::process::ExitCode;

use anyhow::Result;
use common::image::{names, record};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::images::{id_text, require};
use crate::context::Context;
use crate::output::{self, Columns};

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

const COLUMNS: Columns = &[
    ("IMAGE", "ID"),
    ("CREATED", "CreatedSince"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
];

const DATED_COLUMNS: Columns = &[
    ("IMAGE", "ID"),
    ("CREATED AT", "CreatedAt"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
];

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
    let rows: Vec<Map<String, Value>> = config
        .history
        .iter()
        .zip(sizes)
        .rev()
        .enumerate()
        .map(|(n, (step, size))| {
            let created = step.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
            let by = step.created_by.clone().unwrap_or_default();
            let date = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let row = json!({
                "Comment": step.comment.clone().unwrap_or_default(),
                "CreatedAt": created.map_or(String::new(), date),
                "CreatedBy": if args.no_trunc { by } else { output::ellipsis(&by.replace('\t', " "), 45) },
                "CreatedSince": created.map_or("N/A".to_owned(), |created| output::ago(created, now)),
                "ID": if n == 0 { id_text(&id, args.no_trunc) } else { "<missing>".to_owned() },
                "Size": if args.human { output::size(size) } else { size.to_string() },
            });
            row.as_object().cloned().unwrap_or_default()
        })
        .collect();
    if args.quiet && args.format.is_none() {
        rows.iter().filter_map(|row| row["ID"].as_str()).for_each(output::line);
        return Ok(ExitCode::SUCCESS);
    }
    let columns = if args.human { COLUMNS } else { DATED_COLUMNS };
    output::list(&rows, columns, COLUMNS, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
