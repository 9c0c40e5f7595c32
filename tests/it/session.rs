//! Sessions as the gate sees them: who is let in by a cookie, until when, and on which replica.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use stepgate::base::clock::{Clock, ManualClock, Timestamp};
use stepgate::base::ids::{SessionId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::config::snapshot::{SessionLimits, StoreSettings};
use stepgate::config::{self, Purpose, Snapshot};
use stepgate::crypto::chain::ChainKey;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::user::{GroupName, UserName, UserStatus};
use stepgate::session::issue::{self, NewSession, Opened};
use stepgate::session::{LiveSession, Lookup, SessionToken, Sessions};
use stepgate::store::{NewUser, Store};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// One replica: its own cache and store handle; state and clock are shared.
struct Replica {
    sessions: Arc<Sessions>,
    store: Store,
    clock: Arc<ManualClock>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

/// A state directory, and as many replicas on it as the story needs.
struct Gate {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Gate {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_795_000_000));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }

    async fn replica(&self) -> Replica {
        let store = Store::open(&StoreSettings::Sqlite, self.dir.path(), ChainKey::new([7; 32])).await.unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(self.dir.path())));
        let background = tokio::runtime::Handle::current();
        let sessions = Sessions::new(store.clone(), self.clock.clone(), background, Arc::clone(&snapshot));
        Replica { sessions, store, clock: Arc::clone(&self.clock), snapshot }
    }
}

/// What a small file gives: idle 15 min, max 10 h, 10 sessions a person.
fn snapshot(state: &Path) -> Snapshot {
    let file = r#"
version: 1
listen: [{ addr: "127.0.0.1:0", role: proxy }]
apps: [{ app: wiki, hosts: [wiki.localhost], upstream: { urls: ["http://127.0.0.1:1"] } }]
"#;
    config::from_text(file, state, Purpose::Serve).unwrap().0
}

fn host(name: &str) -> HostName {
    HostName::parse(name.as_bytes(), Scheme::Https).unwrap()
}

fn event(now: Timestamp, action: Action) -> [AuditEvent; 1] {
    [AuditEvent::new(now, Actor::System, action, Outcome::Success, "test")]
}

impl Replica {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn limits(&self) -> SessionLimits {
        self.snapshot.load().sessions.clone()
    }

    fn shown(&self, kind: FactorKind) -> FactorUse {
        FactorUse {
            kind,
            at: self.now(),
            phishing_resistant: false,
            user_verified: false,
            credential: None,
            remembered: false,
        }
    }

    async fn account(&self, name: &str) -> UserId {
        let id = UserId::new(self.now(), &SystemRng);
        let mut tx = self.store.begin().await.unwrap();
        let new = NewUser {
            id,
            name: UserName::parse(name).unwrap(),
            display: name.to_owned(),
            email: None,
            groups: vec![GroupName::parse("staff").unwrap()],
            first_login_until: None,
            now: self.now(),
        };
        assert!(tx.insert_user(&new).await.unwrap());
        tx.commit(&event(self.now(), Action::UserAdd)).await.unwrap();
        id
    }

    async fn signs_in(&self, user: UserId) -> Opened {
        let mut tx = self.store.begin().await.unwrap();
        let evidence = [self.shown(FactorKind::Password)];
        let new = NewSession {
            user,
            epoch: 0,
            address: "192.0.2.7",
            user_agent: "Firefox",
            evidence: &evidence,
            host: &host("app.example"),
        };
        let opened = issue::open(&mut tx, &new, &self.limits(), self.now(), &SystemRng).await.unwrap();
        tx.commit(&event(self.now(), Action::SignIn)).await.unwrap();
        for displaced in &opened.displaced {
            self.sessions.forget(*displaced);
        }
        opened
    }

