//! What is sent now, what later, and what never? One round at a time: connect where something is due, send
//! what this process can lease, give up what is of no more use.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;

use super::letters::Written;
use super::sms::{self, GatewayError};
use super::smtp::{Mail, Relay, RelayError};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::rng::{self, SharedRng};
use crate::config::snapshot::{SmtpSettings, Snapshot};
use crate::crypto::KeyRing;
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::domain::phone::PhoneNumber;
use crate::store::{Channel, GivenUp, MailRow, Store, StoreError};
use crate::telemetry::metrics::Metrics;

/// After a failed connection to the relay, doubling from the first to the second.
const RELAY_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// After a try of one mail that the relay did not take, doubling likewise.
const MAIL_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1800));
/// The same for the gateway of text messages, and for one of them, whose code is dead after five minutes.
const GATEWAY_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
const TEXT_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Sent in one round at most, so that a reload is heeded in between.
const ROUND: usize = 50;

/// Sends what the outbox holds. One for the process.
pub struct Postman {
    store: Store,
    keys: Arc<KeyRing>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    /// Names this process in its leases.
    lease: String,
    relay: Mutex<Pause>,
    gateway: Mutex<Pause>,
}

/// How the relay or the gateway has been lately.
#[derive(Clone, Copy, Debug, Default)]
struct Pause {
    failures: u32,
    until: Option<Timestamp>,
}

impl Pause {
    fn lengthen(&mut self, pauses: (Duration, Duration), now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now.plus(doubling(pauses, i64::from(self.failures))));
    }
}

impl Postman {
    #[must_use]
    pub fn new(
        store: Store,
        keys: Arc<KeyRing>,
        clock: SharedClock,
        rng: &SharedRng,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let lease = HEXLOWER.encode(&rng::bytes::<16>(&**rng));
        Arc::new(Self { store, keys, clock, metrics, lease, relay: Mutex::default(), gateway: Mutex::default() })
    }

    /// One round. An error says what is wrong with the relay, the gateway or the store; it is tried again and again.
    pub async fn round(&self, snapshot: &Snapshot) -> Result<(), String> {
        let now = self.clock.now();
        let texts = self.store.waiting_mails(Channel::Sms, now).await.map_err(|e| e.to_string())?;
        // At once: one that is slow, or rests, keeps the other from nothing.
        let (mailed, texted) =
            tokio::join!(self.mails(snapshot, now, texts.mails > 0), self.texts(snapshot, now, texts.due));
        match (mailed, texted) {
            (Err(mails), Err(texts)) => Err(format!("{mails}; {texts}")),
            (mailed, texted) => mailed.and(texted),
        }
    }

    async fn mails(&self, snapshot: &Snapshot, now: Timestamp, texts: bool) -> Result<(), String> {
        let waiting = self.store.waiting_mails(Channel::Mail, now).await.map_err(|e| e.to_string())?;
        self.metrics.mail_waiting.store(waiting.mails, Ordering::Relaxed);
        let oldest = waiting.oldest.map_or(0, Timestamp::as_secs);
        self.metrics.mail_oldest_at_secs.store(oldest, Ordering::Relaxed);
        let open = self.store.open_incidents().await.map_err(|e| e.to_string())?;
        self.metrics.incidents_open.store(open, Ordering::Relaxed);
        if waiting.mails > 0 || texts {
            self.give_up_old(now).await.map_err(|e| e.to_string())?;
        }
        let Some(settings) = &snapshot.smtp else { return Ok(()) };
        let pause = *self.pause();
        if let (true, Some(_)) = (waiting.due, pause.until.filter(|until| now < *until)) {
            // Still the same fault: said once, by the first round that met it.
            return Err("the mail relay rests after a failure".to_owned());
        }
        if !waiting.due {
            return Ok(());
        }
        // Connected before anything is leased: a relay that is away takes no try off any mail.
        match Relay::connect(settings).await {
            Ok(relay) => {
                *self.pause() = Pause::default();
                self.metrics.mail_relay_up.store(1, Ordering::Relaxed);
                self.deliver(settings, relay).await
            }
            Err(error) => {
                self.rest();
                Err(format!("the mail relay {}:{}: {error}", settings.host, settings.port))
            }
        }
    }

