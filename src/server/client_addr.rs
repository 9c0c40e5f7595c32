//! Who the client is and by which scheme it came, when trusted proxies stand in front.
//!
//! Only a TCP peer in `trusted_proxies` may say anything (S-NET-1); addresses are read from right
//! to left, and the first one that is not a trusted proxy is the client. What cannot be read is
//! 400, never skipped (S-NET-2, CVE-2024-47070). RFC 7239's `Forwarded` is not read: one field,
//! one meaning; the proxies named in `docs/OPERATIONS.md` all send `X-Forwarded-*`.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::base::net::{ClientIp, NetworkSet};
use crate::domain::host::Scheme;

/// More hops than any real chain has: a longer list is an attack on somebody's patience.
const MOST_HOPS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub client: ClientIp,
    pub scheme: Scheme,
    /// The other end of the connection may say who the client is.
    pub peer_is_trusted: bool,
}

impl Seen {
    /// What the connection itself tells.
    #[must_use]
    pub fn by_itself(peer: SocketAddr, own: Scheme) -> Self {
        Self { client: ClientIp::new(peer.ip()), scheme: own, peer_is_trusted: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the proxy in front sent an X-Forwarded-For that cannot be read")]
    BadAddress,
    #[error("the proxy in front sent an X-Forwarded-Proto that is neither http nor https")]
    BadScheme,
}

/// `own`: the scheme of our listener.
pub fn resolve(peer: SocketAddr, own: Scheme, headers: &HeaderMap, trusted: &NetworkSet) -> Result<Seen, AddressError> {
    let peer = ClientIp::new(peer.ip());
    if trusted.is_empty() || !trusted.contains(peer) {
        return Ok(Seen { client: peer, scheme: own, peer_is_trusted: false });
    }
    Ok(Seen { client: client(peer, headers, trusted)?, scheme: scheme(own, headers)?, peer_is_trusted: true })
}

fn client(peer: ClientIp, headers: &HeaderMap, trusted: &NetworkSet) -> Result<ClientIp, AddressError> {
    let mut hops: Vec<ClientIp> = Vec::new();
    for field in headers.get_all("x-forwarded-for") {
        let text = field.to_str().map_err(|_| AddressError::BadAddress)?;
        for part in text.split(',') {
            hops.push(address(part.trim()).ok_or(AddressError::BadAddress)?);
            if hops.len() > MOST_HOPS {
                return Err(AddressError::BadAddress);
            }
        }
    }
    let first_stranger = hops.iter().rev().find(|hop| !trusted.contains(**hop)).copied();
    Ok(first_stranger.or_else(|| hops.first().copied()).unwrap_or(peer))
}

/// An address, with a port where some proxies append one (Azure, HAProxy's `option forwardfor`).
fn address(text: &str) -> Option<ClientIp> {
    let plain = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return Some(ClientIp::new(ip));
    }
    text.parse::<SocketAddr>().ok().map(|a| ClientIp::new(a.ip()))
}

fn scheme(own: Scheme, headers: &HeaderMap) -> Result<Scheme, AddressError> {
    let mut said = None;
    for field in headers.get_all("x-forwarded-proto") {
        let text = field.to_str().map_err(|_| AddressError::BadScheme)?;
        // The proxy nearest to us is the one we trust: the last word counts.
        for part in text.split(',') {
            said = Some(match part.trim() {
                p if p.eq_ignore_ascii_case("https") => Scheme::Https,
                p if p.eq_ignore_ascii_case("http") => Scheme::Http,
                _ => return Err(AddressError::BadScheme),
            });
        }
    }
    Ok(said.unwrap_or(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> NetworkSet {
        NetworkSet::new(vec!["10.0.0.0/8".parse().unwrap()])
    }

    fn seen(peer: &str, fields: &[(&'static str, &str)]) -> Result<Seen, AddressError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        resolve(format!("{peer}:1234").parse().unwrap(), Scheme::Http, &headers, &proxies())
    }

    fn client_of(peer: &str, xff: &[&str]) -> Result<String, AddressError> {
        let fields: Vec<_> = xff.iter().map(|v| ("x-forwarded-for", *v)).collect();
        seen(peer, &fields).map(|s| s.client.to_string())
    }

    #[test]
    fn s_net_1_a_stranger_may_claim_nothing() {
        assert_eq!(client_of("192.0.2.1", &["10.9.9.9"]).as_deref(), Ok("192.0.2.1"));
        assert_eq!(seen("192.0.2.1", &[("x-forwarded-proto", "https")]).unwrap().scheme, Scheme::Http);
    }

    #[test]
    fn s_net_1_the_first_stranger_from_the_right_is_the_client() {
        assert_eq!(client_of("10.0.0.4", &["6.6.6.6, 192.0.2.7, 10.0.0.9"]).as_deref(), Ok("192.0.2.7"));
        assert_eq!(client_of("10.0.0.4", &["6.6.6.6", "192.0.2.7"]).as_deref(), Ok("192.0.2.7"));
        assert_eq!(client_of("10.0.0.4", &["10.0.0.8"]).as_deref(), Ok("10.0.0.8"));
        assert_eq!(client_of("10.0.0.4", &[]).as_deref(), Ok("10.0.0.4"));
    }

    #[test]
    fn s_net_2_what_cannot_be_read_is_an_error_not_a_skip() {
        for bad in ["a", "", "1.2.3.4:99999", "unknown", "192.0.2.1, x"] {
            assert_eq!(client_of("10.0.0.4", &[bad]), Err(AddressError::BadAddress), "{bad:?}");
        }
        let long = ["192.0.2.1"; 200].join(",");
        assert!(client_of("10.0.0.4", &[&long]).is_err());
        assert!(seen("10.0.0.4", &[("x-forwarded-proto", "ftp")]).is_err());
    }

    #[test]
    fn s_net_4_a_mapped_address_is_the_same_address() {
        let headers = HeaderMap::new();
        let peer = "[::ffff:10.0.0.4]:9".parse().unwrap();
        let seen = resolve(peer, Scheme::Https, &headers, &proxies()).unwrap();
        assert_eq!(seen.client.to_string(), "10.0.0.4");
        assert_eq!(client_of("10.0.0.4", &["[2001:db8::1]:443"]).as_deref(), Ok("2001:db8::1"));
    }
}
