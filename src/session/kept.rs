//! A form that was posted when more had to be shown first: what it was, sealed, and who may send it on.
//!
//! It waits in the store, not in memory, so that neither a restart nor another replica loses it. The browser
//! that posted it holds a cookie; nobody else's browser sends the form, and nobody but the person in whose
//! session it was (S-KEEP-2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{CONTENT_TYPE, HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::small;
use crate::base::budget::{Budget, Share, Taker};
use crate::base::clock::Timestamp;
use crate::base::ids::{KeptFormId, SessionId, UserId};
use crate::base::net::ClientIp;
use crate::base::rng::{self, SharedRng};
use crate::crypto::keyring::Place;
use crate::crypto::{KeyRing, Purpose, ct_eq, sha256};
use crate::domain::host::HostName;
use crate::domain::route::AppName;
use crate::store::{KeptFormRow, KeptFormShare, Store, StoreError, Unaudited};

/// How the names of the cookies of the browser that posted it begin.
pub const FORM_COOKIE: &str = "__Host-Http-stepgate-form";
/// The one field of the POST that sends a kept form on.
pub const FORM_FIELD: &str = "stepgate-form";
/// How long a form waits, and how often that time begins anew by its person's press (WCAG 2.2.1).
pub const FORM_LIFE: Duration = Duration::from_secs(5 * 60);
pub const FORM_RENEWALS: i64 = 10;
/// Its cookie outlives all of them.
const COOKIE_LIFE: Duration = Duration::from_secs(3600);
/// SECURITY.md section 3. Of people who are not known at most a quarter: anybody can post, and must not take
/// the room of those who have signed in.
const ALL: usize = 64 * 1024 * 1024;
const SHARE: KeptFormShare = KeptFormShare { of_owner: 4, of_all: ALL as i64, of_strangers: ALL as i64 / 4 };
/// What of the head belongs to the body, or says to the app where it came from.
const WITH_IT: [HeaderName; 3] = [CONTENT_TYPE, ORIGIN, REFERER];

/// A form as it came.
#[derive(Debug)]
pub struct KeptForm {
    /// Whose page posted it: a reload may give the host to another app, which it was not typed for.
    app: String,
    /// Path and query, as sent.
    pub target: String,
    /// Those of [`WITH_IT`] that it came with.
    fields: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// What stands before the body in the sealed record.
#[derive(Serialize, Deserialize)]
struct Wire {
    app: String,
    target: String,
    /// Field values are bytes.
    fields: Vec<(String, Vec<u8>)>,
}

/// Whose form it is, as far as is known.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The session that it was posted in, where it is live.
    pub session: Option<SessionId>,
    /// Its person, also where that session has expired.
    pub user: Option<UserId>,
    pub address: ClientIp,
}

/// A form that was taken to be sent.
#[derive(Debug)]
pub struct Claimed {
    pub form: KeptForm,
    row: KeptFormRow,
}

/// Why a form cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormGone {
    Sent {
        at: Timestamp,
    },
    Lapsed {
        at: Timestamp,
    },
    /// Given up, its session ended, of somebody else, or never there.
    Unknown,
}

/// The forms that wait, for everybody who needs one.
pub struct KeptForms {
    store: Store,
    keys: Arc<KeyRing>,
    rng: SharedRng,
    /// Bytes that are being read to be kept.
    reading: Arc<Budget>,
}

impl std::fmt::Debug for KeptForms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptForms")
    }
}

impl KeptForm {
    #[must_use]
    pub fn new(app: &AppName, target: String, headers: &HeaderMap, body: Bytes) -> Self {
        let of = |name: HeaderName| headers.get(&name).cloned().map(|value| (name, value));
        let app = app.as_str().to_owned();
        Self { app, target, fields: WITH_IT.into_iter().filter_map(of).collect(), body }
    }

    /// Puts the head right for the body: what it came with instead of what the POST that sends it on has.
    pub fn restore(&self, headers: &mut HeaderMap) {
        for name in WITH_IT {
            headers.remove(name);
        }
        for (name, value) in &self.fields {
            headers.insert(name, value.clone());
        }
    }

