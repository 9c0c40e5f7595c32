//! The sign-in without a name: what the script of the sign-in page posts.

use super::ask::Ask;
use super::error::Refusal;
use super::second::key_answer;
use super::{Answer, login};
use crate::auth::passkey::ByPasskey;
use crate::domain::portal::PortalRoute;
use crate::pages::SignInProblem;

pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let browser = ask.browser().ok_or(Refusal::CookieMissing { rd: ask.posted_rd() })?;
    let who = ask.who().await?;
    let form = ask.form(&who)?;
    let (mut goal, back) = ask.goal_of(form.given("rd").map(str::to_owned))?;
    goal.fragment = form.given("fragment").map(str::to_owned);
    let rd = goal.rd.clone();
    let answer = key_answer(&form);
    match ask.auth().sign_in_by_passkey(&ask.visit, browser, answer, goal, ask.seat(&who)).await? {
        ByPasskey::SignedIn(done) => Ok(ask.land(&done)),
        ByPasskey::MoreFor { done, goal } => {
            let rest = match &goal.rd {
                Some(rd) => ask.path(&PortalRoute::StepUp, &[("rd", rd)]),
                None => PortalRoute::StepUp.path(),
            };
            Ok(ask.land_at(&done, ask.redirect(&rest)))
        }
        ByPasskey::Not(trouble) => {
            let problem = SignInProblem::Key { why: trouble.into() };
            login::again(ask, rd, back.as_ref(), problem).await
        }
    }
}
