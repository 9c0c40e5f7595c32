//! Nothing typed is lost: a form that meets a challenge is kept, and sent on once its person has shown what was
//! missing. It is judged again then, like any request.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::ProxyShared;
use super::authenticate::Who;
use super::body::{ClientBody, Gathered, Progress, ProxyBody, RequestBody};
use super::error::ProxyError;
use super::gate::Inbound;
use crate::auth::return_to::Form;
use crate::base::budget::Taker;
use crate::base::ids::UserId;
use crate::domain::host::{HostName, Scheme};
use crate::session::kept::{self, Claimed, FORM_FIELD, KeptForm, KeptForms, Whose};
use crate::session::{Presented, cookie};

/// More than a ticket's form ever has.
const TICKET_BODY: usize = 512;

/// What became of a form, and the cookie that its browser needs for it.
pub(super) struct Kept {
    pub form: Form,
    pub cookie: Option<HeaderValue>,
}

impl Kept {
    /// There was nothing to keep.
    pub(super) fn none() -> Self {
        Self::not(Form::None)
    }

    fn not(form: Form) -> Self {
        Self { form, cookie: None }
    }
}

/// Keeps the form of a navigation that was challenged. What a script sends it sends again itself: it gets 401.
pub(super) async fn over_challenge(
    shared: &Arc<ProxyShared>,
    inbound: &Inbound,
    parts: &request::Parts,
    body: RequestBody,
    who: &Who,
    (page, limit): (bool, u64),
) -> Result<Kept, ProxyError> {
    let proven = came_from_own_page(&parts.headers, inbound.scheme, &inbound.host);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if !page || parts.method != Method::POST || !proven || limit == 0 || parts.headers.contains_key(CONTENT_ENCODING) {
        return Ok(Kept::not(Form::Lost));
    }
    let lost = match cookie::read(&parts.headers, &inbound.host, &shared.keys, inbound.now) {
        Presented::Token(token) if who.session.is_none() => Some(token),
        _ => None,
    };
    let taker = match (&who.session, &lost) {
        (None, Some(_)) => Taker::Returning(inbound.client.counter_key()),
        (session, _) => Taker::new(session.as_ref().map(|session| session.authn.user), inbound.client),
    };
    let declared = match &body {
        RequestBody::Client(body) => body.declared().and_then(|n| usize::try_from(n).ok()),
        RequestBody::Full(Some(bytes)) => Some(bytes.len()),
        RequestBody::Full(None) | RequestBody::Empty => Some(0),
    };
    if declared.is_some_and(|length| length > limit) {
        return Ok(Kept::not(Form::TooLarge { limit }));
    }
    // For what has come: who only announces a form takes nothing from the forms of others.
    let mut room = shared.kept.room(taker, limit);
    let body = match body {
        RequestBody::Empty => Bytes::new(),
        RequestBody::Full(bytes) => bytes.unwrap_or_default(),
        RequestBody::Client(body) => match body.gather(limit, |length| room.grow_to(length)).await? {
            Gathered::Whole(bytes) => bytes,
            Gathered::More(_) => return Ok(Kept::not(Form::TooLarge { limit })),
            Gathered::NoRoom => return Ok(Kept::not(Form::NoRoom)),
        },
    };
    let shown = kept::shown(&parts.headers);
    let secret = shown.first().map_or_else(|| shared.kept.new_secret(), |secret| (*secret).to_owned());
    let form = KeptForm::new(&inbound.route.app, target(parts), &parts.headers, body);
    let (session, known) = who.session.as_ref().map(|s| (s.authn.session, s.authn.user)).unzip();
    let address = inbound.client;
    let (kept, host, now, browser) =
        (Arc::clone(&shared.kept), inbound.host.clone(), inbound.now, kept::browser_hash(&secret));
    // On the background, which may wait for the disk; and to its end, should the client go.
    let task = shared.background.spawn(async move {
        let user = match (known, lost) {
            (Some(user), _) => Some(user),
            (None, Some(token)) => kept.person_of(&token).await?,
            (None, None) => None,
        };
        kept.keep(&form, Whose { session, user, address }, &browser, &host, now).await
    });
    Ok(match task.await.map_err(|_| ProxyError::Stopping)? {
        Ok(Some(id)) => Kept { form: Form::Kept(id), cookie: kept::set_cookie(&secret) },
        Ok(None) => Kept::not(Form::NoRoom),
        Err(error) => {
            tracing::warn!(request.id = %inbound.id, error = super::forward::error_chain(&error), "a form was not kept");
            Kept::not(Form::Lost)
        }
    })
}

