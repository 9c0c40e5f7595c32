//! What a browser of today would do for an app of yesterday, if the app asked for it: `harden`.
//!
//! Requests that change something must not come from another site's page (the shield against CSRF
//! that an unpatched app lacks), and answers carry the fields that close the usual gaps. Only what
//! the app did not say itself is added.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, REFERER, REFERRER_POLICY,
    SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, Method};

use crate::domain::host::{HostName, Scheme};
use crate::domain::route::Route;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

/// Whether a page of another site makes this request, and it may change something.
///
/// `Sec-Fetch-Site` is the browser's own word, which no script can forge; older browsers send
/// `Origin` with a POST, the oldest `Referer` alone. A request with none of them is no browser's (or
/// one that hides where it comes from), and passes.
#[must_use]
pub fn is_cross_site(
    methods: impl IntoIterator<Item = Method>,
    headers: &HeaderMap,
    scheme: Scheme,
    host: &HostName,
    route: &Route,
) -> bool {
    // A query may turn a GET into something else (`_method`), as the policy judges it too.
    if methods.into_iter().all(|m| matches!(m, Method::GET | Method::HEAD | Method::OPTIONS)) {
        return false;
    }
    let listed = |origin: &[u8]| route.trusted_origins.iter().any(|t| t.as_bytes() == origin);
    let trusted = |origin: &[u8]| {
        let own = origin.strip_prefix(scheme.as_str().as_bytes()).and_then(|rest| rest.strip_prefix(b"://"));
        own == Some(host.as_str().as_bytes()) || listed(origin)
    };
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = match (origins.next(), origins.next()) {
        (one, None) => one.map(HeaderValue::as_bytes),
        (Some(_), Some(_)) => return true,
        (None, Some(_)) => None,
    };
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    match (sites.next().map(HeaderValue::as_bytes), sites.next()) {
        // `none`: typed, or from a bookmark. A foreign origin beside it is nobody's browser.
        (Some(b"same-origin" | b"none"), None) => !origin.is_none_or(trusted),
        // A sibling host is another site to an app that never asked about origins. The app's own origin is no
        // excuse: where another site had a hand in it, as in a redirect there and back, browsers send
        // `Origin: null` (Fetch, "append a request `Origin` header"). Both together no browser says.
        (Some(_), None) => !origin.is_some_and(listed),
        (Some(_), Some(_)) => true,
        (None, _) => !origin.or_else(|| referring(headers)).is_none_or(trusted),
    }
}

/// The origin of `Referer`.
fn referring(headers: &HeaderMap) -> Option<&[u8]> {
    let referer = headers.get(REFERER)?.as_bytes();
    let authority = referer.windows(3).position(|w| w == b"://")? + 3;
    let end = referer.iter().skip(authority).position(|b| matches!(b, b'/' | b'?' | b'#'));
    referer.get(..end.map_or(referer.len(), |end| authority + end))
}

