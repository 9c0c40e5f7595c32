//! The pages of an enrollment: the link, the password, the app, the backup codes.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Response};

use super::ask::{Ask, Who};
use super::error::Refusal;
use super::form::Form;
use super::second::{code_problem, key_answer};
use super::{Answer, later};
use crate::auth::AuthError;
use crate::auth::account::{requirement_of, requirement_to_add};
use crate::auth::enroll::{Enrolling, Finished};
use crate::auth::factor::Looked;
use crate::auth::factors::webauthn::KeyTrouble;
use crate::auth::flow::{Flow, FlowKind, OwnPage, Step};
use crate::auth::step_up::Current;
use crate::base::secret::Secret;
use crate::domain::factor::FactorKind;
use crate::domain::portal::PortalRoute;
use crate::pages::{
    BackupCodes, BackupState, EnrollKey, EnrollLink, EnrollTotp, NewPasswordProblem, Page, SetPassword,
    Step as PageStep,
};
use crate::store::LinkKind;

/// The page that sets up an app of `kind`.
fn route_of(kind: FactorKind) -> PortalRoute {
    if kind == FactorKind::Hotp { PortalRoute::EnrollHotp } else { PortalRoute::EnrollTotp }
}

/// Shows what a one-time link opens. Looking uses nothing up: mail scanners look too.
pub(super) async fn show_link(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let code = ask.query("code").ok_or(Refusal::LinkGone)?;
    let (user, kind) = ask.auth().peek_link(&ask.visit, &code).await?.ok_or(Refusal::LinkGone)?;
    let (browser, cookie) = ask.browser_or_new();
    let mut answer = ask.page(&Page::EnrollLink(EnrollLink {
        hidden: ask.hidden(browser, None, None),
        link: Secret::new(code),
        user: user.name.to_string(),
        access_pass: kind == LinkKind::AccessPass,
    }));
    ask.add_cookie(&mut answer, cookie);
    Ok(answer)
}

/// Uses the link.
pub(super) async fn claim_link(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let browser = ask.browser().ok_or(Refusal::CookieMissing { rd: None })?;
    let form = ask.form(&Who::Nobody)?;
    let flow = ask.auth().claim_link(&ask.visit, browser, form.text("link")).await?.ok_or(Refusal::LinkGone)?;
    let route = match flow.state.step {
        Step::SetPassword => PortalRoute::EnrollPassword,
        Step::Confirm | Step::EnrollTotp { .. } | Step::BackupCodes { .. } => PortalRoute::EnrollTotp,
    };
    Ok(to(ask, &route, &flow))
}

pub(super) async fn show_password(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let flow = flow_of_page(ask).await?;
    match flow.state.step {
        Step::SetPassword => Ok(password_page(ask, &flow, None)),
        Step::EnrollTotp { .. } => Ok(to(ask, &PortalRoute::EnrollTotp, &flow)),
        Step::BackupCodes { .. } => Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow)),
        Step::Confirm => Err(Refusal::StartOver { rd: None }),
    }
}

pub(super) async fn submit_password(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let form = ask.form(&Who::Nobody)?;
    let mut flow = flow_named(ask, form.text("flow")).await?;
    match ask.auth().sign_up_password(&ask.visit, &mut flow, form.text("password")).await? {
        Ok(()) => Ok(to(ask, &PortalRoute::EnrollTotp, &flow)),
        Err(rule) => Ok(password_page(ask, &flow, Some(rule.into()))),
    }
}

/// Shows the key. Without a flow it begins one for a signed-in person who adds to their account.
pub(super) async fn show_app(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    if kind == FactorKind::Hotp && !ask.visit.snapshot.factors.hotp_enroll {
        return Err(Refusal::NotFound);
    }
    if ask.query("flow").is_none() {
        return begin_adding(ask, kind).await;
    }
    let mut flow = flow_of_page(ask).await?;
    match flow.state.step {
        Step::EnrollTotp { .. } => app_page(ask, &mut flow, kind, &name_first(ask, kind)?, None).await,
        // The back button after the code: the key is not shown again (S-ENR-2).
        Step::BackupCodes { .. } => Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow)),
        Step::SetPassword => Ok(to(ask, &PortalRoute::EnrollPassword, &flow)),
        Step::Confirm => Err(Refusal::StartOver { rd: None }),
    }
}

