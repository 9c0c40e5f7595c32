//! `stepgate schema`: what may stand in the files, for editors.

use std::process::ExitCode;

use crate::config::{SchemaKind, schema};

/// Print the JSON Schema of the main file, or of a file with one app.
#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// The schema of a file with one app (apps.d/*.yaml).
    #[arg(long)]
    app: bool,
}

#[expect(clippy::print_stdout, reason = "the schema is this command's output")]
pub fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let kind = if args.app { SchemaKind::App } else { SchemaKind::Main };
    println!("{:#}", schema(kind));
    Ok(ExitCode::SUCCESS)
}
