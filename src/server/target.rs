//! The one place that sees the raw host and path of a request: one Host or none at all.

use http::{HeaderMap, Request, Version, header};

use crate::domain::host::{HostError, HostName, Scheme};

/// Why the target cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the request names no host")]
    NoHost,
    #[error("the request names two hosts")]
    TwoHosts,
    #[error("{0}")]
    Host(#[from] HostError),
    #[error("the request line names another host or scheme than the Host field")]
    OtherAuthority,
    #[error("the request target is neither a path nor an address of this host")]
    BadForm,
}

/// The host that a request is for (S-HOST-1): exactly one `Host`, equal to `:authority` and to the
/// authority of an absolute-form target. hyper checks none of it.
pub fn host<B>(request: &Request<B>, scheme: Scheme) -> Result<HostName, TargetError> {
    host_by(request, scheme, HostName::parse)
}

/// The same with a `parse` that may remember what [`HostName::parse`] said.
pub fn host_by<B>(
    request: &Request<B>,
    scheme: Scheme,
    parse: impl Fn(&[u8], Scheme) -> Result<HostName, HostError>,
) -> Result<HostName, TargetError> {
    let field = host_field(request.headers())?.map(|raw| parse(raw, scheme)).transpose()?;
    let uri = request.uri();
    let authority = match uri.authority() {
        None => None,
        Some(authority) => {
            // Userinfo would be cut by a lenient reader and kept by another.
            if authority.as_str().contains('@') {
                return Err(TargetError::Host(HostError::BadByte));
            }
            Some(parse(authority.as_str().as_bytes(), scheme)?)
        }
    };
    if request.version() < Version::HTTP_2 {
        // Absolute form: only for our own host, and only the schemes that lead here. A TLS
        // terminator in front rewrites neither, so `http:` is taken on either kind of listener.
        if let Some(said) = uri.scheme_str()
            && said != "http"
            && said != "https"
        {
            return Err(TargetError::BadForm);
        }
        // RFC 9112 section 3.2: a request without Host is 400, in absolute form too.
        let Some(host) = field else { return Err(TargetError::NoHost) };
        return match authority {
            Some(authority) if authority != host => Err(TargetError::OtherAuthority),
            _ => Ok(host),
        };
    }
    match (authority, field) {
        (Some(authority), Some(host)) if authority != host => Err(TargetError::OtherAuthority),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(TargetError::NoHost),
    }
}

fn host_field(headers: &HeaderMap) -> Result<Option<&[u8]>, TargetError> {
    let mut fields = headers.get_all(header::HOST).iter();
    let first = fields.next();
    if fields.next().is_some() {
        return Err(TargetError::TwoHosts);
    }
    Ok(first.map(|value| value.as_bytes()))
}

/// The target that stands for the server as a whole.
pub const ASTERISK: &str = "*";

/// The raw path of a request, `*` only for OPTIONS.
pub fn raw_path<B>(request: &Request<B>) -> Result<&str, TargetError> {
    let uri = request.uri();
    let path = uri.path();
    // `http::Uri` gives "" for a bare authority and for `*` the text itself.
    if path == ASTERISK && request.method() == http::Method::OPTIONS {
        return Ok(path);
    }
    // Of `?x`, which HTTP/2 and `http://host?x` carry, it says that the path is `/`, and holds `?x` all the same.
    let is_path = uri.path_and_query().is_some_and(|sent| sent.as_str().starts_with('/'));
    if is_path && path.starts_with('/') { Ok(path) } else { Err(TargetError::BadForm) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h1(target: &str, hosts: &[&str]) -> Result<String, TargetError> {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        host(&request.body(()).unwrap(), Scheme::Https).map(|h| h.as_str().to_owned())
    }

    #[test]
    fn s_host_1_exactly_one_host_counts() {
        assert_eq!(h1("/", &["APP.corp.example:443"]).as_deref(), Ok("app.corp.example"));
        assert_eq!(h1("http://app.corp.example/x", &["app.corp.example"]).as_deref(), Ok("app.corp.example"));
        assert_eq!(h1("/", &[]), Err(TargetError::NoHost));
        assert_eq!(h1("/", &["a.example", "a.example"]), Err(TargetError::TwoHosts));
        assert_eq!(h1("http://b.example/x", &["a.example"]), Err(TargetError::OtherAuthority));
        assert_eq!(h1("ftp://a.example/x", &["a.example"]), Err(TargetError::BadForm));
        for bad in ["", "a.", "a, b", "a/b", "u@a", "a:99999"] {
            assert!(h1("/", &[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn s_host_1_authority_and_host_of_http2_must_agree() {
        let request = |authority: &str, field: Option<&str>| {
            let mut builder = Request::builder().version(Version::HTTP_2).uri(format!("https://{authority}/x"));
            if let Some(field) = field {
                builder = builder.header("host", field);
            }
            host(&builder.body(()).unwrap(), Scheme::Https).map(|h| h.as_str().to_owned())
        };
        assert_eq!(request("a.example", None).as_deref(), Ok("a.example"));
        assert_eq!(request("a.example", Some("A.example:443")).as_deref(), Ok("a.example"));
        assert_eq!(request("a.example", Some("b.example")), Err(TargetError::OtherAuthority));
        assert!(request("u@a.example", None).is_err());
    }
}
