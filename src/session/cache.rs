//! Does this token still open a session? From memory on the hot path, from the store when memory
//! does not know or may be out of date.
//!
//! Only tokens that we signed and the store knows enter, so a stranger cannot fill the cache; each
//! entry leaves with its session. A wrong or ended token is not remembered: it costs its bearer a
//! read each time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::cookie::SessionToken;
use super::due::Due;
use super::live::{LiveSession, Pulse};
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::ids::{SessionId, UserId};
use crate::config::Snapshot;
use crate::config::snapshot::SessionLimits;
use crate::domain::authn::AuthnContext;
use crate::domain::host::{HostName, Scheme};
use crate::domain::user::{User, UserStatus};
use crate::store::{Revocation, RevocationCursor, SessionRow, Store, StoreError, TokenRow};

/// How long a replaced token still reads, so that parallel tabs survive a step-up (S-SESS-2).
pub const OLD_ID_GRACE: Duration = Duration::from_secs(10);
/// An entry in use is read again this often, beside the revocations that name it.
const REREAD: Duration = Duration::from_secs(30);
/// How long memory alone is believed while the store is away (S-STORE-1).
const OUTAGE_GRACE: Duration = Duration::from_secs(15 * 60);

/// What a token is worth now.
#[derive(Clone, Debug)]
pub enum Lookup {
    Live(Arc<LiveSession>),
    /// Ended, expired, idle, replaced too long ago, or never issued.
    Gone,
    /// Replaced within [`OLD_ID_GRACE`]: good for GET and HEAD, at the evidence it had.
    OldId(Arc<LiveSession>),
}

/// The live sessions that this process has seen.
pub struct Sessions {
    store: Store,
    clock: SharedClock,
    background: Handle,
    snapshot: Arc<ArcSwap<Snapshot>>,

    by_token: DashMap<[u8; 16], Arc<Entry>, foldhash::fast::RandomState>,
    by_session: DashMap<SessionId, Arc<Pulse>, foldhash::fast::RandomState>,
    by_user: DashMap<UserId, Vec<SessionId>, foldhash::fast::RandomState>,
    /// Reads under way, so that the many requests of one page cost one.
    loading: DashMap<[u8; 16], Arc<OnceCell<Loaded>>, foldhash::fast::RandomState>,

    /// Counts what was forgotten or ended here. A read that began before the latest one may have
    /// seen the state before it: it is neither kept nor handed to those who asked later.
    changes: AtomicU64,
    /// Entries of an earlier epoch were read before the store was away.
    epoch: AtomicU64,
    away: AtomicBool,
    polled_at: AtomicI64,
    cursor: tokio::sync::Mutex<RevocationCursor>,
    /// Sessions that a revocation named but that could not be read again yet.
    unsure: Mutex<HashSet<SessionId>>,

    due: Due,
    due_limits: Mutex<SessionLimits>,
    touched: Mutex<Vec<Arc<Pulse>>>,
}

struct Entry {
    live: Arc<LiveSession>,
    epoch: u64,
    read_at: AtomicI64,
    rereading: AtomicBool,
}

/// The answer of one read, and the count of changes when it began.
#[derive(Clone)]
struct Loaded {
    changes: u64,
    answer: Result<Lookup, StoreError>,
}

