//! Name and password. The page is stateless: nothing is kept of a visitor before a right password.

use super::ask::{Ask, Who};
use super::error::Refusal;
use super::{Answer, kept, second};
use crate::auth::password::Answer as Checked;
use crate::auth::return_to::ReturnTo;
use crate::auth::sign_in::Next;
use crate::domain::portal::PortalRoute;
use crate::pages::{FormNote, Page, SignIn, SignInNotice, SignInProblem};

/// Shows the form; whoever is signed in already goes on without a question.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let (goal, back) = ask.goal_of(ask.query("rd"))?;
    // "Not you?" asks for the form whoever is signed in.
    let nobody = matches!(ask.who().await?, Who::Nobody);
    if !nobody && ask.query("switch").is_none() {
        // Whether more must be shown is the step-up's to see; it hands over if nothing is missing.
        return Ok(match &goal.rd {
            Some(rd) => ask.redirect(&ask.path(&PortalRoute::StepUp, &[("rd", rd)])),
            None => ask.redirect(&PortalRoute::Account.path()),
        });
    }
    // Whoever signs in over somebody's session ends it, and its forms with it: nothing is promised there.
    let form = if nobody { kept::note(ask, back.as_ref()).await? } else { None };
    let notice = match back.as_ref() {
        _ if form.is_some() => None,
        _ if ask.query("notice").as_deref() == Some("enrolled") => Some(SignInNotice::Enrolled),
        Some(_) | None if nobody => ended(ask).await?,
        Some(_) | None => None,
    };
    page(ask, goal.rd, back.as_ref(), form, String::new(), notice, None)
}

/// Checks name and password and goes on to the next question.
pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let browser = ask.browser().ok_or(Refusal::CookieMissing { rd: ask.query("rd") })?;
    let who = ask.who().await?;
    let posted = ask.form(&who)?;
    let (mut goal, back) = ask.goal_of(posted.given("rd").map(str::to_owned))?;
    goal.fragment = posted.given("fragment").map(str::to_owned);
    let name = posted.text("username").trim();
    let checked = ask.auth().verify_password(&ask.visit, name, &posted.secret("password"), ask.device()).await?;
    let problem = match checked {
        Checked::Right(proof) => {
            let next = ask.auth().after_password(&ask.visit, browser, proof, goal, ask.seat(&who)).await?;
            return Ok(go_on(ask, next, back.as_ref()));
        }
        Checked::Wrong => SignInProblem::Mismatch,
        Checked::Pause { until } => SignInProblem::Throttled { until },
    };
    let form = kept::note(ask, back.as_ref()).await?;
    page(ask, goal.rd, back.as_ref(), form, name.to_owned(), None, Some(problem))
}

/// The form once more, after something else on its page did not do.
pub(super) async fn again(
    ask: &Ask<'_>,
    rd: Option<String>,
    back: Option<&ReturnTo>,
    problem: SignInProblem,
) -> Result<Answer, Refusal> {
    let form = kept::note(ask, back).await?;
    page(ask, rd, back, form, String::new(), None, Some(problem))
}

/// The answer to a step that went well.
pub(super) fn go_on(ask: &Ask<'_>, next: Next, back: Option<&ReturnTo>) -> Answer {
    match next {
        Next::SignedIn(done) => ask.land(&done),
        Next::Confirm { flow, ways } => {
            let route = second::first_way(&ways).map_or(PortalRoute::LoginChoose, PortalRoute::LoginFactor);
            ask.redirect(&ask.path(&route, &[("flow", &flow.id.to_string())]))
        }
        Next::Enroll { flow } => ask.redirect(&ask.path(&PortalRoute::EnrollTotp, &[("flow", &flow.id.to_string())])),
        Next::NothingFits { user, ways, .. } => second::nothing_fits(ask, back, user.name.as_str(), &ways),
    }
}

/// Why the session that this browser still names is no more.
async fn ended(ask: &Ask<'_>) -> Result<Option<SignInNotice>, Refusal> {
    Ok(ask.lost_session().await?.map(|session| {
        let idle = ask.visit.snapshot.sessions.idle;
        let away = session.last_seen_at.age(ask.visit.now).is_some_and(|age| age >= idle);
        match session.ended_at {
            None if away => SignInNotice::Idle { minutes: idle.as_secs() / 60 },
            None | Some(_) => SignInNotice::Ended,
        }
    }))
}

fn page(
    ask: &Ask<'_>,
    rd: Option<String>,
    back: Option<&ReturnTo>,
    form: Option<FormNote>,
    username: String,
    notice: Option<SignInNotice>,
    problem: Option<SignInProblem>,
) -> Result<Answer, Refusal> {
    let (browser, cookie) = ask.browser_or_new();
    let passkey = ask.auth().passkey_question(&ask.visit, &ask.request.host, browser)?;
    let mut answer = ask.page(&Page::SignIn(SignIn {
        hidden: ask.hidden(browser, None, rd),
        app: back.and_then(|back| ask.destination(back)),
        username,
        notice,
        form,
        passkey: passkey.map(Into::into),
        problem,
    }));
    ask.add_cookie(&mut answer, cookie);
    Ok(answer)
}
