//! What surrounds every page: who runs the site, where the person is going, the hidden fields.

use std::sync::Arc;

use http::HeaderValue;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior, Value};
use serde::Serialize;

use super::language::Language;
use super::words::Words;
use super::{assets, qr};
use crate::base::clock::Timestamp;
use crate::config::snapshot::Snapshot;
use crate::domain::factor::FactorKind;
use crate::domain::host::{HostName, Scheme};
use crate::domain::portal::PortalRoute;
use crate::domain::route::Route;

/// Who runs this, for whom, and when the page is made.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    pub title: String,
    /// One line: whom to call.
    pub help: Option<String>,
    /// `https://login.corp.example` where the page is shown on another host than the portal's;
    /// `None` on the portal itself, or where there is none. Links and forms lead there.
    pub portal_origin: Option<String>,
    /// Browsers reach us over https: sends HSTS.
    pub https: bool,
    /// How many digits the codes of an authenticator app have here.
    pub code_digits: u32,
    pub language: Language,
    pub now: Timestamp,
}

impl Site {
    /// The site as seen on `host`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, host: &HostName, language: Language, now: Timestamp) -> Self {
        let on_portal = snapshot.portal.as_ref().is_some_and(|portal| portal.host == *host);
        let anywhere = Self::anywhere(snapshot, language, now);
        Self { portal_origin: anywhere.portal_origin.filter(|_| !on_portal), ..anywhere }
    }

    /// The site as seen on a host that is not known: every link leads to the portal.
    #[must_use]
    pub fn anywhere(snapshot: &Snapshot, language: Language, now: Timestamp) -> Self {
        Self {
            title: snapshot.title.clone(),
            help: snapshot.help.clone(),
            portal_origin: snapshot.portal.as_ref().map(|portal| origin(portal.scheme, &portal.host)),
            https: snapshot.public_scheme() == Scheme::Https,
            code_digits: snapshot.factors.totp_digits,
            language,
            now,
        }
    }
}

/// The app a person is on the way to. It heads the page, and its origin may follow a form.
#[derive(Clone, Debug, Serialize)]
pub struct Destination {
    pub title: String,
    pub host: String,
    /// Chromium holds `form-action` against redirects after a POST too, so the origin to which
    /// the last step leads must be listed.
    pub origin: String,
}

impl Destination {
    #[must_use]
    pub fn new(route: &Route, scheme: Scheme, host: &HostName) -> Self {
        Self { title: route.title.clone(), host: host.to_string(), origin: origin(scheme, host) }
    }
}

fn origin(scheme: Scheme, host: &HostName) -> String {
    format!("{}://{host}", scheme.as_str())
}

/// Fields that a form carries on unseen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Hidden {
    /// The form token (S-LOGIN-5); there is no form without it.
    pub csrf: String,
    /// The ceremony in progress.
    pub flow: Option<String>,
    /// The sealed return-to.
    pub rd: Option<String>,
}

/// Templates with their functions. All compiled in: a page cannot be missing at run time.
pub(super) struct Templates {
    env: Environment<'static>,
    words: Arc<Words>,
}

const SOURCES: &[(&str, &str)] = &[
    ("base.html", include_str!("../../assets/pages/base.html")),
    ("macros.html", include_str!("../../assets/pages/macros.html")),
    ("sign-in.html", include_str!("../../assets/pages/sign-in.html")),
    ("code-form.html", include_str!("../../assets/pages/code-form.html")),
    ("code.html", include_str!("../../assets/pages/code.html")),
    ("choose.html", include_str!("../../assets/pages/choose.html")),
    ("not-enough.html", include_str!("../../assets/pages/not-enough.html")),
    ("step-up.html", include_str!("../../assets/pages/step-up.html")),
    ("enroll-later.html", include_str!("../../assets/pages/enroll-later.html")),
    ("enroll-link.html", include_str!("../../assets/pages/enroll-link.html")),
    ("password.html", include_str!("../../assets/pages/password.html")),
    ("set-password.html", include_str!("../../assets/pages/set-password.html")),
    ("new-password.html", include_str!("../../assets/pages/new-password.html")),
    ("key-form.html", include_str!("../../assets/pages/key-form.html")),
    ("key.html", include_str!("../../assets/pages/key.html")),
    ("enroll-key.html", include_str!("../../assets/pages/enroll-key.html")),
    ("enroll-sms.html", include_str!("../../assets/pages/enroll-sms.html")),
    ("enroll-totp.html", include_str!("../../assets/pages/enroll-totp.html")),
    ("backup-codes.html", include_str!("../../assets/pages/backup-codes.html")),
    ("account.html", include_str!("../../assets/pages/account.html")),
    ("not-me.html", include_str!("../../assets/pages/not-me.html")),
    ("sign-out.html", include_str!("../../assets/pages/sign-out.html")),
    ("signed-out.html", include_str!("../../assets/pages/signed-out.html")),
    ("go-on.html", include_str!("../../assets/pages/go-on.html")),
    ("send-form.html", include_str!("../../assets/pages/send-form.html")),
    ("denied.html", include_str!("../../assets/pages/denied.html")),
    ("message.html", include_str!("../../assets/pages/message.html")),
];