    /// A step-up with TOTP at the app's host.
    async fn steps_up(&self, session: SessionId, old: &SessionToken) -> SessionToken {
        let mut evidence = self.is_let_in(old).await.authn.evidence.clone();
        evidence.push(self.shown(FactorKind::Totp));
        let mut tx = self.store.begin().await.unwrap();
        let (app, now) = (host("app.example"), self.now());
        let new = issue::add_evidence(&mut tx, session, old, &app, &evidence, now, &SystemRng).await.unwrap();
        tx.commit(&event(self.now(), Action::StepUp)).await.unwrap();
        self.sessions.forget(session);
        new
    }

    async fn ends(&self, session: SessionId) {
        let mut tx = self.store.begin().await.unwrap();
        assert!(issue::end(&mut tx, session, "sign_out", self.now()).await.unwrap());
        tx.commit(&event(self.now(), Action::SignOut)).await.unwrap();
    }

    /// As the proxy does: memory first, then the store.
    async fn looks_up(&self, token: &SessionToken) -> Lookup {
        match self.sessions.cached(token, &self.limits(), self.now()) {
            Some(answer) => answer,
            None => self.sessions.load(token.clone(), self.now()).await.unwrap(),
        }
    }

    async fn is_let_in(&self, token: &SessionToken) -> Arc<LiveSession> {
        match self.looks_up(token).await {
            Lookup::Live(live) => live,
            other => panic!("{other:?}"),
        }
    }

    async fn is_sent_away(&self, token: &SessionToken) -> bool {
        matches!(self.looks_up(token).await, Lookup::Gone)
    }

    fn knows_by_heart(&self, token: &SessionToken) -> bool {
        matches!(self.sessions.cached(token, &self.limits(), self.now()), Some(Lookup::Live(_)))
    }
}

async fn fires(live: &LiveSession) {
    tokio::time::timeout(Duration::from_secs(20), live.ended.cancelled()).await.expect("the session's end is told");
}

fn kinds(live: &LiveSession) -> Vec<FactorKind> {
    live.authn.evidence.iter().map(|seen| seen.kind).collect()
}

#[tokio::test]
async fn a_signed_in_person_is_known_after_one_read() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    assert!(!replica.knows_by_heart(&opened.token));
    let live = replica.is_let_in(&opened.token).await;
    assert!(replica.knows_by_heart(&opened.token));
    assert_eq!((live.authn.user, live.authn.session), (ann, opened.session));
    assert_eq!(live.authn.name.as_str(), "ann");
    assert_eq!(live.host, host("app.example"));
    assert_eq!(kinds(&live), [FactorKind::Password]);
    assert!(replica.is_sent_away(&SessionToken::generate(&SystemRng)).await, "a token that was never issued");
    assert_eq!(replica.sessions.cached_tokens(), 1, "and what is not known is not kept");
}

#[tokio::test]
async fn s_sess_1_the_store_holds_no_secret_of_a_cookie() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let keys = stepgate::crypto::KeyRing::ephemeral(&SystemRng);
    let opened = replica.signs_in(ann).await;
    let cookie =
        stepgate::session::cookie::set_cookie(&opened.token, &host("app.example"), &keys, replica.now(), 600 * MINUTE);
    let payload = cookie.to_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    let sid = claims["sid"].as_str().unwrap();
    let secret = data_encoding::BASE64URL_NOPAD.decode(sid.as_bytes()).unwrap();
    assert!(secret.len() * 8 >= 128);
    replica.store.close().await;
    let hash = opened.token.hash();
    let mut found_hash = false;
    for file in std::fs::read_dir(gate.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|at| at == needle);
        assert!(!holds(&secret) && !holds(sid.as_bytes()));
        assert!(!holds(data_encoding::HEXLOWER.encode(&secret).as_bytes()));
        found_hash |= holds(&hash);
    }
    assert!(found_hash, "the search looked at the right files");
}

