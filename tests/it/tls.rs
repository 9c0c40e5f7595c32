//! Which TLS does the gate take from clients, and what not?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};
use rustls_pki_types::ServerName;

use crate::harness::tls::{certificate, trusting};
use crate::harness::{World, send};

/// A gate with an open app behind a TLS listener, and its certificate.
fn behind_tls() -> (World, String) {
    let certs = tempfile::tempdir().unwrap();
    let pem = certificate(certs.path(), "app", &["app.test"]);
    let listener =
        format!("{{ addr: \"127.0.0.1:0\", role: proxy, tls: {{ certificates: {} }} }}", certs.path().display());
    let open = "rules: [{ match: { path: /** }, allow: [anyone], require: none }]";
    (World::new().app(open).listen(&listener).start(), pem)
}

/// A ClientHello as old clients send it (RFC 4346 section 7.4.1.2, RFC 5246 section 7.4.1.2): `version`
/// stands in it, and no extension names another.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let suites: &[u8] = &[0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f];
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, // supported_groups: secp256r1
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // ec_point_formats: uncompressed
        0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x08, 0x04, // ecdsa_secp256r1_sha256, rsa_pss
        0x00, 0x17, 0x00, 0x00, // extended_master_secret
    ];
    let mut body = version.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, u8::try_from(suites.len()).unwrap()]);
    body.extend_from_slice(suites);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&[0, u8::try_from(extensions.len()).unwrap()]);
    body.extend_from_slice(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend_from_slice(&body);
    record
}

#[test]
fn s_up_2_a_client_that_speaks_less_than_tls_1_2_is_refused() {
    let (world, _) = behind_tls();
    let answer = |version| {
        let mut stream = send(world.other_proxy(), &hello(version));
        let mut record = [0; 7];
        stream.read_exact(&mut record).unwrap();
        (record, stream)
    };
    let ([kind, _, _, _, _, message, _], _) = answer([3, 3]);
    assert_eq!((kind, message), (0x16, 2), "TLS 1.2: a ServerHello, so that nothing else is wrong with it");
    for version in [[3, 2], [3, 1], [3, 0]] {
        let ([kind, _, _, _, _, level, alert], mut stream) = answer(version);
        assert_eq!((kind, level, alert), (0x15, 2, 70), "fatal: protocol_version, to {version:?}");
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

/// One request over a connection of its own, up to the end of the connection.
fn visit(world: &World, config: &Arc<ClientConfig>) -> ClientConnection {
    let mut socket = TcpStream::connect(world.other_proxy()).unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), ServerName::try_from("app.test").unwrap()).unwrap();
    assert!(tls.early_data().is_none(), "a request that is sent ahead of the handshake may be sent again by anyone");
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    tls
}

#[test]
fn s_up_2_a_session_may_be_resumed_and_no_request_is_taken_ahead_of_the_handshake() {
    let (world, pem) = behind_tls();
    let mut config = ClientConfig::clone(&trusting(&pem, "http/1.1"));
    config.enable_early_data = true;
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    assert_eq!(visit(&world, &config).handshake_kind(), Some(HandshakeKind::Full));
    let again = visit(&world, &config);
    assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed), "there was a ticket, and it offered none");
    assert!(!again.is_early_data_accepted());
}

/// Takes every ticket for one that allows early data, whatever it says.
#[derive(Debug)]
struct Stubborn(ClientSessionMemoryCache);

impl ClientSessionStore for Stubborn {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, mut value: Tls13ClientSessionValue) {
        value._private_set_max_early_data_size(16_384);
        self.0.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

/// Whoever recorded early data may send it again, to any gate that has the key of the ticket.
#[test]
fn s_up_2_a_request_that_comes_ahead_of_the_handshake_unasked_reaches_nobody() {
    let (world, pem) = behind_tls();
    let mut config = ClientConfig::clone(&trusting(&pem, "http/1.1"));
    config.resumption = Resumption::store(Arc::new(Stubborn(ClientSessionMemoryCache::new(8))));
    visit(&world, &Arc::new(config.clone()));
    config.enable_early_data = true;

    let mut socket = TcpStream::connect(world.other_proxy()).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("app.test").unwrap()).unwrap();
    let early = b"GET /early HTTP/1.1\r\nHost: app.test\r\n\r\n";
    assert_eq!(tls.early_data().unwrap().write(early).unwrap(), early.len());
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"GET /late HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!tls.is_early_data_accepted());
    let lines: Vec<String> = world.backend.received().into_iter().map(|got| got.line).collect();
    assert_eq!(lines, ["GET /x HTTP/1.1", "GET /late HTTP/1.1"]);
}
