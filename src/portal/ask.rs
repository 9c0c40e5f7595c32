//! One request with everything that the pages ask of it: who, which browser, which form.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE, USER_AGENT};
use http::{HeaderValue, Method, Response, StatusCode};

use super::csrf::Binding;
use super::error::Refusal;
use super::form::{Form, Posted};
use super::{Answer, Portal, PortalRequest};
use crate::auth::device::{DEVICE_COOKIE, DEVICE_LIFE, Device};
use crate::auth::flow::{Browser, FLOW_COOKIE, Goal, OwnPage};
use crate::auth::remembered::{REMEMBERED_COOKIE, Remembered, RememberedCookie};
use crate::auth::return_to::ReturnTo;
use crate::auth::sign_in::{Seat, SignedIn};
use crate::auth::step_up::Current;
use crate::auth::{Auth, AuthError, Visit};
use crate::crypto::KeyRing;
use crate::domain::portal::{PREFIX, PortalRoute};
use crate::pages::{Destination, GoOn, Hidden, Language, Page, Pages, Site};
use crate::session::cookie::{self, Presented};
use crate::session::small;
use crate::session::{LiveSession, Lookup, SessionToken};
use crate::store::SessionRow;

/// A request and the room's tools.
pub(super) struct Ask<'a> {
    pub portal: &'a Portal,
    pub request: &'a PortalRequest,
    pub visit: Visit<'a>,
    site: Site,
    device: OnceLock<Device>,
    remembered: OnceLock<Option<Remembered>>,
}

/// Who the session cookie says it is. A bad cookie never gets here: it is refused.
pub(super) enum Who {
    Nobody,
    Known { live: Arc<LiveSession>, token: SessionToken },
}

impl<'a> Ask<'a> {
    pub(super) fn new(portal: &'a Portal, request: &'a PortalRequest) -> Self {
        let user_agent = request.headers.get(USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let visit = Visit {
            now: request.now,
            client: request.client,
            user_agent: user_agent.map(|text| crate::domain::audit::printable(&text)),
            request: request.id,
            snapshot: &request.snapshot,
        };
        let language = Language::wished(&request.headers);
        let site = Site::new(&request.snapshot, &request.host, language, request.now);
        Self { portal, request, visit, site, device: OnceLock::new(), remembered: OnceLock::new() }
    }

    pub(super) fn auth(&self) -> &'a Auth {
        &self.portal.auth
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn pages(&self) -> &'a Pages {
        &self.portal.pages
    }

