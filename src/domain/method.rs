//! The method of a request: which one is meant, whichever letters it is written in?
//!
//! Methods tell letter case apart (RFC 9110 section 9.1), but Werkzeug, Django, Symfony and others make
//! capitals of them first: `delete` would pass a rule for `DELETE` and delete (S-PATH-6).

use http::Method;

/// Why no app hears of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    #[error("CONNECT and TRACE are not carried")]
    NotCarried,
    /// Browsers write these in capitals whatever a script says (Fetch, "normalize a method"), so none of
    /// them is met; the gate's own care for GET, HEAD and POST then has one spelling to look for.
    #[error("the method must be written in capitals")]
    NotInCapitals,
}

/// Refuses what is not carried.
pub fn check(method: &Method) -> Result<(), MethodError> {
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return Err(MethodError::NotCarried);
    }
    match in_capitals(method) {
        Some(Method::CONNECT | Method::TRACE) => Err(MethodError::NotCarried),
        Some(Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::OPTIONS) => {
            Err(MethodError::NotInCapitals)
        }
        // `patch` is what `fetch` sends of a script's `patch`.
        Some(_) | None => Ok(()),
    }
}

/// The method that an app makes of this one which makes capitals of its letters; `None` where it has
/// no others.
#[must_use]
pub fn in_capitals(method: &Method) -> Option<Method> {
    // One look at a tag for nearly every request.
    if matches!(*method, Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
        return None;
    }
    let text = method.as_str();
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return None;
    }
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok()
}
