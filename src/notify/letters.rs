//! Who writes the mail of a notice? Asked by the store in the very commit that it tells of; what it writes
//! is sealed, for its link and its words are nobody else's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use data_encoding::BASE64URL_NOPAD;
use lettre::address::Address;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::ids::{MailId, NoticeId};
use crate::base::rng::{self, SharedRng};
use crate::config::snapshot::Snapshot;
use crate::crypto::{KeyRing, Place, sha256};
use crate::domain::phone::PhoneNumber;
use crate::domain::portal::PortalRoute;
use crate::domain::user::User;
use crate::pages::{self, CodeFor, Language, NoticeText, Pages, Site};
use crate::store::{Channel, Letter, NewMail, Notice, OutboxShare, Teller};
use crate::telemetry::metrics::Metrics;

/// How long the link of a notice works: mail is read after a holiday too, and all that the link can do is
/// sign its own person out.
pub const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// After this a notice is given up: RFC 5321 section 4.5.4.1 asks for four to five days, but a notice
/// that is three days late warns of nothing any more.
const GIVE_UP: Duration = Duration::from_secs(3 * 24 * 3600);
/// Anybody who knows a password can cause mails: not more than so many wait.
const SHARE: OutboxShare = OutboxShare { of_user: 50, of_all: 10_000 };

/// What the outbox calls a code in a text message.
const SMS_CODE: &str = "sms_code";

/// Where a code goes.
#[derive(Clone, Copy)]
pub enum Destination<'a> {
    Mailbox(&'a str),
    Phone(&'a PhoneNumber),
}

/// What a message says, as it is sealed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) to: String,
    pub(super) subject: String,
    pub(super) text: String,
}

impl Written {
    /// Sealed for its own row: in another it opens nothing (S-KEY-1).
    pub(super) fn seal(&self, id: MailId, keys: &KeyRing, rng: &dyn rng::Rng) -> Vec<u8> {
        // Three texts always serialise.
        let plain = Zeroizing::new(serde_json::to_vec(self).unwrap_or_default());
        keys.seal(&Place::new("outbox", id.as_bytes(), "sealed"), &plain, rng)
    }

    pub(super) fn open(id: MailId, sealed: &[u8], keys: &KeyRing) -> Option<Self> {
        let plain = keys.open(&Place::new("outbox", id.as_bytes(), "sealed"), sealed).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }
}

/// Writes the mails of this process.
pub struct Letters {
    snapshot: Arc<ArcSwap<Snapshot>>,
    keys: Arc<KeyRing>,
    pages: Arc<Pages>,
    rng: SharedRng,
    /// Of `serve`; commands have none.
    metrics: Option<Arc<Metrics>>,
}

impl Letters {
    #[must_use]
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        keys: Arc<KeyRing>,
        pages: Arc<Pages>,
        rng: SharedRng,
        metrics: Option<Arc<Metrics>>,
    ) -> Arc<Self> {
        Arc::new(Self { snapshot, keys, pages, rng, metrics })
    }

    fn write(&self, snapshot: &Snapshot, notice: &Notice<'_>, link: &str, until: Timestamp) -> Option<Written> {
        if let Err(error) = notice.email.parse::<Address>() {
            tracing::warn!(user.name = notice.name, %error, "no notice can be sent: the account's e-mail address is none");
            return None;
        }
        let letter = pages::Letter::Notice {
            notice: Box::new(NoticeText {
                kind: notice.kind,
                event: notice.event.clone(),
                codes_left: notice.codes_left,
            }),
            user: notice.name.to_owned(),
            link: link.to_owned(),
            until,
        };
        match self.pages.letter(&Site::anywhere(snapshot, Language::default(), notice.event.at), &letter) {
            Ok((subject, text)) => Some(Written { to: notice.email.to_owned(), subject, text }),
            Err(error) => {
                // Ours alone to mend; what happened must not fail for it.
                tracing::error!(error = format!("{error:#}"), "a mail could not be written");
                None
            }
        }
    }
}