    async fn deliver(&self, settings: &SmtpSettings, mut relay: Relay) -> Result<(), String> {
        for _ in 0..ROUND {
            let claimed =
                self.store.claim_mail(Channel::Mail, &self.lease, self.clock.now()).await.map_err(|e| e.to_string())?;
            let Some(row) = claimed else { break };
            let Some(mail) = self.open(&row) else {
                self.give_up(&row, "A mail was given up: it does not open with the keys of the ring.")
                    .await
                    .map_err(|e| e.to_string())?;
                continue;
            };
            match relay.send(settings, &mail).await {
                Ok(receipt) => {
                    // Whatever comes now, the relay has it: only a crash before this line sends it twice.
                    self.store.mail_sent(&row).await.map_err(|e| e.to_string())?;
                    self.metrics.mail_sent.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(mail.id = %row.id, kind = row.kind, relay = receipt.0, "a mail was sent");
                }
                Err(error) => {
                    self.metrics.mail_failed.fetch_add(1, Ordering::Relaxed);
                    self.not_sent(&row, &error).await.map_err(|e| e.to_string())?;
                    if error.is_of_the_relay() {
                        self.rest();
                        return Err(format!("the mail relay {}:{}: {error}", settings.host, settings.port));
                    }
                    // After an error nobody knows where the conversation stands.
                    drop(relay);
                    relay = match Relay::connect(settings).await {
                        Ok(relay) => relay,
                        Err(error) => {
                            self.rest();
                            return Err(format!("the mail relay {}:{}: {error}", settings.host, settings.port));
                        }
                    };
                }
            }
        }
        relay.quit().await;
        Ok(())
    }

    async fn texts(&self, snapshot: &Snapshot, now: Timestamp, due: bool) -> Result<(), String> {
        let Some(settings) = snapshot.sms.as_ref().filter(|_| due) else { return Ok(()) };
        let rests = self.gateway_pause().until.is_some_and(|until| now < until);
        if rests {
            return Err("the SMS gateway rests after a failure".to_owned());
        }
        let store = |e: StoreError| e.to_string();
        for _ in 0..ROUND {
            let claimed = self.store.claim_mail(Channel::Sms, &self.lease, self.clock.now()).await.map_err(store)?;
            let Some(row) = claimed else { break };
            let Some(text) = self.open_text(&row) else {
                let reason = "A text message was given up: it does not open with the keys of the ring.";
                self.give_up(&row, reason).await.map_err(store)?;
                continue;
            };
            match Box::pin(sms::send(settings, &text)).await {
                Ok(status) => {
                    self.store.mail_sent(&row).await.map_err(store)?;
                    *self.gateway_pause() = Pause::default();
                    self.metrics.sms_gateway_up.store(1, Ordering::Relaxed);
                    self.metrics.sms_sent.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(sms.id = %row.id, kind = row.kind, %status, "a text message was sent");
                }
                Err(error) => {
                    self.text_not_sent(&row, &error).await.map_err(store)?;
                    let of_the_gateway = error.is_of_the_gateway();
                    if of_the_gateway {
                        self.metrics.sms_gateway_up.store(0, Ordering::Relaxed);
                        self.gateway_pause().lengthen(GATEWAY_PAUSE, self.clock.now());
                    }
                    self.metrics.sms_failed.fetch_add(1, Ordering::Relaxed);
                    if of_the_gateway {
                        return Err(format!("the SMS gateway {}: {error}", settings.url.authority));
                    }
                }
            }
        }
        Ok(())
    }

