//! A browser small enough to read: a jar for each host, forms with their hidden fields, redirects.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Gate, LOGIN, PortalRequest};
use crate::auth::factors::TotpKey;
use crate::auth::return_to::NONCE_COOKIE;
use crate::auth::test_world::{PASSWORD, host};
use crate::base::ids::RequestId;
use crate::base::net::ClientIp;
use crate::domain::host::Scheme;
use crate::domain::portal::PortalRoute;

pub(super) struct Browser<'a> {
    gate: &'a Gate,
    jars: RefCell<BTreeMap<String, BTreeMap<String, String>>>,
    pub(super) address: String,
    /// Sent with every request.
    pub(super) extra: Vec<(&'static str, &'static str)>,
}

/// What came back.
pub(super) struct Seen {
    pub(super) url: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl<'a> Browser<'a> {
    pub(super) fn new(gate: &'a Gate) -> Self {
        let extra = vec![("accept", "text/html")];
        Self { gate, jars: RefCell::default(), address: "203.0.113.9".to_owned(), extra }
    }

    /// The same jar with another window's word on it: what a second tab is.
    pub(super) fn set_cookie(&self, host: &str, name: &str, value: &str) {
        self.jars.borrow_mut().entry(host.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn cookie(&self, host: &str, name: &str) -> Option<String> {
        self.jars.borrow().get(host).and_then(|jar| jar.get(name)).cloned()
    }

    pub(super) fn forget_cookie(&self, host: &str, name: &str) {
        if let Some(jar) = self.jars.borrow_mut().get_mut(host) {
            jar.remove(name);
        }
    }

    /// Whether a session cookie of ours is in the jar for `host`.
    pub(super) fn has_session(&self, host: &str) -> bool {
        self.cookie(host, crate::session::cookie::NAME).is_some()
    }

    pub(super) async fn get(&self, url: &str) -> Seen {
        self.send(Method::GET, url, &[]).await
    }

    /// A GET that follows redirects among our own pages; stops at an app's page.
    pub(super) async fn open(&self, url: &str) -> Seen {
        let seen = self.get(url).await;
        self.follow(seen).await
    }

    pub(super) async fn follow(&self, mut seen: Seen) -> Seen {
        for _ in 0..8 {
            match seen.location() {
                Some(next) if seen.status == StatusCode::SEE_OTHER && is_ours(&next) => seen = self.get(&next).await,
                _ => return seen,
            }
        }
        panic!("redirects in a circle at {}", seen.url);
    }

    pub(super) async fn post(&self, url: &str, fields: &[(&str, &str)]) -> Seen {
        self.send(Method::POST, url, fields).await
    }

    /// Fills the first form of a page in, hidden fields as they are, and follows.
    pub(super) async fn submit(&self, page: &Seen, to: &str, fields: &[(&str, &str)]) -> Seen {
        let seen = self.send_form(page, to, fields).await;
        self.follow(seen).await
    }

    pub(super) async fn send_form(&self, page: &Seen, to: &str, fields: &[(&str, &str)]) -> Seen {
        let mut all = page.hidden();
        all.retain(|(name, _)| !fields.iter().any(|(field, _)| field == name));
        let typed = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        all.extend(typed);
        let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let origin = page.url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        self.post(&format!("{origin}{to}"), &all).await
    }

    /// Sign-in up to the question after the password.
    pub(super) async fn gives_password(&self, rd: Option<&str>, name: &str, password: &str) -> Seen {
        let url = match rd {
            Some(rd) => format!("{LOGIN}/.stepgate/login?rd={rd}"),
            None => format!("{LOGIN}/.stepgate/login"),
        };
        let page = self.get(&url).await;
        self.submit(&page, "/.stepgate/login", &[("username", name), ("password", password)]).await
    }

    /// A whole sign-in with password and code.
    pub(super) async fn signs_in(&self, name: &str, phone: &TotpKey, rd: Option<&str>) -> Seen {
        let page = self.gives_password(rd, name, PASSWORD).await;
        assert!(page.url.contains("/login/totp"), "{} {}", page.url, page.status);
        let code = self.gate.world.code(phone);
        self.submit(&page, "/.stepgate/login/totp", &[("code", &code)]).await
    }

    /// Was sent away by payroll: has its nonce.
    pub(super) fn sent_from_payroll(&self, nonce: &str) {
        self.set_cookie(super::PAYROLL, NONCE_COOKIE, &super::nonce_of(nonce));
    }

    async fn send(&self, method: Method, url: &str, fields: &[(&str, &str)]) -> Seen {
        let request = self.request(method, url, fields);
        let at = request.host.to_string();
        let answer = std::sync::Arc::clone(&self.gate.portal).handle(request).await;
        for set in answer.headers().get_all(SET_COOKIE) {
            let text = set.to_str().expect("text");
            let (pair, rest) = text.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            if value.is_empty() || rest.contains("Max-Age=0") {
                self.forget_cookie(&at, name);
            } else {
                assert!(rest.contains("Secure") && rest.contains("HttpOnly") && rest.contains("Path=/"), "{text}");
                assert!(!rest.contains("Domain") && rest.contains("SameSite=Lax"), "{text}");
                self.set_cookie(&at, name, value);
            }
        }
        let (head, body) = answer.into_parts();
        Seen {
            url: url.to_owned(),
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// The request that `send` would make, for tests that send several at once.
    pub(super) fn request(&self, method: Method, url: &str, fields: &[(&str, &str)]) -> PortalRequest {
        let rest = url.strip_prefix("https://").expect("https");
        let (name, target) = rest.split_at(rest.find('/').expect("a path"));
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let world = &self.gate.world;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(name).expect("a host"));
        for (field, value) in &self.extra {
            headers.insert(HeaderName::from_static(field), HeaderValue::from_static(value));
        }
        let cookies: Vec<String> = self
            .jars
            .borrow()
            .get(name)
            .map(|jar| jar.iter().map(|(n, v)| format!("{n}={v}")).collect())
            .unwrap_or_default();
        if !cookies.is_empty() {
            headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).expect("a cookie"));
        }
        let mut body = form_urlencoded::Serializer::new(String::new());
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            body.extend_pairs(fields);
        }
        let host = host(name);
        let on_portal = match &world.snapshot.portal {
            Some(portal) => portal.host == host,
            None => true,
        };
        PortalRequest {
            id: RequestId::new(world.now(), &*world.auth.rng),
            client: ClientIp::new(self.address.parse().expect("an address")),
            scheme: Scheme::Https,
            app: world.snapshot.routes.find(&host).cloned(),
            host,
            on_portal,
            route: PortalRoute::parse(path).unwrap_or_else(|| panic!("{path} is no page of ours")),
            method,
            headers,
            query: query.map(str::to_owned),
            body: Bytes::from(body.finish()),
            snapshot: std::sync::Arc::clone(&world.snapshot),
            now: world.now(),
        }
    }
}

impl Seen {
    /// Absolute.
    pub(super) fn location(&self) -> Option<String> {
        let location = self.headers.get(LOCATION)?.to_str().expect("text");
        if !location.starts_with('/') {
            return Some(location.to_owned());
        }
        let origin = self.url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        Some(format!("{origin}{location}"))
    }

