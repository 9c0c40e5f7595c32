//! Why was a certificate not taken, and what helps? Each fault has another way out.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A TLS client that judges a certificate by what this machine trusts, and goes on all the same: what else is
/// wrong on the way is to be found too. What it sends to whoever answers is a question that is good for one
/// host and five minutes, and tells how requests arrive, no more.
pub(super) struct Machine {
    pub(super) config: Arc<ClientConfig>,
    seen: Seen,
}

/// The certificate of the last connection, where browsers would not take it.
type Seen = Arc<Mutex<Option<(CertificateError, Shown)>>>;

/// What a server showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// By itself: nobody else vouches for it.
    self_signed: bool,
    /// Without the certificates that lead from it to an authority.
    alone: bool,
}

impl Machine {
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` stand in place of the system's store, as elsewhere.
    pub(super) fn new() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        // A machine without any root knows no authority.
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok();
        let seen = Seen::default();
        let judge = Arc::new(Judge { inner, algorithms, seen: Arc::clone(&seen) });
        let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(judge).with_no_client_auth();
        Self { config: Arc::new(config), seen }
    }

    /// What is wrong with the certificate of the last connection, and what to do about it.
    pub(super) fn complaint(&self) -> Option<(String, String)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        seen.map(|(error, shown)| of_a_public_name(&error, shown))
    }
}

#[derive(Debug)]
struct Judge {
    inner: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Seen,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        if let Err(Error::InvalidCertificate(error)) = verdict {
            let parsed = X509Certificate::from_der(end_entity);
            let self_signed = parsed.is_ok_and(|(_, cert)| cert.subject() == cert.issuer());
            let shown = Shown { self_signed, alone: intermediates.is_empty() };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((error, shown));
            return Ok(ServerCertVerified::assertion());
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The kinds of fault that have a way out of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ended,
    NotYet,
    OtherName,
    /// An authority's own, shown as a server's.
    Authority,
    SelfSigned,
    /// The chain to an authority was not sent.
    Incomplete,
    UnknownIssuer,
    Other,
}

fn kind(error: &CertificateError, shown: Option<Shown>) -> Kind {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Kind::Ended,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Kind::NotYet,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Kind::OtherName,
        CertificateError::Other(other)
            if matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            Kind::Authority
        }
        _ if shown.is_some_and(|shown| shown.self_signed) => Kind::SelfSigned,
        CertificateError::UnknownIssuer if shown.is_some_and(|shown| shown.alone) => Kind::Incomplete,
        CertificateError::UnknownIssuer => Kind::UnknownIssuer,
        _ => Kind::Other,
    }
}

/// What is wrong with the certificate that browsers are shown, and what to do.
fn of_a_public_name(error: &CertificateError, shown: Shown) -> (String, String) {
    const OWN: &str = "for an authority of your own let the doctor trust it (SSL_CERT_FILE=FILE stepgate doctor), and \
                       every browser too";
    let (what, todo) = match kind(error, Some(shown)) {
        Kind::Ended => (
            "its certificate has ended".to_owned(),
            "renew it where TLS ends; the gate reads new files by itself".to_owned(),
        ),
        Kind::NotYet => {
            ("its certificate is not valid yet".to_owned(), "look at the clocks, and at the certificate".to_owned())
        }
        Kind::OtherName => (
            format!("its certificate is for other names ({error})"),
            "get one that holds this name (`stepgate check --serve` lists the gate's)".to_owned(),
        ),
        Kind::Authority => (
            "its certificate is that of an authority (CA:TRUE), and no server's".to_owned(),
            "issue one for the server with it; self-signed, with openssl: -addext basicConstraints=critical,CA:FALSE"
                .to_owned(),
        ),
        Kind::SelfSigned => {
            ("its certificate is self-signed".to_owned(), format!("get one of an authority that browsers know; {OWN}"))
        }
        Kind::Incomplete => (
            "its certificate came alone, without those that lead to an authority".to_owned(),
            format!("put the whole chain into NAME.crt (often called fullchain.pem); {OWN}"),
        ),
        Kind::UnknownIssuer => (
            "its certificate is of an authority that this machine does not know".to_owned(),
            format!("use another one; {OWN}"),
        ),
        Kind::Other => (error.to_string(), "look at the certificate".to_owned()),
    };
    (format!("browsers will warn: {what}"), todo)
}

/// What to do where TLS to a public name did not come about at all.
pub(super) fn no_tls(error: &io::Error) -> (String, &'static str) {
    match rustls_error(error) {
        Some(Error::InvalidMessage(_)) => (
            "what listens there speaks no TLS".to_owned(),
            "give the listener `tls`, or let the proxy in front end TLS",
        ),
        _ => (format!("browsers come no further than TLS: {error}"), "look at what listens there"),
    }
}

/// What to do about TLS to an app.
pub(super) fn of_an_app(error: &io::Error) -> &'static str {
    const ISSUER: &str =
        "name the authority of the app's certificate, or a self-signed one itself: `upstream.ca: FILE`";
    match rustls_error(error) {
        Some(Error::InvalidMessage(_)) => "it speaks no TLS: write http://",
        Some(Error::InvalidCertificate(error)) => match kind(error, None) {
            Kind::Ended => "renew the app's certificate",
            Kind::NotYet => "look at the clocks of both machines, and at the app's certificate",
            Kind::OtherName => "say which name stands in the app's certificate: `upstream.server_name`",
            Kind::Authority => "the app shows the certificate of an authority (CA:TRUE): give it one of a server",
            Kind::SelfSigned | Kind::Incomplete | Kind::UnknownIssuer => ISSUER,
            Kind::Other => "look at the app's certificate",
        },
        _ => "it may speak another TLS, or want a certificate of the gate (`upstream.client_certificate`)",
    }
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
