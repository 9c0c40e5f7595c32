//! The page on which a person says to which telephone their codes go.

use super::Answer;
use super::ask::Ask;
use super::enroll::{begin_adding, current_of, flow_named, to};
use super::error::Refusal;
use super::form::Form;
use crate::auth::enroll::Enrolling;
use crate::auth::factor::{Explain, Looked};
use crate::auth::flow::{Flow, Step};
use crate::auth::phone::NotSent;
use crate::domain::factor::FactorKind;
use crate::domain::phone::NoNumber;
use crate::domain::portal::PortalRoute;
use crate::pages::{EnrollSms, NumberProblem, NumberSent, Page};

/// Without a flow it begins one for a signed-in person. Nothing is sent by opening it.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    if !ask.visit.snapshot.codes_by_sms() || !ask.visit.snapshot.factors.sms_enroll {
        return Err(Refusal::NotFound);
    }
    let Some(id) = ask.query("flow") else { return begin_adding(ask, FactorKind::Sms).await };
    let flow = flow_named(ask, &id).await?;
    match flow.state.step {
        // `other=1`: another number than the one that a code went to.
        Step::EnrollTotp { .. } => page(ask, &flow, ask.query("other").is_some(), "", None).await,
        Step::BackupCodes { .. } => Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow)),
        Step::SetPassword | Step::Confirm => Err(Refusal::StartOver { rd: None }),
    }
}

/// Sends a code to the number that was typed, or to the same one again; or looks at the code.
pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let flow = flow_named(ask, form.text("flow")).await?;
    if let Step::BackupCodes { .. } = flow.state.step {
        return Ok(to(ask, &PortalRoute::EnrollBackupCodes, &flow));
    }
    if form.has("number") || form.has("send") {
        return send(ask, flow, &form).await;
    }
    let current = current_of(ask, &who, &flow)?;
    let done = ask.auth().enroll_number(&ask.visit, flow, form.text("code"), ask.site().language, current).await?;
    match done {
        Enrolling::Done { flow, token } => {
            let mut answer = to(ask, &PortalRoute::EnrollBackupCodes, &flow);
            if let Some(token) = token {
                ask.set_session(&mut answer, &token);
            }
            Ok(answer)
        }
        Enrolling::Not { flow, looked } => page(ask, &flow, false, "", Some(problem_of(&looked))).await,
        Enrolling::KeyTooOld { flow } | Enrolling::NotKey { flow, .. } => Ok(to(ask, &PortalRoute::EnrollSms, &flow)),
    }
}

async fn send(ask: &Ask<'_>, mut flow: Flow, form: &Form) -> Result<Answer, Refusal> {
    let again = ask.auth().pending_number(&ask.visit, &flow).await?;
    let typed = match (form.given("number"), &again) {
        (Some(typed), _) => typed.to_owned(),
        (None, Some(pending)) => pending.number.as_str().to_owned(),
        (None, None) => return Ok(to(ask, &PortalRoute::EnrollSms, &flow)),
    };
    match ask.auth().try_number(&ask.visit, &mut flow, &typed, ask.site().language).await? {
        // Another page: a reload sends nothing again.
        Ok(()) => Ok(to(ask, &PortalRoute::EnrollSms, &flow)),
        Err(not) => {
            let problem = match not {
                NotSent::NoNumber(NoNumber::NoCountry) => NumberProblem::NoCountry,
                NotSent::NoNumber(NoNumber::Sign | NoNumber::Length) => NumberProblem::NoNumber,
                NotSent::Country => NumberProblem::Country,
                NotSent::Pause { until } => NumberProblem::SendPause { until },
            };
            let shown = if form.has("number") { typed.as_str() } else { "" };
            let other = !matches!(not, NotSent::Pause { .. });
            page(ask, &flow, other, shown, Some(problem)).await
        }
    }
}

fn problem_of(looked: &Looked) -> NumberProblem {
    match looked {
        Looked::Pause { until } => NumberProblem::Throttled { until: *until },
        Looked::No { explain: Explain::Sent { left: 0 }, .. } => NumberProblem::Gone,
        Looked::No { .. } | Looked::Candidate(_) => NumberProblem::Wrong,
    }
}

async fn page(
    ask: &Ask<'_>,
    flow: &Flow,
    other: bool,
    typed: &str,
    problem: Option<NumberProblem>,
) -> Result<Answer, Refusal> {
    ask.auth().may_name_number(&ask.visit, flow)?;
    let pending = ask.auth().pending_number(&ask.visit, flow).await?.filter(|_| !other);
    let prefixes = ask.visit.snapshot.sms.as_ref().map(|sms| sms.allow_prefixes.clone()).unwrap_or_default();
    Ok(ask.page(&Page::EnrollSms(EnrollSms {
        hidden: ask.hidden(flow.browser(), Some(flow.id.to_string()), None),
        user: flow.user.name.to_string(),
        prefixes,
        typed: typed.to_owned(),
        sent: pending
            .and_then(|pending| pending.until.map(|until| NumberSent { number: pending.number.masked(), until })),
        problem,
    })))
}