pub(super) async fn begin_adding(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    let (page, route) = match kind {
        FactorKind::Webauthn => (OwnPage::EnrollKey, PortalRoute::EnrollKey),
        FactorKind::Hotp => (OwnPage::EnrollHotp, PortalRoute::EnrollHotp),
        FactorKind::Sms => (OwnPage::EnrollSms, PortalRoute::EnrollSms),
        _ => (OwnPage::EnrollTotp, PortalRoute::EnrollTotp),
    };
    let Who::Known { live, token } = ask.who().await? else { return Ok(ask.sign_in_first(page)) };
    confirmed_for(ask, &live.authn.evidence, page)?;
    let (browser, cookie) = ask.browser_or_new();
    let flow = ask.auth().begin_adding(&ask.visit, browser, ask.current(&live, &token), kind).await?;
    let mut answer = to(ask, &route, &flow);
    ask.add_cookie(&mut answer, cookie);
    Ok(answer)
}

/// Checks the first code.
pub(super) async fn submit_app(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let mut flow = flow_named(ask, form.text("flow")).await?;
    let current = current_of(ask, &who, &flow)?;
    let label = named(ask, &form, kind)?;
    if let Step::BackupCodes { .. } = flow.state.step {
        return Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow));
    }
    let done = ask.auth().enroll_app(&ask.visit, flow, kind, form.text("code"), &label, current).await?;
    match done {
        Enrolling::Done { flow, token } => {
            let mut answer = to(ask, &PortalRoute::EnrollBackupCodes, &flow);
            if let Some(token) = token {
                ask.set_session(&mut answer, &token);
            }
            Ok(answer)
        }
        Enrolling::Not { flow: again, looked } => {
            flow = again;
            app_page(ask, &mut flow, kind, &label, Some(looked)).await
        }
        Enrolling::KeyTooOld { flow } | Enrolling::NotKey { flow, .. } => Ok(to(ask, &route_of(kind), &flow)),
    }
}

/// What a new entry is called until its person says otherwise.
fn name_first(ask: &Ask<'_>, kind: FactorKind) -> Result<String, Refusal> {
    ask.pages().name_first(ask.site(), kind).map_err(Refusal::Words)
}

fn named(ask: &Ask<'_>, form: &Form, kind: FactorKind) -> Result<String, Refusal> {
    form.given("name").map_or_else(|| name_first(ask, kind), |name| Ok(name.to_owned()))
}

/// The session that a flow adds to, if it is one of a signed-in person.
pub(super) fn current_of<'a>(ask: &'a Ask<'_>, who: &'a Who, flow: &Flow) -> Result<Option<Current<'a>>, Refusal> {
    match (who, flow.state.kind) {
        (Who::Known { live, token }, FlowKind::Account { session }) if live.authn.session == session => {
            Ok(Some(ask.current(live, token)))
        }
        // Begun in a session that is no longer here: somebody else may sit there now.
        (_, FlowKind::Account { .. }) => Err(Refusal::StartOver { rd: None }),
        (_, FlowKind::SignIn | FlowKind::FirstLogin | FlowKind::SignUp | FlowKind::AccessPass) => Ok(None),
    }
}

/// Asks for a new security key. Without a flow it begins one for a signed-in person.
pub(super) async fn show_key(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    if ask.query("flow").is_none() {
        return begin_adding(ask, FactorKind::Webauthn).await;
    }
    let flow = flow_of_page(ask).await?;
    match flow.state.step {
        Step::EnrollTotp { .. } => key_page(ask, &flow, &name_first(ask, FactorKind::Webauthn)?, None).await,
        Step::BackupCodes { .. } => Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow)),
        Step::SetPassword => Ok(to(ask, &PortalRoute::EnrollPassword, &flow)),
        Step::Confirm => Err(Refusal::StartOver { rd: None }),
    }
}

/// Enrolls what the browser answered.
pub(super) async fn submit_key(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let flow = flow_named(ask, form.text("flow")).await?;
    if let Step::BackupCodes { .. } = flow.state.step {
        return Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow));
    }
    let current = current_of(ask, &who, &flow)?;
    // A flow that was begun for an app may have shown less than a key takes (S-ENR-2).
    if let Some(current) = current {
        confirmed_in_time(ask, &current.live.authn.evidence)?;
    }
    let label = named(ask, &form, FactorKind::Webauthn)?;
    let host = &ask.request.host;
    match ask.auth().enroll_key(&ask.visit, flow, host, key_answer(&form), &label, current).await? {
        Enrolling::Done { flow, token } => {
            let mut answer = to(ask, &PortalRoute::EnrollBackupCodes, &flow);
            if let Some(token) = token {
                ask.set_session(&mut answer, &token);
            }
            Ok(answer)
        }
        Enrolling::NotKey { flow, trouble } => key_page(ask, &flow, &label, Some(trouble)).await,
        Enrolling::Not { flow, .. } | Enrolling::KeyTooOld { flow } => Ok(to(ask, &PortalRoute::EnrollKey, &flow)),
    }
}

