//! `stepgate posture`: how careful the whole gate is, on every replica.

use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::state::{self, Needs, State};
use super::user::print;
use super::{Global, Usage};
use crate::audit::{operator, operator_account};
use crate::base::clock::Timestamp;
use crate::config::duration;
use crate::domain::audit::{Action, AuditEvent, Outcome, printable};
use crate::domain::posture::Posture;
use crate::store::PostureRow;

/// See how careful the gate is, or say how careful it is to be, on every replica within a second.
#[derive(Debug, clap::Args)]
pub struct PostureArgs {
    /// normal, elevated or lockdown; what is in force is shown where it is left out.
    #[arg(value_parser = parse)]
    posture: Option<Posture>,
    /// Back to normal after this long, such as 2h; until it is said where it is left out.
    #[arg(long = "for", value_name = "DURATION", requires = "posture", value_parser = length)]
    length: Option<std::time::Duration>,
    /// Why, for the audit trail and for whoever looks at it.
    #[arg(long, value_name = "TEXT", requires = "posture")]
    why: Option<String>,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn parse(text: &str) -> Result<Posture, String> {
    Posture::parse(text).ok_or_else(|| "a posture is normal, elevated or lockdown".to_owned())
}

fn length(text: &str) -> Result<std::time::Duration, String> {
    duration(text).and_then(|d| if d.is_zero() { Err("that is over at once".to_owned()) } else { Ok(d) })
}

pub async fn run(args: PostureArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let why = match (args.posture, args.why.as_deref().map(str::trim)) {
        (Some(Posture::Elevated | Posture::Lockdown), None | Some("")) => {
            return Err(Usage("say --why: people will ask, and the audit trail keeps it".to_owned()).into());
        }
        (Some(Posture::Normal), _) if args.length.is_some() => {
            return Err(Usage("normal has no end: leave --for out".to_owned()).into());
        }
        (_, why) => why.unwrap_or_default().to_owned(),
    };
    // It must work at night, also while the configuration has a fault.
    let state = state::open(global, Needs::State).await?;
    let now = state.clock.now();
    if let Some(posture) = args.posture {
        let until = args.length.map(|length| now.plus(length));
        set(&state, posture, until, why, now).await?;
    }
    let row = state.store.posture().await?;
    print(&if args.json { format!("{:#}", document(row.as_ref(), now)) } else { sentence(row.as_ref(), now) })?;
    Ok(ExitCode::SUCCESS)
}

async fn set(
    state: &State,
    posture: Posture,
    until: Option<Timestamp>,
    why: String,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (actor, set_by) = (operator(), operator_account());
    let reason = match posture {
        Posture::Normal => "The posture of the gate was set to normal.",
        Posture::Elevated => "The posture of the gate was set to elevated.",
        Posture::Lockdown => "The posture of the gate was set to lockdown: all is closed but what is marked.",
    };
    let ends = until.map(|until| format!(" (until {until})")).unwrap_or_default();
    let event =
        AuditEvent::new(now, actor, Action::PostureSet, Outcome::Success, reason).with_words(&format!("{why}{ends}"));
    let mut tx = state.store.begin().await?;
    tx.set_posture(&PostureRow { posture, until, why, set_by, set_at: now }).await?;
    tx.commit(&[event]).await?;
    Ok(())
}

fn sentence(row: Option<&PostureRow>, now: Timestamp) -> String {
    let Some(row) = row else { return "normal".to_owned() };
    let why = if row.why.is_empty() { String::new() } else { format!(": {}", printable(&row.why)) };
    let (posture, by, at) = (row.posture, printable(&row.set_by), row.set_at);
    match (row.at(now), row.until) {
        (Posture::Normal, Some(until)) if posture != Posture::Normal => {
            format!("normal, since {posture} ended at {until} (set by {by} at {at}{why})")
        }
        (in_force, Some(until)) => format!("{in_force} until {until}, set by {by} at {at}{why}"),
        (in_force, None) => format!("{in_force}, set by {by} at {at}{why}"),
    }
}

/// Stable.
fn document(row: Option<&PostureRow>, now: Timestamp) -> Json {
    let in_force = row.map_or(Posture::Normal, |row| row.at(now));
    json!({
        "posture": in_force.as_str(),
        "until": row.filter(|row| row.at(now) == row.posture).and_then(|row| row.until).map(|t| t.to_string()),
        "why": row.map(|row| &row.why),
        "set_by": row.map(|row| &row.set_by),
        "set_at": row.map(|row| row.set_at.to_string()),
    })
}