    /// The hidden fields of the page, each once.
    pub(super) fn hidden(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for input in self.body.split("<input ").skip(1).filter(|input| input.starts_with("type=\"hidden\"")) {
            let of = |name: &str| {
                let from = input.find(&format!("{name}=\""))? + name.len() + 2;
                let text = input.get(from..)?.split('"').next()?;
                Some(text.replace("&#x2f;", "/").replace("&amp;", "&").replace("&#x3d;", "="))
            };
            if let (Some(name), Some(value)) = (of("name"), of("value"))
                && !found.iter().any(|(seen, _)| *seen == name)
            {
                found.push((name, value));
            }
        }
        found
    }

    /// The page without its question to passkeys, which is another one each time, and alike for all.
    pub(super) fn without_question(&self) -> String {
        let mut body = self.body.clone();
        for before in ["data-options=\"", "name=\"question\" value=\""] {
            if let Some(at) = body.find(before).map(|at| at + before.len()) {
                let end = body[at..].find('"').expect("an end");
                body.replace_range(at..at + end, "");
            }
        }
        body
    }

    pub(super) fn says(&self, text: &str) -> bool {
        self.body.replace("&#x27;", "'").contains(text)
    }
}

fn is_ours(url: &str) -> bool {
    url.contains("/.stepgate/")
}
