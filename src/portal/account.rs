//! One's own account: ways to sign in, where one is signed in, what happened.

use std::sync::Arc;

use super::ask::{Ask, Who};
use super::enroll::confirmed_for;
use super::error::Refusal;
use super::{Answer, later};
use crate::auth::AuthError;
use crate::auth::account::{Changed, Removal};
use crate::auth::flow::OwnPage;
use crate::base::ids::{CredentialId, SessionId};
use crate::domain::audit::{Actor, AuditEvent};
use crate::domain::authn::Authn;
use crate::domain::factor::FactorKind;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::{Content, Decision, Facts, decide};
use crate::domain::portal::PortalRoute;
use crate::domain::route::Route;
use crate::domain::user::User;
use crate::pages::{
    Account, AccountNotice, AccountRemembered, AccountSession, AccountWay, BackupSummary, Client, Destination,
    HistoryRow, NewPassword, NewPasswordProblem, Page,
};
use crate::session::LiveSession;
use crate::store::AuditFilter;

/// Rows of the trail that are read for the history.
const HISTORY: u32 = 50;

pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let Who::Known { live, .. } = ask.who().await? else { return Ok(ask.sign_in_first(OwnPage::Account)) };
    let notice = match ask.query("notice").as_deref() {
        Some("way-added") => Some(AccountNotice::WayAdded),
        Some("way-removed") => Some(AccountNotice::WayRemoved),
        Some("codes-made") => Some(AccountNotice::CodesMade),
        Some("password-changed") => Some(AccountNotice::PasswordChanged),
        Some("forgotten") => Some(AccountNotice::Forgotten),
        Some("session-ended") => Some(AccountNotice::SessionEnded),
        Some("last-way") => Some(AccountNotice::LastWay),
        Some("others-ended") => ask.query("n").and_then(|n| n.parse().ok()).map(|n| AccountNotice::OthersEnded { n }),
        _ => None,
    };
    page(ask, &live, notice).await
}

pub(super) async fn show_password(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let Who::Known { live, .. } = ask.who().await? else { return Ok(ask.sign_in_first(OwnPage::AccountPassword)) };
    password_page(ask, &live, None).await
}

pub(super) async fn submit_password(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, token } = &who else { return Ok(ask.sign_in_first(OwnPage::AccountPassword)) };
    let form = ask.form(&who)?;
    let changed = ask
        .auth()
        .change_password(
            &ask.visit,
            ask.current(live, token),
            ask.device(),
            &form.secret("old"),
            form.text("new"),
            form.has("end_others"),
        )
        .await?;
    let problem = match changed {
        Changed::Done { token } => {
            let mut answer = noted(ask, &[("notice", "password-changed")]);
            ask.set_session(&mut answer, &token);
            return Ok(answer);
        }
        Changed::OldWrong => NewPasswordProblem::OldWrong,
        Changed::Rule(rule) => rule.into(),
        Changed::Pause { until } => NewPasswordProblem::Throttled { until },
    };
    password_page(ask, live, Some(problem)).await
}

/// Ends one session of the person, or all but this one.
pub(super) async fn end_sessions(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, .. } = &who else { return Ok(ask.sign_in_first(OwnPage::Account)) };
    let form = ask.form(&who)?;
    let user = ask.auth().person_of(live).await?;
    if form.text("end") == "others" {
        let n = ask.auth().end_other_sessions(&ask.visit, &user, Some(live.authn.session)).await?;
        return Ok(noted(ask, &[("notice", "others-ended"), ("n", &n.to_string())]));
    }
    let id: SessionId = form.text("end").parse().map_err(|_| Refusal::BadForm)?;
    ask.auth().end_session(&ask.visit, &user, id).await?;
    Ok(noted(ask, &[("notice", "session-ended")]))
}

/// Has a remembered browser forgotten, or all of them.
pub(super) async fn forget(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, .. } = &who else { return Ok(ask.sign_in_first(OwnPage::Account)) };
    let form = ask.form(&who)?;
    let user = ask.auth().person_of(live).await?;
    let which = match form.text("forget") {
        "all" => None,
        id => Some(id.parse().map_err(|_| Refusal::BadForm)?),
    };
    ask.auth().forget_remembered(&ask.visit, &user, which).await?;
    Ok(noted(ask, &[("notice", "forgotten")]))
}

/// Removes a way to sign in.
pub(super) async fn change_factors(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, token } = &who else { return Ok(ask.sign_in_first(OwnPage::Account)) };
    let form = ask.form(&who)?;
    let id: CredentialId = form.text("remove").parse().map_err(|_| Refusal::BadForm)?;
    let enrolled = ask.auth().enrolled(live.authn.user).await?;
    let is_key = enrolled.find(id).is_some_and(|credential| credential.kind == FactorKind::Webauthn);
    confirmed_for(ask, &live.authn.evidence, if is_key { OwnPage::Keys } else { OwnPage::Factors })?;
    match ask.auth().remove_factor(&ask.visit, ask.current(live, token), id).await? {
        Removal::Removed { token } => {
            let mut answer = noted(ask, &[("notice", "way-removed")]);
            ask.set_session(&mut answer, &token);
            Ok(answer)
        }
        Removal::Last => Ok(noted(ask, &[("notice", "last-way")])),
        Removal::NotThere => Ok(ask.redirect(&PortalRoute::Account.path())),
    }
}

