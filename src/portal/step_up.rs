//! A signed-in person confirms once more: only what is missing, and what still counts is said.

use super::ask::{Ask, Who};
use super::error::Refusal;
use super::second::{code_ask, code_problem, first_way, key_ask, listed, nothing_fits, sent, shown};
use super::{Answer, kept};
use crate::auth::account::requirement_of;
use crate::auth::factor::Looked;
use crate::auth::flow::Goal;
use crate::auth::plan::{Plan, Way};
use crate::auth::return_to::ReturnTo;
use crate::auth::send::{Sending, Wish};
use crate::auth::sign_in::{Person, in_grace, requirement};
use crate::auth::step_up::Stepped;
use crate::base::clock::Timestamp;
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::level::{Requirement, Why};
use crate::domain::portal::PortalRoute;
use crate::pages::{Choose, CodeFor, CodeProblem, Page, StepUp, StepUpAsk, StepUpWhy};
use crate::session::{LiveSession, SessionToken};

/// Shows the next question, or hands over when there is none.
pub(super) async fn show(ask: &Ask<'_>, chosen: Option<FactorKind>) -> Result<Answer, Refusal> {
    let (goal, back) = ask.goal_of(ask.query("rd"))?;
    let Who::Known { live, .. } = ask.who().await? else { return Ok(sign_in_instead(ask, &goal)) };
    question(ask, &live, &goal, back.as_ref(), chosen, None).await
}

/// The list of ways, for a step-up.
pub(super) async fn show_choices(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let (goal, back) = ask.goal_of(ask.query("rd"))?;
    let Who::Known { live, .. } = ask.who().await? else { return Ok(sign_in_instead(ask, &goal)) };
    let asked = asked(ask, &live, &goal, back.as_ref()).await?;
    match ask.auth().step_up_plan(&ask.visit, &live, &asked).await? {
        Plan::Ask { ways, .. } if !ways.is_empty() => Ok(ask.page(&Page::Choose(Choose {
            hidden: ask.hidden_of(&live, goal.rd.clone()),
            app: back.as_ref().and_then(|back| ask.destination(back)),
            user: live.authn.name.to_string(),
            ways: listed(&ways),
        }))),
        Plan::Enough | Plan::Ask { .. } | Plan::Impossible { .. } => {
            question(ask, &live, &goal, back.as_ref(), None, None).await
        }
    }
}

/// Checks what was shown. The new id is set at once; the next page sees what is still missing.
pub(super) async fn submit(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let Who::Known { live, token } = &who else { return Err(Refusal::StartOver { rd: ask.posted_rd() }) };
    let form = ask.form(&who)?;
    let (mut goal, back) = ask.goal_of(form.given("rd").map(str::to_owned))?;
    goal.fragment = form.given("fragment").map(str::to_owned);
    let current = ask.current(live, token);
    if kind.is_sent() && form.has("send") {
        return send(ask, live, kind, &goal, back.as_ref()).await;
    }
    let about = back.as_ref().map(|back| (back.app.as_str(), back.rule.as_str()));
    let stepped = match kind {
        FactorKind::Password => {
            let (typed, device) = (form.secret("password"), ask.device());
            ask.auth().step_up_password(&ask.visit, current, &typed, device, about).await?
        }
        kind => ask.auth().step_up_factor(&ask.visit, current, shown(kind, &form), about).await?,
    };
    let problem = match stepped {
        Stepped::Done { token, evidence } => {
            return done(ask, live, &token, &evidence, &goal, back.as_ref()).await;
        }
        Stepped::Not(looked) => Problem::Code(looked),
        Stepped::PasswordWrong => Problem::Password(CodeProblem::Wrong),
        Stepped::PasswordPause { until } => Problem::Password(CodeProblem::Throttled { until }),
    };
    question(ask, live, &goal, back.as_ref(), Some(kind), Some(&problem)).await
}

enum Problem {
    Code(Looked),
    Password(CodeProblem),
    /// Another code could not be sent yet.
    Sending(CodeProblem),
}

