//! Apps behind TLS: who they must prove to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use stepgate::base::secret::Secret;
use stepgate::config::{Purpose, from_text};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::route::{AppName, Route, RouteTable};
use stepgate::domain::upstream::{ClientCertificate, Protocol, Upstream, UpstreamUrl};
use stepgate::proxy::upstream::tls::{Offer, TlsConfigs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::world::{App, LocalExecutor, World, ok, route, soon, story};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of this CA for `name`, with its key.
fn issued(ca: &Ca, name: &str) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, ca).unwrap(), key)
}

/// A CA, written to a file, and an app whose certificate it signed for `name`; it lets in only
/// whoever shows a certificate of `clients`.
async fn https_app_for(dir: &Path, name: &str, clients: Option<&Ca>) -> (PathBuf, u16) {
    let ca = ca();
    let leaf = issued(&ca, name);
    https_app_with(dir, name, &ca, leaf, clients).await
}

async fn https_app_with(
    dir: &Path,
    name: &str,
    ca: &Ca,
    (leaf, key): (Certificate, KeyPair),
    clients: Option<&Ca>,
) -> (PathBuf, u16) {
    let file = dir.join(format!("{name}.pem"));
    std::fs::write(&file, ca.pem()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match clients {
        None => builder.unwrap().with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.unwrap().with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure").await;
            let _ = stream.shutdown().await;
        }
    });
    (file, port)
}

async fn https_app(dir: &Path, name: &str) -> (PathBuf, u16) {
    https_app_for(dir, name, None).await
}

fn at(port: u16) -> Upstream {
    Upstream::at(vec![UpstreamUrl { scheme: Scheme::Https, host: "127.0.0.1".into(), port }])
}

#[test]
fn s_up_2_an_app_behind_tls_must_prove_its_name() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let (own, port) = https_app(dir.path(), "127.0.0.1").await;
        let (other, wrong_name) = https_app(dir.path(), "other.example").await;
        let world = World::of(App::start(|_| ok("clear")).await, |_| {}).await;
        let status = async |port: u16, ca: Option<&PathBuf>, insecure: bool| {
            world.reload(|route| {
                route.upstream = Arc::new(Upstream { ca: ca.cloned(), insecure, ..at(port) });
            });
            let answer = world.get("/pub/x", "").await;
            assert_eq!(answer.status == 200, answer.text() == "secure");
            let tells = answer.text().contains("127.0.0.1") || answer.text().contains(&port.to_string());
            assert!(!tells, "S-UP-7: {}", answer.text());
            answer.status
        };
        assert_eq!(status(port, Some(&own), false).await, 200);
        assert_eq!(status(port, None, false).await, 502, "the machine's roots do not know this CA");
        assert_eq!(status(port, Some(&other), false).await, 502, "nor does another CA");
        assert_eq!(status(wrong_name, Some(&other), false).await, 502, "the certificate is for another name");
        assert_eq!(status(wrong_name, None, true).await, 200, "said by name in the file");

        let authority = ca();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        let (its_own, expired) = https_app_with(dir.path(), "expired", &authority, (leaf, key), None).await;
        assert_eq!(status(expired, Some(&its_own), false).await, 502, "it has ended");
    });
}

#[test]
fn an_app_behind_tls_is_told_of_an_end_and_of_none_where_a_request_broke_off() {
    story(async {
        let authority = ca();
        let (leaf, key) = issued(&authority, "127.0.0.1");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let ends: std::rc::Rc<std::cell::RefCell<Vec<bool>>> = Default::default();
        let seen = std::rc::Rc::clone(&ends);
        tokio::task::spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut stream = acceptor.accept(tcp).await.unwrap();
                let mut got = Vec::new();
                let is_told = loop {
                    match stream.read_buf(&mut got).await {
                        Ok(0) => break true,
                        // Without a word of TLS, the end is an error.
                        Err(_) => break false,
                        Ok(_) if got.ends_with(b"end") => {
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                        }
                        Ok(_) => {}
                    }
                };
                seen.borrow_mut().push(is_told);
            }
        });
        let world = World::of(App::start(|_| ok("clear")).await, |route| {
            route.upstream = Arc::new(Upstream { insecure: true, ..at(port) });
        })
        .await;
        assert_eq!(world.ask("POST /pub/x", "Content-Length: 3\r\n", "end").await.text(), "ok");
        super::world::eventually(|| ends.borrow().len() == 1).await;
        let mut client = world.connect().await;
        let head = format!("POST /pub/x HTTP/1.1\r\nHost: {}\r\nContent-Length: 9\r\n\r\nhalf", super::world::HOST);
        client.write(&head).await;
        client.stream.shutdown().await.unwrap();
        super::world::eventually(|| ends.borrow().len() == 2).await;
        assert_eq!(*ends.borrow(), [true, false]);
    });
}

