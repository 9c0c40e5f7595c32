//! `stepgate schema`: what may stand in the files, for editors.

use std::process::ExitCode;

use super::check::say;
use crate::config::{SchemaKind, schema};

/// Print the JSON Schema of the main file, or of a file with one app.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// The schema of a file with one app (apps.d/*.yaml).
    #[arg(long)]
    app: bool,
}

pub fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let kind = if args.app { SchemaKind::App } else { SchemaKind::Main };
    say(&format!("{:#}", schema(kind)))?;
    Ok(ExitCode::SUCCESS)
}
