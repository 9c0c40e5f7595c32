//! One request, from its head to its answer: who sends it, what is asked for, what the policy says,
//! and then the one thing that follows from it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_VERSION, SET_COOKIE, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Version, request};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;

use super::ProxyShared;
use super::authenticate::{Who, authenticate};
use super::body::{ClientBody, Finish, Progress, ProxyBody, RequestBody};
use super::challenge::{self, Asked};
use super::error::{Fault, ProxyError};
use super::forward::{self, Allowed};
use super::headers::identity::Prepared;
use super::headers::trailers;
use super::keep::{InHand, Kept};
use super::live::{self, Judged};
use super::memory::ConnMemory;
use super::troubles::Trouble;
use super::tunnel::Tunnel;
use super::upgrade::{self, Handshake};
use super::upstream::pool::LocalPools;
use super::{answered, destination, form, framing, harden, keep, outbound};
use crate::base::budget::Taker;
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::base::net::ClientIp;
use crate::config::Snapshot;
use crate::domain::audit::{Action, Actor, AuditEvent, Origin, Outcome};
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::host::{HostName, Scheme};
use crate::domain::path::CanonicalPath;
use crate::domain::policy::{
    Challenge, Content, Decision, Deny, DenyReason, Facts, Permit, RuleName, Shadow, ShadowVerdict, override_methods,
};
use crate::domain::route::{Harden, Route};
use crate::domain::upstream::Protocol;
use crate::pages::problem::Problem;
use crate::pages::{Denied, Destination, Language, Message, Page, Site, wants_page};
use crate::session::{LiveSession, cookie};
use crate::telemetry::access_log::{AccessRecord, Begun, SENT_PATH_CHARS};
use crate::telemetry::metrics::Verdict;

/// When to come back after a fault of ours or of the app.
const AGAIN: Duration = Duration::from_secs(5);

/// What dispatch knows of a request before the gate sees it.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub id: RequestId,
    pub client: ClientIp,
    pub peer: SocketAddr,
    pub scheme: Scheme,
    pub host: HostName,
    pub route: Arc<Route>,
    pub snapshot: Arc<Snapshot>,
    pub now: Timestamp,
    pub started: Instant,
}

/// Judges and answers one request for an app. Runs on a data thread; never fails, for every
/// failure has its answer.
///
/// The caller has read client and scheme from trusted proxies, found the route by the host, and
/// run [`super::headers::strip::client`].
pub async fn handle(
    shared: &Arc<ProxyShared>,
    pools: &Rc<LocalPools>,
    memory: &ConnMemory,
    inbound: Inbound,
    mut request: Request<Incoming>,
) -> Response<ProxyBody> {
    // Taken before the head is taken apart: hyper keeps the way to the client's bytes in it.
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let page = wants_page(&parts.headers, &parts.method).then(|| Language::wished(&parts.headers));
    let finish = Some(begin(shared, pools, &inbound, &parts));
    let mut gate = Gate { shared, pools, memory, inbound: &inbound, page, clear: Vec::new(), finish, form: None };
    let mut outcome = gate.judge(&mut parts, body, on_upgrade).await;
    if let Some(form) = gate.form.take() {
        // Given away and back: what stands across a wait makes the future of every request as large.
        outcome = Box::pin(form.settle(&inbound, outcome)).await;
    }
    let response = outcome.unwrap_or_else(|error| gate.refuse(&error));
    let Some(mut finish) = gate.finish.take() else { return response };
    finish.record().status = response.status().as_u16();
    response.map(|body| body.logged(finish))
}

fn begin(shared: &ProxyShared, pools: &LocalPools, inbound: &Inbound, parts: &request::Parts) -> Finish {
    let Inbound { now, started, id, client, .. } = *inbound;
    let begun = Begun { at: now, started, id, client, policy: inbound.snapshot.version() };
    let mut record = AccessRecord::begin(begun, &parts.method, parts.version, &parts.headers);
    record.host = Some(inbound.host.clone());
    record.app = Some(inbound.route.app.clone());
    record.metrics = Some(pools.metrics(&shared.metrics, &inbound.route.app));
    Finish::new(Box::new(record), Arc::clone(&shared.access_log))
}

/// The values prepared for this session at this app, made once.
pub fn prepared(session: &LiveSession, route: &Arc<Route>, who: &AuthnContext) -> Arc<Prepared> {
    if let Some(found) = session.prepared::<Prepared>().filter(|found| found.is_for(route)) {
        return found;
    }
    let made = Arc::new(Prepared::new(route, Some(who)));
    session.prepare(Arc::clone(&made));
    made
}

