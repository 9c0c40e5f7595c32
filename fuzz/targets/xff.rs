//! Can anybody but a trusted proxy say who the client is?
#![no_main]

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use stepgate::base::net::{ClientIp, NetworkSet};
use stepgate::domain::host::Scheme;
use stepgate::server::client_addr::resolve;
use stepgate_fuzz::split;

const PEERS: [&str; 6] =
    ["192.0.2.1:9", "10.0.0.4:9", "[::ffff:10.1.2.3]:9", "[fd00::1]:9", "[2001:db8::1]:9", "127.0.0.1:9"];

fn trusted(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.segments()[0] & 0xff00 == 0xfd00,
    }
}

/// Lines are fields: those that begin with `p` say the scheme, others the client.
fn fields(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|b| *b == b'\n') {
        let (name, value) = match line.strip_prefix(b"p") {
            Some(value) => ("x-forwarded-proto", value),
            None => ("x-forwarded-for", line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

fuzz_target!(|data: &[u8]| {
    let Some(([choice], lines)) = split(data) else { return };
    let peer: SocketAddr = PEERS[usize::from(choice >> 1) % PEERS.len()].parse().expect("an address");
    let own = if choice & 1 == 0 { Scheme::Https } else { Scheme::Http };
    let proxies = NetworkSet::new(vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("one")]);
    let headers = fields(lines);
    let seen = resolve(peer, own, &headers, &proxies);
    if !trusted(peer.ip()) {
        let seen = seen.expect("nothing was read");
        assert_eq!((seen.client, seen.scheme, seen.peer_is_trusted), (ClientIp::new(peer.ip()), own, false));
        return;
    }
    let Ok(seen) = seen else { return };
    assert!(seen.peer_is_trusted);
    let said: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    let said = said.join(",");
    if said.is_empty() && headers.get("x-forwarded-for").is_none() {
        assert_eq!(seen.client, ClientIp::new(peer.ip()));
        return;
    }
    // One field or several, it is one list.
    let mut joined = headers.clone();
    joined.insert("x-forwarded-for", HeaderValue::from_str(&said).expect("values"));
    assert_eq!(resolve(peer, own, &joined, &proxies), Ok(seen));
    // Behind the first stranger anybody may write: it changes nothing.
    if !trusted(seen.client.addr()) {
        let forged = format!("203.0.113.66, {said}");
        joined.insert("x-forwarded-for", HeaderValue::from_str(&forged).expect("values"));
        assert!(resolve(peer, own, &joined, &proxies).map_or(true, |again| again == seen));
    }
    // The client is somebody who was named, and everybody named after them is one of ours.
    let address = |part: &str| {
        let part = part.trim();
        let bare = part.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse::<IpAddr>().ok().or_else(|| part.parse::<SocketAddr>().ok().map(|a| a.ip()));
        ip.unwrap_or_else(|| panic!("{part:?} was read as an address")).to_canonical()
    };
    let hops: Vec<IpAddr> = said.split(',').map(address).collect();
    let expected = hops.iter().rev().find(|hop| !trusted(**hop)).unwrap_or(&hops[0]);
    assert_eq!(seen.client.addr(), *expected, "{said:?}");
});
