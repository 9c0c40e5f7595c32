//! What came in place of what a listener speaks: the usual faults of a set-up, which otherwise show in no
//! log. Nothing of what a peer sent is repeated, and nobody fills the log by sending it again and again.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::telemetry::metrics::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unexpected {
    /// On a listener without `proxy_protocol`.
    ProxyHeader,
    /// On a listener with it.
    NoProxyHeader,
    /// A PROXY header counts only from `trusted_proxies`.
    NotTrusted,
    /// On a listener with `tls`.
    PlainHttp,
    /// On a listener without.
    Tls,
}

/// The start of a PROXY header, version 2.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

impl Unexpected {
    /// By the first bytes of a connection; `None` for what may be right, and for what is nothing we know.
    #[must_use]
    pub fn on_clear_text(first: &[u8]) -> Option<Self> {
        match first {
            [0x16, 3, ..] => Some(Self::Tls),
            _ => is_proxy_header(first).then_some(Self::ProxyHeader),
        }
    }

    /// The same where TLS is awaited.
    #[must_use]
    pub fn on_tls(first: &[u8]) -> Option<Self> {
        if is_proxy_header(first) {
            return Some(Self::ProxyHeader);
        }
        let method = first.iter().take_while(|b| b.is_ascii_uppercase()).count();
        (method > 0 && first.get(method) == Some(&b' ')).then_some(Self::PlainHttp)
    }

    fn counter(self, metrics: &Metrics) -> &AtomicU64 {
        let [proxy_header, no_proxy_header, not_trusted, plain_http, tls] = &metrics.unexpected;
        match self {
            Self::ProxyHeader => proxy_header,
            Self::NoProxyHeader => no_proxy_header,
            Self::NotTrusted => not_trusted,
            Self::PlainHttp => plain_http,
            Self::Tls => tls,
        }
    }

    /// What it was, and what to do about it.
    fn words(self) -> &'static str {
        match self {
            Self::ProxyHeader => {
                "a PROXY header came to a listener that awaits none: set `proxy_protocol: true` there, or let the balancer send none"
            }
            Self::NoProxyHeader => {
                "a connection without a good PROXY header was closed: let the balancer send one, or leave `proxy_protocol` out"
            }
            Self::NotTrusted => {
                "a connection to a listener with `proxy_protocol` was closed, for its peer is not in `trusted_proxies`: name it there, if it is the balancer"
            }
            Self::PlainHttp => "plain HTTP came to a listener that speaks TLS: whoever sends it should write https://",
            Self::Tls => {
                "TLS came to a listener that speaks clear text: give it `tls`, or let the proxy in front go there by http://"
            }
        }
    }
}

fn is_proxy_header(first: &[u8]) -> bool {
    first.starts_with(b"PROXY ") || first.starts_with(V2_SIGNATURE)
}

/// One line for each listener and kind in this time.
const EVERY: Duration = Duration::from_secs(60);
/// Addresses whose fields were ignored are named, up to so many: on a public address strangers send them too.
const MOST_PEERS: usize = 64;

/// Says what came, seldom enough. Bounded by the listeners, their kinds of fault, and [`MOST_PEERS`].
#[derive(Debug, Default)]
pub struct Notices {
    said: Mutex<HashMap<(SocketAddr, Unexpected), Said>>,
    ignored: Mutex<HashSet<ClientIp>>,
}

#[derive(Debug)]
struct Said {
    at: Timestamp,
    /// How often it came since.
    more: u64,
}

impl Notices {
    pub fn came(&self, what: Unexpected, local: SocketAddr, peer: SocketAddr, now: Timestamp, metrics: &Metrics) {
        what.counter(metrics).fetch_add(1, Ordering::Relaxed);
        if let Some(more) = self.more_since(what, local, now) {
            let peer = ClientIp::new(peer.ip());
            tracing::warn!(listener = %local, peer = %peer, more_since_last_line = more, "{}", what.words());
        }
    }

    /// How many came without a line of their own, where there is one now.
    fn more_since(&self, what: Unexpected, local: SocketAddr, now: Timestamp) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(&(local, what)) {
            Some(before) if before.at.plus(EVERY) > now => {
                before.more += 1;
                None
            }
            _ => Some(said.insert((local, what), Said { at: now, more: 0 }).map_or(0, |before| before.more)),
        }
    }

    /// A peer that is no trusted proxy sent fields that only one may send. Once for each.
    pub fn fields_ignored(&self, peer: ClientIp) {
        if self.is_new(peer) {
            tracing::warn!(
                peer = %peer,
                "X-Forwarded-* from this address is ignored: it is not in `trusted_proxies`; name it there, if it is your proxy"
            );
        }
    }

    fn is_new(&self, peer: ClientIp) -> bool {
        let mut known = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < MOST_PEERS && known.insert(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_told_by_its_first_bytes() {
        use Unexpected::{PlainHttp, ProxyHeader, Tls};
        for (first, clear, tls) in [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\n".as_slice(), Some(ProxyHeader), Some(ProxyHeader)),
            (V2_SIGNATURE, Some(ProxyHeader), Some(ProxyHeader)),
            (b"GET / HTTP/1.1\r\n", None, Some(PlainHttp)),
            (b"PRI * HTTP/2.0\r\n", None, Some(PlainHttp)),
            (b"\x16\x03\x01\x02\x00", Some(Tls), None),
            (b"SSH-2.0-x\r\n", None, None),
            (b"\x16", None, None),
            (b"", None, None),
        ] {
            assert_eq!((Unexpected::on_clear_text(first), Unexpected::on_tls(first)), (clear, tls), "{first:?}");
        }
    }

    #[test]
    fn nobody_fills_the_log_by_sending_it_again_and_again() {
        let notices = Notices::default();
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let start = Timestamp::from_secs(1_800_000_000);
        let at = |secs| start.plus(Duration::from_secs(secs));
        assert_eq!(notices.more_since(Unexpected::Tls, local(1), start), Some(0));
        for secs in 0..60 {
            assert_eq!(notices.more_since(Unexpected::Tls, local(1), at(secs)), None);
        }
        assert_eq!(notices.more_since(Unexpected::Tls, local(2), start), Some(0), "another listener");
        assert_eq!(notices.more_since(Unexpected::Tls, local(1), at(60)), Some(60));
        let peers = (0..=255).map(|n| ClientIp::new([192, 0, 2, n].into()));
        assert_eq!(peers.clone().chain(peers).filter(|peer| notices.is_new(*peer)).count(), MOST_PEERS);
    }
}