impl Sessions {
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, background: Handle, snapshot: Arc<ArcSwap<Snapshot>>) -> Arc<Self> {
        let polled_at = AtomicI64::new(clock.now().as_millis());
        let limits = snapshot.load().sessions.clone();
        Arc::new(Self {
            store,
            clock,
            background,
            snapshot,
            by_token: DashMap::default(),
            by_session: DashMap::default(),
            by_user: DashMap::default(),
            loading: DashMap::default(),
            changes: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            away: AtomicBool::new(false),
            polled_at,
            cursor: tokio::sync::Mutex::default(),
            unsure: Mutex::default(),
            due: Due::default(),
            due_limits: Mutex::new(limits),
            touched: Mutex::default(),
        })
    }

    /// The answer from memory under the limits of the caller's snapshot, without waiting; `None` when
    /// only [`Sessions::load`] can tell.
    #[must_use]
    pub fn cached(self: &Arc<Self>, token: &SessionToken, limits: &SessionLimits, now: Timestamp) -> Option<Lookup> {
        // The guard of the map is gone at the end of this statement.
        let entry = Arc::clone(self.by_token.get(token.expose())?.value());
        let live = &entry.live;
        if live.ended.is_cancelled() || now >= expiry(live.created_at, live.pulse.expires_at, limits) {
            return Some(Lookup::Gone);
        }
        if is_idle(live.last_seen(), now, limits) {
            // The person may be busy on another replica: the store knows (S-SESS-4).
            return None;
        }
        if self.away.load(Ordering::Acquire) {
            let alone = Timestamp::from_millis(self.polled_at.load(Ordering::Relaxed)).age(now);
            if alone.is_some_and(|alone| alone >= OUTAGE_GRACE) {
                return None;
            }
        } else if entry.epoch != self.epoch.load(Ordering::Acquire) {
            return None;
        } else if is_old(Timestamp::from_millis(entry.read_at.load(Ordering::Relaxed)), REREAD, now)
            && !entry.rereading.swap(true, Ordering::AcqRel)
        {
            self.reread(token.clone(), Arc::clone(&entry));
        }
        Some(age_of_id(live, now))
    }

    /// The answer from the store. Several callers with one token share one read; nothing is
    /// believed that was read before the caller asked and forgotten since.
    pub async fn load(self: &Arc<Self>, token: SessionToken, now: Timestamp) -> Result<Lookup, StoreError> {
        let asked = self.changes.load(Ordering::Acquire);
        let this = Arc::clone(self);
        // On the background runtime, which may wait; and to its end, even if this caller's
        // connection closes, for others may share it.
        let task = self.background.spawn(async move {
            loop {
                let cell = Arc::clone(this.loading.entry(*token.expose()).or_default().value());
                let loaded = cell.get_or_init(|| this.read(&token, now)).await.clone();
                this.loading.remove_if(token.expose(), |_, shared| Arc::ptr_eq(shared, &cell));
                if loaded.changes >= asked {
                    return loaded.answer;
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the gate is stopping".to_owned())))
    }

    /// Marks activity of the person. Not for tunnel traffic, nor for paths that an app declares to
    /// be polling (S-SESS-4).
    pub fn touch(&self, live: &LiveSession, now: Timestamp) {
        let pulse = &live.pulse;
        // One store to shared memory a second for each session, not one a request.
        if now.as_secs() <= pulse.last_seen().as_secs() {
            return;
        }
        pulse.saw(now);
        self.mark_touched(pulse);
    }

    /// Writes what [`Sessions::touch`] gathered, in one statement. What could not be written is
    /// kept for the next time.
    pub async fn flush(&self) {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        let seen: Vec<_> = touched
            .iter()
            .filter(|pulse| !pulse.ended.is_cancelled())
            .map(|pulse| {
                // Read and cleared in one: who marks it after this is written the next time.
                pulse.dirty.swap(false, Ordering::AcqRel);
                (pulse.session, pulse.last_seen())
            })
            .collect();
        if seen.is_empty() {
            return;
        }
        if let Err(error) = self.store.touch_sessions(&seen).await {
            tracing::warn!(%error, sessions = seen.len(), "last-seen times could not be written; they are kept");
            touched.iter().for_each(|pulse| self.mark_touched(pulse));
        }
    }

    /// To be called after a commit that changed a session: it is read again before it is believed
    /// again, and if it has ended, everything that lives from it ends.
    pub fn forget(self: &Arc<Self>, session: SessionId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        if let Some(pulse) = self.pulse(session) {
            self.drop_tokens(&pulse);
            let this = Arc::clone(self);
            self.background.spawn(async move { this.recheck(&pulse).await });
        }
    }

    /// The same for all sessions of one account.
    pub fn forget_user(self: &Arc<Self>, user: UserId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        for session in self.sessions_of(user) {
            self.forget(session);
        }
    }

    /// Takes in what other processes changed; every 400 ms. When it returns, what the store said
    /// has taken effect here.
    pub async fn poll_revocations(&self) {
        let mut cursor = self.cursor.lock().await;
        let now = self.clock.now();
        let (news, next) = match self.store.revocations_after(cursor.clone()).await {
            Ok(answer) => answer,
            Err(error) => {
                if !self.away.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the store is away; known sessions go on for at most 15 minutes");
                }
                return;
            }
        };
        *cursor = next;
        let mut again = std::mem::take(&mut *self.unsure.lock().unwrap_or_else(PoisonError::into_inner));
        // Before it is asked whom they concern: a read under way may be about to make known here, with
        // what it saw before the change, somebody who is not known here yet.
        self.changes.fetch_add(u64::from(!(news.is_empty() && again.is_empty())), Ordering::AcqRel);
        for revocation in news {
            match revocation {
                Revocation::Session(session) => {
                    again.insert(session);
                }
                Revocation::User(user) => again.extend(self.sessions_of(user)),
                Revocation::All => again.extend(self.by_session.iter().map(|entry| *entry.key())),
            }
        }
        self.polled_at.store(now.as_millis(), Ordering::Relaxed);
        let again: Vec<_> = again.into_iter().filter_map(|session| self.pulse(session)).collect();
        // First nothing of them is believed any more, then each is looked at.
        again.iter().for_each(|pulse| self.drop_tokens(pulse));
        if self.away.load(Ordering::Acquire) {
            // Whatever was missed meanwhile: all is read again before it is believed (S-STORE-1).
            self.epoch.fetch_add(1, Ordering::AcqRel);
            self.away.store(false, Ordering::Release);
            tracing::info!("the store is back");
        }
        for pulse in again {
            self.recheck(&pulse).await;
        }
    }

    /// Ends what lives from sessions that idled out or reached their maximum; every second.
    pub async fn expire_idle(&self, now: Timestamp) {
        let limits = self.snapshot.load().sessions.clone();
        let changed = {
            let mut last = self.due_limits.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *last, limits.clone()) != limits
        };
        let due = if changed { self.due.take_all() } else { self.due.take(now) };
        for session in due {
            let Some(pulse) = self.pulse(session) else { continue };
            if due_at(&pulse, &limits) <= now {
                // Only the store knows what the person did on another replica. It answers for a
                // session that we take for dead; while it is away, our own knowledge decides.
                let away = self.away.load(Ordering::Acquire);
                let row = if away { None } else { self.store.session(session).await.ok().flatten() };
                match row.filter(|row| row.ended_at.is_none()) {
                    Some(row) => pulse.saw(row.last_seen_at),
                    None => self.end_here(session),
                }
            }
            let next = due_at(&pulse, &limits);
            if next <= now {
                self.end_here(session);
            } else if !pulse.ended.is_cancelled() {
                self.due.put(next, session);
            }
        }
    }

    /// How many tokens are held, for the metrics.
    #[must_use]
    pub fn cached_tokens(&self) -> usize {
        self.by_token.len()
    }

    async fn read(&self, token: &SessionToken, now: Timestamp) -> Loaded {
        let changes = self.changes.load(Ordering::Acquire);
        let answer = match self.store.load_token(&token.hash()).await {
            Ok(Some((row, session, user))) => self.admit(token, row, &session, user, now, changes),
            Ok(None) => {
                self.by_token.remove(token.expose());
                Ok(Lookup::Gone)
            }
            Err(error) => Err(error),
        };
        Loaded { changes, answer }
    }

    /// Judges what the store said, and keeps it when it is good.
    fn admit(
        &self,
        token: &SessionToken,
        row: TokenRow,
        session: &SessionRow,
        user: User,
        now: Timestamp,
        changes: u64,
    ) -> Result<Lookup, StoreError> {
        let limits = self.snapshot.load().sessions.clone();
        let expires_at = expiry(session.created_at, session.expires_at, &limits);
        let known = self.pulse(session.id);
        let last_seen = known.as_ref().map_or(session.last_seen_at, |p| p.last_seen().max(session.last_seen_at));
        let over = session.ended_at.is_some() || user.status != UserStatus::Active || now >= expires_at;
        if over || is_idle(last_seen, now, &limits) {
            self.end_here(session.id);
            return Ok(Lookup::Gone);
        }
        let host = stored_host(&row.host).ok_or(StoreError::Corrupt("the host of a token"))?;
        let pulse = known.unwrap_or_else(|| self.meet(session, last_seen, &limits));
        pulse.saw(last_seen);
        let authn = AuthnContext {
            user: user.id,
            name: user.name,
            display: user.display,
            email: user.email,
            groups: user.groups,
            session: session.id,
            ever_enrolled: user.ever_enrolled,
            evidence: row.evidence,
        };
        let times = (session.created_at, expires_at, row.superseded_at);
        let live = LiveSession::new(authn, row.hash, host, times, Arc::clone(&pulse));
        let answer = age_of_id(&live, now);
        if matches!(answer, Lookup::Gone) {
            self.by_token.remove(token.expose());
            pulse.remove_token(token.expose());
        } else {
            self.keep(*token.expose(), live, now, changes);
        }
        Ok(answer)
    }

    fn keep(&self, token: [u8; 16], live: Arc<LiveSession>, now: Timestamp, changes: u64) {
        let pulse = Arc::clone(&live.pulse);
        // Before the entry: whoever drops the tokens of this session finds this one.
        pulse.add_token(token);
        let entry = Arc::new(Entry {
            live,
            epoch: self.epoch.load(Ordering::Acquire),
            read_at: AtomicI64::new(now.as_millis()),
            rereading: AtomicBool::new(false),
        });
        {
            // Under the lock of the token's shard: a `forget` that counted before this comparison
            // is seen by it; one that counts later waits here to remove the entry.
            let slot = self.by_token.entry(token);
            if self.changes.load(Ordering::Acquire) == changes {
                slot.insert(entry);
            }
        }
        if pulse.ended.is_cancelled() {
            self.drop_tokens(&pulse);
        }
    }

    fn meet(&self, session: &SessionRow, last_seen: Timestamp, limits: &SessionLimits) -> Arc<Pulse> {
        let pulse = self.by_session.entry(session.id).or_insert_with(|| {
            let pulse = Pulse::new(session, last_seen);
            // Under the lock of the session's shard, always taken before that of the account's: a
            // session that is found by its id is found by its account too.
            self.by_user.entry(session.user).or_default().push(session.id);
            self.due.put(due_at(&pulse, limits), session.id);
            pulse
        });
        Arc::clone(pulse.value())
    }

    fn reread(self: &Arc<Self>, token: SessionToken, entry: Arc<Entry>) {
        let this = Arc::clone(self);
        self.background.spawn(async move {
            let now = this.clock.now();
            if let Err(error) = this.load(token, now).await {
                tracing::debug!(%error, "a session could not be read again yet");
                entry.read_at.store(now.as_millis(), Ordering::Relaxed);
            }
            // Also after a good read: it is not kept when anything was forgotten meanwhile, and then
            // this entry stays and must be read again.
            entry.rereading.store(false, Ordering::Release);
        });
    }

    /// Looks whether a session still lives.
    async fn recheck(&self, pulse: &Arc<Pulse>) {
        match self.store.session(pulse.session).await {
            Ok(Some(row)) if row.ended_at.is_none() => pulse.saw(row.last_seen_at),
            Ok(_) => self.end_here(pulse.session),
            Err(error) => {
                tracing::warn!(%error, "a revoked session could not be read again yet");
                self.unsure.lock().unwrap_or_else(PoisonError::into_inner).insert(pulse.session);
            }
        }
    }

    /// Lets go of a session that is over, and of everything that lives from it.
    fn end_here(&self, session: SessionId) {
        let removed = self.by_session.remove_if(&session, |_, pulse| {
            // Under the same lock as in `meet`, or one that is met again right now would lose its place.
            self.by_user.remove_if_mut(&pulse.user, |_, sessions| {
                sessions.retain(|id| *id != session);
                sessions.is_empty()
            });
            self.changes.fetch_add(1, Ordering::AcqRel);
            true
        });
        let Some((_, pulse)) = removed else { return };
        pulse.ended.cancel();
        self.drop_tokens(&pulse);
    }

    fn drop_tokens(&self, pulse: &Pulse) {
        for token in pulse.take_tokens() {
            self.by_token.remove(&token);
        }
    }

    fn mark_touched(&self, pulse: &Arc<Pulse>) {
        if !pulse.dirty.swap(true, Ordering::AcqRel) {
            self.touched.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(pulse));
        }
    }

    fn pulse(&self, session: SessionId) -> Option<Arc<Pulse>> {
        self.by_session.get(&session).map(|entry| Arc::clone(entry.value()))
    }

    fn sessions_of(&self, user: UserId) -> Vec<SessionId> {
        self.by_user.get(&user).map(|entry| entry.value().clone()).unwrap_or_default()
    }
}

