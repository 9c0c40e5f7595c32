//! Where does a person go after signing in? Only to where the gate itself sent them away from.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::ids::KeptFormId;
use crate::base::rng::{self, Rng};
use crate::crypto::{KeyRing, Purpose, sha256};
use crate::domain::host::{HostName, Scheme};
use crate::domain::level::LevelName;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::RuleName;
use crate::domain::portal::PortalRoute;
use crate::domain::route::{AppName, RouteTable};

/// The cookie that an app's host sets when it sends a browser to the portal; the hand-over works
/// only in a browser that has it (S-LOGIN-8).
pub const NONCE_COOKIE: &str = "__Host-Http-stepgate-nonce";
/// As long as the return-to that it belongs to.
pub const NONCE_LIFE: Duration = MAX_AGE;
/// Stands where there is no portal and so no hand-over. It is the hash of nothing: no cookie matches.
pub const NO_NONCE: [u8; 32] = [0; 32];

/// A tab may wait over night for its person; what it was about is stale after that.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// The sealed form travels in a query: it must leave room in our own 8 KiB request line.
const MAX_TARGET: usize = 4096;
const MAX_SEALED: usize = 7168;

/// The page of an app that asked for a sign-in or a step-up. It leaves the gate sealed, comes back
/// through the browser, and opens only to a configured host and a canonical target (S-LOGIN-7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo {
    pub host: HostName,
    pub scheme: Scheme,
    /// Starts with one `/`. After an interrupted unsafe method: the page that the form was on.
    pub path_and_query: String,
    pub app: AppName,
    pub rule: RuleName,
    pub level: LevelName,
    /// What became of the form that was on its way.
    pub form: Form,
    pub nonce_hash: [u8; 32],
    pub issued_at: Timestamp,
}

/// A form that met a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// There was none: the method was GET or HEAD, and going back repeats nothing.
    None,
    /// It waits to be sent.
    Kept(KeptFormId),
    /// It was not kept: no proof of where it came from, a script's, or none are kept there.
    Lost,
    TooLarge {
        /// Most that is kept there, in bytes.
        limit: usize,
    },
    /// Too many wait already.
    NoRoom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReturnToError {
    #[error("the address to return to is not one of ours")]
    NotOurs,
    #[error("the address to return to is older than a day")]
    TooOld,
    #[error("no app has the host to return to")]
    UnknownHost,
    #[error("the target to return to is not canonical")]
    NotCanonical,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    h: String,
    s: bool,
    p: String,
    a: String,
    r: String,
    l: String,
    f: Form,
    n: String,
    t: Timestamp,
}

impl ReturnTo {
    /// The form that goes through the browser. A target that would not open again, or is too long for a
    /// query, loses its own query, then its path: better the app's first page than a sign-in without an end.
    #[must_use]
    pub fn seal(&self, keys: &KeyRing) -> String {
        let target = self.path_and_query.as_str();
        [target, path_of(target)]
            .into_iter()
            .filter(|target| is_target(target))
            .map(|target| self.sealed(target, keys))
            .find(|sealed| sealed.len() <= MAX_SEALED)
            .unwrap_or_else(|| self.sealed("/", keys))
    }

    fn sealed(&self, target: &str, keys: &KeyRing) -> String {
        let wire = Wire {
            h: self.host.as_str().to_owned(),
            s: self.scheme == Scheme::Https,
            p: target.to_owned(),
            a: self.app.as_str().to_owned(),
            r: self.rule.as_str().to_owned(),
            l: self.level.as_str().to_owned(),
            f: self.form,
            n: BASE64URL_NOPAD.encode(&self.nonce_hash),
            t: self.issued_at,
        };
        // A struct of texts and numbers always serialises.
        let plain = serde_json::to_vec(&wire).unwrap_or_default();
        keys.seal_token(Purpose::ReturnTo, &plain)
    }