impl Templates {
    #[expect(
        clippy::expect_used,
        reason = "the templates are compiled in and every test renders them; no peer is near"
    )]
    pub(super) fn new(words: Words, language: Language, zone: TimeZone) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::Html);
        env.set_formatter(|out, _, value| write(out, value));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.expect("only odd delimiters are refused"));
        for (name, source) in SOURCES {
            env.add_template(name, source).expect("a template of ours compiles");
        }
        let words = Arc::new(words);
        let (spoken, kept) = (Arc::clone(&words), Arc::clone(&words));
        let until_zone = zone.clone();
        env.add_filter("until", move |at: i64, now: i64| {
            let says = |key: &str, values: &[(&str, Value)]| spoken.say(key, &values.iter().cloned().collect());
            let left = says("time.left", &[("n", Value::from("{n}"))])?;
            let attributes = format!(" data-left=\"{left}\" data-now=\"{}\"", says("time.now", &[])?);
            Ok::<_, Error>(end_of_pause(at, now, &until_zone, &attributes))
        });
        let end_zone = zone.clone();
        env.add_filter("end_of_pause", move |at: i64, now: i64| end_of_pause(at, now, &end_zone, ""));
        env.add_function("t", move |key: &str, values: Kwargs| words.say(key, &values));
        env.add_function("asset", |name: &str| {
            assets::url(name).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("no static file {name}")))
        });
        let clock_zone = zone.clone();
        env.add_filter("clock", move |at: i64| time_tag(at, at, &clock_zone, ("clock", "%H:%M"), ""));
        let day_zone = zone.clone();
        let (day, moment) = language.formats();
        env.add_filter("day", move |at: i64| time_tag(at, at, &day_zone, ("day", day), ""));
        env.add_filter("moment", move |at: i64| time_tag(at, at, &zone, ("moment", moment), ""));
        env.add_filter("breakable", breakable);
        env.add_filter("grouped", grouped);
        env.add_filter("qr", |text: &str| Value::from_safe_string(qr::svg(text)));
        env.add_filter("initial", |name: &str| name.chars().next().map(|c| c.to_uppercase().to_string()));
        Self { env, words: kept }
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    pub(super) fn render(&self, name: &str, site: &Site, page: Value) -> Result<String, Error> {
        let url = urls(site.portal_origin.as_deref().unwrap_or_default());
        self.env.get_template(name)?.render(minijinja::context! { site => Serde(site), page, url })
    }
}

