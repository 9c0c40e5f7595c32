//! Whose are an app's cookies? Those of the session that received them, and of nobody else's
//! (S-COOK-5, PEERS.md section 4).
//!
//! An app that keeps a session of its own knows nothing of the gate's: after Ann has signed out and
//! Bob has signed in at the same browser, her cookie is still in the jar and the app takes him for her.
//! So the value that the browser gets is sealed for the session, the app and the name, and what does
//! not open for the session that shows it never reaches the app. A visitor who is not signed in holds
//! cookies too, sealed for nobody: they do not outlive the sign-in, which ends the fixation of app
//! sessions.
//!
//! Scripts read some cookies (a CSRF value, a theme): what an app sets without `HttpOnly` stays as it
//! is, unless its name is that of a session. Rejected: values kept in the gate's store (a write for each
//! answer of old apps), and one mark for the whole jar (a cookie of another `Path` cannot be cleared).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

use super::jar;
use crate::base::ids::SessionId;
use crate::crypto::{KeyRing, Purpose};
use crate::domain::route::{AppCookies, AppName, Route};

/// Begins a value that is sealed: unreadable outside the gate.
const SEALED: &[u8] = b"~sg1.";
/// Begins a value that is readable behind its tag: one that would be too long for a cookie if sealed.
const TAGGED: &[u8] = b"~sg2.";
/// Base64url of an HMAC-SHA256.
const TAG_LEN: usize = 43;
/// Browsers drop a cookie whose name and value are longer together (RFC 6265bis section 5.6).
const LONGEST: usize = 4096;
/// Cookie names of one app that are remembered.
const NAMES: usize = 64;

/// Session cookies of common frameworks, folded. A browser that shows one without a seal got it from
/// somebody else than the app: a sibling host, or a visitor before the gate stood there.
const FRAMEWORKS: [&str; 15] = [
    "phpsessid",
    "jsessionid",
    "jsessionidsso",
    "asp_net_sessionid",
    "_aspxauth",
    "_aspnetcore_session",
    "_aspnetcore_cookies",
    "connect_sid",
    "sessionid",
    "laravel_session",
    "_session_id",
    "ci_session",
    "rack_session",
    "cfid",
    "cftoken",
];

/// Who shows or gets cookies of an app.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    pub keys: &'a Arc<KeyRing>,
    pub route: &'a Arc<Route>,
    /// `None`: nobody is signed in.
    pub session: Option<SessionId>,
    pub names: &'a BoundNames,
}

/// The cookies that apps were seen to set and that were bound: shown without a seal, they are no work
/// of the app. Lives as long as the process: a name that only the app's code knows can be planted
/// between a start and the first time the app sets it, unless the file names it.
#[derive(Debug, Default)]
pub struct BoundNames {
    by_app: DashMap<AppName, Vec<String>>,
    /// Counts names, so that what was read before the last came is read anew.
    changes: AtomicU64,
}

impl BoundNames {
    fn has(&self, app: &AppName, folded: &str) -> bool {
        self.by_app.get(app).is_some_and(|names| names.iter().any(|n| n == folded))
    }