/// Proof that the request came from a page of this very host (S-KEEP-1): without it, a form of another site
/// would be completed by the victim's own sign-in. Silence proves nothing here.
fn came_from_own_page(headers: &HeaderMap, scheme: Scheme, host: &HostName) -> bool {
    let only = |name: &str| {
        let mut all = headers.get_all(name).iter();
        (all.next().map(HeaderValue::as_bytes), all.next().is_some())
    };
    let own = format!("{}://{host}", scheme.as_str());
    match (only("sec-fetch-site"), only(ORIGIN.as_str())) {
        ((_, true), _) | (_, (_, true)) => false,
        // A page that sends no referrer has `Origin: null`; the browser says all the same whose page it is.
        ((Some(site), _), (origin, _)) => {
            site == b"same-origin" && origin.is_none_or(|o| o == own.as_bytes() || o == b"null")
        }
        ((None, _), (origin, _)) => origin == Some(own.as_bytes()),
    }
}

fn target(parts: &request::Parts) -> String {
    parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// Takes up a kept form where this is the POST that sends it on: its body and what belongs to it take the
/// place of the ticket's. Every other request goes through as it is.
pub(super) async fn taken_up(
    shared: &Arc<ProxyShared>,
    inbound: &Inbound,
    parts: &mut request::Parts,
    body: Box<ClientBody>,
    user: Option<UserId>,
    progress: &Rc<Progress>,
) -> Result<(RequestBody, Option<Box<InHand>>), ProxyError> {
    let browsers: Vec<_> = kept::shown(&parts.headers).into_iter().map(kept::browser_hash).collect();
    let bytes = match body.gather(TICKET_BODY, |_| true).await? {
        Gathered::Whole(bytes) => bytes,
        Gathered::NoRoom => return Err(ProxyError::Overloaded),
        Gathered::More(body) => return Ok((RequestBody::Client(body), None)),
    };
    let read = |ticket: String| {
        browsers.iter().find_map(|browser| Some((shared.kept.read_ticket(&ticket, browser, &inbound.host)?, *browser)))
    };
    let Some((id, browser)) = ticket(&bytes).and_then(read) else { return Ok((RequestBody::Full(Some(bytes)), None)) };
    let (kept, host, now, target) = (Arc::clone(&shared.kept), inbound.host.clone(), inbound.now, target(parts));
    let app = inbound.route.app.clone();
    let (hand, taken) = oneshot::channel();
    shared.background.spawn(async move {
        let claimed = kept.claim(id, &browser, (&host, &app), &target, user, now).await;
        // The browser may have left meanwhile: nobody has it in hand then.
        if let Err(Ok(Ok(claimed))) = hand.send(claimed) {
            put_back(&kept, claimed, None).await;
        }
    });
    let claimed = match taken.await.map_err(|_| ProxyError::Stopping)? {
        Ok(Ok(claimed)) => claimed,
        Ok(Err(gone)) => return Err(ProxyError::FormGone(gone)),
        Err(error) => return Err(ProxyError::Store(error)),
    };
    claimed.form.restore(&mut parts.headers);
    let body = RequestBody::Full(Some(claimed.form.body.clone()));
    Ok((body, Some(Box::new(InHand::new(shared, progress, claimed)))))
}

/// Whether a POST may carry a ticket. Nearly none has the cookie: their bodies stay unread.
pub(super) fn may_be_ticket(parts: &request::Parts, body: &ClientBody) -> bool {
    let is_form = || parts.headers.get(CONTENT_TYPE).is_some_and(|t| t == "application/x-www-form-urlencoded");
    parts.method == Method::POST
        && is_form()
        && !body.is_longer_than(TICKET_BODY)
        && !kept::shown(&parts.headers).is_empty()
}

/// The one field of the form.
fn ticket(body: &[u8]) -> Option<String> {
    let mut fields = form_urlencoded::parse(body);
    let (name, value) = fields.next()?;
    (name == FORM_FIELD && fields.next().is_none()).then(|| value.into_owned())
}

/// A form that was claimed to be sent. Whatever becomes of its request, an error or a browser that leaves: where no
/// app has seen a byte of it, it is put back and waits on.
pub(super) struct InHand {
    claimed: Option<Claimed>,
    kept: Arc<KeptForms>,
    background: Handle,
    progress: Rc<Progress>,
}

impl InHand {
    fn new(shared: &ProxyShared, progress: &Rc<Progress>, claimed: Claimed) -> Self {
        let (kept, background) = (Arc::clone(&shared.kept), shared.background.clone());
        Self { claimed: Some(claimed), kept, background, progress: Rc::clone(progress) }
    }

    /// More must be shown first.
    pub(super) async fn goes_on_waiting(mut self: Box<Self>) -> Kept {
        let Some(claimed) = self.claimed.take() else { return Kept::not(Form::Lost) };
        let id = claimed.id();
        self.put_back(claimed, None).await;
        Kept::not(Form::Kept(id))
    }

    /// The end of its request. Where the app (or a rule) sends the POST on with 307 or 308, the browser repeats the
    /// ticket there, and the form must be behind it.
    pub(super) async fn settle(
        mut self: Box<Self>,
        inbound: &Inbound,
        outcome: Result<Response<ProxyBody>, ProxyError>,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        // On a second connection, after one on which not a byte was written.
        let reached_nobody = outcome.as_ref().is_err_and(|error| matches!(error, ProxyError::Connect(_)));
        let target = outcome.as_ref().ok().and_then(|response| sent_on(inbound, response));
        if let Some(claimed) = self.claimed.take()
            && (target.is_some() || reached_nobody || !self.progress.was_handed_over())
        {
            self.put_back(claimed, target).await;
        }
        outcome
    }

    /// On the background, to its end.
    fn put_back(&self, claimed: Claimed, target: Option<String>) -> impl Future<Output = ()> + use<> {
        let kept = Arc::clone(&self.kept);
        let task = self.background.spawn(async move { put_back(&kept, claimed, target).await });
        async move {
            let _ = task.await;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(claimed) = self.claimed.take().filter(|_| !self.progress.was_handed_over()) {
            drop(self.put_back(claimed, None));
        }
    }
}

async fn put_back(kept: &KeptForms, claimed: Claimed, target: Option<String>) {
    if let Err(error) = kept.put_back(claimed, target).await {
        tracing::warn!(error = super::forward::error_chain(&error), "a kept form could not be put back");
    }
}

/// Path and query on this host to which the browser repeats its POST.
fn sent_on(inbound: &Inbound, response: &Response<ProxyBody>) -> Option<String> {
    if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let origin = format!("{}://{}", inbound.scheme.as_str(), inbound.host);
    let target = location.strip_prefix(origin.as_str()).unwrap_or(location);
    let target = target.split('#').next().unwrap_or_default();
    (target.starts_with('/') && !target.starts_with("//")).then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn s_keep_1_only_a_page_of_this_host_is_proof() {
        let proven = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let host = HostName::parse(b"app.test", Scheme::Https).expect("a host");
            came_from_own_page(&headers, Scheme::Https, &host)
        };
        let (own, site) = (("origin", "https://app.test"), ("sec-fetch-site", "same-origin"));
        for good in [&[own][..], &[site], &[site, own], &[site, ("origin", "null")]] {
            assert!(proven(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://app.test")],
            &[("origin", "https://evil.test")],
            &[("origin", "https://app.test:444")],
            &[own, own],
            &[site, site],
            &[site, ("origin", "https://evil.test")],
            &[("sec-fetch-site", "same-site"), own],
            &[("sec-fetch-site", "cross-site"), own],
            &[("sec-fetch-site", "none"), own],
            &[("referer", "https://app.test/")],
        ] {
            assert!(!proven(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_ticket_stands_alone() {
        assert_eq!(ticket(b"stepgate-form=a.b"), Some("a.b".to_owned()));
        for other in ["stepgate-form=a&x=y", "x=y&stepgate-form=a", "stepgate-form=a&stepgate-form=b", "x=y", ""] {
            assert_eq!(ticket(other.as_bytes()), None, "{other}");
        }
    }
}