/// Whether what was shown is still fresh enough to add a key.
fn confirmed_in_time(ask: &Ask<'_>, evidence: &[crate::domain::factor::FactorUse]) -> Result<(), Refusal> {
    match requirement_to_add(FactorKind::Webauthn, &ask.visit.snapshot.factors).missing(evidence, ask.visit.now) {
        None => Ok(()),
        Some(_) => Err(Refusal::Confirm(OwnPage::EnrollKey)),
    }
}

async fn key_page(ask: &Ask<'_>, flow: &Flow, label: &str, trouble: Option<KeyTrouble>) -> Result<Answer, Refusal> {
    let adds = matches!(flow.state.kind, FlowKind::Account { .. });
    if adds {
        confirmed_in_time(ask, &flow.state.evidence)?;
    }
    let Some(question) = ask.auth().key_setup(&ask.visit, flow, &ask.request.host).await? else {
        return Ok(to(ask, &PortalRoute::EnrollTotp, flow));
    };
    Ok(ask.page(&Page::EnrollKey(EnrollKey {
        hidden: ask.hidden(flow.browser(), Some(flow.id.to_string()), None),
        user: flow.user.name.to_string(),
        step: step_of(flow, 0),
        question: question.into(),
        name: label.to_owned(),
        problem: trouble.map(Into::into),
        totp: !adds,
    })))
}

/// Shows the codes of a flow; without one asks a signed-in person before the old codes end.
pub(super) async fn show_codes(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    if ask.query("flow").is_some() {
        let flow = match flow_of_page(ask).await {
            Ok(flow) => flow,
            // Saved already, or too late: they are never shown twice.
            Err(Refusal::StartOver { .. }) => return seen(ask).await,
            Err(other) => return Err(other),
        };
        return codes_page(ask, &flow, false);
    }
    let Who::Known { live, .. } = ask.who().await? else {
        return Ok(ask.sign_in_first(OwnPage::BackupCodes));
    };
    confirmed_for(ask, &live.authn.evidence, OwnPage::BackupCodes)?;
    let set = ask.auth().enrolled(live.authn.user).await?.backup;
    let state = set.map_or(BackupState::First, |set| BackupState::Replace { left: set.left, made: set.made });
    Ok(ask.page(&Page::BackupCodes(BackupCodes {
        hidden: ask.hidden_of(&live, None),
        user: live.authn.name.to_string(),
        step: None,
        state,
    })))
}

async fn seen(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let Who::Known { live, .. } = ask.who().await? else { return Err(Refusal::StartOver { rd: None }) };
    Ok(ask.page(&Page::BackupCodes(BackupCodes {
        hidden: ask.hidden_of(&live, None),
        user: live.authn.name.to_string(),
        step: None,
        state: BackupState::Seen,
    })))
}

/// Ends the ceremony once the codes are saved, or makes new ones.
pub(super) async fn finish(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    if form.has("make") {
        let Who::Known { live, token } = &who else { return Err(Refusal::StartOver { rd: None }) };
        confirmed_for(ask, &live.authn.evidence, OwnPage::BackupCodes)?;
        let (browser, cookie) = ask.browser_or_new();
        let current = ask.current(live, token);
        let (flow, token) = ask.auth().renew_backup_codes(&ask.visit, browser, current).await?;
        let mut answer = to(ask, &PortalRoute::EnrollBackupCodes, &flow);
        ask.set_session(&mut answer, &token);
        ask.add_cookie(&mut answer, cookie);
        return Ok(answer);
    }
    let flow = flow_named(ask, form.text("flow")).await?;
    if form.text("saved") != "1" && !ask.auth().shown_codes(&flow)?.is_empty() {
        return codes_page(ask, &flow, true);
    }
    let enrolled = matches!(flow.state.step, Step::BackupCodes { enrolled: true, .. });
    Ok(match ask.auth().finish_enrollment(&ask.visit, flow, ask.seat(&who)).await? {
        Finished::SignedIn(done) => ask.land(&done),
        Finished::SignInNow => ask.redirect(&ask.path(&PortalRoute::Login, &[("notice", "enrolled")])),
        Finished::Account => {
            let notice = if enrolled { "way-added" } else { "codes-made" };
            ask.redirect(&ask.path(&PortalRoute::Account, &[("notice", notice)]))
        }
    })
}

/// The codes as a text file, for people without a printer.
pub(super) async fn codes_file(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let flow = flow_named(ask, form.text("flow")).await?;
    let codes = ask.auth().shown_codes(&flow)?;
    let host = ask.request.host.to_string();
    let text = ask.pages().codes_file(ask.site(), &host, flow.user.name.as_str(), &codes).map_err(Refusal::Words)?;
    let mut answer = Response::new(Bytes::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"backup-codes.txt\""));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("content-security-policy", HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    Ok(answer)
}

