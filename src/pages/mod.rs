//! What do people see? Every page of ours: typed data in, a whole answer with its headers out.
//!
//! Markup stands in `assets/pages`, every sentence in `assets/text`, one file a language, looks in
//! `assets/static`. A page knows nothing of stores, sessions or policies.

mod account;
pub mod assets;
mod enroll;
mod key;
mod language;
mod layout;
mod letter;
mod negotiate;
mod not_me;
pub mod problem;
pub mod qr;
mod refusal;
mod response;
mod samples;
mod sign_in;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use minijinja::Value;
use minijinja::value::Serde;

use crate::domain::factor::FactorKind;

pub use account::{
    Account, AccountNotice, AccountRemembered, AccountSession, AccountWay, BackupSummary, Client, HistoryKind,
    HistoryRow, SignOut, SignedOut, SignedOutWhy,
};
pub use enroll::{
    BackupCodes, BackupState, EnrollLater, EnrollLink, EnrollSms, EnrollTotp, Later, NewPassword, NewPasswordProblem,
    NumberProblem, NumberSent, SetPassword, Step,
};
pub use key::{EnrollKey, Key, KeyAsk, KeyProblem, KeyQuestion};
pub use language::Language;
pub use layout::{Destination, Hidden, Site};
pub use letter::{CodeFor, Letter, NoticeText};
pub use negotiate::wants_page;
pub use not_me::{NotMe, NotMeState};
pub use refusal::{Denied, Message, MessageKind};
pub use sign_in::{
    Choose, Code, CodeAsk, CodeProblem, FormNote, GoOn, NotEnough, NotEnoughWhy, SendForm, Sending, SignIn,
    SignInNotice, SignInProblem, StepUp, StepUpAsk, StepUpWhy, Way, WayState,
};
pub use words::{Words, WordsError};

/// Everything that can be shown.
#[derive(Clone, Debug)]
pub enum Page {
    SignIn(SignIn),
    Code(Code),
    Key(Key),
    Choose(Choose),
    NotEnough(NotEnough),
    StepUp(StepUp),
    GoOn(GoOn),
    SendForm(SendForm),
    EnrollLink(EnrollLink),
    SetPassword(SetPassword),
    EnrollTotp(EnrollTotp),
    EnrollSms(EnrollSms),
    EnrollLater(EnrollLater),
    EnrollKey(EnrollKey),
    BackupCodes(BackupCodes),
    NewPassword(NewPassword),
    NotMe(NotMe),
    Account(Account),
    SignOut(SignOut),
    SignedOut(SignedOut),
    Denied(Denied),
    Message(Message),
}

/// The compiled templates and words, in every language; one for the process.
pub struct Pages {
    templates: Vec<(Language, layout::Templates)>,
}

