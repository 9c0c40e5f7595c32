//! What is the app told about the person, and in which bytes?
//!
//! Everything comes from the permit's subject and the configuration, nothing from the request.
//! Every field of the app's dialects is sent exactly once, empty where there is nothing to say and
//! on public paths too, so that no client's copy could stand in for one (S-ID-4, CVE-2026-30851).

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::clock::Timestamp;
use crate::crypto::assertion::{AssertionClaims, AssertionSigner, LIFETIME};
use crate::domain::authn::AuthnContext;
use crate::domain::factor::FactorType;
use crate::domain::level::LevelName;
use crate::domain::route::{HeaderEncoding, Identity, IdentityValue, Route};

const ASSERTION: HeaderName = HeaderName::from_static("x-stepgate-assertion");

/// What is encoded besides non-ASCII under `percent`: what would make the decoding ambiguous.
const PERCENT: &AsciiSet = &CONTROLS.add(b'%');
/// RFC 8187 `attr-char` and nothing else stays as it is.
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The fields of one person for one app, as ready values. Made once for each session and app.
#[derive(Debug)]
pub struct Prepared {
    /// Whose configuration this was made from; a reload makes another.
    route: Arc<Route>,
    fields: Vec<(HeaderName, HeaderValue)>,
    /// One for each level that the app's rules asked for.
    assertions: Mutex<Vec<Minted>>,
}

#[derive(Clone, Debug)]
struct Minted {
    level: Option<LevelName>,
    issued_at: Timestamp,
    value: HeaderValue,
}

impl Prepared {
    #[must_use]
    pub fn new(route: &Arc<Route>, who: Option<&AuthnContext>) -> Self {
        Self { route: Arc::clone(route), fields: fields(&route.identity, who), assertions: Mutex::default() }
    }

    /// Whether it was made for this very configuration of the app.
    #[must_use]
    pub fn is_for(&self, route: &Arc<Route>) -> bool {
        Arc::ptr_eq(&self.route, route)
    }

    /// Writes the fields. Runs last of all (S-ID-3); replaces whatever has such a name.
    pub fn insert(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.fields {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Writes the signed assertion, minted anew at half its life (S-ID-6).
    pub fn insert_assertion(&self, headers: &mut HeaderMap, by: Mint<'_>, who: &AuthnContext) {
        let mut minted = self.assertions.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |m: &Minted| m.issued_at.age(by.now).is_some_and(|age| age < LIFETIME / 2);
        if let Some(found) = minted.iter().find(|m| m.level.as_ref() == by.level && fresh(m)) {
            headers.insert(ASSERTION, found.value.clone());
            return;
        }
        let Ok(mut value) = HeaderValue::try_from(by.signer.sign(&claims(&self.route, &by, who))) else { return };
        value.set_sensitive(true);
        minted.retain(fresh);
        minted.push(Minted { level: by.level.cloned(), issued_at: by.now, value: value.clone() });
        headers.insert(ASSERTION, value);
    }
}

/// What an assertion is minted with.
pub struct Mint<'a> {
    pub signer: &'a AssertionSigner,
    /// The portal's origin, or the app's own where there is no portal.
    pub issuer: &'a dyn Fn() -> String,
    /// The level that the deciding rule asked for.
    pub level: Option<&'a LevelName>,
    pub now: Timestamp,
}

fn claims(route: &Route, by: &Mint<'_>, who: &AuthnContext) -> AssertionClaims {
    let mut amr: Vec<&'static str> = Vec::new();
    // What was shown in another session is no method of this one.
    let shown: Vec<_> = who.evidence.iter().filter(|seen| !seen.remembered).collect();
    for seen in &shown {
        if !amr.contains(&seen.kind.amr()) {
            amr.push(seen.kind.amr());
        }
    }
    let knows = shown.iter().any(|e| e.user_verified || e.kind.factor_type() == FactorType::Knows);
    let has = shown.iter().any(|e| e.kind.factor_type() != FactorType::Knows);
    if knows && has {
        // RFC 8176: several factors were used, whatever each of them is called.
        amr.push("mfa");
    }
    AssertionClaims {
        issuer: (by.issuer)(),
        audience: route.app.as_str().to_owned(),
        subject: who.user,
        username: who.name.as_str().to_owned(),
        name: who.display.clone(),
        email: who.email.clone(),
        groups: who.groups.iter().map(|g| g.as_str().to_owned()).collect(),
        amr,
        acr: by.level.map_or("none", LevelName::as_str).to_owned(),
        auth_time: who.evidence.iter().map(|e| e.at).max().unwrap_or(by.now),
        session: who.session,
        issued_at: by.now,
    }
}

fn fields(identity: &Identity, who: Option<&AuthnContext>) -> Vec<(HeaderName, HeaderValue)> {
    identity.headers.iter().map(|(name, value)| (name.clone(), field(value, who, identity.encoding))).collect()
}

fn field(value: &IdentityValue, who: Option<&AuthnContext>, encoding: HeaderEncoding) -> HeaderValue {
    let text = match (value, who) {
        // Fixed texts are the operator's own; they are checked where the file is read.
        (IdentityValue::Fixed(text), _) => return HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| empty()),
        (IdentityValue::FixedSecret(text), _) => {
            let mut value = HeaderValue::from_bytes(text.expose().as_bytes()).unwrap_or_else(|_| empty());
            value.set_sensitive(true);
            return value;
        }
        (_, None) => return empty(),
        (IdentityValue::User, Some(who)) => encode(who.name.as_str(), encoding),
        (IdentityValue::Name, Some(who)) => encode(&who.display, encoding),
        (IdentityValue::Email, Some(who)) => encode(who.email.as_deref().unwrap_or_default(), encoding),
        (IdentityValue::Subject, Some(who)) => who.user.to_string(),
        (IdentityValue::Groups { separator }, Some(who)) => groups(who, *separator, encoding),
    };
    // A control byte makes no valid value; the app then gets nothing rather than half of it (S-ID-5).
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or_else(|_| empty())
}

fn empty() -> HeaderValue {
    HeaderValue::from_static("")
}

/// Names joined by the separator. One that holds it, or a control byte, would read as other
/// groups: it is left out, here as well as where groups are given.
fn groups(who: &AuthnContext, separator: char, encoding: HeaderEncoding) -> String {
    let mut out = String::new();
    for group in &who.groups {
        let name = group.as_str();
        if name.contains(separator) || name.chars().any(char::is_control) {
            continue;
        }
        if !out.is_empty() {
            out.push(separator);
        }
        match encoding {
            HeaderEncoding::Percent => out.push_str(&encode(name, encoding)),
            // An extended value has no inner structure: it is encoded as a whole, below.
            HeaderEncoding::Utf8 | HeaderEncoding::Rfc8187 => out.push_str(name),
        }
    }
    match encoding {
        HeaderEncoding::Rfc8187 => encode(&out, encoding),
        HeaderEncoding::Utf8 | HeaderEncoding::Percent => out,
    }
}

fn encode(text: &str, encoding: HeaderEncoding) -> String {
    match encoding {
        HeaderEncoding::Utf8 => text.to_owned(),
        HeaderEncoding::Percent => utf8_percent_encode(text, PERCENT).to_string(),
        // Plain ASCII stays plain, except what would read as the extended form.
        HeaderEncoding::Rfc8187 if text.is_ascii() && !text.contains('\'') => text.to_owned(),
        HeaderEncoding::Rfc8187 => {
            let mut out = String::from("UTF-8''");
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", utf8_percent_encode(text, ATTR_CHAR));
            out
        }
    }
}
