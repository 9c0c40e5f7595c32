//! `stepgate sms`: do our text messages arrive?

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::user::print;
use super::{Global, state};
use crate::base::ids::MailId;
use crate::base::rng::SystemRng;
use crate::config::snapshot::{SmsAuth, SmsSettings};
use crate::config::{self, Purpose};
use crate::domain::phone::PhoneNumber;
use crate::notify::sms::{self, Text};

#[derive(Debug, Args)]
pub struct SmsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send one message to a number by the gateway of the configuration, and say what the gateway answered.
    Test {
        /// With its country code, such as +4915123456789.
        number: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Exit 0 when the gateway took it, 1 when it did not.
pub async fn run(args: SmsArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Command::Test { number, json } = args.command;
    let to = PhoneNumber::parse(&number).with_context(|| format!("{number:?} is no number"))?;
    let snapshot = match config::load_for(&global.config, Purpose::State) {
        Ok((snapshot, _)) => snapshot,
        Err(faults) => return Err(crate::app::StartError::Config(faults).into()),
    };
    let Some(settings) = &snapshot.sms else {
        bail!("the configuration has no `sms`: no text message is sent");
    };
    if lacks_secret(settings) {
        bail!("a secret of `sms` cannot be read by this account; `stepgate check --serve` says why");
    }
    if !to.begins_with_any(&settings.allow_prefixes) {
        bail!("the number begins with none of `sms.allow_prefixes`: {}", settings.allow_prefixes.join(", "));
    }
    let now = state::now();
    let text = Text {
        id: MailId::new(now, &SystemRng).to_string(),
        to,
        text: format!("{}: a test from the command line. There is nothing to do.", snapshot.title),
        at: now,
    };
    let gateway = &settings.url.authority;
    let status = sms::send(settings, &text).await.with_context(|| format!("the gateway {gateway}"))?;
    if json {
        print(&format!("{:#}", json!({ "gateway": gateway, "tls": settings.url.https, "status": status.as_u16() })))?;
    } else {
        let how = if settings.url.https { "over TLS" } else { "in clear" };
        print(&format!("{gateway} took it, {how}: {status}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a secret that the file names could not be read here.
pub(super) fn lacks_secret(settings: &SmsSettings) -> bool {
    let login = match &settings.auth {
        SmsAuth::None => None,
        SmsAuth::Basic { password, .. } => Some(password),
        SmsAuth::Bearer(key) => Some(key),
    };
    login.into_iter().chain(&settings.signing).any(|secret| secret.expose().is_empty())
}