/// Adds to an answer what is not there. `personal`: it may be about somebody.
pub fn answer(headers: &mut HeaderMap, scheme: Scheme, personal: bool) {
    headers.remove(SERVER);
    headers.remove(X_POWERED_BY);
    let https = scheme == Scheme::Https;
    if https {
        absent(headers, STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    absent(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    absent(headers, REFERRER_POLICY, "strict-origin-when-cross-origin");
    let frames = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.to_ascii_lowercase().contains("frame-ancestors"));
    if !headers.get_all(CONTENT_SECURITY_POLICY).iter().any(frames) && !headers.contains_key(X_FRAME_OPTIONS) {
        // A further policy of its own: browsers obey each of them, and the app's stays as it is.
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    if personal && is_html(headers) {
        // The back button after a sign-out, and the disk of a shared machine.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    cookies(headers, https);
}

fn absent(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"text/html") || essence.eq_ignore_ascii_case(b"application/xhtml+xml")
}

/// `Secure` over https and `SameSite=Lax` where the app chose nothing. Not `HttpOnly`: scripts of
/// legacy apps read their own cookies, and which of them is known to the app alone.
fn cookies(headers: &mut HeaderMap, https: bool) {
    if !headers.contains_key(SET_COOKIE) {
        return;
    }
    let all: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for value in all {
        let mut attributes = value.as_bytes().split(|b| *b == b';').skip(1).map(|a| {
            let name = a.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            name.to_ascii_lowercase()
        });
        let (mut secure, mut same_site) = (false, false);
        for name in &mut attributes {
            secure |= name == b"secure";
            same_site |= name == b"samesite";
        }
        let mut text = value.as_bytes().to_vec();
        if https && !secure {
            text.extend_from_slice(b"; Secure");
        }
        if !same_site {
            text.extend_from_slice(b"; SameSite=Lax");
        }
        headers.append(SET_COOKIE, HeaderValue::from_bytes(&text).unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Purpose};

    fn refused(method: &str, fields: &[(&str, &str)]) -> bool {
        let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:80\", role: proxy }]\nportal: { host: login.test, title: T }\n\
                    apps: [{ app: a, hosts: [a.test], harden: enforce, trusted_origins: [\"https://sso.example\", \"https://Pay.example:443\"], \
                    upstream: { urls: [\"http://127.0.0.1:9\"] } }]\n";
        let (snapshot, _) = config::from_text(text, std::path::Path::new("."), Purpose::Check).unwrap();
        let route = snapshot.routes.app("a").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let host = HostName::parse(b"a.test", Scheme::Https).unwrap();
        is_cross_site([method.parse().unwrap()], &headers, Scheme::Https, &host, route)
    }

    #[test]
    fn what_changes_something_comes_from_the_apps_own_pages() {
        for own in [
            &[("sec-fetch-site", "same-origin"), ("origin", "https://a.test")][..],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://a.test")],
            &[("origin", "https://sso.example")],
            // Browsers leave the scheme's own port out, whoever wrote it into the file.
            &[("origin", "https://pay.example")],
            &[("referer", "https://a.test/page?x")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://sso.example")],
            &[],
        ] {
            assert!(!refused("POST", own), "{own:?}");
        }
        for other in [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.test")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://b.test")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://a.test")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://a.test")],
            &[("sec-fetch-site", "cross-site"), ("origin", "null")],
            &[("sec-fetch-site", "made-up")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://evil.test")],
            &[("origin", "http://a.test")],
            &[("origin", "https://a.test.evil.test")],
            &[("origin", "https://a.test:8443")],
            &[("origin", "null")],
            &[("origin", "https://a.test"), ("origin", "https://evil.test")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.test")],
            &[("sec-fetch-site", "none"), ("origin", "https://evil.test")],
            &[("referer", "https://evil.test/a.test")],
            &[("referer", "https://evil.test?https://a.test")],
        ] {
            for method in ["POST", "PUT", "DELETE", "PROPPATCH"] {
                assert!(refused(method, other), "{method} {other:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(!refused(method, other), "{method} {other:?}: a link is no harm, a preflight asks");
            }
        }
    }

    fn answered(fields: &[(&'static str, &'static str)], scheme: Scheme, personal: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        answer(&mut headers, scheme, personal);
        headers
    }

    #[test]
    fn an_answer_gets_what_its_app_did_not_say() {
        let html = ("content-type", "text/html; charset=utf-8");
        let plain = answered(&[html, ("server", "Apache/1.3"), ("x-powered-by", "PHP/4")], Scheme::Https, true);
        assert_eq!(plain[CACHE_CONTROL], "no-store");
        assert_eq!(plain[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
        assert_eq!(plain[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(plain[X_FRAME_OPTIONS], "SAMEORIGIN");
        assert!(!plain.contains_key(SERVER) && !plain.contains_key(X_POWERED_BY));
        let own = answered(
            &[html, ("content-security-policy", "default-src 'self'; Frame-Ancestors https://portal.test")],
            Scheme::Http,
            false,
        );
        assert!(!own.contains_key(X_FRAME_OPTIONS) && !own.contains_key(STRICT_TRANSPORT_SECURITY));
        assert_eq!(own.get_all(CONTENT_SECURITY_POLICY).iter().count(), 1);
        assert!(!own.contains_key(CACHE_CONTROL), "public pages may be kept");
        assert!(!answered(&[("content-type", "image/png")], Scheme::Https, true).contains_key(CACHE_CONTROL));
    }

    #[test]
    fn a_cookie_gets_the_flags_that_its_app_did_not_choose() {
        let set = |value: &'static str, scheme| answered(&[("set-cookie", value)], scheme, true)[SET_COOKIE].clone();
        assert_eq!(set("a=1; Path=/", Scheme::Https), "a=1; Path=/; Secure; SameSite=Lax");
        assert_eq!(set("a=secure", Scheme::Http), "a=secure; SameSite=Lax");
        assert_eq!(set("a=1; SECURE; SameSite=None", Scheme::Https), "a=1; SECURE; SameSite=None");
    }
}
