//! A browser comes back from the portal to the app's host with a code (S-LOGIN-8).

use super::Answer;
use super::ask::Ask;
use super::error::Refusal;
use crate::auth::return_to::NONCE_COOKIE;
use crate::session::cookie::{self, Presented};
use crate::session::small;

/// Claims the code and goes on to the page that asked. That this is a navigation was checked before.
pub(super) async fn arrive(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let code = ask.query("code").ok_or(Refusal::StartOver { rd: None })?;
    let nonces = small::read_secrets(&ask.request.headers, NONCE_COOKIE);
    // A bad session cookie is no reason to stop: this very answer replaces it.
    let presented = match cookie::read(&ask.request.headers, &ask.request.host, ask.keys(), ask.visit.now) {
        Presented::Token(token) => Some(token),
        Presented::Absent | Presented::Bad(_) => None,
    };
    // Also without a nonce: the code is used up then, so that nobody else comes with it.
    let arrived = ask.auth().arrive(&ask.visit, &ask.request.host, &code, &nonces, presented.as_ref()).await?;
    let arrived = arrived.ok_or(if nonces.is_empty() {
        Refusal::CookieMissing { rd: None }
    } else {
        Refusal::StartOver { rd: None }
    })?;
    let mut answer = ask.on_to_app(&arrived.target);
    ask.set_session(&mut answer, &arrived.token);
    Ok(answer)
}
