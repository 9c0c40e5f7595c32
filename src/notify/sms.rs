//! How does one text message get to the gateway, and what did the gateway say?
//!
//! One request to the operator's URL, over HTTP/1.1: no redirect is followed, the addresses of its name are looked at
//! before one is connected to, and of the answer the status alone counts (S-UP-3). Of its body nothing is kept or
//! logged: gateways repeat the message in it, and that holds the code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::config::snapshot::{SmsAuth, SmsBody, SmsSettings};
use crate::domain::phone::PhoneNumber;

/// For name, connection, TLS, request and answer together (S-UP-3).
const LIMIT: Duration = Duration::from_secs(10);
/// Read of an answer at most, so that its connection ends as both sides expect.
const MOST: usize = 1024 * 1024;
/// What its head may take.
const MOST_HEAD: usize = 64 * 1024;

/// A message to one person.
#[derive(Clone, Debug)]
pub struct Text {
    /// Names it for ever: `{id}` in a template, by which a gateway knows one that is sent again after a crash.
    pub id: String,
    pub to: PhoneNumber,
    pub text: String,
    pub at: Timestamp,
}

/// Why a message did not go.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("the roots {} cannot be read: {why}", path.display())]
    Roots { path: PathBuf, why: String },
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("its name leads to {0}, an address that is not of the public network, and `private` is not set")]
    Private(IpAddr),
    #[error("TLS with it failed: {0}")]
    Tls(String),
    #[error("it did not answer within {} s", LIMIT.as_secs())]
    TimedOut,
    #[error("it broke off: {0}")]
    Broken(String),
    #[error("it refused the login ({0})")]
    Login(StatusCode),
    #[error("it redirects ({0}), and no redirect is followed")]
    Redirect(StatusCode),
    /// About this message alone: another try would hear the same.
    #[error("it refused the message ({0})")]
    Refused(StatusCode),
    #[error("it did not take the message ({0})")]
    NotTaken(StatusCode),
    /// Ours to mend: no request that HTTP can hold.
    #[error("the request cannot be written: {0}")]
    Unwritable(String),
}

impl GatewayError {
    /// Whether another try of the same message could end otherwise.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unwritable(_))
    }

    /// Whether it is the gateway that fails, and so would any other message.
    #[must_use]
    pub fn is_of_the_gateway(&self) -> bool {
        match self {
            Self::Roots { .. }
            | Self::Unreachable(_)
            | Self::Private(_)
            | Self::Tls(_)
            | Self::TimedOut
            | Self::Broken(_)
            | Self::Login(_)
            | Self::Redirect(_) => true,
            Self::Refused(_) | Self::NotTaken(_) | Self::Unwritable(_) => false,
        }
    }
}

/// Sends one; the status is that by which the gateway took it.
pub async fn send(settings: &SmsSettings, text: &Text) -> Result<StatusCode, GatewayError> {
    let request = request(settings, text)?;
    let work = async {
        let io = connect(settings).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(MOST_HEAD).handshake(TokioIo::new(io)).await.map_err(broken)?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            // Whether it comes whole or not: the status is the verdict.
            let _ = Limited::new(answer.into_body(), MOST).collect().await;
            Ok(status)
        };
        tokio::pin!(asked, connection);
        tokio::select! {
            status = &mut asked => status,
            _ = &mut connection => asked.await,
        }
    };
    let status = tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(GatewayError::TimedOut))?;
    verdict(settings, status)
}

/// Whether the gateway can be talked to at all; sends nothing.
pub async fn reach(settings: &SmsSettings) -> Result<(), GatewayError> {
    tokio::time::timeout(LIMIT, connect(settings)).await.unwrap_or(Err(GatewayError::TimedOut)).map(drop)
}

fn verdict(settings: &SmsSettings, status: StatusCode) -> Result<StatusCode, GatewayError> {
    let taken = match settings.success.as_slice() {
        [] => status.is_success(),
        named => named.contains(&status.as_u16()),
    };
    match status.as_u16() {
        _ if taken => Ok(status),
        300..=399 => Err(GatewayError::Redirect(status)),
        401 | 407 => Err(GatewayError::Login(status)),
        // Some say 403 of one number, and others of a login.
        403 | 408 | 425 | 429 => Err(GatewayError::NotTaken(status)),
        400..=499 => Err(GatewayError::Refused(status)),
        _ => Err(GatewayError::NotTaken(status)),
    }
}

