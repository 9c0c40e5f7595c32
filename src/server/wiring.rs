//! What does the gate see of a request that comes the way of everybody's? Asked by `stepgate doctor`,
//! which holds the key ring; for everybody else there is nothing here.
//!
//! The answer names the proxy in front and whether its word counts: the usual faults of a set-up
//! (an untrusted balancer, a replaced Host, a lost `X-Forwarded-Proto`) show in it and in no log.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};

use super::client_addr::Seen;
use super::conn::ConnInfo;
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::crypto::{KeyRing, Purpose};
use crate::domain::host::HostName;

/// Where it is asked, with a token in the query (queries are in no log).
pub const PATH: &str = "/.stepgate/wiring";
/// How long a token is good, before and after it was made: clocks may differ.
const LIFE: Duration = Duration::from_secs(300);
/// Fields by which a proxy speaks of the client.
const FORWARDED: [&str; 5] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"];

/// How one request arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The other end of the connection.
    pub peer: String,
    pub peer_is_trusted: bool,
    /// Who the gate takes for the client, and by which scheme they came.
    pub client: String,
    pub scheme: String,
    /// The fields of [`FORWARDED`] that were there.
    pub forwarded: Vec<String>,
}

impl Wiring {
    /// Whether it may be an answer of ours: addresses and known words, nothing that a terminal acts
    /// on. Whoever answers in the gate's place is not believed.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
        let known = self.forwarded.iter().all(|name| FORWARDED.contains(&name.as_str()));
        address(&self.peer) && address(&self.client) && known && matches!(self.scheme.as_str(), "http" | "https")
    }
}

/// A token for questions at one host, made by whoever holds the key ring.
#[must_use]
pub fn token(keys: &KeyRing, host: &str, now: Timestamp) -> String {
    keys.seal_token(Purpose::Doctor, format!("{} {host}", now.as_secs()).as_bytes())
}

/// The answer, where the path and the token are right.
pub fn told<B>(
    conn: &ConnInfo,
    request: &Request<B>,
    host: &HostName,
    seen: &Seen,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<Response<Bytes>> {
    if request.uri().path() != PATH {
        return None;
    }
    let token = request.uri().query()?.strip_prefix("token=")?;
    let made = keys.open_token(Purpose::Doctor, token).ok()?;
    let (made, at) = std::str::from_utf8(&made).ok()?.split_once(' ')?;
    let made = Timestamp::from_secs(made.parse().ok()?);
    if at != host.as_str() {
        return None;
    }
    if made.plus(LIFE) < now || now.plus(LIFE) < made {
        return None;
    }
    let wiring = Wiring {
        peer: ClientIp::new(conn.peer.ip()).to_string(),
        peer_is_trusted: seen.peer_is_trusted,
        client: seen.client.to_string(),
        scheme: seen.scheme.as_str().to_owned(),
        forwarded: FORWARDED.into_iter().filter(|f| request.headers().contains_key(*f)).map(str::to_owned).collect(),
    };
    let mut response = Response::new(Bytes::from(serde_json::to_vec(&wiring).ok()?));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;
    use crate::domain::host::Scheme;
    use crate::proxy::ConnMemory;

    #[test]
    fn only_who_holds_the_key_ring_learns_how_a_request_arrived() {
        let now = Timestamp::from_secs(1_800_000_000);
        let keys = KeyRing::ephemeral(&*SeededRng::new(1));
        let conn = ConnInfo {
            peer: "10.0.0.4:999".parse().unwrap(),
            local: "10.0.0.9:443".parse().unwrap(),
            scheme: Scheme::Https,
            fields_may_tell: true,
            requests: None,
            kept: false,
            room: crate::server::room::Room::default(),
            memory: ConnMemory::default(),
        };
        let seen = Seen { client: ClientIp::new([192, 0, 2, 7].into()), scheme: Scheme::Https, peer_is_trusted: true };
        let host = HostName::parse(b"a.test", Scheme::Https).unwrap();
        let ask = |uri: &str| {
            let request = Request::builder().uri(uri).header("x-forwarded-for", "192.0.2.7").body(()).unwrap();
            told(&conn, &request, &host, &seen, &keys, now)
        };
        let with = |token: String| ask(&format!("{PATH}?token={token}"));
        let answer = with(token(&keys, "a.test", now)).expect("an answer");
        let wiring: Wiring = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(
            (wiring.peer.as_str(), wiring.client.as_str(), wiring.peer_is_trusted),
            ("10.0.0.4", "192.0.2.7", true)
        );
        assert_eq!(wiring.forwarded, ["x-forwarded-for"]);
        assert!(ask(PATH).is_none() && with(String::new()).is_none() && with("AAAA".into()).is_none());
        assert!(with(token(&KeyRing::ephemeral(&*SeededRng::new(2)), "a.test", now)).is_none(), "another ring");
        assert!(with(token(&keys, "b.test", now)).is_none(), "another host");
        assert!(wiring.is_plausible());
        let forged = Wiring { peer: "10.0.0.4\u{1b}[2J".to_owned(), ..wiring };
        assert!(!forged.is_plausible());
        assert!(
            with(token(&keys, "a.test", now.minus(LIFE * 2))).is_none()
                && with(token(&keys, "a.test", now.plus(LIFE * 2))).is_none()
        );
        assert!(with(keys.seal_token(Purpose::ReturnTo, b"1800000000")).is_none(), "made for something else");
    }
}