/// The routes that templates name. One list, so that no path stands in a template.
fn urls(origin: &str) -> Value {
    let routes = [
        ("login", PortalRoute::Login),
        ("login_choose", PortalRoute::LoginChoose),
        ("login_passkey", PortalRoute::LoginPasskey),
        ("step_up", PortalRoute::StepUp),
        ("step_up_keep", PortalRoute::StepUpKeep),
        ("enroll_link", PortalRoute::EnrollLink),
        ("enroll_password", PortalRoute::EnrollPassword),
        ("enroll_totp", PortalRoute::EnrollTotp),
        ("enroll_hotp", PortalRoute::EnrollHotp),
        ("enroll_sms", PortalRoute::EnrollSms),
        ("enroll_later", PortalRoute::EnrollLater),
        ("enroll_key", PortalRoute::EnrollKey),
        ("enroll_backup_codes", PortalRoute::EnrollBackupCodes),
        ("enroll_backup_codes_file", PortalRoute::EnrollBackupCodesFile),
        ("account", PortalRoute::Account),
        ("account_password", PortalRoute::AccountPassword),
        ("account_sessions", PortalRoute::AccountSessions),
        ("account_factors", PortalRoute::AccountFactors),
        ("account_remembered", PortalRoute::AccountRemembered),
        ("not_me", PortalRoute::NotMe),
        ("logout", PortalRoute::Logout),
        ("logout_everywhere", PortalRoute::LogoutEverywhere),
    ];
    let path = |route: &PortalRoute| format!("{origin}{}", route.path());
    let by_factor = |route: fn(FactorKind) -> PortalRoute| -> Value {
        Value::from_pairs(FactorKind::ALL.into_iter().map(|kind| (kind.as_str(), path(&route(kind)))))
    };
    let here = [("logout_here", Value::from(PortalRoute::Logout.path()))];
    let factors = [
        ("login_factor", by_factor(PortalRoute::LoginFactor)),
        ("step_up_factor", by_factor(PortalRoute::StepUpFactor)),
    ];
    Value::from_pairs(routes.iter().map(|(name, route)| (*name, Value::from(path(route)))).chain(here).chain(factors))
}

/// A pause under this is told to the second: "again at 14:05" is of no use to whoever waits 20 s.
const SHORT_PAUSE_MS: i64 = 120_000;

/// When one may try again: never told too early, so the second, or the minute, is rounded up. `more` are
/// the attributes of a countdown, which goes by the moment itself.
fn end_of_pause(at: i64, now: i64, zone: &TimeZone, more: &str) -> Value {
    let up_to = |unit: i64| at.saturating_add(unit - 1).div_euclid(unit).saturating_mul(unit);
    if at.saturating_sub(now) < SHORT_PAUSE_MS {
        time_tag(up_to(1000), up_to(1000), zone, ("second", "%H:%M:%S"), more)
    } else {
        time_tag(if more.is_empty() { up_to(60_000) } else { at }, up_to(60_000), zone, ("clock", "%H:%M"), more)
    }
}

/// `<time>` for the eye in the server's zone; `time.js` writes it in the reader's own.
fn time_tag(millis: i64, shown: i64, zone: &TimeZone, (shape, format): (&str, &str), more: &str) -> Value {
    let at = Timestamp::from_millis(millis).to_jiff();
    let shown = Timestamp::from_millis(shown).to_jiff();
    let utc = if *zone == TimeZone::UTC && shape != "day" { " UTC" } else { "" };
    let shown = shown.to_zoned_datetime(zone.clone()).strftime(format).to_string();
    Value::from_safe_string(format!("<time datetime=\"{at}\" data-time=\"{shape}\"{more}>{shown}{utc}</time>"))
}

/// Lets a long path wrap before its slashes.
fn breakable(text: &str) -> Value {
    Value::from_safe_string(escape(text).replace('/', "<wbr>/"))
}

/// A key in groups of four for the eye, with nothing between them when it is copied.
fn grouped(key: &str) -> Value {
    let chars: Vec<char> = key.chars().collect();
    let groups = chars.chunks(4).map(|four| format!("<span>{}</span>", escape(&four.iter().collect::<String>())));
    Value::from_safe_string(groups.collect::<Vec<_>>().join("<wbr>"))
}

/// Text as it may stand in markup and in attributes with double quotes. Not minijinja's own: that
/// one writes `/` as `&#x2f;`, which simple programs that copy a form's action do not undo.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Writes a value: markup as it is, everything else escaped. A value that is not there is a
/// fault, never an empty place or the word "none" in a page.
fn write(out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Err(Error::new(ErrorKind::UndefinedError, "a value that is not there cannot be shown"));
    }
    let text = value.to_string();
    let written = if value.is_safe() { out.write_str(&text) } else { out.write_str(&escape(&text)) };
    written.map_err(|_| Error::from(ErrorKind::WriteFailure))
}

/// An origin that may stand in a policy header: nothing that could end the directive.
pub(super) fn safe_origin(origin: &str) -> bool {
    let clean = |b: u8| b.is_ascii_alphanumeric() || b".-_:/[]".contains(&b);
    (origin.starts_with("https://") || origin.starts_with("http://"))
        && origin.bytes().all(clean)
        && HeaderValue::from_str(origin).is_ok()
}
