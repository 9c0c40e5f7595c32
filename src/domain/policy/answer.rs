//! What the gate itself says in place of the app, where a rule has `redirect` or `respond`.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::domain::path::CanonicalPath;

/// The answer to a request that the rule lets pass. It says nothing about who may pass: `allow` and
/// `require` hold for it as for every other rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Redirect(Redirect),
    Respond(Respond),
}

/// `redirect:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub status: StatusCode,
    /// A path or an address. Ends in a slash where `rest_after` says that more follows.
    to: Box<str>,
    /// `to` ended in `/**`: what the request has after so many segments follows.
    rest_after: Option<usize>,
}

/// `respond:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    pub status: StatusCode,
    pub content_type: Arc<str>,
    pub body: Bytes,
}

impl Answer {
    /// Whether it keeps requests from the app, as `deny` does: then it holds under every reading of the
    /// path. A redirect leads on to it, often by the very next request.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        match self {
            Self::Redirect(_) => false,
            Self::Respond(_) => true,
        }
    }
}

impl Redirect {
    /// To one place. The query of the request follows, unless `to` has one.
    #[must_use]
    pub fn to(status: StatusCode, to: &str) -> Self {
        Self { status, to: to.into(), rest_after: None }
    }

    /// To the same place under another root: what follows the first `segments` of the path is kept.
    #[must_use]
    pub fn under(status: StatusCode, root: &str, segments: usize) -> Self {
        Self { status, to: root.into(), rest_after: Some(segments) }
    }

    /// The `Location` for a request.
    #[must_use]
    pub fn location(&self, path: &CanonicalPath, query: Option<&str>) -> String {
        let (to, fragment) = match self.to.split_once('#') {
            Some((to, fragment)) => (to, Some(fragment)),
            None => (&*self.to, None),
        };
        let mut location = to.to_owned();
        if let Some(segments) = self.rest_after {
            // Never a slash more: `//host` would lead to another host (with `allow: [double_slash]`).
            location.push_str(rest(path.as_str(), segments).trim_start_matches('/'));
        }
        if let Some(query) = query.filter(|_| !to.contains('?')) {
            location.push('?');
            location.push_str(query);
        }
        if let Some(fragment) = fragment {
            location.push('#');
            location.push_str(fragment);
        }
        location
    }

    /// As the file writes the target.
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}{}", self.to, if self.rest_after.is_some() { "**" } else { "" })
    }
}

/// What follows the first segments of a path, without the slash before it.
fn rest(path: &str, segments: usize) -> &str {
    path.splitn(segments + 2, '/').nth(segments + 1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::path::PathForms;

    fn location(redirect: &Redirect, path: &str, query: Option<&str>) -> String {
        let forms = PathForms { allow_double_slash: true, ..PathForms::default() };
        redirect.location(&CanonicalPath::parse(path, forms).unwrap(), query)
    }

    #[test]
    fn a_redirect_keeps_the_query_and_the_rest_of_the_path_as_they_were_sent() {
        let one = Redirect::to(StatusCode::TEMPORARY_REDIRECT, "/app/");
        assert_eq!(location(&one, "/", None), "/app/");
        assert_eq!(location(&one, "/", Some("a=b%2Fc")), "/app/?a=b%2Fc");
        let own_query = Redirect::to(StatusCode::FOUND, "/app/?start#top");
        assert_eq!(location(&own_query, "/", Some("a=b")), "/app/?start#top");
        let fragment = Redirect::to(StatusCode::FOUND, "/app/#top");
        assert_eq!(location(&fragment, "/", Some("a=b")), "/app/?a=b#top");
        let moved = Redirect::under(StatusCode::PERMANENT_REDIRECT, "https://new.example/wiki/", 1);
        assert_eq!(location(&moved, "/old/a%20b/c/", Some("x")), "https://new.example/wiki/a%20b/c/?x");
        assert_eq!(location(&moved, "/old", None), "https://new.example/wiki/");
    }

    #[test]
    fn s_login_7_no_path_makes_a_redirect_leave_for_another_host() {
        let root = Redirect::under(StatusCode::TEMPORARY_REDIRECT, "/", 1);
        for path in ["/old//evil.example/x", "/old///evil.example/x"] {
            assert_eq!(location(&root, path, None), "/evil.example/x", "{path}");
        }
        let other = Redirect::under(StatusCode::TEMPORARY_REDIRECT, "https://new.example/", 0);
        assert_eq!(location(&other, "/@evil.example/", None), "https://new.example/@evil.example/");
    }
}