/// Sends a code for this session. The page after it is another one: a reload sends nothing again.
async fn send(
    ask: &Ask<'_>,
    live: &LiveSession,
    kind: FactorKind,
    goal: &Goal,
    back: Option<&ReturnTo>,
) -> Result<Answer, Refusal> {
    let user = ask.auth().person_of(live).await?;
    let scope = live.authn.session.to_string();
    let wish = Wish { kind, scope: &scope, what_for: CodeFor::Confirm, language: ask.site().language };
    match ask.auth().send_code(&ask.visit, &user, wish).await? {
        Sending::Sent { .. } => {
            let fields: Vec<(&str, &str)> = goal.rd.as_deref().map(|rd| ("rd", rd)).into_iter().collect();
            let path = ask.path(&PortalRoute::StepUpFactor(kind), &fields);
            let fragment = goal.fragment.as_deref().and_then(crate::auth::return_to::fragment);
            Ok(ask.redirect(&fragment.map_or(path.clone(), |fragment| format!("{path}#{fragment}"))))
        }
        Sending::Pause { until } => {
            let problem = Problem::Sending(CodeProblem::SendPause { until });
            question(ask, live, goal, back, Some(kind), Some(&problem)).await
        }
        Sending::NoWay => question(ask, live, goal, back, None, None).await,
    }
}

/// Goes on with the new id: over to the app, back to the page of ours, or to the next question.
async fn done(
    ask: &Ask<'_>,
    live: &LiveSession,
    token: &SessionToken,
    evidence: &[FactorUse],
    goal: &Goal,
    back: Option<&ReturnTo>,
) -> Result<Answer, Refusal> {
    let asked = asked(ask, live, goal, back).await?;
    let mut answer = match (asked.missing(evidence, ask.visit.now), &goal.rd) {
        (Some(_), Some(rd)) => ask.redirect(&ask.path(&PortalRoute::StepUp, &[("rd", rd)])),
        (Some(_), None) => ask.redirect(&PortalRoute::StepUp.path()),
        (None, _) => arrive(ask, live, evidence, goal, back).await?,
    };
    ask.set_session(&mut answer, token);
    Ok(answer)
}

/// To where it was for; nothing is missing any more.
async fn arrive(
    ask: &Ask<'_>,
    live: &LiveSession,
    evidence: &[FactorUse],
    goal: &Goal,
    back: Option<&ReturnTo>,
) -> Result<Answer, Refusal> {
    let who = (&live.authn.name, live.authn.groups.as_slice(), live.authn.ever_enrolled);
    match back {
        Some(_) if in_grace(ask.visit.snapshot, back, who, evidence, ask.visit.now).is_some() => {
            Ok(ask.redirect(&ask.later_path(goal)))
        }
        Some(back) if back.host != ask.request.host => {
            let fragment = goal.fragment.as_deref();
            let offer = ask.auth().hand_over(&ask.visit, live.authn.session, evidence, back, fragment).await?;
            Ok(ask.redirect(offer.location()))
        }
        Some(_) | None => Ok(ask.arrive_here(goal)),
    }
}

