//! Values with units and forms of their own: durations, sizes, networks, addresses of apps.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::snapshot::GatewayUrl;
use crate::base::clock::Timestamp;
use crate::domain::host::Scheme;
use crate::domain::path::{CanonicalPath, PathForms};
use crate::domain::upstream::UpstreamUrl;

/// Up to when something holds: a moment, or a date, whose whole day (UTC) still counts.
pub fn until(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = Timestamp::parse_rfc3339(text) {
        return Ok(at);
    }
    let wrong =
        || format!("{text:?} is no end: write a date such as 2026-12-31 or a time such as 2026-12-31T18:00:00Z");
    let date: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
    // A date beside a time without a zone would be read as that date alone.
    if date.to_string() != text {
        return Err(wrong());
    }
    let midnight = |day: jiff::civil::Date| jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0));
    let next = date.tomorrow().and_then(midnight).map_err(|_| wrong())?;
    Ok(Timestamp::from_millis(next.as_millisecond()))
}

/// `250ms`, `30s`, `15m`, `10h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: a number and ms, s, m, h or d, such as 15m");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    // A hundred years: sums with it stay far from any overflow.
    number
        .checked_mul(millis)
        .filter(|ms| *ms <= 100 * 366 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is more than a hundred years"))
}

/// `0B`, `256KiB`, `1MiB`, `1GiB`; also `KB`, `MB`, `GB` by thousands.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: a number and B, KiB, MiB or GiB, such as 256KiB");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// The size of a form that is kept: each waits in the store, sealed as a whole.
pub fn kept_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes > 16 << 20 {
        return Err(format!("{text} is more than is kept of a form: 16MiB at most"));
    }
    Ok(bytes)
}

/// The size of a body that is read before it is judged: it waits in memory, and is taken apart on the thread that
/// serves others too.
pub fn judged_size(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    if !(1 << 10..=1 << 20).contains(&bytes) {
        return Err(format!("{text} of a body cannot be judged: 1KiB to 1MiB"));
    }
    usize::try_from(bytes).map_err(|_| format!("{text} is more than this machine can address"))
}

/// `10.0.0.0/8`, `2001:db8::/32`, or one address. IPv4 in IPv6 clothes is IPv4 (S-NET-4).
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(addr) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(addr.to_canonical()));
    }
    let net: IpNet =
        text.parse().map_err(|_| format!("{text:?} is no network: write it like 198.51.100.0/24 or 2001:db8::/32"))?;
    if net.trunc() != net {
        return Err(format!("{text:?} has bits set past its prefix: the network is {}", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(mapped) = Ipv4Net::new(v4, prefix)
    {
        return Ok(mapped.into());
    }
    Ok(net)
}

/// `127.0.0.1:8443` or `[::]:443`; port 0 lets the system choose.
pub fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address to listen on: write it like \"[::]:443\" (every address) or 127.0.0.1:8080")
    })
}

/// `http://HOST[:PORT]` or `https://HOST[:PORT]`, nothing after it: the path that was judged is the
/// path that is sent.
pub fn upstream_url(text: &str) -> Result<UpstreamUrl, String> {
    let wrong = |why: &str| format!("{text:?} is no upstream: {why}");
    let uri: http::Uri = text.parse().map_err(|_| wrong("write it like https://10.0.4.11:8443"))?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(wrong("it starts with http:// or https://")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("the host is missing"))?;
    if authority.as_str().contains('@') {
        return Err("an upstream holds no user and password: use an identity header with { file: ... }".to_owned());
    }
    if uri.path() != "/" || text.ends_with('/') || uri.query().is_some() || text.contains(['#', '?']) {
        return Err(wrong("nothing stands after the host and port; a path before every other goes into `path_prefix`"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(wrong("the host is missing"));
    }
    let port = match authority.as_str().rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => {
            port.parse().ok().filter(|p| *p > 0).ok_or_else(|| wrong("the port is a number from 1 to 65535"))?
        }
        _ => scheme.default_port(),
    };
    Ok(UpstreamUrl { scheme, host, port })
}

/// The address of a gateway for text messages. Whether it may be without TLS is asked where the file is read.
pub fn gateway_url(text: &str) -> Result<GatewayUrl, String> {
    let no = |why: &str| format!("{text:?} is no address of a gateway: {why}");
    let url = url::Url::parse(text).map_err(|error| no(&error.to_string()))?;
    let https = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(no("it begins with https:// or http://")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Never repeated: it may be the secret itself.
        return Err("a login has no place in the address: write `basic` or `bearer`".to_owned());
    }
    if url.fragment().is_some() {
        return Err(no("a part behind # is never sent"));
    }
    let (host, is_address) = match url.host().ok_or_else(|| no("it names no host"))? {
        url::Host::Domain(name) => (name.to_owned(), false),
        url::Host::Ipv4(address) => (address.to_string(), true),
        url::Host::Ipv6(address) => (address.to_string(), true),
    };
    let port = url.port_or_known_default().ok_or_else(|| no("it names no port"))?;
    let authority = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    Ok(GatewayUrl { https, host, is_address, port, authority, target })
}

/// The JSON template of a text message.
pub fn sms_document(text: &str) -> Result<serde_json::Value, String> {
    let document = serde_json::from_str(text).map_err(|error| format!("it is no JSON document: {error}"))?;
    match document {
        serde_json::Value::Object(_) | serde_json::Value::Array(_) => Ok(document),
        _ => Err("it is neither an object nor a list".to_owned()),
    }
}

/// What may stand in a request line as it is: a path, with a query where one is needed.
pub fn origin_form(text: &str) -> Result<(), String> {
    let fine = text.starts_with('/')
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        && http::uri::PathAndQuery::try_from(text).is_ok();
    if fine { Ok(()) } else { Err(format!("{text:?} is no path of a request: write it like /ping")) }
}

/// A path that stands before others: as it is sent, without a slash at its end.
pub fn path_prefix(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{text:?} is no path prefix such as /legacy: {why}"));
    if text.ends_with('/') {
        return wrong("leave out the slash at its end");
    }
    match CanonicalPath::parse(text, PathForms::default()) {
        Ok(path) if path.as_str() == text => Ok(()),
        Ok(path) => wrong(&format!("write it as it is sent: {}", path.as_str())),
        Err(why) => wrong(&why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_units() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(size("256KiB"), Ok(262_144));
        assert_eq!(size("0B"), Ok(0));
        for bad in ["", "15", "m", "15 m", "-1s", "1.5h", "15min", "99999999999999999999d", "40000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "256", "KiB", "1k", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn s_net_4_mapped_networks_are_ipv4() {
        assert_eq!(network("::ffff:10.0.0.0/104").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("::ffff:10.0.0.4").unwrap().to_string(), "10.0.0.4/32");
        assert!(network("10.0.0.4/24").unwrap_err().contains("10.0.0.0/24"));
        assert!(network("office").is_err());
    }

    #[test]
    fn an_upstream_is_scheme_host_and_port() {
        let url = upstream_url("https://10.0.4.11:8443").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("10.0.4.11", 8443));
        assert_eq!(upstream_url("http://[::1]").unwrap().port, 80);
        assert_eq!(upstream_url("http://[::1]:81").unwrap().host, "::1");
        for bad in ["", "10.0.4.11", "ftp://a", "http://a/b", "http://a/", "http://u:p@a", "http://a:0", "http://a?x"] {
            assert!(upstream_url(bad).is_err(), "{bad}");
        }
        assert!(!upstream_url("http://u:hunter2@a").unwrap_err().contains("hunter2"));
    }
}