    async fn text_not_sent(&self, row: &MailRow, error: &GatewayError) -> Result<(), StoreError> {
        tracing::warn!(sms.id = %row.id, kind = row.kind, tries = row.tries, %error, "a text message was not taken");
        if error.is_for_good() {
            return self.give_up(row, "A text message was given up: the gateway refused it.").await;
        }
        let next = self.clock.now().plus(doubling(TEXT_PAUSE, row.tries));
        self.store.mail_failed(row, next).await.map(drop)
    }

    async fn not_sent(&self, row: &MailRow, error: &RelayError) -> Result<(), StoreError> {
        tracing::warn!(mail.id = %row.id, kind = row.kind, tries = row.tries, %error, "a mail was not taken");
        if error.is_for_good() {
            let reason = "A mail was given up: the relay refused its recipient.";
            return self.give_up(row, reason).await;
        }
        let next = self.clock.now().plus(doubling(MAIL_PAUSE, row.tries));
        self.store.mail_failed(row, next).await.map(drop)
    }

    async fn give_up(&self, row: &MailRow, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        match tx.give_up_mail(row).await? {
            Some(given_up) => {
                tx.commit(&[self.event(&given_up, reason)]).await?;
                self.metrics.mail_given_up.fetch_add(1, Ordering::Relaxed);
            }
            // Its lease ended, and another process has it.
            None => tx.rollback().await,
        }
        Ok(())
    }

    async fn give_up_old(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let given_up = tx.give_up_old_mails(now).await?;
        if given_up.is_empty() {
            tx.rollback().await;
            return Ok(());
        }
        let reason = |channel| match channel {
            Channel::Mail => "A mail was given up: the relay did not take it in time.",
            Channel::Sms => "A text message was given up: the gateway did not take it in time.",
        };
        let events: Vec<AuditEvent> = given_up.iter().map(|mail| self.event(mail, reason(mail.channel))).collect();
        tx.commit(&events).await?;
        self.metrics.mail_given_up.fetch_add(u64::try_from(events.len()).unwrap_or(0), Ordering::Relaxed);
        tracing::warn!(mails = events.len(), "mails were given up: the relay did not take them in time");
        Ok(())
    }

    fn event(&self, mail: &GivenUp, reason: &str) -> AuditEvent {
        let event = AuditEvent::new(self.clock.now(), Actor::System, Action::MailGiveUp, Outcome::Failure, reason);
        event.about(mail.user, &mail.name).with_factor(&mail.kind)
    }

    fn open(&self, row: &MailRow) -> Option<Mail> {
        let written = Written::open(row.id, &row.sealed, &self.keys)?;
        let to = written.to.parse().ok()?;
        Some(Mail { id: row.id.to_string(), to, subject: written.subject, text: written.text, at: row.created_at })
    }

    fn open_text(&self, row: &MailRow) -> Option<sms::Text> {
        let written = Written::open(row.id, &row.sealed, &self.keys)?;
        let to = PhoneNumber::parse(&written.to).ok()?;
        // The time of the request, not of the row: a signature is good for so long.
        Some(sms::Text { id: row.id.to_string(), to, text: written.text, at: self.clock.now() })
    }

    fn rest(&self) {
        self.metrics.mail_relay_up.store(0, Ordering::Relaxed);
        self.pause().lengthen(RELAY_PAUSE, self.clock.now());
    }

    fn gateway_pause(&self) -> std::sync::MutexGuard<'_, Pause> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, Pause> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after try number `n`, from 1.
fn doubling((first, most): (Duration, Duration), n: i64) -> Duration {
    let doublings = u32::try_from(n.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
    first.saturating_mul(1 << doublings).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_further_and_further_apart_and_never_stop_before_the_mail_is_given_up() {
        let pauses: Vec<u64> = (1..=8).map(|n| doubling(MAIL_PAUSE, n).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(doubling(RELAY_PAUSE, 1_000), RELAY_PAUSE.1);
    }
}