#[tokio::test]
async fn s_sess_2_a_step_up_makes_a_new_id_and_the_old_one_reads_ten_seconds_at_its_old_evidence() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let other = gate.replica().await;
    let ann = replica.account("ann").await;
    let Opened { session, token: old, .. } = replica.signs_in(ann).await;
    other.is_let_in(&old).await;
    let new = replica.steps_up(session, &old).await;
    assert_ne!(new.hash(), old.hash());
    assert_eq!(kinds(&*replica.is_let_in(&new).await), [FactorKind::Password, FactorKind::Totp]);
    other.sessions.poll_revocations().await;
    for tab in [&replica, &other] {
        match tab.looks_up(&old).await {
            Lookup::OldId(live) => assert_eq!(kinds(&live), [FactorKind::Password]),
            answer => panic!("{answer:?}"),
        }
    }
    gate.clock.advance(10 * SECOND - Duration::from_millis(1));
    assert!(matches!(replica.looks_up(&old).await, Lookup::OldId(_)));
    gate.clock.advance(Duration::from_millis(1));
    assert!(replica.is_sent_away(&old).await);
    assert!(other.is_sent_away(&old).await);
    let live = replica.is_let_in(&new).await;
    assert!(!live.ended.is_cancelled(), "the session itself goes on");
}

#[tokio::test]
async fn s_sess_2_of_two_step_ups_from_one_id_the_second_starts_over() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let Opened { session, token: old, .. } = replica.signs_in(ann).await;
    replica.steps_up(session, &old).await;
    let mut tx = replica.store.begin().await.unwrap();
    let again = issue::add_evidence(&mut tx, session, &old, &host("app.example"), &[], replica.now(), &SystemRng).await;
    assert_eq!(again.unwrap_err(), stepgate::store::StoreError::Conflict);
}

#[tokio::test]
async fn s_sess_2_each_host_has_an_id_of_its_own_whose_evidence_never_grows() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let Opened { session, token, .. } = replica.signs_in(ann).await;
    let evidence = replica.is_let_in(&token).await.authn.evidence.clone();
    let mut tx = replica.store.begin().await.unwrap();
    let (at, now) = (host("wiki.example"), replica.now());
    let wiki = issue::token_for_host(&mut tx, session, None, &at, &evidence, now, &SystemRng).await.unwrap();
    tx.commit(&event(now, Action::Handover)).await.unwrap();
    replica.steps_up(session, &token).await;
    let there = replica.is_let_in(&wiki).await;
    assert_eq!(there.host, host("wiki.example"));
    assert_eq!(kinds(&there), [FactorKind::Password]);
    replica.ends(session).await;
    replica.sessions.forget(session);
    fires(&there).await;
    assert!(replica.is_sent_away(&wiki).await, "one end for all hosts");
}

#[tokio::test]
async fn s_sess_3_an_end_on_one_replica_bites_on_the_other_after_one_poll() {
    let gate = Gate::new();
    let (here, there) = (gate.replica().await, gate.replica().await);
    let ann = here.account("ann").await;
    let Opened { session, token, .. } = here.signs_in(ann).await;
    let socket = there.is_let_in(&token).await;
    there.sessions.poll_revocations().await;
    assert!(there.knows_by_heart(&token) || !there.is_sent_away(&token).await);
    here.ends(session).await;
    assert!(!socket.ended.is_cancelled());
    there.sessions.poll_revocations().await;
    assert!(socket.ended.is_cancelled(), "the live socket is told");
    assert!(there.is_sent_away(&token).await);
    assert_eq!(there.sessions.cached_tokens(), 0);
}