async fn question(
    ask: &Ask<'_>,
    live: &LiveSession,
    goal: &Goal,
    back: Option<&ReturnTo>,
    chosen: Option<FactorKind>,
    problem: Option<&Problem>,
) -> Result<Answer, Refusal> {
    let asked = asked(ask, live, goal, back).await?;
    let user = live.authn.name.as_str();
    match ask.auth().step_up_plan(&ask.visit, live, &asked).await? {
        Plan::Enough => arrive(ask, live, &live.authn.evidence, goal, back).await,
        Plan::Impossible { ways, .. } => Ok(nothing_fits(ask, back, user, &ways)),
        Plan::Ask { why, password, ways } => {
            let looked = problem.and_then(Problem::looked);
            let key = ways.iter().any(|way| way.kind == FactorKind::Webauthn && way.fits());
            let (shown, problem) = if password {
                // A key that checks who holds it stands for the password too.
                let by_key = chosen == Some(FactorKind::Webauthn) && key;
                match if by_key { way_ask(ask, live, &ways, FactorKind::Webauthn, true, looked).await? } else { None } {
                    Some(shown) => (Some(shown), None),
                    None => (Some(StepUpAsk::Password { key }), password_problem(problem)),
                }
            } else {
                let mut shown = None;
                for kind in chosen.into_iter().chain(first_way(&ways)) {
                    if shown.is_none() {
                        shown = way_ask(ask, live, &ways, kind, asked.user_verified, looked).await?;
                    }
                }
                let not_sent = match problem {
                    Some(Problem::Sending(problem)) => Some(problem.clone()),
                    Some(Problem::Code(_) | Problem::Password(_)) | None => None,
                };
                (shown, looked.and_then(code_problem).or(not_sent))
            };
            let Some(shown) = shown else { return Ok(nothing_fits(ask, back, user, &ways)) };
            Ok(ask.page(&Page::StepUp(StepUp {
                hidden: ask.hidden_of(live, goal.rd.clone()),
                app: back.and_then(|back| ask.destination(back)),
                user: user.to_owned(),
                why: page_why(why),
                password_counts: (!password).then(|| password_at(live)).flatten(),
                ask: shown,
                form: kept::note(ask, back).await?,
                problem,
            })))
        }
    }
}

/// What the page asks of a way of `kind`; `None` when there is none that helps.
async fn way_ask(
    ask: &Ask<'_>,
    live: &LiveSession,
    ways: &[Way],
    kind: FactorKind,
    verified: bool,
    looked: Option<&Looked>,
) -> Result<Option<StepUpAsk>, Refusal> {
    if kind != FactorKind::Webauthn {
        let Some(code) = code_ask(ask, live.authn.name.as_str(), ways, kind, looked) else { return Ok(None) };
        let code = sent(ask, live.authn.user, &live.authn.session.to_string(), code).await?;
        return Ok(Some(StepUpAsk::Code(code)));
    }
    let question = ask.auth().step_up_question(&ask.visit, live, &ask.request.host, verified).await?;
    Ok(question.and_then(|question| key_ask(ways, question, looked)).map(StepUpAsk::Key))
}

impl Problem {
    fn looked(&self) -> Option<&Looked> {
        match self {
            Self::Code(looked) => Some(looked),
            Self::Password(_) | Self::Sending(_) => None,
        }
    }
}

fn password_problem(problem: Option<&Problem>) -> Option<CodeProblem> {
    match problem {
        Some(Problem::Password(problem)) => Some(problem.clone()),
        Some(Problem::Code(_) | Problem::Sending(_)) | None => None,
    }
}

/// What the goal asks for: the app's level, or what a page of ours needs.
async fn asked(
    ask: &Ask<'_>,
    live: &LiveSession,
    goal: &Goal,
    back: Option<&ReturnTo>,
) -> Result<Requirement, Refusal> {
    if let Some(own) = goal.own().and_then(|page| requirement_of(page, &ask.visit.snapshot.factors)) {
        return Ok(own);
    }
    let enrolled = ask.auth().enrolled(live.authn.user).await?;
    let person = Person {
        name: &live.authn.name,
        groups: &live.authn.groups,
        ever_enrolled: live.authn.ever_enrolled,
        enrolled: &enrolled,
    };
    Ok(requirement(ask.visit.snapshot, back, person, ask.visit.now))
}

fn sign_in_instead(ask: &Ask<'_>, goal: &Goal) -> Answer {
    match &goal.rd {
        Some(rd) => ask.redirect(&ask.path(&PortalRoute::Login, &[("rd", rd)])),
        None => ask.redirect(&PortalRoute::Login.path()),
    }
}

/// When the password of this session was shown.
fn password_at(live: &LiveSession) -> Option<Timestamp> {
    live.authn.evidence.iter().filter(|seen| seen.kind == FactorKind::Password).map(|seen| seen.at).max()
}

fn page_why(why: Why) -> StepUpWhy {
    match why {
        Why::Stale => StepUpWhy::Stale,
        Why::Login | Why::MoreFactors => StepUpWhy::More,
        Why::Stronger => StepUpWhy::Stronger,
    }
}