/// One request on its way through.
struct Gate<'a> {
    shared: &'a Arc<ProxyShared>,
    pools: &'a Rc<LocalPools>,
    memory: &'a ConnMemory,
    inbound: &'a Inbound,
    /// Whether refusals are pages.
    page: Option<Language>,
    /// What takes a refused cookie out of the browser, so that nobody stays locked out (S-COOK-2).
    clear: Vec<HeaderValue>,
    /// Taken by a tunnel, which outlives the answer.
    finish: Option<Finish>,
    /// The kept form that this request sends on.
    form: Option<Box<InHand>>,
}

impl Gate<'_> {
    async fn judge(
        &mut self,
        parts: &mut request::Parts,
        body: Incoming,
        on_upgrade: OnUpgrade,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let inbound = self.inbound;
        let (who, path) = match self.who_and_what(parts, &body).await {
            Ok(found) => found,
            Err(error) => {
                if let ProxyError::Cookie(_) = error {
                    self.clear = cookie::clear_all(&parts.headers, &inbound.host);
                }
                let sent = parts.uri.path().chars().take(SENT_PATH_CHARS).collect();
                self.note(|record| record.sent_path = Some(sent));
                return Err(error);
            }
        };
        self.note(|record| {
            path.as_str().clone_into(&mut record.path);
            record.user = who.authn.known().cloned();
        });

        let progress = Progress::start();
        if let Some(finish) = &mut self.finish {
            finish.count_request(&progress);
        }
        let body = self.body(parts, body, &who, &progress).await?;
        let (said, body) = self.said_in_body(parts, body, &who, &path).await?;
        // A body may have been waited for: how long ago somebody showed something is asked now (S-STEP-1).
        let now = if matches!(body, RequestBody::Empty) { inbound.now } else { self.shared.clock.now() };
        let facts = Facts {
            method: &parts.method,
            also_methods: said.also_methods(),
            path: &path,
            query: parts.uri.query(),
            content: said.content(),
            client: inbound.client,
            authn: &who.authn,
            now,
        };
        let (decision, shadow) = destination::judge(&facts, &mut parts.headers, inbound)?;
        if let Some(shadow) = shadow {
            self.shadow(&decision, shadow);
        }
        match decision {
            Decision::Allow(permit) => {
                self.own_pages_only(parts, said.also_methods())?;
                self.verdict(Verdict::Allow, Some(permit.rule()));
                if let Some(exception) = permit.exception() {
                    self.note(|record| record.exception = Some(Arc::clone(&exception.ticket)));
                }
                if permit.grace().is_some() {
                    self.note(|record| record.grace = true);
                }
                if let Some(session) = &who.session {
                    self.shared.sessions.touch(session, inbound.now);
                }
                if let Some(answer) = permit.answer() {
                    return Ok(
                        answered::answer(inbound, answer, &permit, &path, parts.uri.query()).map(ProxyBody::full)
                    );
                }
                let judged = Arc::new(Judged {
                    host: inbound.host.clone(),
                    method: parts.method.clone(),
                    said,
                    path,
                    uri: parts.uri.clone(),
                    client: inbound.client,
                    authn: who.authn.clone(),
                    generation: inbound.snapshot.generation,
                    at: now,
                });
                self.allow(&permit, &who, judged, Carried { parts, body, progress, on_upgrade }).await
            }
            // Boxed, like all that few requests do: the future of every request would be as large.
            Decision::Challenge(challenge) => Box::pin(self.challenge(parts, body, &who, &path, challenge)).await,
            // It may be allowed when there is room to read it; carried it is not.
            Decision::Deny(_) if said.found_no_room() => Err(ProxyError::Overloaded),
            Decision::Deny(deny) => {
                self.verdict(Verdict::Deny, Some(&deny.rule));
                Ok(self.deny(&deny, &who, &path, parts).map(ProxyBody::full))
            }
        }
    }

    /// Who sends it and which path is asked for, where the request is one that can be judged.
    async fn who_and_what(&self, parts: &request::Parts, body: &Incoming) -> Result<(Who, CanonicalPath), ProxyError> {
        let Inbound { route, .. } = self.inbound;
        framing::check(&parts.method, &parts.headers, body, route.upstream.get_body)?;
        // Before the path: a forged cookie is refused whatever was asked for.
        let who = authenticate(self.shared, self.memory, self.inbound, &parts.method, &parts.headers).await?;
        Ok((who, CanonicalPath::parse(parts.uri.path(), route.policy.forms)?))
    }

    /// `harden`: what changes something comes from the app's own pages.
    fn own_pages_only(&mut self, parts: &request::Parts, also: &[http::Method]) -> Result<(), ProxyError> {
        let Inbound { scheme, host, route, .. } = self.inbound;
        if route.harden == Harden::Off {
            return Ok(());
        }
        let in_query = override_methods(parts.uri.query());
        let methods = [parts.method.clone()].into_iter().chain(also.iter().cloned()).chain(in_query);
        if !harden::is_cross_site(methods, &parts.headers, *scheme, host, route) {
            return Ok(());
        }
        if route.harden == Harden::Enforce {
            return Err(ProxyError::CrossSite);
        }
        self.note(|record| record.why = Some("cross-site-reported"));
        Ok(())
    }

    /// Whether it is a gRPC call to an app that takes them: both sides may say something at any time,
    /// as on a WebSocket.
    fn is_call(&self, parts: &request::Parts) -> bool {
        self.inbound.route.upstream.protocol != Protocol::Http1 && trailers::is_grpc(&parts.headers)
    }

    /// What the request carries: its own body, or the kept form that it sends on.
    async fn body(
        &mut self,
        parts: &mut request::Parts,
        body: Incoming,
        who: &Who,
        progress: &Rc<Progress>,
    ) -> Result<RequestBody, ProxyError> {
        if body.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        let max = self.inbound.route.limits.max_body;
        if body.size_hint().lower() > max {
            return Err(ProxyError::BodyTooLarge);
        }
        let mut body = ClientBody::new(body, max, Rc::clone(progress));
        if self.is_call(parts) {
            body = body.may_be_silent(self.inbound.route.tunnel_idle);
        }
        if !keep::may_be_ticket(parts, &body) {
            return Ok(RequestBody::Client(body));
        }
        let user = who.session.as_ref().map(|session| session.authn.user);
        let (body, form) = Box::pin(keep::taken_up(self.shared, self.inbound, parts, body, user, progress)).await?;
        self.form = form;
        Ok(body)
    }

    /// A body is read first where a rule that may decide depends on what it holds, and that of a POST where the
    /// policy tells methods apart on this path: its form could turn it into another one.
    async fn said_in_body(
        &mut self,
        parts: &request::Parts,
        body: RequestBody,
        who: &Who,
        path: &CanonicalPath,
    ) -> Result<(form::Said, RequestBody), ProxyError> {
        let unasked = form::Said::unasked(&body);
        if matches!(body, RequestBody::Empty) {
            return Ok((unasked, body));
        }
        let Inbound { route, client, now, .. } = self.inbound;
        let told_apart = match parts.method {
            http::Method::POST => route.policy.methods_told_apart(path),
            _ => Vec::new(),
        };
        let asks = route.policy.asks_for_content(&Facts {
            method: &parts.method,
            also_methods: &told_apart,
            path,
            query: parts.uri.query(),
            content: unasked.content(),
            client: *client,
            authn: &who.authn,
            now: *now,
        });
        if told_apart.is_empty() && !asks {
            return Ok((unasked, body));
        }
        let question = form::Question { told_apart, content: asks.then_some(route.limits.judge_body) };
        let taker = Taker::new(who.session.as_ref().map(|session| session.authn.user), *client);
        let room = self.shared.judged_bodies.begin(taker);
        let (said, body) = Box::pin(form::read(&parts.headers, body, question, room)).await?;
        if asks && *said.content() == Content::Unread {
            self.note(|record| record.why = Some("body-unread"));
        }
        Ok((said, body))
    }

    /// Asks for what is missing, and keeps the form meanwhile.
    async fn challenge(
        &mut self,
        parts: &request::Parts,
        body: RequestBody,
        who: &Who,
        path: &CanonicalPath,
        challenge: Challenge,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let inbound = self.inbound;
        self.verdict(Verdict::Challenge, Some(&challenge.rule));
        let kept = if matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            Kept::none()
        } else if let Some(form) = self.form.take() {
            form.goes_on_waiting().await
        } else {
            keep::over_challenge(self.shared, inbound, parts, body, who, (self.page.is_some(), challenge.keep_body))
                .await?
        };
        let asked = Asked {
            method: &parts.method,
            headers: &parts.headers,
            uri: &parts.uri,
            path,
            page: self.page.is_some(),
            known: who.session.is_some(),
            form: kept.form,
        };
        let mut response = challenge::answer(self.shared, inbound, asked, &challenge);
        if let Some(cookie) = kept.cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response.map(ProxyBody::full))
    }

    async fn allow(
        &mut self,
        permit: &Permit,
        who: &Who,
        judged: Arc<Judged>,
        carried: Carried<'_>,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let allowed = Allowed {
            shared: self.shared,
            pools: self.pools,
            memory: self.memory,
            inbound: self.inbound,
            permit,
            session: who.session.as_ref(),
            client_is_http2: carried.parts.version == Version::HTTP_2,
        };
        let Carried { parts, mut body, progress, on_upgrade } = carried;
        if let (RequestBody::Client(body), Some(session)) = (&mut body, &who.session) {
            body.end_with(session.ended.clone());
        }
        if let Some(handshake) = upgrade::handshake(parts)? {
            // What of it is read after the 101 would be bytes of the tunnel.
            if !matches!(body, RequestBody::Empty) {
                return Err(ProxyError::BodyOnGet);
            }
            let Inbound { scheme, host, route, .. } = self.inbound;
            upgrade::check_origin(&parts.headers, *scheme, host, route, who.has_cookie)?;
            outbound::head(allowed, parts, &judged.path)?;
            return Box::pin(self.tunnel(allowed, handshake, judged, parts, on_upgrade)).await;
        }
        outbound::head(allowed, parts, &judged.path)?;
        let response = forward::forward(allowed, parts, body, progress, judged).await?;
        self.note(|record| record.upstream_status = Some(response.status().as_u16()));
        Ok(response)
    }

    /// Carries a WebSocket handshake; on a matching 101 the rest runs on its own.
    async fn tunnel(
        &mut self,
        allowed: Allowed<'_>,
        handshake: Handshake,
        judged: Arc<Judged>,
        parts: &mut request::Parts,
        on_upgrade: OnUpgrade,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let session = allowed.session;
        let holder = match session {
            Some(session) => live::Holder::Session(session.authn.session),
            None => live::Holder::Address(self.inbound.client.counter_key()),
        };
        let slot = self.shared.live.take_tunnel(holder).ok_or(ProxyError::Tunnels)?;
        upgrade::ask(&mut parts.headers);
        let switched = match forward::switch(allowed, parts, &handshake, judged).await? {
            forward::Handshaken::Switched(switched) => switched,
            forward::Handshaken::Answered(response) => {
                self.note(|record| record.upstream_status = Some(response.status().as_u16()));
                return Ok(response);
            }
        };
        self.note(|record| {
            record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
            record.upstream_status = Some(record.status);
        });
        let tunnel = Tunnel {
            client: on_upgrade,
            upstream: switched.upstream,
            lease: switched.lease,
            live: self.shared.live.open(live::Kind::Tunnel, switched.judged, session.map(|s| &s.ended)),
            slot,
            idle: self.inbound.route.tunnel_idle,
            // The line is written when the tunnel ends, not with the 101.
            finish: self.finish.take(),
            metrics: self.pools.metrics(&self.shared.metrics, &self.inbound.route.app),
        };
        tokio::task::spawn_local(tunnel.run());
        Ok(switched.response)
    }

    fn deny(&self, deny: &Deny, who: &Who, path: &CanonicalPath, parts: &request::Parts) -> Response<Bytes> {
        let inbound = self.inbound;
        let sentence = match &deny.reason {
            DenyReason::Rule { sentence } => Some(&**sentence),
            DenyReason::NotAllowed => None,
        };
        // A stranger's refusals stand in the access log alone: a scanner must not fill the trail.
        if let Authn::Known(context) = &who.authn {
            self.shared.denials.record(denied(inbound, context, deny, path, parts));
        }
        if let Some(language) = self.page {
            let known = who.authn.known();
            let page = Page::Denied(Denied {
                app: Destination::new(&inbound.route, inbound.scheme, &inbound.host),
                sentence: sentence.map(str::to_owned),
                path: path.as_str().to_owned(),
                user: known.map(|k| k.name.to_string()),
                groups: known.map(|k| k.groups.iter().map(ToString::to_string).collect()).unwrap_or_default(),
                address: inbound.client.to_string(),
                at: inbound.now,
                reference: inbound.id,
            });
            return self.shared.pages.render(&self.site(language), &page);
        }
        Problem {
            status: StatusCode::FORBIDDEN,
            kind: "denied",
            title: "Not allowed".to_owned(),
            detail: sentence.unwrap_or("The policy of this app does not allow this.").to_owned(),
            reference: inbound.id,
            extra: vec![("rule", deny.rule.as_str().into())],
        }
        .into_response()
    }

    /// The answer to a request that is not carried, and its line in the log.
    fn refuse(&mut self, error: &ProxyError) -> Response<ProxyBody> {
        let inbound = self.inbound;
        let answer = error.answer(inbound.now.plus(AGAIN));
        let unjudged = self.finish.as_mut().is_some_and(|f| f.record().verdict.is_none());
        self.note(|record| record.why = Some(answer.why));
        if answer.fault == Fault::Client && unjudged {
            self.verdict(Verdict::Reject, None);
        }
        if answer.fault == Fault::Upstream {
            let metrics = self.pools.metrics(&self.shared.metrics, &inbound.route.app);
            metrics.upstream_errors.fetch_add(1, Ordering::Relaxed);
        }
        if answer.fault != Fault::Client {
            let trouble = Trouble::Request { id: inbound.id, why: answer.why };
            self.shared.troubles.note(&inbound.route.app, trouble, forward::error_chain(error));
        }
        let mut response = if let Some(language) = self.page {
            let app = Destination::new(&inbound.route, inbound.scheme, &inbound.host);
            let page = Page::Message(Message { kind: answer.page, app: Some(app), reference: Some(inbound.id) });
            self.shared.pages.render(&self.site(language), &page)
        } else {
            Problem {
                status: answer.status,
                kind: answer.kind,
                title: answer.title.to_owned(),
                detail: answer.detail.into_owned(),
                reference: inbound.id,
                extra: Vec::new(),
            }
            .into_response()
        };
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        if answer.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(error, ProxyError::Overloaded) {
            headers.insert(RETRY_AFTER, AGAIN.as_secs().into());
        }
        if matches!(error, ProxyError::WebSocketVersion) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        for cookie in self.clear.drain(..) {
            headers.append(SET_COOKIE, cookie);
        }
        response.map(ProxyBody::full)
    }

    fn note(&mut self, what: impl FnOnce(&mut AccessRecord)) {
        if let Some(finish) = &mut self.finish {
            what(finish.record());
        }
    }

    fn verdict(&mut self, verdict: Verdict, rule: Option<&RuleName>) {
        self.note(|record| {
            record.verdict = Some(verdict);
            record.rule = rule.cloned();
            if let Some(metrics) = &record.metrics {
                metrics.verdict(verdict);
            }
        });
    }

    /// Notes what a rule would have said that is not enforced: what it would change is the question.
    fn shadow(&mut self, enforced: &Decision, shadow: Shadow) {
        let enforced = match enforced {
            Decision::Allow(_) => Verdict::Allow,
            Decision::Challenge(_) => Verdict::Challenge,
            Decision::Deny(_) => Verdict::Deny,
        };
        let verdict = match shadow.verdict {
            ShadowVerdict::Allow => Verdict::Allow,
            ShadowVerdict::Challenge(_) => Verdict::Challenge,
            ShadowVerdict::Deny => Verdict::Deny,
        };
        self.note(|record| {
            if let Some(metrics) = &record.metrics {
                metrics.shadow(enforced, verdict);
            }
            record.shadow = Some((shadow.rule, verdict));
        });
    }

    fn site(&self, language: Language) -> Site {
        Site::new(&self.inbound.snapshot, &self.inbound.host, language, self.inbound.now)
    }
}