    /// Opens what came back. The seal says that it is ours; the table says that it still makes sense.
    pub fn open(keys: &KeyRing, sealed: &str, now: Timestamp, routes: &RouteTable) -> Result<Self, ReturnToError> {
        if sealed.len() > MAX_SEALED {
            return Err(ReturnToError::NotOurs);
        }
        let plain = keys.open_token(Purpose::ReturnTo, sealed).map_err(|_| ReturnToError::NotOurs)?;
        let wire: Wire = serde_json::from_slice(&plain).map_err(|_| ReturnToError::NotOurs)?;
        if wire.t.age(now).is_none_or(|age| age > MAX_AGE) {
            return Err(ReturnToError::TooOld);
        }
        let scheme = if wire.s { Scheme::Https } else { Scheme::Http };
        let host = HostName::parse(wire.h.as_bytes(), scheme).map_err(|_| ReturnToError::UnknownHost)?;
        let route = routes.find(&host).ok_or(ReturnToError::UnknownHost)?;
        if !is_target(&wire.p) || CanonicalPath::parse(path_of(&wire.p), route.policy.forms).is_err() {
            return Err(ReturnToError::NotCanonical);
        }
        let nonce = BASE64URL_NOPAD.decode(wire.n.as_bytes()).map_err(|_| ReturnToError::NotOurs)?;
        Ok(Self {
            app: route.app.clone(),
            host,
            scheme,
            path_and_query: wire.p,
            rule: RuleName::new(&wire.r),
            level: LevelName::new(&wire.l),
            form: wire.f,
            nonce_hash: nonce.try_into().map_err(|_| ReturnToError::NotOurs)?,
            issued_at: wire.t,
        })
    }

    /// Where the way on leads, on the app's host: to the page, or to the one that sends the kept form.
    #[must_use]
    pub fn landing(&self) -> String {
        match self.form {
            Form::Kept(id) => format!("{}?id={id}", PortalRoute::KeptForm.path()),
            _ => self.path_and_query.clone(),
        }
    }

    /// `https://host` of the app.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.host)
    }
}

