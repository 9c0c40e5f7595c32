//! Certificates: chosen by SNI, read again without a restart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::clock::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: cannot be read: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: holds no certificate or private key in PEM form ({detail})")]
    Pem { path: PathBuf, detail: String },
    #[error(
        "{}: its private key is not there: it belongs into {}, or into the same file as the certificate",
        cert.display(),
        cert.with_extension("key").display()
    )]
    NoKey { cert: PathBuf },
    #[error("{path}: {detail}")]
    Key { path: PathBuf, detail: String },
    #[error("{0}: has no certificate: NAME.crt with NAME.key beside it, or NAME.pem with both")]
    Empty(PathBuf),
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// The certificates of one listener.
#[derive(Debug)]
pub struct Certificates {
    source: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    lives: Vec<Life>,
    seen: Vec<(PathBuf, Option<SystemTime>)>,
}

/// From when to when one of them is good, and how people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first name that it is for, or else its file.
    pub name: String,
    pub file: PathBuf,
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Certificates {
    /// `source`: a directory, or one `.pem` file with chain and key, or a `.crt` with its `.key` beside it.
    pub fn load(source: &Path) -> Result<Arc<Self>, TlsError> {
        let loaded = read(source)?;
        Ok(Arc::new(Self { source: source.to_owned(), current: ArcSwap::from_pointee(loaded) }))
    }

    /// Reads the files again when one of them changed; what is broken keeps the old certificates.
    /// True when new ones are in force.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let now = files(&self.source)?;
        let seen: Vec<_> = now.iter().flat_map(|(cert, key)| [stamp(cert), stamp(key)]).collect();
        if self.current.load().seen == seen {
            return Ok(false);
        }
        self.current.store(Arc::new(read(&self.source)?));
        Ok(true)
    }

    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The names that the certificates are for.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.current.load().by_name.keys().cloned().collect();
        names.sort();
        names
    }

    /// The lives of those that somebody is shown.
    #[must_use]
    pub fn lives(&self) -> Vec<Life> {
        self.current.load().lives.clone()
    }

    /// The files of its keys.
    #[must_use]
    pub fn keys(&self) -> Vec<PathBuf> {
        self.current.load().seen.chunks(2).filter_map(|pair| pair.last().map(|(path, _)| path.clone())).collect()
    }

    /// A TLS 1.2/1.3 configuration with ALPN for HTTP/2 and HTTP/1.1, and no early data (S-UP-2).
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new()?;
        // One ticket serves resumption; each further one costs a write (PERFORMANCE 3.14).
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.current.load();
        let Some(name) = hello.server_name() else { return Some(Arc::clone(&loaded.default)) };
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let found = loaded.by_name.get(&name).or_else(|| loaded.by_name.get(&wildcard?));
        Some(Arc::clone(found.unwrap_or(&loaded.default)))
    }
}

fn read(source: &Path) -> Result<Loaded, TlsError> {
    let mut by_name = HashMap::new();
    let mut default = None;
    let mut lives = Vec::new();
    let mut seen = Vec::new();
    for (cert, key) in files(source)? {
        // Stamps are taken before the content is read: a change in between is seen next time.
        seen.extend([stamp(&cert), stamp(&key)]);
        let certified = Arc::new(read_pair(&cert, &key)?);
        let leaf = certified.end_entity_cert()?;
        let parsed = webpki::EndEntityCert::try_from(leaf)
            .map_err(|e| TlsError::Key { path: cert.clone(), detail: format!("is no usable certificate: {e}") })?;
        let names: Vec<String> = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let life = life(leaf, names.first(), &cert);
        // One whose names all stand in an earlier file is shown to nobody.
        let mut shown = default.is_none();
        for name in names {
            by_name.entry(name).or_insert_with(|| {
                shown = true;
                Arc::clone(&certified)
            });
        }
        lives.extend(life.filter(|_| shown));
        default.get_or_insert(certified);
    }
    let default = default.ok_or_else(|| TlsError::Empty(source.to_owned()))?;
    Ok(Loaded { by_name, default, lives, seen })
}

fn life(leaf: &[u8], name: Option<&String>, file: &Path) -> Option<Life> {
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    let validity = leaf.validity();
    Some(Life {
        name: name.cloned().unwrap_or_else(|| file.display().to_string()),
        file: file.to_owned(),
        start: Timestamp::from_secs(validity.not_before.timestamp()),
        end: Timestamp::from_secs(validity.not_after.timestamp()),
    })
}

/// Certificate and key files, sorted by name so that "the first" is always the same one.
fn files(source: &Path) -> Result<Vec<(PathBuf, PathBuf)>, TlsError> {
    let failed = |cause| TlsError::Read { path: source.to_owned(), cause };
    if !std::fs::metadata(source).map_err(failed)?.is_dir() {
        return Ok(vec![(source.to_owned(), key_of(source))]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(source).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == "crt" || e == "pem") && path.is_file() {
            let key = key_of(&path);
            found.push((path, key));
        }
    }
    found.sort();
    Ok(found)
}

fn key_of(cert: &Path) -> PathBuf {
    let beside = cert.with_extension("key");
    if beside.is_file() { beside } else { cert.to_owned() }
}

fn stamp(path: &Path) -> (PathBuf, Option<SystemTime>) {
    (path.to_owned(), std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path, error: pem::Error| match error {
        pem::Error::Io(cause) => TlsError::Read { path: path.to_owned(), cause },
        error => TlsError::Pem { path: path.to_owned(), detail: error.to_string() },
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .map_err(|e| pem(cert, e))?
        .collect::<Result<_, _>>()
        .map_err(|e| pem(cert, e))?;
    if chain.is_empty() {
        return Err(TlsError::Pem { path: cert.to_owned(), detail: "no CERTIFICATE section".into() });
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| match e {
        pem::Error::NoItemsFound if key == cert => TlsError::NoKey { cert: cert.to_owned() },
        e => pem(key, e),
    })?;
    let signing = aws_lc_rs::sign::any_supported_type(&key_der)
        .map_err(|e| TlsError::Key { path: key.to_owned(), detail: format!("is no usable private key: {e}") })?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| TlsError::Key {
        path: key.to_owned(),
        detail: format!("is not the private key of {}", cert.display()),
    })?;
    Ok(certified)
}