    fn seal(&self, id: KeptFormId, keys: &KeyRing, rng: &dyn rng::Rng) -> Vec<u8> {
        let fields = self.fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let wire = Wire { app: self.app.clone(), target: self.target.clone(), fields };
        // Texts and bytes always serialise.
        let head = serde_json::to_vec(&wire).unwrap_or_default();
        let mut plain = u32::try_from(head.len()).unwrap_or(0).to_be_bytes().to_vec();
        plain.extend_from_slice(&head);
        plain.extend_from_slice(&self.body);
        keys.seal(&place(&id), &plain, rng)
    }

    fn open(row: &KeptFormRow, keys: &KeyRing) -> Option<Self> {
        let plain = keys.open(&place(&row.id), &row.sealed).ok()?;
        let (length, rest) = plain.expose().split_first_chunk::<4>()?;
        let (head, body) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let wire: Wire = serde_json::from_slice(head).ok()?;
        let field = |(name, value): (String, Vec<u8>)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(&value).ok()?))
        };
        let fields = wire.fields.into_iter().map(field).collect::<Option<_>>()?;
        Some(Self { app: wire.app, target: wire.target, fields, body: Bytes::copy_from_slice(body) })
    }
}

fn place(id: &KeptFormId) -> Place<'_> {
    Place::new("kept_forms", id.as_bytes(), "sealed")
}

impl Whose {
    fn owner(&self) -> String {
        match (self.session, self.user) {
            (Some(session), _) => format!("session:{session}"),
            (None, Some(user)) => format!("user:{user}"),
            (None, None) => format!("address:{}", self.address.counter_key()),
        }
    }
}

impl Claimed {
    #[must_use]
    pub fn id(&self) -> KeptFormId {
        self.row.id
    }
}

impl KeptForms {
    #[must_use]
    pub fn new(store: Store, keys: Arc<KeyRing>, rng: SharedRng) -> Arc<Self> {
        Arc::new(Self { store, keys, rng, reading: Budget::new(ALL) })
    }

    /// Room to read a form of at most `largest` bytes into, taken as it comes (S-KEEP-3).
    #[must_use]
    pub fn room(&self, taker: Taker, largest: usize) -> Share {
        self.reading.begin_one(taker, largest)
    }

    /// Keeps a form for the browser with this cookie; `None` when there is no room for one more.
    pub async fn keep(
        &self,
        form: &KeptForm,
        whose: Whose,
        browser: &[u8; 32],
        host: &HostName,
        now: Timestamp,
    ) -> Result<Option<KeptFormId>, StoreError> {
        let id = KeptFormId::new(now, &*self.rng);
        let row = KeptFormRow {
            id,
            browser_hash: *browser,
            host: host.as_str().to_owned(),
            session: whose.session,
            user: whose.user,
            owner: whose.owner(),
            sealed: form.seal(id, &self.keys, &*self.rng),
            created_at: now,
            expires_at: now.plus(FORM_LIFE),
            renewals: 0,
            sent_at: None,
        };
        let mut tx = self.store.begin().await?;
        let kept = tx.insert_kept_form(&row, SHARE).await?;
        tx.commit_unaudited(Unaudited::KeptForm).await?;
        Ok(kept.then_some(id))
    }

    /// Until when a form waits.
    pub async fn waits(&self, id: KeptFormId, now: Timestamp) -> Result<Result<Timestamp, FormGone>, StoreError> {
        Ok(match self.store.kept_form(id).await? {
            None => Err(FormGone::Unknown),
            Some(row) => gone(&row, now).map_or(Ok(row.expires_at), Err),
        })
    }

