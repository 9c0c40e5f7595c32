//! The pages that people see on their way: sign in, confirm, enroll, account, sign out. HTTP is
//! here and nothing else is: what was shown and what it opens is decided in `auth`.

mod account;
mod ask;
mod csrf;
mod enroll;
mod error;
mod form;
mod handover;
mod kept;
mod later;
mod login;
mod logout;
mod not_me;
mod passkey;
mod person;
mod phone;
mod second;
mod step_up;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};

use ask::Ask;
use error::Refusal;

use crate::auth::Auth;
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::base::net::ClientIp;
use crate::config::snapshot::Snapshot;
use crate::domain::factor::FactorKind;
use crate::domain::host::{HostName, Scheme};
use crate::domain::portal::{PortalRoute, Realm};
use crate::domain::route::Route;
use crate::pages::{Pages, assets};
use crate::session::{KeptForms, Sessions};

/// A request for a page of ours, as dispatch hands it over: host and path are already types, the
/// body is collected and bounded, the client's copies of our headers are gone.
pub struct PortalRequest {
    pub id: RequestId,
    pub client: ClientIp,
    /// The scheme that the browser used.
    pub scheme: Scheme,
    pub host: HostName,
    /// Whether this host serves the portal's pages: the portal host, or an app's own host where
    /// there is no portal.
    pub on_portal: bool,
    pub app: Option<Arc<Route>>,
    pub route: PortalRoute,
    pub method: Method,
    pub headers: HeaderMap,
    pub query: Option<String>,
    pub body: Bytes,
    pub snapshot: Arc<Snapshot>,
    pub now: Timestamp,
}

/// Serves the pages. One for the process; runs on the background runtime.
pub struct Portal {
    auth: Arc<Auth>,
    sessions: Arc<Sessions>,
    pages: Arc<Pages>,
    kept: Arc<KeptForms>,
    jwks: Bytes,
}

type Answer = Response<Bytes>;

impl Portal {
    #[must_use]
    pub fn new(
        auth: Arc<Auth>,
        sessions: Arc<Sessions>,
        pages: Arc<Pages>,
        kept: Arc<KeptForms>,
        jwks: &str,
    ) -> Arc<Self> {
        Arc::new(Self { auth, sessions, pages, kept, jwks: Bytes::copy_from_slice(jwks.as_bytes()) })
    }

    /// Answers one request. Every error on the way denies (S-LOGIN-12).
    pub async fn handle(self: Arc<Self>, request: PortalRequest) -> Response<Bytes> {
        let ask = Ask::new(&self, &request);
        let head = request.method == Method::HEAD;
        let mut answer = match self.answer(&ask).await {
            Ok(answer) => answer,
            Err(refusal) => ask.refuse(&refusal),
        };
        if head {
            *answer.body_mut() = Bytes::new();
        }
        answer
    }