fn request(settings: &SmsSettings, text: &Text) -> Result<Request<Full<Bytes>>, GatewayError> {
    let unwritable = |e: &dyn std::fmt::Display| GatewayError::Unwritable(e.to_string());
    let (kind, body) = body(&settings.body, text);
    let secret = |value: Zeroizing<String>| {
        HeaderValue::from_str(&value).map(|mut value| {
            value.set_sensitive(true);
            value
        })
    };
    let url = &settings.url;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(url.target.as_str())
        .header(HOST, url.authority.as_str())
        .header(USER_AGENT, "stepgate")
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, kind)
        .header(CONNECTION, "close");
    let login = match &settings.auth {
        SmsAuth::None => None,
        SmsAuth::Basic { username, password } => {
            let pair = Zeroizing::new(format!("{username}:{}", password.expose()));
            Some(Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes()))))
        }
        SmsAuth::Bearer(key) => Some(Zeroizing::new(format!("Bearer {}", key.expose()))),
    };
    if let Some(login) = login {
        request = request.header(AUTHORIZATION, secret(login).map_err(|e| unwritable(&e))?);
    }
    if let Some(key) = &settings.signing {
        let (at, signature) = signature(key.expose(), text.at, &body);
        request = request.header("stepgate-timestamp", at).header("stepgate-signature", signature);
    }
    request.body(Full::new(body)).map_err(|e| unwritable(&e))
}

/// HMAC-SHA256 over the time and the body: whoever took a request off the wire can neither change it nor, once its
/// time is past, send it again.
fn signature(key: &str, at: Timestamp, body: &[u8]) -> (String, String) {
    let at = at.as_secs().to_string();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
    context.update(at.as_bytes());
    context.update(b".");
    context.update(body);
    let signature = format!("v1={}", HEXLOWER.encode(context.sign().as_ref()));
    (at, signature)
}

fn body(template: &SmsBody, text: &Text) -> (&'static str, Bytes) {
    match template {
        SmsBody::Form(fields) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(name, &fill(value, text));
            }
            ("application/x-www-form-urlencoded", Bytes::from(form.finish()))
        }
        SmsBody::Json(document) => ("application/json", Bytes::from(filled(document, text).to_string())),
    }
}

/// The document with every text in it filled in: what stands in a place can never become a member.
fn filled(template: &serde_json::Value, text: &Text) -> serde_json::Value {
    use serde_json::Value;
    match template {
        Value::String(one) => Value::String(fill(one, text)),
        Value::Array(items) => items.iter().map(|item| filled(item, text)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), filled(value, text))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    }
}

