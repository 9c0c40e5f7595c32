//! The host that a request names, in one spelling only.

use std::fmt;
use std::sync::Arc;

/// A host name (or address) in lower case, with its port only where that is not the scheme's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// Why a Host was refused; the answer is 400 (S-HOST-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than 253 bytes")]
    TooLong,
    #[error("the host holds a byte that host names do not have")]
    BadByte,
    #[error("the host ends in a dot")]
    TrailingDot,
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
}

/// The scheme a request came by, for its default port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without a port.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.0.starts_with('[') {
            return self.0.split_inclusive(']').next().unwrap_or(&self.0);
        }
        self.0.split(':').next().unwrap_or(&self.0)
    }

    /// The port, where it is not the scheme's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.get(self.name().len()..)?.strip_prefix(':')?.parse().ok()
    }

    /// Reads a Host or `:authority` value. The scheme's default port is dropped, so
    /// `app.example:443` over https equals `app.example`.
    pub fn parse(raw: &[u8], scheme: Scheme) -> Result<Self, HostError> {
        if raw.is_empty() {
            return Err(HostError::Empty);
        }
        let (name, port) = split_port(raw)?;
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > 253 {
            return Err(HostError::TooLong);
        }
        if name.ends_with(b".") {
            return Err(HostError::TrailingDot);
        }
        let bracketed = name.starts_with(b"[");
        if bracketed {
            let inner = &name[1..name.len().saturating_sub(1)];
            let text = std::str::from_utf8(inner).map_err(|_| HostError::BadByte)?;
            text.parse::<std::net::Ipv6Addr>().map_err(|_| HostError::BadByte)?;
        } else {
            // An empty label (`a..b`, `.a`) is no name; `_` stands in real internal host names.
            let ok = name.split(|b| *b == b'.').all(|label| {
                !label.is_empty() && label.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
            });
            if !ok {
                return Err(HostError::BadByte);
            }
        }
        let mut text = String::from_utf8_lossy(name).to_ascii_lowercase();
        if let Some(port) = port.filter(|p| *p != scheme.default_port()) {
            text.push(':');
            text.push_str(&port.to_string());
        }
        Ok(Self(text.into()))
    }
}

fn split_port(raw: &[u8]) -> Result<(&[u8], Option<u16>), HostError> {
    let from = if raw.starts_with(b"[") {
        raw.iter().position(|b| *b == b']').ok_or(HostError::BadByte)? + 1
    } else {
        raw.iter().position(|b| *b == b':').unwrap_or(raw.len())
    };
    let (name, rest) = raw.split_at(from);
    if rest.is_empty() {
        return Ok((name, None));
    }
    let digits = rest.strip_prefix(b":").ok_or(HostError::BadByte)?;
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HostError::BadPort);
    }
    let port: u16 = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).ok_or(HostError::BadPort)?;
    if port == 0 { Err(HostError::BadPort) } else { Ok((name, Some(port))) }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn https(raw: &str) -> Result<String, HostError> {
        HostName::parse(raw.as_bytes(), Scheme::Https).map(|h| h.as_str().to_owned())
    }

    #[test]
    fn one_spelling_for_each_host() {
        assert_eq!(https("APP.corp.example").as_deref(), Ok("app.corp.example"));
        assert_eq!(https("app.corp.example:443").as_deref(), Ok("app.corp.example"));
        assert_eq!(https("app.corp.example:8443").as_deref(), Ok("app.corp.example:8443"));
        assert_eq!(https("[::1]:8443").as_deref(), Ok("[::1]:8443"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "", "a.", "a b", "a,b", "a/b", "u@a", "a:", "a:0", "a:99999", "a:8x", "a..b", ".a", ":80", "[::1",
            "[::1]x", "[x]", "a:1:2",
        ] {
            assert!(https(bad).is_err(), "{bad:?} was taken");
        }
    }
}
