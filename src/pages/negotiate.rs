//! Does the sender want a page or a problem document?

use http::header::{ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderName, Method};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// True for a browser's navigation. Browsers say so in `Sec-Fetch-Mode`; where that is absent
/// (old browsers, clear text) `Accept` must name `text/html` and no script may have marked itself.
/// A program must never be sent a redirect to a sign-in page (DESIGN section 4).
#[must_use]
pub fn wants_page(headers: &HeaderMap, method: &Method) -> bool {
    // A link or a form is GET or POST; HEAD is asked by link checkers that act as browsers do.
    if !matches!(*method, Method::GET | Method::HEAD | Method::POST) || headers.contains_key(UPGRADE) {
        return false;
    }
    if let Some(mode) = headers.get(SEC_FETCH_MODE) {
        return mode.as_bytes() == b"navigate";
    }
    let by_script = headers.get(X_REQUESTED_WITH).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"XMLHttpRequest"));
    !by_script && headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(names_html)
}

fn names_html(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused = parts.any(|p| {
            let weight = p.strip_prefix("q=").or_else(|| p.strip_prefix("Q="));
            weight.is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
        });
        (kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: &Method, fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        wants_page(&headers, method)
    }

    #[test]
    fn browsers_get_pages() {
        assert!(asks(&Method::GET, &[("sec-fetch-mode", "navigate"), ("accept", "*/*")]));
        assert!(asks(&Method::POST, &[("sec-fetch-mode", "navigate")]));
        assert!(asks(&Method::GET, &[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]));
    }

    #[test]
    fn programs_get_problems() {
        assert!(!asks(&Method::GET, &[]), "no Accept at all");
        assert!(!asks(&Method::GET, &[("accept", "*/*")]), "curl");
        assert!(!asks(&Method::GET, &[("sec-fetch-mode", "cors"), ("accept", "text/html")]), "fetch()");
        assert!(!asks(&Method::GET, &[("x-requested-with", "XMLHttpRequest"), ("accept", "text/html")]));
        assert!(!asks(&Method::GET, &[("accept", "application/json, text/html;q=0")]));
        assert!(!asks(&Method::PUT, &[("accept", "text/html")]), "no link or form sends PUT");
        assert!(!asks(&Method::GET, &[("upgrade", "websocket"), ("accept", "text/html")]));
    }
}
