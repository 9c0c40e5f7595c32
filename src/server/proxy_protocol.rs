//! Who is behind this connection, by the word of the balancer that passed it on? The PROXY protocol
//! (HAProxy's specification, versions 1 and 2), read before TLS and before any HTTP.
//!
//! Only on a listener that declares it, where it is then demanded, and only from `trusted_proxies`:
//! read anywhere else it would let a stranger choose their address (S-NET-1, S-NET-3).

use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::domain::host::Scheme;

/// Longest line of version 1, its end included (section 2.1).
const V1_MOST: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;
/// Addresses and TLVs of version 2. Real balancers send some hundred bytes (certificate names among
/// them); the length field would allow 65 535.
const V2_MOST: usize = 4096;

/// What a balancer said of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client; `None` for a connection of the balancer's own (a health check), or where it has
    /// no address to tell.
    pub client: Option<SocketAddr>,
    /// The client came over TLS, which the balancer ended (PP2_TYPE_SSL).
    pub scheme: Option<Scheme>,
}

/// Why there is no telling who is behind a connection.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("no PROXY header came first")]
    Missing,
    #[error("the PROXY header is larger than {V2_MOST} bytes")]
    TooLarge,
    #[error("the PROXY header cannot be read")]
    Unreadable,
    #[error("the connection ended within its PROXY header")]
    Io(#[from] std::io::Error),
}

/// Reads the header and not a byte of what follows. The caller sets the deadline.
pub async fn read(tcp: &mut TcpStream) -> Result<Told, HeaderError> {
    let mut bytes = vec![0; V2_SIGNATURE.len()];
    tcp.read_exact(&mut bytes).await?;
    if bytes == V2_SIGNATURE {
        bytes.resize(V2_HEAD, 0);
        tcp.read_exact(bytes.get_mut(V2_SIGNATURE.len()..).unwrap_or_default()).await?;
        let length = bytes.get(V2_HEAD - 2..).and_then(|l| l.try_into().ok()).map_or(0, u16::from_be_bytes);
        let length = usize::from(length);
        if length > V2_MOST {
            return Err(HeaderError::TooLarge);
        }
        bytes.resize(V2_HEAD + length, 0);
        tcp.read_exact(bytes.get_mut(V2_HEAD..).unwrap_or_default()).await?;
    } else if bytes.starts_with(b"PROXY ") {
        read_line(tcp, &mut bytes).await?;
    } else {
        return Err(HeaderError::Missing);
    }
    parse(&bytes)
}

/// The rest of a version 1 line. What is peeked at belongs to it up to its end, so each look takes
/// something in and none waits for what it has seen already.
async fn read_line(tcp: &mut TcpStream, line: &mut Vec<u8>) -> Result<(), HeaderError> {
    let mut ahead = [0; V1_MOST];
    while !line.ends_with(b"\n") {
        let room = V1_MOST.saturating_sub(line.len());
        let seen = tcp.peek(ahead.get_mut(..room).unwrap_or_default()).await?;
        if seen == 0 {
            // No room left, or the peer closed.
            return Err(HeaderError::Unreadable);
        }
        let seen = ahead.get(..seen).unwrap_or_default();
        let taken = seen.iter().position(|b| *b == b'\n').map_or(seen.len(), |at| at + 1);
        let before = line.len();
        line.resize(before + taken, 0);
        tcp.read_exact(line.get_mut(before..).unwrap_or_default()).await?;
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Told, HeaderError> {
    let (header, used) = ProxyHeader::parse(bytes, ParseConfig::default()).map_err(|_| HeaderError::Unreadable)?;
    if used != bytes.len() {
        return Err(HeaderError::Unreadable);
    }
    let client = match header.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => Some(address.source),
        Some(_datagram) => return Err(HeaderError::Unreadable),
        None => None,
    };
    let over_tls = header.ssl().is_some_and(|ssl| ssl.client_ssl());
    Ok(Told { client, scheme: over_tls.then_some(Scheme::Https) })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// What is read of `sent`, and what is left for the next reader.
    async fn reads(sent: &[u8]) -> (Result<Told, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut gate, _) = listener.accept().await.unwrap();
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let told = read(&mut gate).await;
        let mut rest = Vec::new();
        gate.read_to_end(&mut rest).await.unwrap();
        (told, rest)
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE.as_slice(), &[command, family], &length, body].concat()
    }

    /// 192.0.2.7:51000 to 198.51.100.1:443.
    const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xc7, 0x38, 0x01, 0xbb];

    #[tokio::test]
    async fn the_header_is_read_and_not_a_byte_of_what_follows() {
        let client = Some("192.0.2.7:51000".parse().unwrap());
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n".to_vec();
        for header in [v1, v2(0x21, 0x11, &ADDRESSES)] {
            let (told, rest) = reads(&[header.as_slice(), b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(told.unwrap(), Told { client, scheme: None });
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
        let (told, _) = reads(b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n").await;
        assert_eq!(told.unwrap().client, Some("[2001:db8::7]:51000".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_connection_of_the_balancers_own_tells_nobody() {
        for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0x00, &[]), v2(0x20, 0x11, &ADDRESSES)] {
            let (told, rest) = reads(&[header.as_slice(), b"x"].concat()).await;
            assert_eq!(told.unwrap(), Told { client: None, scheme: None });
            assert_eq!(rest, b"x");
        }
    }

    #[tokio::test]
    async fn a_balancer_that_ended_tls_can_say_so() {
        // PP2_TYPE_SSL: client flags PP2_CLIENT_SSL, verify 0.
        let with = |flags| [ADDRESSES.as_slice(), &[0x20, 0, 5, flags, 0, 0, 0, 0]].concat();
        assert_eq!(reads(&v2(0x21, 0x11, &with(1))).await.0.unwrap().scheme, Some(Scheme::Https));
        assert_eq!(reads(&v2(0x21, 0x11, &with(0))).await.0.unwrap().scheme, None);
    }

    #[tokio::test]
    async fn s_net_3_what_is_no_header_or_too_much_of_one_is_refused() {
        let refused = async |sent: Vec<u8>| reads(&sent).await.0.unwrap_err();
        assert!(matches!(refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()).await, HeaderError::Missing));
        assert!(matches!(
            refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec()).await,
            HeaderError::Missing
        ));
        let huge = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(refused(huge).await, HeaderError::TooLarge));
        for bad in [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 51000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.999 198.51.100.1 51000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\n".to_vec(),
            [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat(),
            v2(0x21, 0x12, &ADDRESSES),
            v2(0x2f, 0x11, &ADDRESSES),
            v2(0x21, 0x11, &ADDRESSES[..8]),
        ] {
            assert!(matches!(refused(bad.clone()).await, HeaderError::Unreadable), "{:?}", bad.escape_ascii());
        }
        for cut in [b"PROXY TCP4 192.0".to_vec(), V2_SIGNATURE[..5].to_vec(), v2(0x21, 0x11, &ADDRESSES)[..20].to_vec()]
        {
            assert!(matches!(refused(cut).await, HeaderError::Io(_) | HeaderError::Unreadable));
        }
    }
}