impl Letters {
    /// The message of a one-time code, in the language of the page that asks for it. It holds no link: whoever asks
    /// for a code by telephone gets nowhere with one, and whoever is sent one unasked is led nowhere (S-OOB-2).
    #[must_use]
    pub fn code(
        &self,
        (snapshot, language): (&Snapshot, Language),
        user: &User,
        to: Destination<'_>,
        (code, what_for): (&str, CodeFor),
        (now, until): (Timestamp, Timestamp),
    ) -> Option<NewMail> {
        let site = Site::anywhere(snapshot, language, now);
        let faulty = |error: &minijinja::Error| {
            tracing::error!(error = format!("{error:#}"), "a message could not be written");
        };
        let (written, channel, kind) = match to {
            Destination::Mailbox(to) => {
                if let Err(error) = to.parse::<Address>() {
                    tracing::warn!(user.name = %user.name, %error, "no code can be sent: the account's e-mail address is none");
                    return None;
                }
                let letter = pages::Letter::Code { user: user.name.to_string(), code: code.to_owned(), until };
                let (subject, text) = self.pages.letter(&site, &letter).inspect_err(faulty).ok()?;
                (Written { to: to.to_owned(), subject, text }, Channel::Mail, "code")
            }
            Destination::Phone(number) => {
                let text = self.pages.text_of_code(&site, code, what_for, until).inspect_err(faulty).ok()?;
                (Written { to: number.as_str().to_owned(), subject: String::new(), text }, Channel::Sms, SMS_CODE)
            }
        };
        // Once the code is dead its message is of no use to anybody.
        Some(self.sealed(user, written, (channel, kind), (now, until)))
    }

    /// Tells a number that codes go elsewhere from now on (S-OOB-3).
    #[must_use]
    pub fn number_left(
        &self,
        (snapshot, language): (&Snapshot, Language),
        user: &User,
        number: &PhoneNumber,
        now: Timestamp,
    ) -> Option<NewMail> {
        let site = Site::anywhere(snapshot, language, now);
        let text = self
            .pages
            .text_of_leaving(&site)
            .inspect_err(|error| tracing::error!(error = format!("{error:#}"), "a message could not be written"))
            .ok()?;
        let written = Written { to: number.as_str().to_owned(), subject: String::new(), text };
        Some(self.sealed(user, written, (Channel::Sms, "sms_number_left"), (now, now.plus(GIVE_UP))))
    }

    fn sealed(
        &self,
        user: &User,
        written: Written,
        (channel, kind): (Channel, &'static str),
        (now, until): (Timestamp, Timestamp),
    ) -> NewMail {
        let id = MailId::new(now, &*self.rng);
        let sealed = written.seal(id, &self.keys, &*self.rng);
        NewMail { id, user: user.id, channel, kind, sealed, created_at: now, give_up_at: until }
    }

    #[must_use]
    pub fn share_of_mails(&self) -> OutboxShare {
        SHARE
    }

    /// There was no room for a mail.
    pub fn count_dropped(&self) {
        if let Some(metrics) = &self.metrics {
            metrics.mail_dropped.fetch_add(1, Ordering::Relaxed);
        }
        tracing::warn!("a mail was not written: too many wait already");
    }
}

impl Teller for Letters {
    fn is_on(&self) -> bool {
        self.snapshot.load().smtp.is_some()
    }

    fn share(&self) -> OutboxShare {
        self.share_of_mails()
    }

    fn letter(&self, notice: &Notice<'_>) -> Option<Letter> {
        let snapshot = self.snapshot.load_full();
        let (now, rng) = (notice.event.at, &*self.rng);
        let code = Zeroizing::new(BASE64URL_NOPAD.encode(&rng::bytes::<24>(rng)));
        let link_until = now.plus(LINK_LIFE);
        // Never from the request that caused it: a Host of somebody's choice would lead their way (S-HOST-3).
        let link = Zeroizing::new(format!("{}{}?code={}", snapshot.own_origin()?, PortalRoute::NotMe.path(), *code));
        let written = self.write(&snapshot, notice, &link, link_until)?;
        let id = MailId::new(now, rng);
        let mail = NewMail {
            id,
            user: notice.user,
            channel: Channel::Mail,
            kind: notice.kind.as_str(),
            sealed: written.seal(id, &self.keys, rng),
            created_at: now,
            give_up_at: now.plus(GIVE_UP),
        };
        Some(Letter { mail, notice: NoticeId::new(now, rng), hash: sha256(code.as_bytes()), link_until })
    }

    fn no_room(&self) {
        self.count_dropped();
    }
}

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SystemRng;

    #[test]
    fn s_key_1_a_mail_that_waits_is_read_by_nobody_and_opens_in_its_own_row_alone() {
        let (keys, now) = (KeyRing::ephemeral(&SystemRng), Timestamp::from_secs(1_800_000_000));
        let (id, other) = (MailId::new(now, &SystemRng), MailId::new(now, &SystemRng));
        let text = |what: &str| what.to_owned();
        let written = Written { to: text("ann@corp.example"), subject: text("Your code"), text: text("It is 123456.") };
        let sealed = written.seal(id, &keys, &SystemRng);
        for part in [&written.to, &written.subject, &written.text] {
            assert!(!sealed.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
        }
        assert_eq!(Written::open(id, &sealed, &keys).map(|opened| opened.text), Some(written.text));
        assert!(Written::open(other, &sealed, &keys).is_none(), "moved to another row");
        assert!(Written::open(id, &sealed, &KeyRing::ephemeral(&SystemRng)).is_none(), "a stolen database alone");
    }
}