    async fn answer(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let request = ask.request;
        // The order matters: first whether there is such a page here at all, then whether this kind
        // of request may reach it, and only then anything that reads the store.
        match request.route.realm() {
            Realm::Anyone => return self.public(ask),
            Realm::Portal if !request.on_portal => return Err(Refusal::NotFound),
            Realm::AnyNavigation if !csrf::may_be_navigation(&request.headers) => return Err(Refusal::CrossSite),
            Realm::OwnScript if !csrf::is_own_script(&request.headers) => return Err(Refusal::CrossSite),
            Realm::Portal | Realm::AnyNavigation | Realm::OwnScript => {}
        }
        let post = match request.method {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => return Err(Refusal::Method),
        };
        if post && !csrf::same_origin(&request.headers, request.scheme, &request.host) {
            return Err(Refusal::CrossSite);
        }
        match (&request.route, post) {
            (PortalRoute::Root, false) => Ok(ask.redirect(&PortalRoute::Account.path())),
            (PortalRoute::Login, false) => login::show(ask).await,
            (PortalRoute::Login, true) => login::submit(ask).await,
            (PortalRoute::LoginChoose, false) => second::show_choices(ask).await,
            (PortalRoute::LoginChoose, true) => second::choose(ask).await,
            (PortalRoute::LoginFactor(kind), false) => second::show(ask, *kind).await,
            (PortalRoute::LoginFactor(kind), true) => second::submit(ask, *kind).await,
            (PortalRoute::LoginPasskey, false) => Ok(ask.redirect(&PortalRoute::Login.path())),
            (PortalRoute::LoginPasskey, true) => passkey::submit(ask).await,
            (PortalRoute::StepUp, false) => step_up::show(ask, None).await,
            (PortalRoute::StepUp, true) => step_up::submit(ask, FactorKind::Password).await,
            (PortalRoute::StepUpFactor(kind), false) => step_up::show(ask, Some(*kind)).await,
            (PortalRoute::StepUpFactor(kind), true) => step_up::submit(ask, *kind).await,
            (PortalRoute::Person, false) => person::tell(ask).await,
            (PortalRoute::StepUpKeep, true) => kept::change(ask).await,
            (PortalRoute::KeptForm, false) => kept::send(ask).await,
            (PortalRoute::Handover, false) => handover::arrive(ask).await,
            (PortalRoute::EnrollLink, false) => enroll::show_link(ask).await,
            (PortalRoute::EnrollLink, true) => enroll::claim_link(ask).await,
            (PortalRoute::EnrollPassword, false) => enroll::show_password(ask).await,
            (PortalRoute::EnrollPassword, true) => enroll::submit_password(ask).await,
            (PortalRoute::EnrollTotp, false) => enroll::show_app(ask, FactorKind::Totp).await,
            (PortalRoute::EnrollTotp, true) => enroll::submit_app(ask, FactorKind::Totp).await,
            (PortalRoute::EnrollHotp, false) => enroll::show_app(ask, FactorKind::Hotp).await,
            (PortalRoute::EnrollHotp, true) => enroll::submit_app(ask, FactorKind::Hotp).await,
            (PortalRoute::EnrollSms, false) => phone::show(ask).await,
            (PortalRoute::EnrollSms, true) => phone::submit(ask).await,
            (PortalRoute::EnrollKey, false) => enroll::show_key(ask).await,
            (PortalRoute::EnrollKey, true) => enroll::submit_key(ask).await,
            (PortalRoute::EnrollBackupCodes, false) => enroll::show_codes(ask).await,
            (PortalRoute::EnrollBackupCodes, true) => enroll::finish(ask).await,
            (PortalRoute::EnrollBackupCodesFile, true) => enroll::codes_file(ask).await,
            (PortalRoute::EnrollLater, false) => later::show(ask).await,
            (PortalRoute::EnrollLater, true) => later::submit(ask).await,
            (PortalRoute::NotMe, false) => not_me::show(ask).await,
            (PortalRoute::NotMe, true) => not_me::submit(ask).await,
            (PortalRoute::Account, false) => account::show(ask).await,
            (PortalRoute::AccountPassword, false) => account::show_password(ask).await,
            (PortalRoute::AccountPassword, true) => account::submit_password(ask).await,
            (PortalRoute::AccountSessions, true) => account::end_sessions(ask).await,
            (PortalRoute::AccountRemembered, true) => account::forget(ask).await,
            (PortalRoute::AccountFactors, true) => account::change_factors(ask).await,
            (PortalRoute::Logout, false) => logout::show(ask).await,
            (PortalRoute::Logout, true) => logout::submit(ask).await,
            (PortalRoute::LogoutEverywhere, true) => logout::everywhere(ask).await,
            (PortalRoute::SignedOut, false) => Ok(logout::signed_out(ask)),
            (PortalRoute::AccountSessions | PortalRoute::AccountFactors | PortalRoute::AccountRemembered, false) => {
                Ok(ask.redirect(&PortalRoute::Account.path()))
            }
            _ => Err(Refusal::Method),
        }
    }

    /// What holds nothing of anyone: the keys to check assertions with, and static files.
    fn public(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if !matches!(ask.request.method, Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        match &ask.request.route {
            PortalRoute::Jwks => {
                let mut answer = Response::new(self.jwks.clone());
                let headers = answer.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
                headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
                Ok(answer)
            }
            PortalRoute::Static(name) => assets::respond(name, &ask.request.headers).ok_or(Refusal::NotFound),
            _ => Err(Refusal::NotFound),
        }
    }
}

/// What 405 tells.
fn allow(answer: &mut Answer) {
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
}
