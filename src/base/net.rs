//! Addresses: who the client is, and sets of networks.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The client's address as the gate believes it, an IPv4-mapped IPv6 address as IPv4 (S-NET-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientIp(IpAddr);

impl ClientIp {
    #[must_use]
    pub fn new(addr: IpAddr) -> Self {
        Self(addr.to_canonical())
    }

    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0
    }

    /// What counters are kept by: the address for IPv4, the /64 for IPv6, for one subscriber
    /// usually holds a whole /64 (S-NET-4).
    #[must_use]
    pub fn counter_key(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(v6) => {
                let bits = u128::from(v6) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(bits))
            }
        }
    }
}

impl ClientIp {
    /// What larger counters are kept by: the /24 for IPv4, the /48 for IPv6, which is what one
    /// subscriber may hold at most (RFC 6177).
    #[must_use]
    pub fn network_key(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & 0xffff_ff00).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !(u128::MAX >> 48)).into()),
        }
    }
}

impl fmt::Display for ClientIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClientIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of networks, as `networks:` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet(Vec<IpNet>);

impl NetworkSet {
    #[must_use]
    pub fn new(nets: Vec<IpNet>) -> Self {
        Self(nets)
    }

    #[must_use]
    pub fn contains(&self, ip: ClientIp) -> bool {
        self.0.iter().any(|net| net.contains(&ip.0))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}