/// Puts the values in their places, in one pass: a value that looks like a place is none.
fn fill(template: &str, text: &Text) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let values = [("{to}", text.to.as_str()), ("{text}", text.text.as_str()), ("{id}", text.id.as_str())];
        match values.into_iter().find(|(place, _)| from.starts_with(place)) {
            Some((place, value)) => {
                out.push_str(value);
                rest = from.get(place.len()..).unwrap_or_default();
            }
            None => {
                out.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn connect(settings: &SmsSettings) -> Result<Box<dyn Io>, GatewayError> {
    let url = &settings.url;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await.map_err(unreachable)?;
    let tcp = open(&allowed(settings, found)?).await?;
    if !url.https {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|e| GatewayError::Tls(e.to_string()))?;
    let config = tls(settings.ca.clone()).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    Ok(Box::new(stream.map_err(|e| GatewayError::Tls(e.to_string()))?))
}

/// The addresses that may be connected to. What was looked at is what is connected to: a name that leads elsewhere a
/// moment later leads nowhere (DNS rebinding). One address that may not be is enough to refuse the name.
fn allowed(settings: &SmsSettings, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, GatewayError> {
    let found: Vec<SocketAddr> = found.collect();
    // An address in the URL itself was written by the operator, and so was `localhost`.
    let meant = settings.private || settings.url.is_address || settings.url.host == "localhost";
    match found.iter().find(|address| !meant && !is_public(address.ip())) {
        Some(address) => Err(GatewayError::Private(address.ip())),
        None if found.is_empty() => Err(GatewayError::Unreachable("its name has no address".to_owned())),
        None => Ok(found),
    }
}

async fn open(addresses: &[SocketAddr]) -> Result<TcpStream, GatewayError> {
    let mut why = String::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(GatewayError::Unreachable(why))
}

/// Whether an address is of the public network, as far as the special-purpose registries of IANA tell.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && (b == 168 || (b == 0 && matches!(c, 0 | 2)) || (b == 88 && c == 99)))
        || (a == 198 && (matches!(b, 18 | 19) || (b == 51 && c == 100)))
        || (a == 203 && b == 0 && c == 113);
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // An IPv4 address in other clothes: mapped, by NAT64, by 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0x0db8, ..] => false,
        // Everything that is given out as public unicast lies in 2000::/3.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// Reads the machine's roots, or those of `ca` beside them.
async fn tls(ca: Option<PathBuf>) -> Result<ClientConfig, GatewayError> {
    let read = move || -> Result<ClientConfig, GatewayError> {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
        if let Some(path) = ca {
            let fault = |e: &dyn std::fmt::Display| GatewayError::Roots { path: path.clone(), why: e.to_string() };
            for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| fault(&e))? {
                roots.add(certificate.map_err(|e| fault(&e))?).map_err(|e| fault(&e))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| GatewayError::Tls(e.to_string()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| GatewayError::Tls(e.to_string()))?
}

fn unreachable(error: std::io::Error) -> GatewayError {
    GatewayError::Unreachable(error.to_string())
}

fn broken(error: hyper::Error) -> GatewayError {
    GatewayError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::gateway_url;

    fn settings(url: &str, private: bool) -> SmsSettings {
        SmsSettings {
            url: gateway_url(url).unwrap(),
            ca: None,
            private,
            auth: SmsAuth::None,
            signing: None,
            body: SmsBody::Form(Vec::new()),
            success: Vec::new(),
            allow_prefixes: vec!["+49".to_owned()],
            per_hour: 300,
        }
    }

    fn text() -> Text {
        Text {
            id: "id-1".to_owned(),
            to: PhoneNumber::parse("+4915123456789").unwrap(),
            text: "{to} \"quoted\" & {id}\n".to_owned(),
            at: Timestamp::from_secs(1_795_176_000),
        }
    }

    #[test]
    fn s_up_3_a_name_that_leads_into_the_house_is_refused_unless_the_file_says_so() {
        let addresses = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect()
        };
        let name = settings("https://sms.example.org/send", false);
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            let found = addresses(&[inside]);
            assert!(matches!(allowed(&name, found.into_iter()), Err(GatewayError::Private(_))), "{inside}");
            // One of several is enough: which of them is used is not its owner's to choose.
            let found = addresses(&["203.0.114.9", inside]);
            assert!(matches!(allowed(&name, found.into_iter()), Err(GatewayError::Private(_))), "{inside}");
            let ours = settings("https://sms.example.org/send", true);
            assert!(allowed(&ours, addresses(&[inside]).into_iter()).is_ok(), "{inside}");
        }
        for outside in
            ["54.172.60.0", "203.0.114.9", "172.32.0.1", "100.128.0.1", "2a00:1450:4001::1", "64:ff9b::808:808"]
        {
            assert!(allowed(&name, addresses(&[outside]).into_iter()).is_ok(), "{outside}");
        }
        assert!(allowed(&name, std::iter::empty()).is_err());
        for meant in ["http://127.0.0.1:9/", "http://[::1]:9/", "http://localhost:9/", "https://10.0.0.7/"] {
            assert!(allowed(&settings(meant, false), addresses(&["127.0.0.1"]).into_iter()).is_ok(), "{meant}");
        }
    }

    #[test]
    fn what_stands_in_a_place_stays_a_value_and_is_no_place_itself() {
        let form =
            SmsBody::Form(vec![("To".to_owned(), "{to}".to_owned()), ("A&b".to_owned(), "{text}{x}{".to_owned())]);
        let (kind, sent) = body(&form, &text());
        assert_eq!(kind, "application/x-www-form-urlencoded");
        let fields: Vec<(String, String)> = form_urlencoded::parse(&sent).into_owned().collect();
        let expected = [("To", "+4915123456789"), ("A&b", "{to} \"quoted\" & {id}\n{x}{")];
        assert_eq!(fields, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let json = SmsBody::Json(serde_json::json!({ "n": 1, "{to}": ["{to}", { "t": "<{text}>" }], "x": null }));
        let (_, sent) = body(&json, &text());
        let document: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        let t = "<{to} \"quoted\" & {id}\n>";
        assert_eq!(document, serde_json::json!({ "n": 1, "{to}": ["+4915123456789", { "t": t }], "x": null }));
    }

    #[test]
    fn s_up_3_each_status_is_taken_tried_again_or_given_up() {
        let any = settings("https://sms.example.org/", false);
        let said = |settings: &SmsSettings, status: u16| verdict(settings, StatusCode::from_u16(status).unwrap());
        for taken in [200, 201, 202, 204] {
            assert!(said(&any, taken).is_ok(), "{taken}");
        }
        for (status, for_good, of_the_gateway) in [
            (301, false, true),
            (307, false, true),
            (400, true, false),
            (404, true, false),
            (422, true, false),
            (401, false, true),
            (403, false, false),
            (429, false, false),
            (500, false, false),
            (503, false, false),
        ] {
            let error = said(&any, status).unwrap_err();
            assert_eq!((error.is_for_good(), error.is_of_the_gateway()), (for_good, of_the_gateway), "{status}");
        }
        let named = SmsSettings { success: vec![201], ..settings("https://sms.example.org/", false) };
        assert!(said(&named, 201).is_ok());
        assert!(matches!(said(&named, 200), Err(GatewayError::NotTaken(_))), "200 is not what the file names");
    }

    #[test]
    fn the_signature_is_an_hmac_sha256_over_time_dot_and_body() {
        let (at, signed) = signature("key", Timestamp::from_secs(1_795_176_000), b"{}");
        assert_eq!(at, "1795176000");
        // printf '1795176000.{}' | openssl dgst -sha256 -hmac key
        assert_eq!(signed, "v1=9cd3a51e932c118f82d087ee51840b12e612b45128c342dcb72de322ea509e62");
    }
}