    pub(super) fn keys(&self) -> &'a KeyRing {
        &self.portal.auth.keys
    }

    /// A query field; `None` when it is absent or there twice.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let mut found = form_urlencoded::parse(self.request.query.as_deref()?.as_bytes()).filter(|(n, _)| n == name);
        let first = found.next()?;
        found.next().is_none().then(|| first.1.into_owned())
    }

    /// The browser, by its pre-login cookie.
    pub(super) fn browser(&self) -> Option<Browser> {
        small::read(&self.request.headers, FLOW_COOKIE).and_then(Browser::from_cookie)
    }

    /// The browser, with the cookie to set if it had none.
    pub(super) fn browser_or_new(&self) -> (Browser, Option<HeaderValue>) {
        if let Some(browser) = self.browser() {
            return (browser, None);
        }
        let value = Browser::new_cookie(&*self.portal.auth.rng);
        // 32 bytes in base64url, as `from_cookie` asks.
        let browser = Browser::of_value(&value);
        (browser, small::set(FLOW_COOKIE, &value, None))
    }

    pub(super) fn device(&self) -> &Device {
        self.device.get_or_init(|| {
            small::read(&self.request.headers, DEVICE_COOKIE)
                .map(|value| Device::open(value, self.keys(), self.visit.now))
                .unwrap_or_default()
        })
    }

    /// What this browser holds that was remembered; of two cookies none is picked (S-COOK-2).
    pub(super) fn remembered(&self) -> Option<&Remembered> {
        let open = || {
            Remembered::open(small::read(&self.request.headers, REMEMBERED_COOKIE)?, &self.request.host, self.keys())
        };
        self.remembered.get_or_init(open).as_ref()
    }

    /// Who the session cookie names. An id that was replaced moments ago serves reading only.
    pub(super) async fn who(&self) -> Result<Who, Refusal> {
        self.find(true).await
    }

    /// The same, for what goes on without anybody at the keyboard.
    pub(super) async fn who_without_activity(&self) -> Result<Who, Refusal> {
        self.find(false).await
    }

    async fn find(&self, is_activity: bool) -> Result<Who, Refusal> {
        let token = match cookie::read(&self.request.headers, &self.request.host, self.keys(), self.visit.now) {
            Presented::Absent => return Ok(Who::Nobody),
            Presented::Bad(cookie::BadCookie::Expired) => return Ok(Who::Nobody),
            Presented::Bad(_) => return Err(Refusal::BadCookie),
            Presented::Token(token) => token,
        };
        let lookup = match self.portal.sessions.cached(&token, &self.visit.snapshot.sessions, self.visit.now) {
            Some(lookup) => lookup,
            None => self.portal.sessions.load(token.clone(), self.visit.now).await.map_err(AuthError::from)?,
        };
        Ok(match lookup {
            Lookup::Live(live) => {
                if is_activity {
                    self.portal.sessions.touch(&live, self.visit.now);
                }
                Who::Known { live, token }
            }
            Lookup::OldId(live) if self.request.method != Method::POST => Who::Known { live, token },
            Lookup::OldId(_) | Lookup::Gone => Who::Nobody,
        })
    }

    /// The session behind a cookie that no longer opens it.
    pub(super) async fn lost_session(&self) -> Result<Option<SessionRow>, Refusal> {
        match cookie::read(&self.request.headers, &self.request.host, self.keys(), self.visit.now) {
            Presented::Token(token) => {
                let loaded = self.auth().store.load_token(&token.hash()).await.map_err(AuthError::from)?;
                Ok(loaded.map(|(_, session, _)| session))
            }
            Presented::Absent | Presented::Bad(_) => Ok(None),
        }
    }

    /// Where a form that cannot be taken any more would have led: only a sealed address leads anywhere.
    pub(super) fn posted_rd(&self) -> Option<String> {
        Posted::parse(&self.request.headers, &self.request.body)?.unverified("rd")
    }

    /// The posted form, its token checked against the browser and the session.
    pub(super) fn form(&self, who: &Who) -> Result<Form, Refusal> {
        let posted = Posted::parse(&self.request.headers, &self.request.body).ok_or(Refusal::BadForm)?;
        let mut bindings = Vec::new();
        if let Who::Known { live, .. } = who {
            bindings.push(Binding::Session(live.authn.session, &self.request.host));
        }
        if let Some(browser) = self.browser() {
            bindings.push(Binding::Browser(browser));
        }
        if bindings.is_empty() {
            return Err(Refusal::CookieMissing { rd: self.query("rd") });
        }
        posted.verified(&bindings, self.keys()).ok_or(Refusal::StartOver { rd: self.query("rd") })
    }

    /// Hidden fields of a form before anyone is signed in.
    pub(super) fn hidden(&self, browser: Browser, flow: Option<String>, rd: Option<String>) -> Hidden {
        Hidden { csrf: Binding::Browser(browser).token(self.keys()), flow, rd }
    }

    /// Hidden fields of a signed-in person's form on this host.
    pub(super) fn hidden_of(&self, live: &LiveSession, rd: Option<String>) -> Hidden {
        let binding = Binding::Session(live.authn.session, &self.request.host);
        Hidden { csrf: binding.token(self.keys()), flow: None, rd }
    }

    pub(super) fn page(&self, page: &Page) -> Answer {
        self.portal.pages.render(&self.site, page)
    }

    /// 303: the browser follows with GET, whatever this was (RFC 9110 section 15.4.4).
    pub(super) fn redirect(&self, location: &str) -> Answer {
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::SEE_OTHER;
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        match HeaderValue::from_str(location) {
            Ok(location) => {
                headers.insert(LOCATION, location);
            }
            // Unreachable with addresses of ours; a redirect without a target leads nowhere.
            Err(_) => *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        }
        answer
    }

    /// To a page of the app on this host. A browser that navigates gets a page that goes on by
    /// itself instead of a redirect: Chromium and WebKit hold the `form-action` of the sign-in page
    /// against every redirect behind its POST, the app's own to other hosts included.
    pub(super) fn on_to_app(&self, target: &str) -> Answer {
        let navigates = self.request.headers.get("sec-fetch-mode").is_some_and(|mode| mode.as_bytes() == b"navigate");
        // A page of ours ends the chain as well.
        let is_ours = target.starts_with(PREFIX);
        let app = self.request.app.as_ref().filter(|_| navigates && !is_ours);
        let Some(route) = app else { return self.redirect(target) };
        let app = Destination::new(route, self.request.scheme, &self.request.host);
        let to = format!("{}{target}", app.origin);
        self.page(&Page::GoOn(GoOn { app, to }))
    }

    /// Where a goal on this host ends: a page of the app, or one of ours.
    pub(super) fn arrive_here(&self, goal: &Goal) -> Answer {
        let landing = self.landing(goal);
        match self.auth().open_goal(&self.visit, goal) {
            Some(_) => self.on_to_app(&landing),
            None => self.redirect(&landing),
        }
    }

    pub(super) fn add_cookie(&self, answer: &mut Answer, cookie: Option<HeaderValue>) {
        if let Some(cookie) = cookie {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
    }

    /// Sets the session cookie of this host.
    pub(super) fn set_session(&self, answer: &mut Answer, token: &SessionToken) {
        let max = self.visit.snapshot.sessions.max;
        let cookie = cookie::set_cookie(token, &self.request.host, self.keys(), self.visit.now, max);
        self.add_cookie(answer, Some(cookie));
    }

    /// A page of ours with a query, for redirects.
    pub(super) fn path(&self, route: &PortalRoute, fields: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            query.append_pair(name, value);
        }
        format!("{}?{}", route.path(), query.finish())
    }

    /// The app that a sealed return-to leads to, for the head of a page.
    pub(super) fn destination(&self, back: &ReturnTo) -> Option<Destination> {
        let route = self.visit.snapshot.routes.find(&back.host)?;
        Some(Destination::new(route, back.scheme, &back.host))
    }

    /// The return-to in a query or form, with the app it leads to.
    /// Refuses one that leads nowhere any more: whoever goes on with it would not get where they wanted.
    pub(super) fn goal_of(&self, rd: Option<String>) -> Result<(Goal, Option<ReturnTo>), Refusal> {
        let goal = Goal { rd, fragment: None };
        let back = self.auth().open_goal(&self.visit, &goal);
        if goal.rd.is_some() && goal.own().is_none() && back.is_none() {
            return Err(Refusal::StartOver { rd: None });
        }
        Ok((goal, back))
    }

    pub(super) fn seat(&self, who: &Who) -> Seat<'_> {
        let replaces = match who {
            Who::Nobody => None,
            Who::Known { live, .. } => Some(live.authn.session),
        };
        Seat {
            host: &self.request.host,
            replaces,
            browser: self.browser(),
            device: Some(self.device()),
            put_off: false,
            remembered: self.remembered(),
            remember: false,
        }
    }

    /// The current session for a step-up or a change.
    pub(super) fn current<'b>(&'b self, live: &'b LiveSession, token: &'b SessionToken) -> Current<'b> {
        Current { live, token, host: &self.request.host }
    }

    /// Where a goal ends: at the app through a hand-over, on this host, or at a page of ours.
    pub(super) fn landing(&self, goal: &Goal) -> String {
        match (self.auth().open_goal(&self.visit, goal), goal.own()) {
            (Some(back), _) => match goal.fragment.as_deref().and_then(crate::auth::return_to::fragment) {
                Some(fragment) if back.landing() == back.path_and_query => {
                    format!("{}#{fragment}", back.path_and_query)
                }
                Some(_) | None => back.landing(),
            },
            (None, Some(page)) => own_path(page),
            (None, None) => PortalRoute::Account.path(),
        }
    }

    /// After a whole sign-in: the session cookie, the device cookie, and on to where it was for.
    pub(super) fn land(&self, done: &SignedIn) -> Answer {
        let answer = match &done.handover {
            _ if done.in_grace => self.redirect(&self.later_path(&done.goal)),
            Some(offer) => self.redirect(offer.location()),
            None => self.arrive_here(&done.goal),
        };
        self.land_at(done, answer)
    }

    /// The same with another answer: where more must be shown first.
    pub(super) fn land_at(&self, done: &SignedIn, mut answer: Answer) -> Answer {
        self.set_session(&mut answer, &done.token);
        let device = self.device().clone().signed_in(done.user.id, self.keys(), self.visit.now, &*self.portal.auth.rng);
        self.add_cookie(&mut answer, small::set(DEVICE_COOKIE, &device, Some(DEVICE_LIFE)));
        if let Some(RememberedCookie { value, life }) = &done.remembered {
            self.add_cookie(&mut answer, small::set(REMEMBERED_COOKIE, value, Some(*life)));
        }
        answer
    }

    /// The page that tells of the grace within which somebody gets to their goal.
    pub(super) fn later_path(&self, goal: &Goal) -> String {
        let fields: Vec<(&str, &str)> = goal.rd.as_deref().map(|rd| ("rd", rd)).into_iter().collect();
        let path = self.path(&PortalRoute::EnrollLater, &fields);
        match goal.fragment.as_deref().and_then(crate::auth::return_to::fragment) {
            Some(fragment) => format!("{path}#{fragment}"),
            None => path,
        }
    }

    /// The step-up that a page of ours asks for.
    pub(super) fn step_up_path(&self, page: OwnPage) -> String {
        self.path(&PortalRoute::StepUp, &[("rd", page.rd())])
    }

    /// The sign-in that a page of ours asks for.
    pub(super) fn sign_in_first(&self, page: OwnPage) -> Answer {
        self.redirect(&self.path(&PortalRoute::Login, &[("rd", page.rd())]))
    }
}

/// Where a page of ours is.
pub(super) fn own_path(page: OwnPage) -> String {
    match page {
        OwnPage::Account | OwnPage::BackupCodes | OwnPage::Factors | OwnPage::Keys => PortalRoute::Account.path(),
        OwnPage::AccountPassword => PortalRoute::AccountPassword.path(),
        OwnPage::EnrollTotp => PortalRoute::EnrollTotp.path(),
        OwnPage::EnrollHotp => PortalRoute::EnrollHotp.path(),
        OwnPage::EnrollSms => PortalRoute::EnrollSms.path(),
        OwnPage::EnrollKey => PortalRoute::EnrollKey.path(),
    }
}
