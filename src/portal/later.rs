//! Time is left to set up a second factor: the page that says until when, and the way on without one.

use super::ask::{Ask, Who};
use super::error::Refusal;
use super::{Answer, enroll, login};
use crate::auth::flow::Goal;
use crate::auth::sign_in::{Next, PutOff, in_grace};
use crate::domain::level::Grace;
use crate::domain::portal::PortalRoute;
use crate::pages::{Destination, EnrollLater, Later, Page};

/// Says until when. Shown each time that somebody gets to an app by a grace alone.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let (goal, back) = ask.goal_of(ask.query("rd"))?;
    let Who::Known { live, .. } = ask.who().await? else {
        return Ok(ask.redirect(&onward(ask, &PortalRoute::Login, &goal)));
    };
    let (snapshot, authn) = (ask.visit.snapshot, &live.authn);
    let who = (&authn.name, authn.groups.as_slice(), authn.ever_enrolled);
    let Some(grace) = in_grace(snapshot, back.as_ref(), who, &authn.evidence, ask.visit.now) else {
        return Ok(ask.redirect(&onward(ask, &PortalRoute::StepUp, &goal)));
    };
    let app = back.as_ref().and_then(|back| ask.destination(back));
    Ok(ask.page(&Page::EnrollLater(EnrollLater {
        hidden: ask.hidden_of(&live, goal.rd.clone()),
        user: authn.name.to_string(),
        later: told(ask, grace, app),
    })))
}

/// Goes on: from an enrollment that may be put off, or from the page above.
pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    if let Some(id) = form.given("flow") {
        let flow = enroll::flow_named(ask, id).await?;
        let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
        let next: Next = ask.auth().put_off_at_sign_in(&ask.visit, flow, ask.seat(&who)).await?;
        return Ok(login::go_on(ask, next, back.as_ref()));
    }
    let (mut goal, back) = ask.goal_of(form.given("rd").map(str::to_owned))?;
    goal.fragment = form.given("fragment").map(str::to_owned);
    let (Who::Known { live, .. }, Some(back)) = (&who, &back) else {
        return Err(Refusal::StartOver { rd: ask.posted_rd() });
    };
    let fragment = goal.fragment.as_deref();
    match ask.auth().put_off(&ask.visit, live, back, fragment, &ask.request.host).await? {
        PutOff::Over(offer) => Ok(ask.redirect(offer.location())),
        PutOff::Here => Ok(ask.arrive_here(&goal)),
        PutOff::No => Ok(ask.redirect(&onward(ask, &PortalRoute::StepUp, &goal))),
    }
}

/// What the pages say of a grace.
pub(super) fn told(ask: &Ask<'_>, grace: &Grace, app: Option<Destination>) -> Later {
    Later { until: grace.until, days: grace.days_left(ask.visit.now), app }
}

fn onward(ask: &Ask<'_>, route: &PortalRoute, goal: &Goal) -> String {
    match &goal.rd {
        Some(rd) => ask.path(route, &[("rd", rd)]),
        None => route.path(),
    }
}
