//! A form that waits for its person: said on every page of the way, given more time or up, and sent on.

use super::Answer;
use super::ask::{Ask, Who};
use super::error::Refusal;
use crate::auth::AuthError;
use crate::auth::return_to::{Form, ReturnTo};
use crate::base::ids::KeptFormId;
use crate::domain::portal::PortalRoute;
use crate::pages::{Destination, FormNote, Page, SendForm};
use crate::session::FormGone;
use crate::session::kept::{self, FORM_FIELD};

/// What there is to say of the form that was on its way.
pub(super) async fn note(ask: &Ask<'_>, back: Option<&ReturnTo>) -> Result<Option<FormNote>, Refusal> {
    let Some(back) = back else { return Ok(None) };
    Ok(Some(match back.form {
        Form::None => return Ok(None),
        Form::Lost => FormNote::Lost,
        Form::NoRoom => FormNote::NoRoom,
        Form::TooLarge { limit } => FormNote::too_large(limit),
        Form::Kept(id) => match ask.portal.kept.waits(id, ask.visit.now).await.map_err(AuthError::from)? {
            Ok(until) => FormNote::Kept { until },
            Err(FormGone::Sent { at }) => FormNote::Sent { at },
            Err(FormGone::Lapsed { at }) => FormNote::Lapsed { until: at },
            Err(FormGone::Unknown) => FormNote::Lost,
        },
    }))
}

/// Five minutes more by a press (WCAG 2.2.1), or back to the app without sending.
pub(super) async fn change(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let (goal, back) = ask.goal_of(form.given("rd").map(str::to_owned))?;
    let (Some(rd), Some(back)) = (goal.rd, back) else { return Err(Refusal::StartOver { rd: None }) };
    let Form::Kept(id) = back.form else { return Err(Refusal::StartOver { rd: Some(rd) }) };
    if form.has("give_up") {
        ask.portal.kept.give_up(id).await.map_err(AuthError::from)?;
        return Ok(ask.redirect(&format!("{}{}", back.origin(), back.path_and_query)));
    }
    // Whether there was more time to give shows on the page.
    ask.portal.kept.renew(id, ask.visit.now).await.map_err(AuthError::from)?;
    let route = if matches!(who, Who::Nobody) { PortalRoute::Login } else { PortalRoute::StepUp };
    Ok(ask.redirect(&ask.path(&route, &[("rd", &rd)])))
}

/// The page on the app's host that sends it on, from the host that it is for: only there are the app's own
/// cookies, and only there does the answer stand under the address that was posted to.
pub(super) async fn send(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let id: Option<KeptFormId> = ask.query("id").and_then(|id| id.parse().ok());
    let gone = || Refusal::FormGone(FormGone::Unknown);
    let (Some(id), Some(app)) = (id, ask.request.app.as_ref()) else { return Err(gone()) };
    let who = match ask.who().await? {
        Who::Known { live, .. } => Some((live.authn.user, live.authn.session)),
        Who::Nobody => None,
    };
    let (host, now) = (&ask.request.host, ask.visit.now);
    let mut ticket = Err(FormGone::Unknown);
    for browser in kept::shown(&ask.request.headers).into_iter().map(kept::browser_hash) {
        ticket = ask.portal.kept.ticket(id, &browser, (host, &app.app), who, now).await.map_err(AuthError::from)?;
        if ticket != Err(FormGone::Unknown) {
            break;
        }
    }
    let (to, ticket) = ticket.map_err(Refusal::FormGone)?;
    let app = Destination::new(app, ask.request.scheme, host);
    // Absolute: `//x/y` is a path to an app that takes it, and another host to a browser.
    let to = format!("{}{to}", app.origin);
    Ok(ask.page(&Page::SendForm(SendForm { app, to, field: FORM_FIELD, ticket })))
}
