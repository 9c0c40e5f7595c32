//! How is the app told where a request came from?
//!
//! Clients' copies of these fields were removed before ([`super::strip`]); what trusted proxies
//! said is already in the client address, so the app gets one answer and never a chain to judge.

use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::host::{HostName, Scheme};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Writes `X-Forwarded-For`, `-Host`, `-Proto`, `-Port` and `X-Real-IP`. `client` is the address of
/// the client as a field value; `host` the public host as one, `name` the same as a type.
pub fn insert(headers: &mut HeaderMap, client: HeaderValue, scheme: Scheme, name: &HostName, host: &HeaderValue) {
    headers.insert(X_FORWARDED_FOR, client.clone());
    headers.insert(X_REAL_IP, client);
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    headers.insert(X_FORWARDED_PORT, port(scheme, name));
}

fn port(scheme: Scheme, host: &HostName) -> HeaderValue {
    match host.as_str().strip_prefix(host.name()).and_then(|rest| rest.strip_prefix(':')) {
        Some(port) => HeaderValue::from_str(port).unwrap_or(HeaderValue::from_static("")),
        None => HeaderValue::from_static(match scheme {
            Scheme::Http => "80",
            Scheme::Https => "443",
        }),
    }
}

/// A request that already went through this gate (RFC 9110 section 7.6.3); the answer is 508.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request came back to the gate that sent it")]
pub struct Loop;

/// The gate's own entry in `Via`. The pseudonym is random for each process, so that two gates in
/// a row are no loop, and says nothing of the product or its version.
#[derive(Clone, Debug)]
pub struct Via {
    alone: HeaderValue,
}

impl Via {
    #[must_use]
    pub fn new(rng: &dyn crate::base::rng::Rng) -> Self {
        let name = data_encoding::HEXLOWER.encode(&crate::base::rng::bytes::<8>(rng));
        Self { alone: HeaderValue::from_str(&format!("1.1 {name}")).unwrap_or(HeaderValue::from_static("1.1 gate")) }
    }

    /// Adds our entry behind those of the proxies before us.
    pub fn insert(&self, headers: &mut HeaderMap) -> Result<(), Loop> {
        let mut before = headers.get_all(VIA).iter().peekable();
        if before.peek().is_none() {
            headers.insert(VIA, self.alone.clone());
            return Ok(());
        }
        let mut all: Vec<u8> = Vec::new();
        for value in before {
            let ours = |entry: &[u8]| entry.trim_ascii().eq_ignore_ascii_case(self.alone.as_bytes());
            if value.as_bytes().split(|b| *b == b',').any(ours) {
                return Err(Loop);
            }
            all.extend_from_slice(value.as_bytes());
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(self.alone.as_bytes());
        headers.insert(VIA, HeaderValue::from_bytes(&all).unwrap_or_else(|_| self.alone.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    fn told(ip: &'static str, scheme: Scheme, host: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        let name = HostName::parse(host.as_bytes(), scheme).unwrap();
        let value = HeaderValue::from_str(name.as_str()).unwrap();
        insert(&mut headers, HeaderValue::from_static(ip), scheme, &name, &value);
        [X_FORWARDED_FOR, X_REAL_IP, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_FORWARDED_PORT]
            .iter()
            .map(|n| headers[n].to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_app_learns_the_client_and_the_public_address() {
        assert_eq!(
            told("192.0.2.7", Scheme::Https, "app.example"),
            ["192.0.2.7", "192.0.2.7", "app.example", "https", "443"]
        );
        assert_eq!(told("2001:db8::1", Scheme::Http, "[::1]:8080")[2..], ["[::1]:8080", "http", "8080"]);
    }

    #[test]
    fn a_request_that_comes_back_is_a_loop_and_another_gate_is_none() {
        let (ours, other) = (Via::new(&*SeededRng::new(1)), Via::new(&*SeededRng::new(2)));
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net"));
        ours.insert(&mut headers).expect("first pass");
        other.insert(&mut headers).expect("another gate behind us");
        assert_eq!(headers.get_all(VIA).iter().count(), 1);
        assert!(headers[VIA].to_str().unwrap().starts_with("1.0 fred, 1.1 p.example.net, 1.1 "));
        assert_eq!(ours.insert(&mut headers), Err(Loop));
    }
}
