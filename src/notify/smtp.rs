//! How does one mail get to the relay, and what did the relay say?
//!
//! One connection, spoken to command by command: only so does an answer say whose fault it is. That a
//! recipient is refused is about that mail; everything else is about the relay or our login there, which
//! somebody can mend before the mail is too old.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use lettre::address::{Address, Envelope};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;

use crate::base::clock::Timestamp;
use crate::config::snapshot::{SmtpSettings, SmtpTls};
use crate::domain::audit::printable;

/// For the connection, TLS and the login together.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// For one mail. A lease of the outbox is longer than both limits together, so that no other process
/// sends what this one is still sending.
const MAIL_LIMIT: Duration = Duration::from_secs(60);

/// A mail to one person; plain text, for a notice must be readable wherever mail is read.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Names it for ever: sent again after a crash it bears the same Message-ID, and mailboxes show it once.
    pub id: String,
    pub to: Address,
    pub subject: String,
    pub text: String,
    pub at: Timestamp,
}

/// What the relay said when it took a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(pub String);

/// Why a mail did not go. What the relay said stands in it, made printable.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the roots {} cannot be read: {why}", path.display())]
    Roots { path: PathBuf, why: String },
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it does not offer STARTTLS, and without TLS no mail goes")]
    NoStartTls,
    #[error("TLS with it failed: {0}")]
    Tls(String),
    #[error("it refused the login: {0}")]
    Login(String),
    #[error("it did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// About this recipient alone: another try would hear the same.
    #[error("it refused the recipient: {0}")]
    Recipient(String),
    #[error("it did not take the mail: {0}")]
    NotTaken(String),
    /// Ours to mend: no text that a mail can hold.
    #[error("the mail could not be written: {0}")]
    Unwritable(String),
}

impl RelayError {
    /// Whether another try of the same mail could end otherwise.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::Recipient(_) | Self::Unwritable(_) => true,
            Self::Roots { .. }
            | Self::Unreachable(_)
            | Self::NoStartTls
            | Self::Tls(_)
            | Self::Login(_)
            | Self::TimedOut(_)
            | Self::NotTaken(_) => false,
        }
    }

    /// What to do about it, for whoever runs the gate.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => {
                "look at `smtp.host`, `smtp.port` and the firewall; many networks close port 25"
            }
            Self::NoStartTls => {
                "write `smtp: { tls: implicit }` where the relay has a port for it (465), or `tls: none` for a relay on \
                 this machine"
            }
            Self::Tls(_) | Self::Roots { .. } => {
                "the relay's certificate must be for `smtp.host`, of a known authority or that of `smtp.ca`"
            }
            Self::Login(_) => "look at `smtp.username` and the file of `smtp.password`",
            Self::Recipient(_) | Self::NotTaken(_) | Self::Unwritable(_) => "ask who runs it",
        }
    }

    /// Whether it is the relay that fails, and so would any other mail.
    #[must_use]
    pub fn is_of_the_relay(&self) -> bool {
        match self {
            Self::Roots { .. }
            | Self::Unreachable(_)
            | Self::NoStartTls
            | Self::Tls(_)
            | Self::Login(_)
            | Self::TimedOut(_) => true,
            Self::Recipient(_) | Self::NotTaken(_) | Self::Unwritable(_) => false,
        }
    }
}

/// An open connection to the relay, encrypted and logged in as the configuration says.
pub struct Relay {
    connection: AsyncSmtpConnection,
}