/// What carrying an allowed request takes besides the permit.
struct Carried<'a> {
    /// Where they stand: each move of them would be one more copy in the future of the request.
    parts: &'a mut request::Parts,
    body: RequestBody,
    progress: Rc<Progress>,
    on_upgrade: OnUpgrade,
}

/// The row for a person whom the policy turned away: what was asked for, and what the page said. Whoever is
/// asked about it later has the reference and not the page, and the file may have changed since.
fn denied(
    inbound: &Inbound,
    who: &AuthnContext,
    deny: &Deny,
    path: &CanonicalPath,
    parts: &request::Parts,
) -> AuditEvent {
    let (reason, told) = match &deny.reason {
        DenyReason::Rule { sentence } => ("A rule of the app denies this to everyone it matches.", Some(&**sentence)),
        DenyReason::NotAllowed => ("The policy of the app does not name this person.", None),
    };
    let actor = Actor::User { id: who.user, name: who.name.to_string() };
    let origin = Origin {
        address: Some(inbound.client.to_string()),
        user_agent: parts.headers.get(USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()),
        request: Some(inbound.id),
    };
    AuditEvent::new(inbound.now, actor, Action::AccessDeny, Outcome::Refused, reason)
        .from_origin(&origin)
        .with_session(who.session)
        .with_rule(inbound.route.app.as_str(), deny.rule.as_str())
        .with_request(parts.method.as_str(), path.as_str(), told)
}