#[tokio::test]
async fn s_sess_3_all_sessions_of_a_disabled_account_and_of_everyone_end_everywhere() {
    let gate = Gate::new();
    let (here, there) = (gate.replica().await, gate.replica().await);
    let (ann, bob) = (here.account("ann").await, here.account("bob").await);
    let (first, second) = (here.signs_in(ann).await, here.signs_in(ann).await);
    let third = here.signs_in(bob).await;
    for opened in [&first, &second, &third] {
        there.is_let_in(&opened.token).await;
    }
    let mut tx = here.store.begin().await.unwrap();
    tx.set_status(ann, UserStatus::Disabled, here.now()).await.unwrap();
    tx.commit(&event(here.now(), Action::UserDisable)).await.unwrap();
    there.sessions.poll_revocations().await;
    assert!(there.is_sent_away(&first.token).await && there.is_sent_away(&second.token).await);
    let socket = there.is_let_in(&third.token).await;

    let mut tx = here.store.begin().await.unwrap();
    assert_eq!(tx.end_all_sessions("operator", here.now()).await.unwrap(), 1);
    tx.commit(&event(here.now(), Action::SessionEnd)).await.unwrap();
    there.sessions.poll_revocations().await;
    assert!(socket.ended.is_cancelled() && there.is_sent_away(&third.token).await);
}

#[tokio::test]
async fn s_sess_3_new_groups_are_seen_without_ending_the_session() {
    let gate = Gate::new();
    let (here, there) = (gate.replica().await, gate.replica().await);
    let ann = here.account("ann").await;
    let opened = here.signs_in(ann).await;
    let before = there.is_let_in(&opened.token).await;
    let mut tx = here.store.begin().await.unwrap();
    tx.set_groups(ann, &[GroupName::parse("leads").unwrap()]).await.unwrap();
    tx.commit(&event(here.now(), Action::UserChange)).await.unwrap();
    there.sessions.poll_revocations().await;
    let after = there.is_let_in(&opened.token).await;
    assert_eq!(after.authn.groups, [GroupName::parse("leads").unwrap()]);
    assert!(!before.ended.is_cancelled(), "sockets opened before live on");
    here.sessions.forget_user(ann);
    here.ends(opened.session).await;
    there.sessions.poll_revocations().await;
    assert!(before.ended.is_cancelled(), "and end with their session");
}

#[tokio::test]
async fn s_sess_3_an_end_here_is_immediate_and_reaches_live_connections() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let socket = replica.is_let_in(&opened.token).await;
    replica.ends(opened.session).await;
    replica.sessions.forget(opened.session);
    assert!(!replica.knows_by_heart(&opened.token));
    assert!(replica.is_sent_away(&opened.token).await);
    fires(&socket).await;
}

#[tokio::test]
async fn s_sess_4_a_session_idles_out_by_the_servers_clock_and_activity_keeps_it() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    for _ in 0..4 {
        gate.clock.advance(14 * MINUTE);
        let live = replica.is_let_in(&opened.token).await;
        replica.sessions.touch(&live, replica.now());
    }
    let socket = replica.is_let_in(&opened.token).await;
    gate.clock.advance(15 * MINUTE - SECOND);
    replica.sessions.expire_idle(replica.now()).await;
    assert!(!socket.ended.is_cancelled());
    gate.clock.advance(SECOND);
    assert!(replica.is_sent_away(&opened.token).await, "looked at, but not touched");
    assert!(socket.ended.is_cancelled());
}

#[tokio::test]
async fn s_sess_4_a_socket_alone_does_not_keep_a_session() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let socket = replica.is_let_in(&opened.token).await;
    replica.sessions.expire_idle(replica.now()).await;
    gate.clock.advance(15 * MINUTE);
    replica.sessions.expire_idle(replica.now()).await;
    assert!(socket.ended.is_cancelled());
    assert_eq!(replica.sessions.cached_tokens(), 0, "nothing of it is kept");
}

