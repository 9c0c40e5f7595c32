//! The second question of a sign-in: one code, or the list of ways to confirm.

use super::ask::Ask;
use super::error::Refusal;
use super::form::Form;
use super::{Answer, kept, login, step_up};
use crate::auth::AuthError;
use crate::auth::factor::{Explain, Looked, Shown};
use crate::auth::factors::webauthn::{KeyAnswer, KeyTrouble, Question};
use crate::auth::flow::{Flow, FlowKind, Step};
use crate::auth::plan::Way;
use crate::auth::return_to::ReturnTo;
use crate::auth::send::{Sending, Wish};
use crate::auth::sign_in::{Confirmed, Seat};
use crate::base::ids::UserId;
use crate::domain::factor::FactorKind;
use crate::domain::portal::PortalRoute;
use crate::pages::{
    self, Choose, Code, CodeAsk, CodeFor, CodeProblem, Key, KeyAsk, KeyProblem, KeyQuestion, NotEnough, Page, WayState,
};

/// What a form of a page for `kind` shows.
pub(super) fn shown(kind: FactorKind, form: &Form) -> Shown<'_> {
    match kind {
        FactorKind::Webauthn => Shown::Key(key_answer(form)),
        // Both fields are there in the form that brings a token back into step, and only there.
        FactorKind::Hotp if form.has("second") => Shown::Pair { first: form.text("code"), second: form.text("second") },
        kind => Shown::Code { kind, typed: form.text("code") },
    }
}

pub(super) fn key_answer(form: &Form) -> KeyAnswer<'_> {
    KeyAnswer { sealed: form.text("question"), answer: form.text("answer") }
}

/// Shows the field for a code of `kind`, or asks for a key.
pub(super) async fn show(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    let flow = flow_of_page(ask).await?;
    page(ask, &flow, kind, None, None).await
}

/// Checks a code and goes on.
pub(super) async fn submit(ask: &Ask<'_>, kind: FactorKind) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let flow = flow_named(ask, form.text("flow")).await?;
    if kind.is_sent() && form.has("send") {
        return send(ask, &flow, kind).await;
    }
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    match ask
        .auth()
        .confirm_sign_in(
            &ask.visit,
            flow,
            shown(kind, &form),
            Seat { remember: form.has("remember"), ..ask.seat(&who) },
        )
        .await?
    {
        Confirmed::Next(next) => Ok(login::go_on(ask, next, back.as_ref())),
        Confirmed::Not { flow, looked } => page(ask, &flow, kind, Some(&looked), None).await,
    }
}

/// Sends a code. The page after it is another one: a reload sends nothing again.
async fn send(ask: &Ask<'_>, flow: &Flow, kind: FactorKind) -> Result<Answer, Refusal> {
    let id = flow.id.to_string();
    let wish = Wish { kind, scope: &id, what_for: CodeFor::SignIn, language: ask.site().language };
    match ask.auth().send_code(&ask.visit, &flow.user, wish).await? {
        Sending::Sent { .. } => Ok(ask.redirect(&ask.path(&PortalRoute::LoginFactor(kind), &[("flow", &id)]))),
        Sending::Pause { until } => page(ask, flow, kind, None, Some(CodeProblem::SendPause { until })).await,
        Sending::NoWay => Ok(ask.redirect(&ask.path(&PortalRoute::LoginChoose, &[("flow", &id)]))),
    }
}

/// Lists the ways: of a sign-in in progress, or of a signed-in person who steps up.
pub(super) async fn show_choices(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    if ask.query("flow").is_none() {
        return step_up::show_choices(ask).await;
    }
    let flow = flow_of_page(ask).await?;
    let ways = ask.auth().ways_of(&ask.visit, &flow).await?;
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    let hidden = ask.hidden(flow.browser(), Some(flow.id.to_string()), flow.state.goal.rd.clone());
    Ok(ask.page(&Page::Choose(Choose {
        hidden,
        app: back.as_ref().and_then(|back| ask.destination(back)),
        user: flow.user.name.to_string(),
        ways: listed(&ways),
    })))
}

/// Goes to the way that was chosen. Nothing is sent or spent by choosing.
pub(super) async fn choose(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let kind = FactorKind::parse(form.text("factor")).ok_or(Refusal::BadForm)?;
    Ok(match (form.given("flow"), form.given("rd")) {
        (Some(flow), _) => ask.redirect(&ask.path(&PortalRoute::LoginFactor(kind), &[("flow", flow)])),
        (None, Some(rd)) => ask.redirect(&ask.path(&PortalRoute::StepUpFactor(kind), &[("rd", rd)])),
        (None, None) => return Err(Refusal::BadForm),
    })
}

