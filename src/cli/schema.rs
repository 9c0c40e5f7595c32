//! `stepgate schema`: what may stand in the files, for editors and for people.

use std::process::ExitCode;

use super::check::say;
use crate::config::{SchemaKind, markdown, schema};

/// Print the JSON Schema of the main file or of a file with one app, or all options as a page.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// The schema of a file with one app (apps.d/*.yaml).
    #[arg(long)]
    app: bool,
    /// All options of both kinds of file as one Markdown page, docs/OPTIONS.md.
    #[arg(long, conflicts_with = "app")]
    markdown: bool,
}

pub fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    if args.markdown {
        say(markdown().trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let kind = if args.app { SchemaKind::App } else { SchemaKind::Main };
    say(&format!("{:#}", schema(kind)))?;
    Ok(ExitCode::SUCCESS)
}
