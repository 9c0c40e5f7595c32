//! Who must an `https` upstream prove to be, and who are we to it? The machine's roots and the app's
//! own CA decide; nothing goes unverified unless the file says so by name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::runtime::Handle;

use crate::config::Snapshot;
use crate::domain::host::Scheme;
use crate::domain::upstream::{ClientCertificate, Upstream};

/// Why TLS to an upstream cannot be set up: an operator's fault, found at start and at reload.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    #[error("cannot read the CA file {0}")]
    Ca(PathBuf, #[source] rustls_pki_types::pem::Error),
    #[error("the CA file {0} holds no certificate")]
    EmptyCa(PathBuf),
    #[error("a certificate in {0} cannot be a root")]
    BadCa(PathBuf, #[source] rustls::Error),
    #[error("cannot read the client certificate {0}")]
    Certificate(PathBuf, #[source] rustls_pki_types::pem::Error),
    #[error("the key of the client certificate {0} cannot be read")]
    Key(PathBuf, #[source] rustls_pki_types::pem::Error),
    #[error("the client certificate {0} and its key cannot be used")]
    Pair(PathBuf, #[source] rustls::Error),
    #[error("the machine has no root certificates, and the app names no CA file")]
    NoRoots,
    #[error("no TLS version is available")]
    Versions(#[source] rustls::Error),
    #[error("the gate is stopping")]
    Stopping,
}

/// What a client configuration is made from. A key that was changed is another one; a file that
/// was changed is read again at reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    ca: Option<PathBuf>,
    insecure: bool,
    client: Option<ClientCertificate>,
}

/// Which protocols are offered to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    Http1,
    Http2,
    Both,
}

/// One configuration for each offer; they share everything else.
#[derive(Clone, Debug)]
struct Built {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    both: Arc<ClientConfig>,
}

impl Built {
    fn new(config: ClientConfig) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
            Arc::new(config)
        };
        // Named even where it is the only one: an upstream that prefers h2 must not be spoken to in
        // the wrong tongue.
        Self { http1: offering(&[b"http/1.1"]), http2: offering(&[b"h2"]), both: offering(&[b"h2", b"http/1.1"]) }
    }

    fn offering(&self, offer: Offer) -> Arc<ClientConfig> {
        match offer {
            Offer::Http1 => Arc::clone(&self.http1),
            Offer::Http2 => Arc::clone(&self.http2),
            Offer::Both => Arc::clone(&self.both),
        }
    }
}

/// Client configurations by what they trust and show; built off the data path, for that reads files.
#[derive(Debug)]
pub struct TlsConfigs {
    built: DashMap<Key, Built>,
    background: Handle,
}

impl TlsConfigs {
    #[must_use]
    pub fn new(background: Handle) -> Self {
        Self { built: DashMap::new(), background }
    }

    /// Reads the certificates of every `https` upstream anew, and forgets those of no upstream any more. Blocks
    /// on files: for start and reload. Whole or not at all: if one cannot be read, every app keeps what it had.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<(), TlsSetupError> {
        let mut built = HashMap::new();
        for route in snapshot.routes.iter() {
            let upstream = &route.upstream;
            if upstream.urls.iter().any(|url| url.scheme == Scheme::Https)
                && let Entry::Vacant(vacant) = built.entry(key(upstream))
            {
                let config = build(vacant.key())?;
                vacant.insert(config);
            }
        }
        self.built.retain(|key, _| built.contains_key(key));
        for (key, config) in built {
            self.built.insert(key, config);
        }
        Ok(())
    }

    /// The configuration for an upstream; one that was not prepared is built now, on the background.
    pub async fn config(&self, upstream: &Upstream, offer: Offer) -> Result<Arc<ClientConfig>, TlsSetupError> {
        let key = key(upstream);
        if let Some(found) = self.built.get(&key).map(|found| found.offering(offer)) {
            return Ok(found);
        }
        let task = self.background.spawn_blocking(move || build(&key).map(|config| (key, config)));
        let (key, built) = task.await.map_err(|_| TlsSetupError::Stopping)??;
        let config = built.offering(offer);
        self.built.insert(key, built);
        Ok(config)
    }
}

fn key(upstream: &Upstream) -> Key {
    Key { ca: upstream.ca.clone(), insecure: upstream.insecure, client: upstream.client_certificate.clone() }
}

fn build(Key { ca, insecure, client }: &Key) -> Result<Built, TlsSetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    // TLS 1.2 and 1.3, no early data (S-UP-2).
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Versions)?;
    let builder = if *insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified::new(&provider)))
    } else {
        builder.with_root_certificates(roots(ca.as_ref())?)
    };
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            let unread = |error| TlsSetupError::Certificate(certificate.clone(), error);
            let chain = CertificateDer::pem_file_iter(certificate).map_err(unread)?;
            let chain = chain.collect::<Result<Vec<_>, _>>().map_err(unread)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|error| TlsSetupError::Key(certificate.clone(), error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| TlsSetupError::Pair(certificate.clone(), error))?
        }
    };
    Ok(Built::new(config))
}

fn roots(ca: Option<&PathBuf>) -> Result<RootCertStore, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    // Certificates and errors come side by side; what matters is whether anything is left to trust.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        let read = |error| TlsSetupError::Ca(path.clone(), error);
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
            roots.add(certificate.map_err(read)?).map_err(|error| TlsSetupError::BadCa(path.clone(), error))?;
            count += 1;
        }
        if count == 0 {
            return Err(TlsSetupError::EmptyCa(path.clone()));
        }
    }
    if roots.is_empty() { Err(TlsSetupError::NoRoots) } else { Ok(roots) }
}

/// `dangerously_insecure`: takes any certificate for any name, but still checks that the other
/// side holds its key.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl Unverified {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
