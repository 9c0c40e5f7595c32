//! Do any frames on an HTTP/2 connection cause a panic, or a task that never ends (S-FRAME-14)?
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use stepgate::server::conn::Stream;
use stepgate_fuzz::gate::{Gate, HOST};
use stepgate_fuzz::{connection, input, on_a_data_thread, split};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// HTTP/2 is spoken where ALPN agreed on it, so there is TLS, which resumes its one session.
struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

thread_local! {
    static TLS: Tls = tls();
}

fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .expect("a certificate");
    server.alpn_protocols = vec![b"h2".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let mut client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Tls { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|data: &[u8]| {
    let Some(([choice], text)) = split(data) else { return };
    let gate = Gate::get();
    let mut pieces = input::pieces(text, &gate.cookie);
    if choice & 1 == 0 {
        pieces[0].splice(..0, [PREFACE, SETTINGS].concat());
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    on_a_data_thread(async {
        let (stream, client) = connection();
        let (accept, connect) = TLS.with(|tls| {
            let name = ServerName::try_from(HOST).expect("a name");
            (tls.acceptor.accept(stream), tls.connector.connect(name, client))
        });
        let (stream, client) = tokio::try_join!(accept, connect).expect("a handshake");
        gate.serve(Stream::tls(stream, ()), client, "192.0.2.7:999", &pieces).await
    });
    gate.app.take();
});