#[tokio::test]
async fn s_sess_4_the_maximum_ends_even_a_busy_session() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let mut live = replica.is_let_in(&opened.token).await;
    for _ in 0..59 {
        gate.clock.advance(10 * MINUTE);
        live = replica.is_let_in(&opened.token).await;
        replica.sessions.touch(&live, replica.now());
        replica.sessions.flush().await;
        replica.sessions.expire_idle(replica.now()).await;
    }
    assert!(!live.ended.is_cancelled());
    gate.clock.advance(10 * MINUTE);
    assert!(matches!(replica.sessions.cached(&opened.token, &replica.limits(), replica.now()), Some(Lookup::Gone)));
    replica.sessions.expire_idle(replica.now()).await;
    assert!(live.ended.is_cancelled());
}

#[tokio::test]
async fn s_sess_4_who_is_busy_on_one_replica_is_not_idle_on_the_other() {
    let gate = Gate::new();
    let (busy, quiet) = (gate.replica().await, gate.replica().await);
    let ann = busy.account("ann").await;
    let opened = busy.signs_in(ann).await;
    let socket = quiet.is_let_in(&opened.token).await;
    gate.clock.advance(14 * MINUTE);
    let live = busy.is_let_in(&opened.token).await;
    busy.sessions.touch(&live, busy.now());
    busy.sessions.flush().await;
    gate.clock.advance(2 * MINUTE);
    quiet.sessions.expire_idle(quiet.now()).await;
    assert!(!socket.ended.is_cancelled(), "the store knew better");
    quiet.is_let_in(&opened.token).await;
    gate.clock.advance(13 * MINUTE);
    quiet.sessions.expire_idle(quiet.now()).await;
    assert!(socket.ended.is_cancelled(), "now nobody had seen the person for 15 minutes");
}

#[tokio::test]
async fn s_sess_4_shorter_limits_of_a_reload_hold_for_sessions_that_exist() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let socket = replica.is_let_in(&opened.token).await;
    gate.clock.advance(6 * MINUTE);
    replica.sessions.expire_idle(replica.now()).await;
    assert!(!socket.ended.is_cancelled());
    let mut shorter = snapshot(gate.dir.path());
    shorter.sessions.idle = 5 * MINUTE;
    replica.snapshot.store(Arc::new(shorter));
    replica.sessions.expire_idle(replica.now()).await;
    assert!(socket.ended.is_cancelled());
    assert!(replica.is_sent_away(&opened.token).await);
}

#[tokio::test]
async fn the_eleventh_session_ends_the_oldest() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let bob = replica.signs_in(replica.account("bob").await).await;
    let mut all = Vec::new();
    for _ in 0..10 {
        gate.clock.advance(SECOND);
        all.push(replica.signs_in(ann).await);
    }
    assert!(all.iter().all(|opened| opened.displaced.is_empty()));
    let socket = replica.is_let_in(&all[0].token).await;
    gate.clock.advance(SECOND);
    let eleventh = replica.signs_in(ann).await;
    assert_eq!(eleventh.displaced, [all[0].session]);
    fires(&socket).await;
    assert!(replica.is_sent_away(&all[0].token).await);
    for kept in all[1..].iter().chain([&eleventh, &bob]) {
        replica.is_let_in(&kept.token).await;
    }
}