impl Pages {
    /// With times in the machine's zone (a script turns them into the reader's).
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(Words::of, &jiff::tz::TimeZone::system())
    }

    /// Other words or another zone, for tests and translations.
    #[must_use]
    pub fn with(words: impl Fn(Language) -> Words, zone: &jiff::tz::TimeZone) -> Arc<Self> {
        let one = |language| (language, layout::Templates::new(words(language), language, zone.clone()));
        Arc::new(Self { templates: Language::ALL.map(one).into() })
    }

    /// The page as an answer: its status, its body, and the headers of S-LOGIN-10.
    #[must_use]
    pub fn render(&self, site: &Site, page: &Page) -> Response<Bytes> {
        let facts = response::facts(page);
        match self.html(site, page) {
            Ok(html) => response::html(site, &facts, html),
            Err(error) => {
                // Ours alone to mend; the person gets an answer all the same.
                tracing::error!(error = format!("{error:#}"), "a page could not be rendered");
                response::broken(site)
            }
        }
    }

    /// The markup alone; `render` is what answers use.
    pub fn html(&self, site: &Site, page: &Page) -> Result<String, minijinja::Error> {
        let (template, data) = match page {
            Page::SignIn(data) => ("sign-in.html", Value::from(Serde(data))),
            Page::Code(data) => ("code.html", Value::from(Serde(data))),
            Page::Key(data) => ("key.html", Value::from(Serde(data))),
            Page::Choose(data) => ("choose.html", Value::from(Serde(data))),
            Page::NotEnough(data) => ("not-enough.html", Value::from(Serde(data))),
            Page::StepUp(data) => ("step-up.html", Value::from(Serde(data))),
            Page::GoOn(data) => ("go-on.html", Value::from(Serde(data))),
            Page::SendForm(data) => ("send-form.html", Value::from(Serde(data))),
            Page::EnrollLink(data) => ("enroll-link.html", Value::from(Serde(data))),
            Page::SetPassword(data) => ("set-password.html", Value::from(Serde(data))),
            Page::EnrollTotp(data) => ("enroll-totp.html", Value::from(Serde(data))),
            Page::EnrollSms(data) => ("enroll-sms.html", Value::from(Serde(data))),
            Page::EnrollLater(data) => ("enroll-later.html", Value::from(Serde(data))),
            Page::EnrollKey(data) => ("enroll-key.html", Value::from(Serde(data))),
            Page::BackupCodes(data) => ("backup-codes.html", Value::from(Serde(data))),
            Page::NewPassword(data) => ("new-password.html", Value::from(Serde(data))),
            Page::NotMe(data) => ("not-me.html", Value::from(Serde(data))),
            Page::Account(data) => ("account.html", Value::from(Serde(data))),
            Page::SignOut(data) => ("sign-out.html", Value::from(Serde(data))),
            Page::SignedOut(data) => ("signed-out.html", Value::from(Serde(data))),
            Page::Denied(data) => ("denied.html", Value::from(Serde(data))),
            Page::Message(data) => ("message.html", Value::from(Serde(data))),
        };
        self.of(site)?.render(template, site, data)
    }

    /// What a new phone or key is called until its person says otherwise.
    pub fn name_first(&self, site: &Site, kind: FactorKind) -> Result<String, minijinja::Error> {
        let key = match kind {
            FactorKind::Webauthn => "enroll_key.name_first",
            FactorKind::Hotp => "enroll_totp.name_first_generator",
            _ => "enroll_totp.name_first",
        };
        self.words(site)?.plain(key, &[])
    }

    /// Backup codes as a file, for people without a printer.
    pub fn codes_file(
        &self,
        site: &Site,
        host: &str,
        user: &str,
        codes: &[String],
    ) -> Result<String, minijinja::Error> {
        let values = [("org", &*site.title), ("host", host), ("user", user)];
        let above = self.words(site)?.plain("backup.file", &values)?;
        Ok(format!("{above}\r\n\r\n{}\r\n", codes.join("\r\n")))
    }

    fn words(&self, site: &Site) -> Result<&Words, minijinja::Error> {
        Ok(self.of(site)?.words())
    }

    fn of(&self, site: &Site) -> Result<&layout::Templates, minijinja::Error> {
        let found = self.templates.iter().find(|(language, _)| *language == site.language);
        let lacks = || minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, "a language without templates");
        Ok(&found.ok_or_else(lacks)?.1)
    }
}

/// Each page in each of its states, by name: what tests render and people look at.
#[must_use]
pub fn samples() -> Vec<(String, Page)> {
    fn named<T>(
        page: &'static str,
        samples: Vec<(&'static str, T)>,
        wrap: fn(T) -> Page,
    ) -> impl Iterator<Item = (String, Page)> {
        samples.into_iter().map(move |(state, data)| (format!("{page}.{state}"), wrap(data)))
    }
    named("sign-in", SignIn::samples(), Page::SignIn)
        .chain(named("code", Code::samples(), Page::Code))
        .chain(named("key", Key::samples(), Page::Key))
        .chain(named("choose", Choose::samples(), Page::Choose))
        .chain(named("not-enough", NotEnough::samples(), Page::NotEnough))
        .chain(named("step-up", StepUp::samples(), Page::StepUp))
        .chain(named("go-on", GoOn::samples(), Page::GoOn))
        .chain(named("send-form", SendForm::samples(), Page::SendForm))
        .chain(named("enroll-link", EnrollLink::samples(), Page::EnrollLink))
        .chain(named("set-password", SetPassword::samples(), Page::SetPassword))
        .chain(named("enroll-totp", EnrollTotp::samples(), Page::EnrollTotp))
        .chain(named("enroll-sms", EnrollSms::samples(), Page::EnrollSms))
        .chain(named("enroll-later", EnrollLater::samples(), Page::EnrollLater))
        .chain(named("enroll-key", EnrollKey::samples(), Page::EnrollKey))
        .chain(named("backup-codes", BackupCodes::samples(), Page::BackupCodes))
        .chain(named("new-password", NewPassword::samples(), Page::NewPassword))
        .chain(named("not-me", NotMe::samples(), Page::NotMe))
        .chain(named("account", Account::samples(), Page::Account))
        .chain(named("sign-out", SignOut::samples(), Page::SignOut))
        .chain(named("signed-out", SignedOut::samples(), Page::SignedOut))
        .chain(named("denied", Denied::samples(), Page::Denied))
        .chain(named("message", Message::samples(), Page::Message))
        .collect()
}
