//! Apps behind TLS: who they must prove to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use stepgate::domain::host::Scheme;
use stepgate::domain::upstream::{Upstream, UpstreamUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use super::world::{App, World, ok, story};

/// A CA, written to a file, and an app whose certificate it signed for `name`.
async fn https_app(dir: &Path, name: &str) -> (PathBuf, u16) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let file = dir.join(format!("{name}.pem"));
    std::fs::write(&file, ca.pem()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
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

#[test]
fn s_up_2_an_app_behind_tls_must_prove_its_name() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let (own, port) = https_app(dir.path(), "127.0.0.1").await;
        let (other, wrong_name) = https_app(dir.path(), "other.example").await;
        let world = World::of(App::start(|_| ok("clear")).await, |_| {}).await;
        let status = async |port: u16, ca: Option<&PathBuf>, insecure: bool| {
            world.reload(|route| {
                let urls = vec![UpstreamUrl { scheme: Scheme::Https, host: "127.0.0.1".into(), port }];
                route.upstream = Arc::new(Upstream { urls, ca: ca.cloned(), insecure, ..(*route.upstream).clone() });
            });
            let answer = world.get("/pub/x", "").await;
            assert_eq!(answer.status == 200, answer.text() == "secure");
            answer.status
        };
        assert_eq!(status(port, Some(&own), false).await, 200);
        assert_eq!(status(port, None, false).await, 502, "the machine's roots do not know this CA");
        assert_eq!(status(port, Some(&other), false).await, 502, "nor does another CA");
        assert_eq!(status(wrong_name, Some(&other), false).await, 502, "the certificate is for another name");
        assert_eq!(status(wrong_name, None, true).await, 200, "said by name in the file");
    });
}