async fn page(ask: &Ask<'_>, live: &Arc<LiveSession>, notice: Option<AccountNotice>) -> Result<Answer, Refusal> {
    let user = ask.auth().person_of(live).await?;
    let enrolled = ask.auth().enrolled(user.id).await?;
    let ways = enrolled.credentials.iter().map(|credential| AccountWay {
        id: credential.id.to_string(),
        kind: credential.kind,
        label: credential.label.clone(),
        added_at: credential.created_at,
        used_at: credential.last_used_at,
        disabled: credential.disabled_at.is_some(),
    });
    let sessions = ask.auth().sessions_of(&ask.visit, &user).await?;
    let sessions = sessions.into_iter().map(|row| AccountSession {
        id: row.id.to_string(),
        client: Client::from_agent(&row.user_agent),
        address: row.address,
        since: row.created_at,
        seen: row.last_seen_at,
        this: row.id == live.authn.session,
    });
    let remembered = ask.auth().remembered_of(&ask.visit, &user).await?;
    let remembered = remembered.into_iter().map(|row| AccountRemembered {
        id: row.id.to_string(),
        client: Client::from_agent(&row.user_agent),
        address: row.address,
        since: row.created_at,
        used: row.used_at,
        until: row.expires_at,
    });
    let has_second = user.ever_enrolled || enrolled.has_second();
    let graces = ask.visit.snapshot.levels.iter().filter_map(|level| level.grace_for(has_second, ask.visit.now));
    let later = graces.min_by_key(|grace| grace.until).map(|grace| later::told(ask, grace, None));
    Ok(ask.page(&Page::Account(Account {
        hidden: ask.hidden_of(live, None),
        later,
        user: user.name.to_string(),
        notice,
        apps: apps(ask, live),
        password_set_at: ask.auth().store.password_set_at(user.id).await.map_err(AuthError::from)?,
        ways: ways.collect(),
        backup: enrolled.backup.as_ref().map(|set| BackupSummary {
            left: set.left,
            made: set.made,
            made_at: set.created_at,
        }),
        counting: ask.visit.snapshot.factors.hotp_enroll,
        texting: ask.visit.snapshot.codes_by_sms() && ask.visit.snapshot.factors.sms_enroll,
        sessions: sessions.collect(),
        remembered: remembered.collect(),
        history: history(ask, &user).await?,
    })))
}

/// The apps whose first page the person may open, at once or after a further step.
fn apps(ask: &Ask<'_>, live: &Arc<LiveSession>) -> Vec<Destination> {
    let authn = Authn::Known(Arc::clone(&live.authn));
    let opens = |route: &&Arc<Route>| {
        let Ok(path) = CanonicalPath::parse("/", route.policy.forms) else { return false };
        let facts = Facts {
            method: &http::Method::GET,
            also_methods: &[],
            content: &Content::Nothing,
            path: &path,
            query: None,
            client: ask.visit.client,
            authn: &authn,
            now: ask.visit.now,
        };
        !matches!(decide(&route.policy, &facts, &mut ()), Decision::Deny(_))
    };
    let place = |route: &Arc<Route>| Some(Destination::new(route, ask.request.scheme, route.hosts.first()?));
    ask.visit.snapshot.routes.iter().filter(opens).filter_map(place).collect()
}

/// What the trail says of this person, newest first. It is searched by name; a name may have been
/// somebody else's before, or be an operator's too, so the id decides.
async fn history(ask: &Ask<'_>, user: &User) -> Result<Vec<HistoryRow>, Refusal> {
    let filter = AuditFilter { user: Some(user.name.to_string()), ..AuditFilter::default() };
    let rows = ask.auth().store.audit_tail(&filter, HISTORY).await.map_err(AuthError::from)?;
    let events = rows.iter().rev().filter_map(|row| serde_json::from_str::<AuditEvent>(&row.payload).ok());
    let theirs = |event: &AuditEvent| {
        event.subject == Some(user.id) || matches!(&event.actor, Actor::User { id, .. } if *id == user.id)
    };
    Ok(events.filter(theirs).filter_map(|event| HistoryRow::of(&event)).collect())
}

async fn password_page(
    ask: &Ask<'_>,
    live: &Arc<LiveSession>,
    problem: Option<NewPasswordProblem>,
) -> Result<Answer, Refusal> {
    let user = ask.auth().person_of(live).await?;
    let others = ask.auth().sessions_of(&ask.visit, &user).await?.len().saturating_sub(1);
    Ok(ask.page(&Page::NewPassword(NewPassword {
        hidden: ask.hidden_of(live, None),
        user: user.name.to_string(),
        min: ask.visit.snapshot.factors.password_min,
        others: u32::try_from(others).unwrap_or(u32::MAX),
        problem,
    })))
}

fn noted(ask: &Ask<'_>, fields: &[(&str, &str)]) -> Answer {
    ask.redirect(&ask.path(&PortalRoute::Account, fields))
}