    /// The ticket that sends a form on, and where to: for its browser, its host and its person alone. Whoever
    /// else is signed in there ends it (S-STEP-2).
    pub async fn ticket(
        &self,
        id: KeptFormId,
        browser: &[u8; 32],
        (host, app): (&HostName, &AppName),
        who: Option<(UserId, SessionId)>,
        now: Timestamp,
    ) -> Result<Result<(String, String), FormGone>, StoreError> {
        let Some(row) = self.store.kept_form(id).await? else { return Ok(Err(FormGone::Unknown)) };
        if !ct_eq(&row.browser_hash, browser) || row.host != host.as_str() {
            return Ok(Err(FormGone::Unknown));
        }
        if let Some(gone) = gone(&row, now) {
            return Ok(Err(gone));
        }
        if let Some((user, session)) = who {
            if row.user.is_some_and(|owner| owner != user) {
                self.give_up(id).await?;
                return Ok(Err(FormGone::Unknown));
            }
            // From here on it is this person's, and ends with their sign-out.
            if row.user.is_none() || row.session.is_none() {
                let mut tx = self.store.begin().await?;
                tx.bind_kept_form(id, user, session).await?;
                tx.commit_unaudited(Unaudited::KeptForm).await?;
            }
        }
        Ok(match KeptForm::open(&row, &self.keys).filter(|form| form.app == app.as_str()) {
            Some(form) => Ok((form.target, self.write_ticket(id, browser, host))),
            None => Err(FormGone::Unknown),
        })
    }

    fn write_ticket(&self, id: KeptFormId, browser: &[u8; 32], host: &HostName) -> String {
        let tag = self.keys.mac(Purpose::FormToken, &bound(id, browser, host));
        format!("{id}.{}", BASE64URL_NOPAD.encode(&tag))
    }

    /// The form that a ticket is for, where we wrote it for this browser and host.
    #[must_use]
    pub fn read_ticket(&self, ticket: &str, browser: &[u8; 32], host: &HostName) -> Option<KeptFormId> {
        let (id, tag) = ticket.split_once('.')?;
        let (id, tag) = (id.parse().ok()?, BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?);
        self.keys.verify_mac(Purpose::FormToken, &bound(id, browser, host), &tag).then_some(id)
    }

    /// Takes a form to send it to `target`: one caller gets it, once.
    pub async fn claim(
        &self,
        id: KeptFormId,
        browser: &[u8; 32],
        (host, app): (&HostName, &AppName),
        target: &str,
        user: Option<UserId>,
        now: Timestamp,
    ) -> Result<Result<Claimed, FormGone>, StoreError> {
        let mut tx = self.store.begin().await?;
        let Some(row) = tx.claim_kept_form(id, browser, host.as_str(), user, now).await? else {
            tx.rollback().await;
            let row = self.store.kept_form(id).await?;
            return Ok(Err(row.and_then(|row| gone(&row, now)).unwrap_or(FormGone::Unknown)));
        };
        let opened = KeptForm::open(&row, &self.keys).filter(|form| form.target == target && form.app == app.as_str());
        let Some(form) = opened else {
            tx.rollback().await;
            return Ok(Err(FormGone::Unknown));
        };
        tx.commit_unaudited(Unaudited::KeptForm).await?;
        Ok(Ok(Claimed { form, row }))
    }

    /// For a form that was claimed and that no app has seen a byte of, or that one sent on to `target` (307, 308):
    /// the browser repeats its POST there.
    pub async fn put_back(&self, mut claimed: Claimed, target: Option<String>) -> Result<(), StoreError> {
        if let Some(target) = target {
            claimed.form.target = target;
            claimed.row.sealed = claimed.form.seal(claimed.row.id, &self.keys, &*self.rng);
        }
        let mut tx = self.store.begin().await?;
        tx.put_back_kept_form(&claimed.row).await?;
        tx.commit_unaudited(Unaudited::KeptForm).await
    }

    /// Five minutes more; `false` when there are none to give.
    pub async fn renew(&self, id: KeptFormId, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        let renewed = tx.renew_kept_form(id, now.plus(FORM_LIFE), FORM_RENEWALS, now).await?;
        tx.commit_unaudited(Unaudited::KeptForm).await?;
        Ok(renewed)
    }

