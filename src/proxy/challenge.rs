//! How is somebody asked for more? A browser's navigation is led to the portal; a program is told
//! in a 401 what is missing and where, and is never redirected.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, LOCATION, REFERER, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::ProxyShared;
use super::gate::Inbound;
use crate::auth::return_to::{self, Form, NO_NONCE, NONCE_COOKIE, NONCE_LIFE, ReturnTo};
use crate::domain::host::HostName;
use crate::domain::level::Why;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::Challenge;
use crate::domain::portal::PortalRoute;
use crate::pages::problem::Problem;
use crate::session::small;

/// The request that met the challenge.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a Method,
    pub headers: &'a HeaderMap,
    pub uri: &'a Uri,
    pub path: &'a CanonicalPath,
    /// A browser's navigation, which can follow a redirect.
    pub page: bool,
    /// Somebody is signed in: only what is missing is asked for.
    pub known: bool,
    /// What became of the form that it carried.
    pub form: Form,
}

/// The answer to a request that needs more than was shown.
pub fn answer(shared: &ProxyShared, inbound: &Inbound, asked: Asked<'_>, challenge: &Challenge) -> Response<Bytes> {
    let nonce = Nonce::of(shared, inbound, asked.headers);
    let return_to = ReturnTo {
        host: inbound.host.clone(),
        scheme: inbound.scheme,
        path_and_query: target(inbound, asked),
        app: inbound.route.app.clone(),
        rule: challenge.rule.clone(),
        level: challenge.level.name.clone(),
        form: asked.form,
        nonce_hash: nonce.as_ref().map_or(NO_NONCE, |n| n.hash),
        issued_at: inbound.now,
    };
    let route = if asked.known { PortalRoute::StepUp } else { PortalRoute::Login };
    let url = format!("{}{}?rd={}", portal_origin(inbound), route.path(), return_to.seal(&shared.keys));
    let mut response = if asked.page { redirect(asked.method, &url) } else { problem(inbound, asked, challenge, url) };
    if let Some(cookie) = nonce.and_then(|n| n.set) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// From configuration alone (S-HOST-3). Without a portal the sign-in is on the app's own host.
fn portal_origin(inbound: &Inbound) -> String {
    match &inbound.snapshot.portal {
        Some(portal) => format!("{}://{}", portal.scheme.as_str(), portal.host),
        None => format!("{}://{}", inbound.scheme.as_str(), inbound.host),
    }
}

/// 302 for reading; 303 for the rest, so that no client repeats a form at the portal.
fn redirect(method: &Method, url: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = if is_safe(method) { StatusCode::FOUND } else { StatusCode::SEE_OTHER };
    let headers = response.headers_mut();
    // A sealed token and names from the configuration: always a valid value.
    if let Ok(value) = HeaderValue::from_str(url) {
        headers.insert(LOCATION, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(inbound: &Inbound, asked: Asked<'_>, challenge: &Challenge, url: String) -> Response<Bytes> {
    let level = challenge.level.name.as_str();
    let max_age = challenge.level.requirement.max_age.map(|age| age.as_secs());
    let (kind, title, detail, member) = if asked.known {
        let detail = match challenge.missing.why {
            Why::Stale => "Confirm again that it is you: the last confirmation is too old for this.",
            Why::Stronger => "Confirm with a stronger factor than the ones shown so far.",
            Why::MoreFactors | Why::Login => "Confirm with one more factor.",
        };
        ("step-up-required", "Confirm that it is you", detail, "step_up_url")
    } else {
        ("sign-in-required", "Sign in", "Sign in to use this.", "login_url")
    };
    let mut extra = vec![(member, url.into()), ("level", level.into())];
    if let Some(seconds) = max_age {
        extra.push(("max_age", seconds.into()));
    }
    let mut response = Problem {
        status: StatusCode::UNAUTHORIZED,
        kind,
        title: title.to_owned(),
        detail: detail.to_owned(),
        reference: inbound.id,
        extra,
    }
    .into_response();
    if let Some(value) = www_authenticate(inbound, asked.known, level, max_age) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

/// RFC 9470. The scheme is Bearer, as there; browsers show no dialogue for it.
fn www_authenticate(inbound: &Inbound, known: bool, level: &str, max_age: Option<u64>) -> Option<HeaderValue> {
    let mut text = format!("Bearer realm=\"{}\"", inbound.route.app);
    if known {
        text.push_str(", error=\"insufficient_user_authentication\", error_description=\"More must be shown\"");
    }
    // The file may call a level anything; a quote in it would end the parameter.
    let level: String = level.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
    text.push_str(&format!(", acr_values=\"{level}\""));
    if let Some(seconds) = max_age {
        text.push_str(&format!(", max_age=\"{seconds}\""));
    }
    HeaderValue::from_str(&text).ok()
}

/// Where to go afterwards: the page itself if going there repeats nothing and shows a page;
/// otherwise the page that the form or the script was on.
fn target(inbound: &Inbound, asked: Asked<'_>) -> String {
    if is_safe(asked.method) && asked.page {
        return match asked.uri.query() {
            Some(query) => format!("{}?{query}", asked.path.as_str()),
            None => asked.path.as_str().to_owned(),
        };
    }
    referring_page(inbound, asked.headers).unwrap_or_else(|| "/".to_owned())
}

fn referring_page(inbound: &Inbound, headers: &HeaderMap) -> Option<String> {
    let referer: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    let host = HostName::parse(referer.authority()?.as_str().as_bytes(), inbound.scheme).ok()?;
    let same = host == inbound.host && referer.scheme_str() == Some(inbound.scheme.as_str());
    let path = CanonicalPath::parse(referer.path(), inbound.route.policy.forms).ok()?;
    let target = match referer.query() {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    };
    (same && return_to::is_target(&target)).then_some(target)
}

/// Binds the hand-over to this browser (S-LOGIN-8). A browser keeps the one it has, and one more where two tabs
/// came at once, or the tabs of one window would undo each other's sign-in.
struct Nonce {
    hash: [u8; 32],
    set: Option<HeaderValue>,
}

impl Nonce {
    fn of(shared: &ProxyShared, inbound: &Inbound, headers: &HeaderMap) -> Option<Self> {
        // No portal, no hand-over.
        inbound.snapshot.portal.as_ref()?;
        if let Some(value) = small::read_secrets(headers, NONCE_COOKIE).first() {
            return Some(Self { hash: return_to::nonce_hash(value), set: None });
        }
        let value = return_to::new_nonce(&*shared.rng);
        let set = small::set_one_of(NONCE_COOKIE, &value, Some(NONCE_LIFE))?;
        Some(Self { hash: return_to::nonce_hash(&value), set: Some(set) })
    }
}