/// A target of our own host and nothing else: one leading slash, visible ASCII, no `#`, and in the path no
/// backslash (browsers read `/\evil` as `//evil`; in a query they leave it, and send it as it is).
#[must_use]
pub fn is_target(target: &str) -> bool {
    let path = path_of(target);
    path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        && target.len() <= MAX_TARGET
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

/// A fragment as the browser reported it, fit to stand in a `Location`; the server never sees real
/// ones, so this is the person's own word and may only ever be the end of an address. `None` when
/// there is nothing, or nothing safe.
#[must_use]
pub fn fragment(reported: &str) -> Option<String> {
    let text = reported.strip_prefix('#').unwrap_or(reported);
    let fine = !text.is_empty()
        && text.len() <= 1024
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\`".contains(&b));
    fine.then(|| text.to_owned())
}

/// A new nonce for [`NONCE_COOKIE`]: the cookie's value.
#[must_use]
pub fn new_nonce(rng: &dyn Rng) -> String {
    BASE64URL_NOPAD.encode(&rng::bytes::<32>(rng))
}

/// What is kept of a nonce: enough to know it again.
#[must_use]
pub fn nonce_hash(cookie_value: &str) -> [u8; 32] {
    sha256(cookie_value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::test_world::{host, snapshot};
    use crate::base::rng::SeededRng;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn to(path_and_query: &str) -> ReturnTo {
        ReturnTo {
            host: host("payroll.corp.example"),
            scheme: Scheme::Https,
            path_and_query: path_and_query.to_owned(),
            app: AppName::new("payroll"),
            rule: RuleName::new("default"),
            level: LevelName::new("mfa"),
            form: Form::None,
            nonce_hash: nonce_hash("n"),
            issued_at: now(),
        }
    }

    fn back(keys: &KeyRing, to: &ReturnTo) -> Result<ReturnTo, ReturnToError> {
        ReturnTo::open(keys, &to.seal(keys), now(), &snapshot(true).routes)
    }

    /// As if it had been sealed whatever it says.
    fn unasked(keys: &KeyRing, to: &ReturnTo) -> Result<ReturnTo, ReturnToError> {
        ReturnTo::open(keys, &to.sealed(&to.path_and_query, keys), now(), &snapshot(true).routes)
    }

    #[test]
    fn what_was_sealed_comes_back() {
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        for path in ["/", "/runs/7?view=all&x=%2F", "/a%20b/@me", r"/files?in=C:\Users\ann"] {
            assert_eq!(back(&keys, &to(path)), Ok(to(path)));
        }
    }

    #[test]
    fn s_login_7_only_canonical_targets_on_configured_hosts_open() {
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        for bad in [
            "//evil.example/",
            "/\\evil.example",
            "https:evil",
            "https://evil.example/",
            "javascript:alert(1)",
            "",
            "evil",
            "/a\r\nSet-Cookie: x=y",
            "/\t//evil",
            "/%0d%0aLocation:x",
            "/%2f%2fevil",
            "/../admin",
            "/a#b",
            "/zoë",
            "/a\\b?c",
        ] {
            assert_eq!(unasked(&keys, &to(bad)), Err(ReturnToError::NotCanonical), "{bad:?}");
        }
        for elsewhere in ["evil.example", "login.corp.example"] {
            let to = ReturnTo { host: host(elsewhere), ..to("/") };
            assert_eq!(back(&keys, &to), Err(ReturnToError::UnknownHost));
        }
    }

    #[test]
    fn s_login_7_what_the_gate_did_not_seal_does_not_open() {
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        let routes = snapshot(true).routes;
        let other = KeyRing::ephemeral(&*SeededRng::new(2));
        let mut edited = to("/").seal(&keys);
        edited.pop();
        let long = "A".repeat(10_240);
        let foreign = to("/").seal(&other);
        for text in [
            "https://evil.example/",
            "//evil.example",
            "https://u:p@payroll.corp.example/",
            "/",
            "",
            &long,
            &edited,
            &foreign,
        ] {
            assert_eq!(ReturnTo::open(&keys, text, now(), &routes), Err(ReturnToError::NotOurs), "{text:.40}");
        }
        let old = to("/").seal(&keys);
        let day_after = now().plus(Duration::from_secs(24 * 3600 + 1));
        assert_eq!(ReturnTo::open(&keys, &old, day_after, &routes), Err(ReturnToError::TooOld));
    }

    #[test]
    fn a_target_too_long_for_a_query_leads_to_the_page_without_it() {
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        let opened = back(&keys, &to(&format!("/search?q={}", "x".repeat(8000)))).expect("opens");
        assert_eq!(opened.path_and_query, "/search");
        let opened = back(&keys, &to(&format!("/{}", "x".repeat(8000)))).expect("opens");
        assert_eq!(opened.path_and_query, "/");
    }

    /// Whoever follows such a link signs in and is somewhere in the app, and not at a sign-in that never ends.
    #[test]
    fn what_is_sealed_opens_again_whatever_a_link_has_in_its_query() {
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        // Each of these signs takes two bytes where it is sealed.
        let (quotes, signs) = (format!("/q?{}", "\"".repeat(4000)), format!("/q?{}", r"\".repeat(4000)));
        for (link, page) in
            [("/q?zoë", "/q"), ("/q?a#b", "/q"), (quotes.as_str(), "/q"), (signs.as_str(), "/q"), ("/zoë?a", "/")]
        {
            assert_eq!(back(&keys, &to(link)).expect("opens").path_and_query, page, "{link:.20}");
        }
    }

    #[test]
    fn a_fragment_is_only_ever_the_end_of_an_address() {
        assert_eq!(fragment("#part-2").as_deref(), Some("part-2"));
        for bad in ["", "#", "a b", "a\r\nb", "\"", "ü", &"x".repeat(2000)] {
            assert_eq!(fragment(bad), None, "{bad:?}");
        }
    }
}