    pub async fn give_up(&self, id: KeptFormId) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        tx.drop_kept_form(id).await?;
        tx.commit_unaudited(Unaudited::KeptForm).await
    }

    /// The person of a session that is over, by the cookie that still names it.
    pub async fn person_of(&self, token: &super::SessionToken) -> Result<Option<UserId>, StoreError> {
        Ok(self.store.load_token(&token.hash()).await?.map(|(_, session, _)| session.user))
    }

    /// A new browser's secret: the cookie's value.
    #[must_use]
    pub fn new_secret(&self) -> String {
        BASE64URL_NOPAD.encode(&rng::bytes::<32>(&*self.rng))
    }
}

fn gone(row: &KeptFormRow, now: Timestamp) -> Option<FormGone> {
    match row.sent_at {
        Some(at) => Some(FormGone::Sent { at }),
        None if row.expires_at <= now => Some(FormGone::Lapsed { at: row.expires_at }),
        None => None,
    }
}

fn bound(id: KeptFormId, browser: &[u8; 32], host: &HostName) -> Vec<u8> {
    let mut data = b"kept\0".to_vec();
    data.extend_from_slice(id.as_bytes());
    data.extend_from_slice(browser);
    data.extend_from_slice(host.as_str().as_bytes());
    data
}

/// What is kept of a browser's secret.
#[must_use]
pub fn browser_hash(secret: &str) -> [u8; 32] {
    sha256(format!("kept form\0{secret}").as_bytes())
}

/// The browser's secrets: one, or more where forms of several tabs came at once.
#[must_use]
pub fn shown(headers: &HeaderMap) -> Vec<&str> {
    small::read_secrets(headers, FORM_COOKIE)
}

#[must_use]
pub fn set_cookie(secret: &str) -> Option<HeaderValue> {
    small::set_one_of(FORM_COOKIE, secret, Some(COOKIE_LIFE))
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::base::rng::SeededRng;

    #[test]
    fn what_was_sealed_opens_in_its_row_alone() {
        let rng = SeededRng::new(3);
        let keys = KeyRing::ephemeral(&*rng);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=x"));
        headers.insert(REFERER, HeaderValue::from_static("https://app.test/edit"));
        headers.insert("x-other", HeaderValue::from_static("not kept"));
        let form =
            KeptForm::new(&AppName::new("wiki"), "/save?id=7".to_owned(), &headers, Bytes::from_static(b"\0\xff body"));
        let now = Timestamp::from_secs(1_800_000_000);
        let (id, other) = (KeptFormId::new(now, &*rng), KeptFormId::new(now, &*rng));
        let row = |id| KeptFormRow {
            id,
            browser_hash: [0; 32],
            host: "app.test".to_owned(),
            session: None,
            user: None,
            owner: String::new(),
            sealed: form.seal(id, &keys, &*rng),
            created_at: now,
            expires_at: now,
            renewals: 0,
            sent_at: None,
        };
        let opened = KeptForm::open(&row(id), &keys).expect("its own row");
        let mut restored = HeaderMap::new();
        restored.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        restored.insert(ORIGIN, HeaderValue::from_static("null"));
        opened.restore(&mut restored);
        assert_eq!((opened.target.as_str(), &opened.body[..]), ("/save?id=7", &b"\0\xff body"[..]));
        assert_eq!(restored.get(CONTENT_TYPE), headers.get(CONTENT_TYPE));
        assert_eq!((restored.get(REFERER), restored.get(ORIGIN)), (headers.get(REFERER), None));
        assert!(KeptForm::open(&KeptFormRow { id: other, ..row(id) }, &keys).is_none(), "S-KEY-1");
    }

    #[test]
    fn s_cook_2_of_two_form_cookies_none_is_picked() {
        let secret = "a".repeat(43);
        let headers = |text: String| HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(text).expect("a value"))]);
        assert_eq!(shown(&headers(format!("x=y; {FORM_COOKIE}={secret}"))), [secret.as_str()]);
        assert_eq!(shown(&headers(format!("{FORM_COOKIE}={secret}; {FORM_COOKIE}={secret}"))), [""; 0]);
        assert_eq!(shown(&headers(format!("{FORM_COOKIE}=short"))), [""; 0]);
        assert_eq!(shown(&headers(format!("name=Zoë; {FORM_COOKIE}={secret}"))), [secret.as_str()]);
    }
}
