//! The page of a notice's link. Looking uses nothing up; the button does.

use super::Answer;
use super::ask::{Ask, Who};
use super::error::Refusal;
use crate::auth::not_me::blocks;
use crate::base::secret::Secret;
use crate::domain::portal::PortalRoute;
use crate::pages::{NotMe, NotMeState, NoticeText, Page};

/// Asks, or says what was done.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    match ask.query("done").as_deref() {
        Some("1") => return Ok(page(ask, NotMeState::Done { blocked: false })),
        Some("2") => return Ok(page(ask, NotMeState::Done { blocked: true })),
        _ => {}
    }
    let code = ask.query("code").unwrap_or_default();
    let Some((user, notice)) = ask.auth().peek_notice(&ask.visit, &code).await? else {
        return Ok(page(ask, NotMeState::Gone));
    };
    let blocks = blocks(notice.kind);
    let left = match ask.auth().enrolled(user.id).await?.backup {
        Some(set) => set.left,
        None => 0,
    };
    let text = NoticeText { kind: notice.kind, event: notice.event, codes_left: left };
    let (site, pages) = (ask.site(), ask.pages());
    let (browser, cookie) = ask.browser_or_new();
    let state = NotMeState::Ask {
        hidden: ask.hidden(browser, None, None),
        link: Secret::new(code),
        user: user.name.to_string(),
        what: pages.notice_sentence(site, &text).map_err(Refusal::Words)?,
        facts: pages.notice_facts(site, &text).map_err(Refusal::Words)?,
        blocks,
    };
    let mut answer = page(ask, state);
    ask.add_cookie(&mut answer, cookie);
    Ok(answer)
}

/// Uses the link. Whoever is signed in at this browser plays no part.
pub(super) async fn submit(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let form = ask.form(&Who::Nobody)?;
    let Some(kind) = ask.auth().deny_notice(&ask.visit, form.text("link")).await? else {
        return Ok(page(ask, NotMeState::Gone));
    };
    let done = if blocks(kind) { "2" } else { "1" };
    Ok(ask.redirect(&ask.path(&PortalRoute::NotMe, &[("done", done)])))
}

fn page(ask: &Ask<'_>, state: NotMeState) -> Answer {
    ask.page(&Page::NotMe(NotMe { state }))
}