/// Nothing that the person has would be enough: says so, instead of asking in vain.
pub(super) fn nothing_fits(ask: &Ask<'_>, back: Option<&ReturnTo>, user: &str, ways: &[Way]) -> Answer {
    ask.page(&Page::NotEnough(NotEnough {
        app: back.and_then(|back| ask.destination(back)),
        user: user.to_owned(),
        ways: listed(ways),
        may_enroll: false,
    }))
}

/// The way to show first.
pub(super) fn first_way(ways: &[Way]) -> Option<FactorKind> {
    ways.iter().find(|way| way.fits()).map(|way| way.kind)
}

/// The ways as the list shows them.
pub(super) fn listed(ways: &[Way]) -> Vec<pages::Way> {
    let last = ways.iter().filter_map(|way| way.last_used_at).max();
    ways.iter()
        .map(|way| pages::Way {
            kind: way.kind,
            device: Some(way.label.clone()).filter(|label| !label.is_empty()),
            used_last: last.is_some() && way.last_used_at == last,
            left: way.left,
            state: way.unfit.map_or(WayState::Ready, |unfit| WayState::NotEnough { why: unfit.into() }),
        })
        .collect()
}

/// What a code page asks for; `None` when the person has no way of that kind that helps here.
pub(super) fn code_ask(
    ask: &Ask<'_>,
    user: &str,
    ways: &[Way],
    kind: FactorKind,
    looked: Option<&Looked>,
) -> Option<CodeAsk> {
    let way = ways.iter().find(|way| way.kind == kind && way.fits())?;
    let totp = kind == FactorKind::Totp;
    // The entry of another system has its name; nobody said what phone it is on.
    let (device, issuer) = match way.elsewhere {
        true => (None, &way.label),
        false => (Some(&way.label), &ask.visit.snapshot.title),
    };
    Some(CodeAsk {
        kind,
        device: device.cloned().filter(|label| !label.is_empty()),
        entry: totp.then(|| format!("{issuer} ({user})")),
        left: way.left,
        others: ways.len() > 1,
        tries_left: looked.and_then(tries_left),
        sending: None,
    })
}

/// What a page asks of a key; `None` when the person has none that helps here.
pub(super) fn key_ask(ways: &[Way], question: Question, looked: Option<&Looked>) -> Option<KeyAsk> {
    let way = ways.iter().find(|way| way.kind == FactorKind::Webauthn && way.fits())?;
    let problem = match looked {
        Some(Looked::No { explain: Explain::Key(trouble), .. }) => Some((*trouble).into()),
        _ => None,
    };
    Some(KeyAsk {
        device: Some(way.label.clone()).filter(|label| !label.is_empty()),
        others: ways.len() > 1,
        question: question.into(),
        problem,
    })
}

impl From<Question> for KeyQuestion {
    fn from(question: Question) -> Self {
        Self { options: question.options, sealed: question.sealed }
    }
}

impl From<KeyTrouble> for KeyProblem {
    fn from(trouble: KeyTrouble) -> Self {
        match trouble {
            KeyTrouble::TooOld => Self::TooOld,
            KeyTrouble::Used => Self::Used,
            KeyTrouble::Taken => Self::Taken,
            KeyTrouble::NotTheirs => Self::NotTheirs,
            KeyTrouble::NotVerified => Self::NotVerified,
            KeyTrouble::Copied => Self::Copied,
            KeyTrouble::Wrong => Self::Wrong,
        }
    }
}

/// Whether a code is on its way, where the way is to send one: asked anew for each page.
pub(super) async fn sent(ask: &Ask<'_>, user: UserId, scope: &str, code: CodeAsk) -> Result<CodeAsk, Refusal> {
    if !code.kind.is_sent() {
        return Ok(code);
    }
    let until = ask.auth().sent_code_until(&ask.visit, user, code.kind, scope).await?;
    Ok(CodeAsk { sending: Some(pages::Sending { until }), ..code })
}