#[tokio::test]
async fn the_requests_of_one_page_cost_one_read() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let page = (0..50).map(|_| replica.is_let_in(&opened.token));
    let answers = futures_util::future::join_all(page).await;
    assert!(answers.iter().all(|live| Arc::ptr_eq(live, &answers[0])), "one read, one answer");
    assert_eq!(replica.sessions.cached_tokens(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_sess_3_no_read_that_began_before_an_end_is_believed_after_it() {
    let gate = Gate::new();
    let replica = Arc::new(gate.replica().await);
    let ann = replica.account("ann").await;
    for round in 0..60 {
        let opened = replica.signs_in(ann).await;
        // A page full of requests is under way, in memory and in the store, while the session ends.
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let (replica, token) = (Arc::clone(&replica), opened.token.clone());
                tokio::spawn(async move {
                    while !replica.is_sent_away(&token).await {
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        replica.ends(opened.session).await;
        replica.sessions.forget(opened.session);
        assert!(replica.is_sent_away(&opened.token).await, "round {round}");
        for request in busy {
            request.await.unwrap();
        }
    }
    assert_eq!(replica.sessions.cached_tokens(), 0);
}

/// Asks again and again, for the answer of a read in the background.
async fn becomes(replica: &Replica, token: &SessionToken, is: impl Fn(&Lookup) -> bool) {
    let asked = async {
        while !is(&replica.looks_up(token).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is read again");
}

#[tokio::test]
async fn s_sess_3_an_entry_is_read_again_even_if_something_was_forgotten_during_the_read_before() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    replica.is_let_in(&opened.token).await;
    let mut tx = replica.store.begin().await.unwrap();
    tx.set_groups(ann, &[GroupName::parse("leads").unwrap()]).await.unwrap();
    tx.commit(&event(replica.now(), Action::UserChange)).await.unwrap();
    // Nobody polls: only the reading again of an entry in use can bring the news.
    gate.clock.advance(31 * SECOND);
    replica.is_let_in(&opened.token).await;
    for _ in 0..4 {
        tokio::task::yield_now().await;
        replica.sessions.forget(SessionId::new(replica.now(), &SystemRng));
    }
    becomes(&replica, &opened.token, |seen| match seen {
        Lookup::Live(live) => live.authn.groups == [GroupName::parse("leads").unwrap()],
        other => panic!("{other:?}"),
    })
    .await;
}

#[tokio::test]
async fn s_sess_3_what_the_store_no_longer_knows_is_not_believed_from_memory() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    replica.is_let_in(&opened.token).await;
    let mut tx = replica.store.begin().await.unwrap();
    assert!(tx.remove_user(ann, replica.now()).await.unwrap());
    tx.commit(&event(replica.now(), Action::UserRemove)).await.unwrap();
    gate.clock.advance(31 * SECOND);
    becomes(&replica, &opened.token, |seen| matches!(seen, Lookup::Gone)).await;
    assert_eq!(replica.sessions.cached_tokens(), 0);
}

#[tokio::test]
async fn while_the_store_is_away_known_sessions_go_on_and_nothing_new_is_believed() {
    let gate = Gate::new();
    let (replica, other) = (gate.replica().await, gate.replica().await);
    let ann = replica.account("ann").await;
    let (known, unknown) = (replica.signs_in(ann).await, replica.signs_in(ann).await);
    let live = replica.is_let_in(&known.token).await;
    replica.sessions.poll_revocations().await;
    other.is_let_in(&known.token).await;
    replica.store.close().await;
    replica.sessions.poll_revocations().await;
    for _ in 0..14 {
        gate.clock.advance(MINUTE);
        assert!(replica.knows_by_heart(&known.token));
        replica.sessions.touch(&live, replica.now());
        replica.sessions.poll_revocations().await;
    }
    assert!(replica.sessions.load(unknown.token.clone(), replica.now()).await.is_err());
    gate.clock.advance(MINUTE);
    assert!(replica.sessions.cached(&known.token, &replica.limits(), replica.now()).is_none(), "15 minutes are over");
    assert!(replica.sessions.load(known.token.clone(), replica.now()).await.is_err());
}

#[tokio::test]
async fn what_the_proxy_prepared_is_kept_with_the_session() {
    let gate = Gate::new();
    let replica = gate.replica().await;
    let ann = replica.account("ann").await;
    let opened = replica.signs_in(ann).await;
    let live = replica.is_let_in(&opened.token).await;
    assert!(live.prepared::<String>().is_none());
    live.prepare(Arc::new(String::from("Remote-User: ann")));
    let again = replica.is_let_in(&opened.token).await;
    assert_eq!(again.prepared::<String>().as_deref().map(String::as_str), Some("Remote-User: ann"));
    assert!(again.prepared::<u32>().is_none());
}