impl Relay {
    /// Connects, never in clear where the configuration asks for TLS, and logs in.
    pub async fn connect(settings: &SmtpSettings) -> Result<Self, RelayError> {
        match tokio::time::timeout(CONNECT_LIMIT, Self::open(settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(RelayError::TimedOut(CONNECT_LIMIT)),
        }
    }

    async fn open(settings: &SmtpSettings) -> Result<Self, RelayError> {
        let us = ClientId::default();
        let tls = match settings.tls {
            SmtpTls::Off => None,
            SmtpTls::StartTls | SmtpTls::Implicit => Some(tls(settings)?),
        };
        let (at_once, later) = match settings.tls {
            SmtpTls::Implicit => (tls, None),
            SmtpTls::StartTls | SmtpTls::Off => (None, tls),
        };
        let server = (settings.host.as_str(), settings.port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_LIMIT), &us, at_once, None)
            .await
            .map_err(|e| if e.is_tls() { RelayError::Tls(told(&e)) } else { RelayError::Unreachable(told(&e)) })?;
        if let Some(tls) = later {
            if !connection.can_starttls() {
                connection.abort().await;
                return Err(RelayError::NoStartTls);
            }
            connection.starttls(tls, &us).await.map_err(|e| RelayError::Tls(told(&e)))?;
        }
        if let Some(login) = &settings.login {
            let credentials = Credentials::new(login.username.clone(), login.password.expose().clone());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|e| RelayError::Login(told(&e)))?;
        }
        Ok(Self { connection })
    }

    /// Hands one mail over. After an error the connection is not to be used again.
    pub async fn send(&mut self, settings: &SmtpSettings, mail: &Mail) -> Result<Receipt, RelayError> {
        let message = message(settings, mail)?;
        match tokio::time::timeout(MAIL_LIMIT, self.hand_over(&message)).await {
            Ok(sent) => sent,
            Err(_) => Err(RelayError::TimedOut(MAIL_LIMIT)),
        }
    }

    async fn hand_over(&mut self, message: &Message) -> Result<Receipt, RelayError> {
        let (envelope, text) = (message.envelope(), message.formatted());
        let parameters = self.parameters(envelope, &text)?;
        let not_taken = |e: Error| RelayError::NotTaken(told(&e));
        let on = &mut self.connection;
        on.command(MailFrom::new(envelope.from().cloned(), parameters)).await.map_err(not_taken)?;
        for to in envelope.to() {
            on.command(Rcpt::new(to.clone(), Vec::new())).await.map_err(|e| match e.is_permanent() {
                true => RelayError::Recipient(told(&e)),
                false => RelayError::NotTaken(told(&e)),
            })?;
        }
        on.command(Data).await.map_err(not_taken)?;
        let taken = on.message(&text).await.map_err(not_taken)?;
        Ok(Receipt(said(&taken)))
    }

    /// Addresses with letters outside of ASCII go only where the relay knows them (RFC 6531).
    fn parameters(&self, envelope: &Envelope, text: &[u8]) -> Result<Vec<MailParameter>, RelayError> {
        let mut parameters = Vec::new();
        let ascii = |address: &Address| address.user().is_ascii() && address.domain().is_ascii();
        if !envelope.from().into_iter().chain(envelope.to()).all(ascii) {
            if !self.connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let why = "the address has letters outside of ASCII, and it does not know SMTPUTF8";
                return Err(RelayError::Recipient(why.to_owned()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !text.is_ascii() {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        Ok(parameters)
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.connection.is_encrypted()
    }

    /// Takes leave. A relay that does not answer is left all the same.
    pub async fn quit(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.connection.quit()).await;
    }
}

fn tls(settings: &SmtpSettings) -> Result<TlsParameters, RelayError> {
    let mut tls = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca {
        let roots = |why: String| RelayError::Roots { path: path.clone(), why };
        let pem = std::fs::read(path).map_err(|e| roots(e.to_string()))?;
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| roots(e.to_string()))?);
    }
    tls.build().map_err(|e| RelayError::Tls(told(&e)))
}

fn message(settings: &SmtpSettings, mail: &Mail) -> Result<Message, RelayError> {
    let unwritable = |why: String| RelayError::Unwritable(why);
    let date = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(mail.at.as_millis()).unwrap_or(0));
    let mut builder = Message::builder()
        .from(settings.from.clone())
        .to(Mailbox::new(None, mail.to.clone()))
        .subject(mail.subject.clone())
        .message_id(Some(format!("<{}@{}>", mail.id, settings.from.email.domain())))
        .date(date)
        .header(ContentType::TEXT_PLAIN);
    if let Some(reply_to) = &settings.reply_to {
        builder = builder.reply_to(reply_to.clone());
    }
    // RFC 3834: no vacation notice answers it.
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    let builder = builder.raw_header(HeaderValue::new(name, "auto-generated".to_owned()));
    builder.body(mail.text.clone()).map_err(|e| unwritable(e.to_string()))
}

/// What the relay or the system said, on one line.
fn told(error: &Error) -> String {
    printable(&error.to_string().replace('\n', " "))
}

fn said(response: &Response) -> String {
    let lines: Vec<&str> = response.message().collect();
    printable(&format!("{} {}", response.code(), lines.join(" ")))
}
