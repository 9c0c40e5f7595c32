//! Did this form come from a page of ours, in this browser? Asked of every POST (S-LOGIN-5).

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, header::ORIGIN};

use crate::auth::flow::Browser;
use crate::base::ids::SessionId;
use crate::crypto::{KeyRing, Purpose, ct_eq};
use crate::domain::host::{HostName, Scheme};

/// What a form token is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding<'a> {
    /// Nobody is signed in yet: the pre-login cookie.
    Browser(Browser),
    /// A session on one host. Not its id: that changes with a step-up in another tab, and the form
    /// in this one stays the person's own.
    Session(SessionId, &'a HostName),
}

impl Binding<'_> {
    /// The hidden field `csrf`.
    pub(super) fn token(&self, keys: &KeyRing) -> String {
        let mut data = Vec::new();
        match self {
            Self::Browser(browser) => {
                data.extend_from_slice(b"browser\0");
                data.extend_from_slice(browser.hash());
            }
            Self::Session(session, host) => {
                data.extend_from_slice(b"session\0");
                data.extend_from_slice(session.as_bytes());
                data.extend_from_slice(host.as_str().as_bytes());
            }
        }
        BASE64URL_NOPAD.encode(&keys.mac(Purpose::FormToken, &data))
    }

    pub(super) fn accepts(&self, posted: &str, keys: &KeyRing) -> bool {
        ct_eq(self.token(keys).as_bytes(), posted.as_bytes())
    }
}

/// Whether the browser says that the request came from this very origin, where it says anything.
/// Silence passes here: old browsers and programs say nothing, and the form token decides anyway.
pub(super) fn same_origin(headers: &HeaderMap, scheme: Scheme, host: &HostName) -> bool {
    let sites = || headers.get_all("sec-fetch-site").iter();
    let site = sites().all(|v| matches!(v.as_bytes(), b"same-origin" | b"none"));
    // Our pages say `Referrer-Policy: no-referrer`, and under it browsers send `Origin: null` with a
    // form of the page itself (Fetch standard, "serializing a request origin"). What makes the null
    // ours is Sec-Fetch-Site: a sandboxed frame, opaque as well, is cross-site there.
    let vouched = sites().count() == 1 && sites().all(|v| v.as_bytes() == b"same-origin");
    let own = format!("{}://{host}", scheme.as_str());
    let origin =
        headers.get_all(ORIGIN).iter().all(|v| v.as_bytes() == own.as_bytes() || (vouched && v.as_bytes() == b"null"));
    site && origin
}

/// Whether a request may be a top-level navigation: what browsers tell of it must say so. A script
/// of an app shares its origin with our hand-over there, and must neither fetch nor frame it (S-LOGIN-9).
pub(super) fn may_be_navigation(headers: &HeaderMap) -> bool {
    let all = |name: &str, allowed: &[&[u8]]| headers.get_all(name).iter().all(|v| allowed.contains(&v.as_bytes()));
    all("sec-fetch-mode", &[b"navigate"]) && all("sec-fetch-dest", &[b"document"])
}

/// Whether a script of this very origin asks: the browser must say so, for what it hears is about somebody.
pub(super) fn is_own_script(headers: &HeaderMap) -> bool {
    let says = |name: &str, allowed: &[&[u8]]| {
        let mut said = headers.get_all(name).iter();
        said.next().is_some_and(|v| allowed.contains(&v.as_bytes())) && said.next().is_none()
    };
    says("sec-fetch-site", &[b"same-origin"])
        && says("sec-fetch-mode", &[b"cors", b"same-origin", b"no-cors"])
        && says("sec-fetch-dest", &[b"empty"])
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::rng::SeededRng;

    fn host() -> HostName {
        HostName::parse(b"login.corp.example", Scheme::Https).expect("a host")
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn s_login_5_a_token_holds_for_one_browser_and_one_session() {
        let rng = SeededRng::new(1);
        let keys = KeyRing::ephemeral(&*rng);
        let browser = || Browser::from_cookie(&Browser::new_cookie(&*rng)).expect("ours");
        let (ann, mallory) = (Binding::Browser(browser()), Binding::Browser(browser()));
        assert!(ann.accepts(&ann.token(&keys), &keys));
        assert!(!ann.accepts(&mallory.token(&keys), &keys), "the attacker's own token");
        assert!(!ann.accepts("", &keys));
        let now = Timestamp::from_secs(1_800_000_000);
        let (own, app) = (host(), HostName::parse(b"app.corp.example", Scheme::Https).expect("a host"));
        let session = SessionId::new(now, &*rng);
        let signed_in = Binding::Session(session, &own);
        assert!(!signed_in.accepts(&Binding::Session(SessionId::new(now, &*rng), &own).token(&keys), &keys));
        assert!(!signed_in.accepts(&Binding::Session(session, &app).token(&keys), &keys), "an app reads its own page");
        assert!(!signed_in.accepts(&ann.token(&keys), &keys));
    }

    #[test]
    fn s_login_5_what_the_browser_says_of_the_origin_must_be_ours() {
        let same = |fields: &[(&'static str, &'static str)]| same_origin(&headers(fields), Scheme::Https, &host());
        assert!(same(&[]), "silence is judged by the form token");
        assert!(same(&[("origin", "https://login.corp.example"), ("sec-fetch-site", "same-origin")]));
        assert!(same(&[("origin", "null"), ("sec-fetch-site", "same-origin")]), "a form of a page with no-referrer");
        for site in ["cross-site", "same-site", "none"] {
            assert!(!same(&[("origin", "null"), ("sec-fetch-site", site)]), "a sandboxed frame: {site}");
        }
        for bad in ["https://evil.example", "null", "http://login.corp.example", "https://login.corp.example:8443"] {
            assert!(!same(&[("origin", bad)]), "{bad}");
        }
        for bad in ["cross-site", "same-site"] {
            assert!(!same(&[("sec-fetch-site", bad)]), "{bad}");
        }
    }

    #[test]
    fn s_login_9_scripts_and_frames_are_no_navigation() {
        assert!(may_be_navigation(&headers(&[])));
        assert!(may_be_navigation(&headers(&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")])));
        for (mode, dest) in [("cors", "empty"), ("no-cors", "image"), ("navigate", "iframe"), ("same-origin", "empty")]
        {
            assert!(
                !may_be_navigation(&headers(&[("sec-fetch-mode", mode), ("sec-fetch-dest", dest)])),
                "{mode} {dest}"
            );
        }
    }
}
