//! Signing out: asked first, done by a POST with our token, and everywhere at once (S-SESS-5).

use std::sync::Arc;

use super::Answer;
use super::ask::{Ask, Who};
use super::error::Refusal;
use crate::domain::portal::PortalRoute;
use crate::pages::{Destination, Page, SignOut, SignedOut, SignedOutWhy};
use crate::session::{LiveSession, cookie};

/// Asks. A GET ends nothing: any page could hold a link here.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let Who::Known { live, .. } = ask.who().await? else {
        return Ok(page(ask, SignedOutWhy::NotSignedIn));
    };
    // The form that ends all of them is the portal's own.
    let others = if ask.request.on_portal { others(ask, &live).await? } else { 0 };
    Ok(ask.page(&Page::SignOut(SignOut {
        hidden: ask.hidden_of(&live, None),
        app: app(ask),
        user: live.authn.name.to_string(),
        others,
    })))
}

/// Ends this session on every host.
pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, .. } = &who else { return Ok(signed_out_now(ask, "not-signed-in")) };
    ask.form(&who)?;
    let user = ask.auth().person_of(live).await?;
    ask.auth().sign_out(&ask.visit, &user, live.authn.session).await?;
    Ok(signed_out_now(ask, "by-you"))
}

/// Ends every session of the person.
pub(super) async fn everywhere(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, .. } = &who else { return Ok(signed_out_now(ask, "not-signed-in")) };
    ask.form(&who)?;
    let user = ask.auth().person_of(live).await?;
    ask.auth().end_other_sessions(&ask.visit, &user, None).await?;
    Ok(signed_out_now(ask, "everywhere"))
}

/// Says what ended.
pub(super) fn signed_out(ask: &Ask<'_>) -> Answer {
    let why = match ask.query("why").as_deref() {
        Some("everywhere") => SignedOutWhy::Everywhere,
        Some("idle") => SignedOutWhy::Idle,
        Some("ended") => SignedOutWhy::Ended,
        Some("not-signed-in") => SignedOutWhy::NotSignedIn,
        _ => SignedOutWhy::ByYou,
    };
    page(ask, why)
}

fn signed_out_now(ask: &Ask<'_>, why: &str) -> Answer {
    let mut answer = ask.redirect(&ask.path(&PortalRoute::SignedOut, &[("why", why)]));
    ask.add_cookie(&mut answer, Some(cookie::clear_cookie()));
    answer
}

fn page(ask: &Ask<'_>, why: SignedOutWhy) -> Answer {
    ask.page(&Page::SignedOut(SignedOut { why, app: app(ask), rd: None }))
}

/// The app whose host this is.
fn app(ask: &Ask<'_>) -> Option<Destination> {
    let route = ask.request.app.as_ref()?;
    Some(Destination::new(route, ask.request.scheme, &ask.request.host))
}

async fn others(ask: &Ask<'_>, live: &Arc<LiveSession>) -> Result<u32, Refusal> {
    let user = ask.auth().person_of(live).await?;
    let sessions = ask.auth().sessions_of(&ask.visit, &user).await?;
    let others = sessions.iter().filter(|row| row.id != live.authn.session).count();
    Ok(u32::try_from(others).unwrap_or(u32::MAX))
}