fn password_page(ask: &Ask<'_>, flow: &Flow, problem: Option<NewPasswordProblem>) -> Answer {
    ask.page(&Page::SetPassword(SetPassword {
        hidden: ask.hidden(flow.browser(), Some(flow.id.to_string()), None),
        user: flow.user.name.to_string(),
        step: Some(PageStep { this: 1, of: 3 }),
        min: ask.visit.snapshot.factors.password_min,
        problem,
    }))
}

async fn app_page(
    ask: &Ask<'_>,
    flow: &mut Flow,
    kind: FactorKind,
    label: &str,
    looked: Option<Looked>,
) -> Result<Answer, Refusal> {
    let setup = ask.auth().app_setup(&ask.visit, flow, kind).await?;
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    let grace = ask.auth().flow_grace(&ask.visit, flow).await?;
    let later = grace.map(|grace| later::told(ask, grace, back.as_ref().and_then(|back| ask.destination(back))));
    Ok(ask.page(&Page::EnrollTotp(EnrollTotp {
        counts: kind == FactorKind::Hotp,
        hidden: ask.hidden(flow.browser(), Some(flow.id.to_string()), None),
        user: flow.user.name.to_string(),
        step: step_of(flow, 0),
        uri: setup.uri,
        key: setup.key,
        name: label.to_owned(),
        problem: looked.as_ref().and_then(code_problem),
        until: setup.until,
        key_instead: !matches!(flow.state.kind, FlowKind::Account { .. }),
        later,
    })))
}

fn codes_page(ask: &Ask<'_>, flow: &Flow, not_ticked: bool) -> Result<Answer, Refusal> {
    let codes = ask.auth().shown_codes(flow)?;
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    if codes.is_empty() {
        // An entry was added beside others: the person's codes stay, and there is nothing to save.
        return Ok(ask.redirect(&ask.path(&PortalRoute::Account, &[("notice", "way-added")])));
    }
    Ok(ask.page(&Page::BackupCodes(BackupCodes {
        hidden: ask.hidden(flow.browser(), Some(flow.id.to_string()), None),
        user: flow.user.name.to_string(),
        step: step_of(flow, 1),
        state: BackupState::Fresh {
            codes: codes.into_iter().map(Secret::new).collect(),
            made_at: ask.visit.now,
            host: ask.request.host.to_string(),
            next: back.as_ref().and_then(|back| ask.destination(back)),
            not_ticked,
        },
    })))
}

/// "Step 2 of 3": a sign-up sets a password first; what is added to an account is no row of steps.
fn step_of(flow: &Flow, after: u8) -> Option<PageStep> {
    match flow.state.kind {
        FlowKind::SignUp => Some(PageStep { this: 2 + after, of: 3 }),
        FlowKind::FirstLogin | FlowKind::AccessPass => Some(PageStep { this: 1 + after, of: 2 }),
        FlowKind::Account { .. } | FlowKind::SignIn => None,
    }
}

/// Sends a person to confirm first, where a page of ours asks for more than the session has shown.
pub(super) fn confirmed_for(
    ask: &Ask<'_>,
    evidence: &[crate::domain::factor::FactorUse],
    page: OwnPage,
) -> Result<(), Refusal> {
    match requirement_of(page, &ask.visit.snapshot.factors).and_then(|asked| asked.missing(evidence, ask.visit.now)) {
        None => Ok(()),
        Some(_) => Err(Refusal::Confirm(page)),
    }
}

async fn flow_of_page(ask: &Ask<'_>) -> Result<Flow, Refusal> {
    let id = ask.query("flow").ok_or(Refusal::StartOver { rd: None })?;
    flow_named(ask, &id).await
}

pub(super) async fn flow_named(ask: &Ask<'_>, id: &str) -> Result<Flow, Refusal> {
    let browser = ask.browser().ok_or(Refusal::CookieMissing { rd: None })?;
    let flow = ask.auth().flow(&ask.visit, browser, id).await?;
    match flow.state.kind {
        FlowKind::SignIn => Err(AuthError::FlowGone.into()),
        // Its keys and codes are for the session that began it. After a sign-out somebody else may
        // sit at this browser, its history before them.
        FlowKind::Account { session } => match ask.who().await? {
            Who::Known { live, .. } if live.authn.session == session => Ok(flow),
            Who::Known { .. } | Who::Nobody => Err(Refusal::StartOver { rd: None }),
        },
        FlowKind::FirstLogin | FlowKind::SignUp | FlowKind::AccessPass => Ok(flow),
    }
}

pub(super) fn to(ask: &Ask<'_>, route: &PortalRoute, flow: &Flow) -> Answer {
    ask.redirect(&ask.path(route, &[("flow", &flow.id.to_string())]))
}