/// A server that chooses this version, whatever it is offered, and what it was answered.
async fn chooses(version: [u8; 2]) -> (u16, tokio::sync::oneshot::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (says, answered) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = [0; 5];
        tcp.read_exact(&mut head).await.unwrap();
        tcp.read_exact(&mut vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))]).await.unwrap();
        // ServerHello (RFC 4346 section 7.4.1.3): version, random, no session, ECDHE-RSA-AES128-SHA, no compression.
        let mut record = vec![0x16, version[0], version[1], 0, 42, 2, 0, 0, 38, version[0], version[1]];
        record.extend_from_slice(&[7; 32]);
        record.extend_from_slice(&[0, 0xc0, 0x13, 0]);
        tcp.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        let _ = says.send(answer);
    });
    (port, answered)
}

#[test]
fn s_up_2_an_app_that_speaks_less_than_tls_1_2_is_refused_even_where_nothing_is_verified() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, ca().pem()).unwrap();
        let world = World::of(App::start(|_| ok("clear")).await, |_| {}).await;
        for (version, insecure) in [([3, 2], false), ([3, 2], true), ([3, 1], true)] {
            let (port, answered) = chooses(version).await;
            world.reload(|route| route.upstream = Arc::new(Upstream { ca: Some(file.clone()), insecure, ..at(port) }));
            assert_eq!(world.get("/pub/x", "").await.status, 502, "{version:?}");
            let answer = soon(answered).await.unwrap();
            assert!(answer.ends_with(&[0, 2, 2, 70]) && answer[0] == 0x15, "fatal: protocol_version; {answer:?}");
        }
    });
}

#[test]
fn s_up_2_a_name_in_the_file_stands_for_the_host_of_the_url() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let (ca, port) = https_app(dir.path(), "payroll.internal").await;
        let world = World::of(App::start(|_| ok("clear")).await, |_| {}).await;
        for (name, status) in [(None, 502), (Some("payroll.internal"), 200), (Some("127.0.0.1"), 502)] {
            world.reload(|route| {
                let server_name = name.map(str::to_owned);
                route.upstream = Arc::new(Upstream { ca: Some(ca.clone()), server_name, ..at(port) });
            });
            assert_eq!(world.get("/pub/x", "").await.status, status, "{name:?}");
        }
    });
}

#[test]
fn an_app_that_asks_who_connects_is_shown_the_certificate_of_the_file_and_its_successor_after_a_reload() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let (ours, others) = (ca(), ca());
        let (ca, port) = https_app_for(dir.path(), "127.0.0.1", Some(&ours)).await;
        let world = World::of(App::start(|_| ok("clear")).await, |_| {}).await;
        let file = dir.path().join("gate.crt");
        let status = async |shown: Option<&(Certificate, KeyPair)>| {
            world.reload(|route| {
                let client_certificate = shown.map(|(certificate, key)| {
                    std::fs::write(&file, certificate.pem()).unwrap();
                    let key = Arc::new(Secret::new(key.serialize_pem()));
                    ClientCertificate { certificate: file.clone(), key }
                });
                route.upstream = Arc::new(Upstream { ca: Some(ca.clone()), client_certificate, ..at(port) });
            });
            world.get("/pub/x", "").await.status
        };
        assert_eq!(status(None).await, 502);
        assert_eq!(status(Some(&issued(&others, "gate"))).await, 502, "a certificate of somebody else's CA");
        assert_eq!(status(Some(&issued(&ours, "gate"))).await, 200);
        assert_eq!(status(Some(&issued(&others, "gate"))).await, 502, "the file under the same name was read again");
        assert_eq!(status(Some(&issued(&ours, "gate"))).await, 200);
    });
}

#[test]
fn a_certificate_and_a_key_that_do_not_belong_together_are_refused_before_they_take_effect() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca();
        let file = dir.path().join("gate.crt");
        std::fs::write(&file, issued(&ca, "gate").0.pem()).unwrap();
        let refused = |key: String| {
            let key = Arc::new(Secret::new(key));
            let certificate = Some(ClientCertificate { certificate: file.clone(), key });
            let upstream = Upstream { insecure: true, client_certificate: certificate, ..at(9) };
            let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:80\", role: proxy }]\napps: []\n";
            let (mut snapshot, _) = from_text(text, Path::new("."), Purpose::Check).unwrap();
            let mut route = route("127.0.0.1:9".parse().unwrap());
            route.upstream = Arc::new(upstream);
            snapshot.routes = RouteTable::new(vec![Arc::new(route)]);
            TlsConfigs::new(tokio::runtime::Handle::current()).prepare(&snapshot).unwrap_err().to_string()
        };
        assert!(refused(issued(&ca, "gate").1.serialize_pem()).contains("cannot be used"));
        assert!(refused("no PEM".to_owned()).contains("cannot be read"));
    });
}