/// The maximum counts from the sign-in, by the limit of then or of now, whichever is shorter.
fn expiry(created_at: Timestamp, expires_at: Timestamp, limits: &SessionLimits) -> Timestamp {
    expires_at.min(created_at.plus(limits.max))
}

fn is_idle(last_seen: Timestamp, now: Timestamp, limits: &SessionLimits) -> bool {
    is_old(last_seen, limits.idle, now)
}

fn is_old(since: Timestamp, limit: Duration, now: Timestamp) -> bool {
    since.age(now).is_some_and(|age| age >= limit)
}

fn due_at(pulse: &Pulse, limits: &SessionLimits) -> Timestamp {
    expiry(pulse.created_at, pulse.expires_at, limits).min(pulse.last_seen().plus(limits.idle))
}

fn age_of_id(live: &Arc<LiveSession>, now: Timestamp) -> Lookup {
    match live.superseded_at {
        None => Lookup::Live(Arc::clone(live)),
        // Replaced by a replica whose clock is ahead: just now.
        Some(at) if is_old(at, OLD_ID_GRACE, now) => Lookup::Gone,
        Some(_) => Lookup::OldId(Arc::clone(live)),
    }
}

/// A host as [`HostName::as_str`] wrote it, port and all, whatever the scheme was.
fn stored_host(text: &str) -> Option<HostName> {
    [Scheme::Https, Scheme::Http]
        .into_iter()
        .filter_map(|scheme| HostName::parse(text.as_bytes(), scheme).ok())
        .find(|host| host.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ManualClock;
    use crate::base::rng::SystemRng;
    use crate::config::snapshot::StoreSettings;
    use crate::config::{self, Purpose};
    use crate::crypto::chain::ChainKey;
    use crate::session::issue::{self, NewSession};
    use crate::store::{NewUser, Unaudited};

    const FILE: &str = r#"
version: 1
listen: [{ addr: "127.0.0.1:0", role: proxy }]
apps: [{ app: wiki, hosts: [wiki.localhost], upstream: { urls: ["http://127.0.0.1:1"] } }]
"#;

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_795_000_000);
        let store = Store::open(&StoreSettings::Sqlite, dir.path(), ChainKey::new([7; 32])).await.unwrap();
        let (snapshot, _) = config::from_text(FILE, dir.path(), Purpose::Serve).unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let clock = ManualClock::at(now);
        let sessions = Sessions::new(store.clone(), clock, Handle::current(), Arc::clone(&snapshot));

        let (user, host) = (UserId::new(now, &SystemRng), stored_host("wiki.localhost:8080").unwrap());
        let name = crate::domain::user::UserName::parse("ann").unwrap();
        let (display, email, groups) = ("Ann".to_owned(), None, Vec::new());
        let ann = NewUser { id: user, name, display, email, groups, first_login_until: None, now };
        let new =
            NewSession { user, epoch: 0, address: "192.0.2.7", user_agent: "Firefox", evidence: &[], host: &host };
        let mut tx = store.begin().await.unwrap();
        tx.insert_user(&ann).await.unwrap();
        let limits = snapshot.load().sessions.clone();
        let opened = issue::open(&mut tx, &new, &limits, now, &SystemRng).await.unwrap();
        tx.commit_unaudited(Unaudited::Housekeeping).await.unwrap();

        let admit = async |changes| {
            let (row, session, user) = store.load_token(&opened.token.hash()).await.unwrap().unwrap();
            sessions.admit(&opened.token, row, &session, user, now, changes).unwrap()
        };
        let before = sessions.changes.load(Ordering::Acquire);
        sessions.forget(opened.session);
        assert!(matches!(admit(before).await, Lookup::Live(_)), "who asked before the change is answered");
        assert!(sessions.cached(&opened.token, &limits, now).is_none(), "nobody else is");
        assert!(matches!(admit(before + 1).await, Lookup::Live(_)));
        assert!(matches!(sessions.cached(&opened.token, &limits, now), Some(Lookup::Live(_))));
    }

    #[test]
    fn a_stored_host_keeps_its_port() {
        for host in ["app.example", "app.example:80", "app.example:443", "app.example:8443", "[::1]:8080"] {
            assert_eq!(stored_host(host).unwrap().as_str(), host);
        }
        assert!(stored_host("App.example").is_none() && stored_host("").is_none());
    }
}