    fn learn(&self, app: &AppName, folded: String) {
        if folded.len() > 256 || self.has(app, &folded) {
            return;
        }
        let mut names = self.by_app.entry(app.clone()).or_default();
        if names.len() < NAMES && !names.contains(&folded) {
            names.push(folded);
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

impl Holder<'_> {
    /// Binds what the app sets to this session; says how many cookies were left out because they cannot be
    /// bound. The fields were cleaned before.
    pub fn bind(&self, headers: &mut HeaderMap) -> u64 {
        if matches!(self.route.app_cookies, AppCookies::None) || !headers.contains_key(SET_COOKIE) {
            return 0;
        }
        let mut dropped = 0;
        let kept = |value: &HeaderValue| match self.bound(value.as_bytes()) {
            None => Some(value.clone()),
            Some(Ok(bound)) => Some(bound),
            Some(Err(Unbindable)) => {
                dropped += 1;
                None
            }
        };
        let set: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter_map(kept).collect();
        headers.remove(SET_COOKIE);
        for value in set {
            headers.append(SET_COOKIE, value);
        }
        dropped
    }

    /// `None`: it stays as the app wrote it.
    fn bound(&self, set_cookie: &[u8]) -> Option<Result<HeaderValue, Unbindable>> {
        let mut parts = set_cookie.splitn(2, |b| *b == b';');
        let pair = parts.next().unwrap_or_default();
        let attributes = parts.next();
        let at = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii());
        // Without a value there is nothing to inherit: a cookie that is being cleared.
        if name.is_empty() || value.is_empty() {
            return None;
        }
        let folded = jar::folded(name);
        let attribute = |wanted: &[u8]| {
            attributes.unwrap_or_default().split(|b| *b == b';').find_map(|part| {
                let (name, value) = part.split_at(part.iter().position(|b| *b == b'=').unwrap_or(part.len()));
                name.trim_ascii().eq_ignore_ascii_case(wanted).then_some(value)
            })
        };
        if !self.binds(&folded, attribute(b"httponly").is_some()) {
            return None;
        }
        let domain = attribute(b"domain").and_then(|value| self.shared_domain(value.get(1..)?));
        let Some(new) = self.sealed(&self.owner(name, domain.as_deref()), name, value) else {
            return Some(Err(Unbindable));
        };
        self.names.learn(&self.route.app, folded);
        let mut out = [name, b"=", &new].concat();
        if let Some(attributes) = attributes {
            out.push(b';');
            out.extend_from_slice(attributes);
        }
        Some(HeaderValue::from_bytes(&out).map_err(|_| Unbindable))
    }

    /// The `Domain` of a cookie that is not for this app alone. One that names the app's own host is, unless
    /// the file lists it: the app of `example.com` may share with those below.
    fn shared_domain(&self, value: &[u8]) -> Option<String> {
        let domain = normal(std::str::from_utf8(value).ok()?);
        let is_own = self.route.hosts.iter().any(|host| host.name() == domain);
        let is_listed = || self.route.cookie_domains.iter().any(|listed| normal(listed) == domain);
        (!domain.is_empty() && (!is_own || is_listed())).then_some(domain)
    }

    /// The value in the form that fits into a cookie. `None`: in neither. As the app wrote it a browser might
    /// just keep it, for whoever signs in next.
    fn sealed(&self, owner: &[u8], name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        // Format byte, key id, nonce and tag, then a third for base64.
        let sealed_len = SEALED.len() + (value.len() + 37).div_ceil(3) * 4;
        if name.len() + sealed_len <= LONGEST {
            let token = self.keys.seal_token_for(Purpose::AppCookie, owner, value);
            return Some([SEALED, token.as_bytes()].concat());
        }
        if name.len() + TAGGED.len() + TAG_LEN + value.len() > LONGEST {
            return None;
        }
        let tag = self.keys.mac(Purpose::AppCookie, &[owner, value].concat());
        Some([TAGGED, data_encoding::BASE64URL_NOPAD.encode(&tag).as_bytes(), value].concat())
    }

    fn open_value(&self, name: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        let open = |domain: Option<&str>| {
            let owner = self.owner(name, domain);
            if let Some(token) = value.strip_prefix(SEALED) {
                return self.keys.open_token_for(Purpose::AppCookie, &owner, token).ok();
            }
            let (tag, plain) = value.strip_prefix(TAGGED)?.split_at_checked(TAG_LEN)?;
            let tag = data_encoding::BASE64URL_NOPAD.decode(tag).ok()?;
            let data = [&owner, plain].concat();
            self.keys.verify_mac(Purpose::AppCookie, &data, &tag).then(|| plain.to_vec())
        };
        // What another app of the same person shares with this one opens only where the file says so.
        open(None).or_else(|| self.route.cookie_domains.iter().find_map(|domain| open(Some(&normal(domain)))))
    }

    /// For whom a value is sealed: the app, or all apps that share the `Domain`. Each part is of fixed length
    /// or behind its length.
    fn owner(&self, name: &[u8], domain: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        match &self.session {
            Some(session) => {
                out.push(1);
                out.extend_from_slice(session.as_bytes());
            }
            None => out.push(0),
        }
        // No app has an empty name.
        let app = if domain.is_some() { "" } else { self.route.app.as_str() };
        for part in [app.as_bytes(), domain.unwrap_or_default().as_bytes(), name] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }

    fn binds(&self, folded: &str, http_only: bool) -> bool {
        match &self.route.app_cookies {
            AppCookies::None => false,
            AppCookies::Seal { pass, .. } if listed(pass, folded) => false,
            // A name is bound always or never: unbound under a name that was bound, it would not come back.
            AppCookies::Seal { seal, .. } => {
                http_only || listed(seal, folded) || names_a_session(folded) || self.names.has(&self.route.app, folded)
            }
        }
    }

    /// Whether a cookie of this name comes from the app only when it is sealed.
    fn needs_seal(&self, folded: &str) -> bool {
        match &self.route.app_cookies {
            AppCookies::None => false,
            AppCookies::Seal { pass, .. } if listed(pass, folded) => false,
            AppCookies::Seal { seal, .. } => {
                FRAMEWORKS.contains(&folded)
                    || folded.starts_with("aspsessionid")
                    || listed(seal, folded)
                    || self.names.has(&self.route.app, folded)
            }
        }
    }

    /// What the app gets of a Cookie field without ours, and how many cookies were left out. `None`:
    /// all of it, as it is.
    fn opened(&self, field: &[u8]) -> Option<Opened> {
        let (mut out, mut changed, mut dropped) = (Vec::with_capacity(field.len()), false, 0);
        for piece in field.split(|b| *b == b';') {
            let bare = piece.trim_ascii();
            let at = bare.iter().position(|b| *b == b'=').unwrap_or(bare.len());
            let (name, value) = bare.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            let seal = value.starts_with(SEALED) || value.starts_with(TAGGED);
            let new = if seal {
                changed = true;
                match self.open_value(name, value) {
                    Some(plain) => [name, b"=", &plain].concat(),
                    None => {
                        dropped += 1;
                        continue;
                    }
                }
            } else if jar::names_any(bare, |name| self.needs_seal(name)) {
                changed = true;
                dropped += 1;
                continue;
            } else {
                piece.to_vec()
            };
            if out.is_empty() {
                out.extend_from_slice(new.trim_ascii_start());
            } else {
                out.push(b';');
                if seal {
                    out.push(b' ');
                }
                out.extend_from_slice(&new);
            }
        }
        // Bytes of header values stay header values when cut and joined; an app's own value was one.
        let field = || HeaderValue::from_bytes(&out).ok().filter(|field| !field.is_empty());
        changed.then(|| Opened { field: field(), dropped })
    }

    /// Gives the app its own values back; says how many cookies it does not get.
    pub fn open(&self, headers: &mut HeaderMap, memo: &OpenedMemo) -> u64 {
        if matches!(self.route.app_cookies, AppCookies::None) {
            return 0;
        }
        // The jar has joined several into one.
        let Some(field) = headers.get(COOKIE) else { return 0 };
        let mut known = memo.0.borrow_mut();
        let opened = match &*known {
            Some(known) if known.is_of(self, field) => known.opened.clone(),
            _ => {
                // Before the reading: a name that is learnt meanwhile makes it be read again.
                let changes = self.names.changes.load(Ordering::Acquire);
                let opened = self.opened(field.as_bytes());
                *known = HeaderValue::from_bytes(field.as_bytes()).ok().map(|field| {
                    let (keys, route, session) = (Arc::clone(self.keys), Arc::clone(self.route), self.session);
                    Box::new(Known { field, session, route, keys, changes, opened: opened.clone() })
                });
                opened
            }
        };
        let Some(opened) = opened else { return 0 };
        match opened.field {
            Some(field) => drop(headers.insert(COOKIE, field)),
            None => drop(headers.remove(COOKIE)),
        }
        opened.dropped
    }
}

/// What cannot be bound would be the next person's too.
struct Unbindable;

/// As browsers compare domains.
fn normal(domain: &str) -> String {
    domain.trim().trim_start_matches('.').to_ascii_lowercase()
}

/// What an app gets in place of what the browser sent.
#[derive(Clone, Debug)]
struct Opened {
    field: Option<HeaderValue>,
    dropped: u64,
}

/// What the last Cookie field of one connection was opened to.
#[derive(Debug, Default)]
pub struct OpenedMemo(RefCell<Option<Box<Known>>>);

#[derive(Debug)]
struct Known {
    /// A copy: what was received shares its whole read buffer.
    field: HeaderValue,
    session: Option<SessionId>,
    /// This very one: a reload may have changed what is bound.
    route: Arc<Route>,
    keys: Arc<KeyRing>,
    changes: u64,
    opened: Option<Opened>,
}

impl Known {
    fn is_of(&self, holder: &Holder<'_>, field: &HeaderValue) -> bool {
        self.session == holder.session
            && Arc::ptr_eq(&self.route, holder.route)
            && Arc::ptr_eq(&self.keys, holder.keys)
            && self.changes == holder.names.changes.load(Ordering::Acquire)
            && self.field == field
    }
}

impl OpenedMemo {
    /// For a connection that waits idle.
    pub fn forget(&self) {
        self.0.borrow_mut().take();
    }
}

/// Whether a list of the file names this cookie; `NAME*` stands for all that begin so.
fn listed(list: &[String], folded: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => folded.starts_with(&jar::folded(start.as_bytes())),
        None => jar::folded(entry.as_bytes()) == folded,
    })
}

/// Whether a cookie that scripts may read is one of a session all the same: old apps forget `HttpOnly`.
/// A CSRF value has to be read by scripts, whatever else its name says. `sso` counts where a word begins
/// or ends: `sso_id`, `MYSSO`, not `lesson`.
fn names_a_session(folded: &str) -> bool {
    let has = |part: &&str| folded.contains(*part);
    !["csrf", "xsrf"].iter().any(has)
        && (folded.ends_with("sid")
            || FRAMEWORKS.contains(&folded)
            || ["sess", "auth", "login", "ticket", "remember", "token", "jwt"].iter().any(has)
            || folded.split('_').any(|word| word.starts_with("sso") || word.ends_with("sso")))
}