/// A reload is taken whole or not at all, certificates of apps included.
#[test]
fn s_up_2_where_one_certificate_cannot_be_read_no_other_takes_effect() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let trusted = dir.path().join("ca.pem");
        std::fs::write(&trusted, ca().pem()).unwrap();
        let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:80\", role: proxy }]\napps: []\n";
        let (mut snapshot, _) = from_text(text, Path::new("."), Purpose::Check).unwrap();
        let named = |app: &str, ca: &Path| {
            let mut route = route("127.0.0.1:9".parse().unwrap());
            route.app = AppName::new(app);
            route.hosts = vec![HostName::parse(format!("{app}.example").as_bytes(), Scheme::Https).unwrap()];
            route.upstream = Arc::new(Upstream { ca: Some(ca.to_owned()), ..at(9) });
            Arc::new(route)
        };
        let good = named("a", &trusted);
        let configs = TlsConfigs::new(tokio::runtime::Handle::current());
        let mut read = |routes: Vec<Arc<Route>>| {
            snapshot.routes = RouteTable::new(routes);
            configs.prepare(&snapshot)
        };
        let used = async || configs.config(&good.upstream, Offer::Http1).await.unwrap();
        read(vec![Arc::clone(&good)]).unwrap();
        let before = used().await;
        assert!(read(vec![Arc::clone(&good), named("b", &dir.path().join("none.pem"))]).is_err());
        assert!(Arc::ptr_eq(&before, &used().await), "as before the reload that was refused");
        read(vec![Arc::clone(&good)]).unwrap();
        assert!(!Arc::ptr_eq(&before, &used().await), "read anew");
    });
}

/// An app behind TLS that speaks these protocols, and says which one each connection agreed on.
async fn speaking(dir: &Path, protocols: &'static [&'static [u8]]) -> (PathBuf, u16) {
    let ca = ca();
    let (leaf, key) = issued(&ca, "127.0.0.1");
    let file = dir.join("speaking.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::task::spawn_local(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let body = http_body_util::Full::new(bytes::Bytes::from(format!("{:?}", request.version())));
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            });
            let io = TokioIo::new(stream);
            if http2 {
                tokio::task::spawn_local(
                    hyper::server::conn::http2::Builder::new(LocalExecutor).serve_connection(io, service),
                );
            } else {
                tokio::task::spawn_local(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        }
    });
    (file, port)
}

#[test]
fn protocol_says_what_is_offered_to_an_app_and_the_app_chooses() {
    use Protocol::{Auto, Http1, Http2};
    const ONLY_HTTP_1: &[&[u8]] = &[b"http/1.1"];
    const ONLY_HTTP_2: &[&[u8]] = &[b"h2"];
    const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
    story(async {
        let dir = tempfile::tempdir().unwrap();
        for (app, protocol, said) in [
            (BOTH, Http1, Some("HTTP/1.1")),
            (BOTH, Auto, Some("HTTP/2.0")),
            (BOTH, Http2, Some("HTTP/2.0")),
            (ONLY_HTTP_1, Auto, Some("HTTP/1.1")),
            (ONLY_HTTP_1, Http2, None),
            (&[], Auto, Some("HTTP/1.1")),
            (&[], Http2, None),
            (ONLY_HTTP_2, Auto, Some("HTTP/2.0")),
            (ONLY_HTTP_2, Http1, None),
        ] {
            let (ca, port) = speaking(dir.path(), app).await;
            let world = World::of(App::start(|_| ok("clear")).await, |route| {
                route.upstream = Arc::new(Upstream { ca: Some(ca.clone()), protocol, ..at(port) });
            })
            .await;
            for _ in 0..3 {
                let answer = world.get("/pub/x", "").await;
                let text = (answer.status == 200).then(|| answer.text());
                assert_eq!(text.as_deref(), said, "{app:?} {protocol:?}");
            }
            // Whoever signs in a connection gets one of HTTP/1.1 for himself (S-UP-6).
            if app == BOTH {
                let answer = world.get("/pub/x", "Authorization: NTLM TlRMTVNTUAAB\r\n").await;
                assert_eq!(answer.text(), "HTTP/1.1", "{protocol:?}");
            }
        }
    });
}