/// What to say of a code that was not accepted.
pub(super) fn code_problem(looked: &Looked) -> Option<CodeProblem> {
    Some(match looked {
        Looked::Candidate(_) | Looked::No { explain: Explain::Key(_), .. } => return None,
        Looked::Pause { until } => CodeProblem::Throttled { until: *until },
        Looked::No { explain: Explain::Wrong | Explain::Sent { left: 1.. }, .. } => CodeProblem::Wrong,
        Looked::No { explain: Explain::Sent { left: 0 }, .. } => CodeProblem::Gone,
        Looked::No { explain: Explain::Used { next_in }, .. } => match next_in.as_secs() {
            // The newest code on the phone is a fresh one already: "take the newest" says it best.
            0 => CodeProblem::Wrong,
            next_in => CodeProblem::Used { next_in },
        },
        Looked::No { explain: Explain::Clock { ahead_secs }, .. } => {
            // A code lives half a minute: finer than ten seconds would be invented.
            let off = (ahead_secs.unsigned_abs() / 10).max(1) * 10;
            CodeProblem::Clock { fast: *ahead_secs > 0, minutes: off / 60, seconds: off % 60 }
        }
    })
}

pub(super) fn tries_left(looked: &Looked) -> Option<u32> {
    match looked {
        Looked::No { explain: Explain::Sent { left: of_this }, left } => {
            Some(*of_this.min(left)).filter(|left| *left > 0)
        }
        Looked::No { left, .. } => Some(*left),
        Looked::Candidate(_) | Looked::Pause { .. } => None,
    }
}

async fn page(
    ask: &Ask<'_>,
    flow: &Flow,
    kind: FactorKind,
    looked: Option<&Looked>,
    not_sent: Option<CodeProblem>,
) -> Result<Answer, Refusal> {
    let ways = ask.auth().ways_of(&ask.visit, flow).await?;
    let flow_id = flow.id.to_string();
    if kind == FactorKind::Webauthn {
        return key_page(ask, flow, &ways, looked).await;
    }
    let Some(code) = code_ask(ask, flow.user.name.as_str(), &ways, kind, looked) else {
        return Ok(ask.redirect(&ask.path(&PortalRoute::LoginChoose, &[("flow", &flow_id)])));
    };
    let code = sent(ask, flow.user.id, &flow_id, code).await?;
    let remember = remember_days(ask, flow, kind).await?;
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    let form = kept::note(ask, back.as_ref()).await?;
    Ok(ask.page(&Page::Code(Code {
        hidden: ask.hidden(flow.browser(), Some(flow_id), flow.state.goal.rd.clone()),
        app: back.as_ref().and_then(|back| ask.destination(back)),
        user: flow.user.name.to_string(),
        ask: code,
        remember,
        form,
        problem: looked.and_then(code_problem).or(not_sent),
    })))
}

/// For how many days the page offers to remember this browser.
async fn remember_days(ask: &Ask<'_>, flow: &Flow, kind: FactorKind) -> Result<Option<u64>, Refusal> {
    let life = ask.auth().remember_offer(&ask.visit, flow, kind).await?;
    Ok(life.map(|life| life.as_secs() / 86_400))
}

async fn key_page(ask: &Ask<'_>, flow: &Flow, ways: &[Way], looked: Option<&Looked>) -> Result<Answer, Refusal> {
    let flow_id = flow.id.to_string();
    let question = ask.auth().key_question(&ask.visit, flow, &ask.request.host).await?;
    let Some(key) = question.and_then(|question| key_ask(ways, question, looked)) else {
        return Ok(ask.redirect(&ask.path(&PortalRoute::LoginChoose, &[("flow", &flow_id)])));
    };
    let back = ask.auth().open_goal(&ask.visit, &flow.state.goal);
    let form = kept::note(ask, back.as_ref()).await?;
    Ok(ask.page(&Page::Key(Key {
        hidden: ask.hidden(flow.browser(), Some(flow_id), flow.state.goal.rd.clone()),
        app: back.as_ref().and_then(|back| ask.destination(back)),
        user: flow.user.name.to_string(),
        ask: key,
        remember: remember_days(ask, flow, FactorKind::Webauthn).await?,
        form,
    })))
}

async fn flow_of_page(ask: &Ask<'_>) -> Result<Flow, Refusal> {
    let id = ask.query("flow").ok_or(Refusal::StartOver { rd: None })?;
    flow_named(ask, &id).await
}

async fn flow_named(ask: &Ask<'_>, id: &str) -> Result<Flow, Refusal> {
    let browser = ask.browser().ok_or(Refusal::CookieMissing { rd: None })?;
    let flow = ask.auth().flow(&ask.visit, browser, id).await?;
    if flow.state.kind != FlowKind::SignIn || flow.state.step != Step::Confirm {
        return Err(AuthError::FlowGone.into());
    }
    Ok(flow)
}
