//! A fresh store for one test, with a side door for tampering, and short words for what fills it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{CredentialId, FlowId, SessionId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::base::secret::Secret;
use stepgate::config::snapshot::StoreSettings;
use stepgate::crypto::chain::ChainKey;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::user::UserName;
use stepgate::store::{Credential, FlowRow, HandoverRow, NewUser, SessionRow, Store, TokenRow, Tx};

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) settings: StoreSettings,
    pub(crate) state: PathBuf,
    _dir: tempfile::TempDir,
    /// The server's own URL and the name of this test's database.
    server: Option<(String, String)>,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

pub(crate) fn later(secs: u64) -> Timestamp {
    now().plus(Duration::from_secs(secs))
}

pub(crate) fn chain() -> ChainKey {
    ChainKey::new([42; 32])
}

pub(crate) fn event(action: Action) -> AuditEvent {
    AuditEvent::new(now(), Actor::System, action, Outcome::Success, "A test did this.")
}

pub(crate) fn name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

pub(crate) fn evidence() -> Vec<FactorUse> {
    let shown = |kind| FactorUse {
        kind,
        at: now(),
        phishing_resistant: false,
        user_verified: false,
        credential: None,
        remembered: false,
    };
    vec![shown(FactorKind::Password), FactorUse { credential: Some(credential_id()), ..shown(FactorKind::Totp) }]
}

pub(crate) fn user_id() -> UserId {
    UserId::new(now(), &SystemRng)
}

pub(crate) fn session_id() -> SessionId {
    SessionId::new(now(), &SystemRng)
}

pub(crate) fn credential_id() -> CredentialId {
    CredentialId::new(now(), &SystemRng)
}

pub(crate) fn new_user(text: &str) -> NewUser {
    NewUser {
        id: user_id(),
        name: name(text),
        display: format!("{text} the Tester"),
        email: Some(format!("{text}@corp.example")),
        groups: Vec::new(),
        first_login_until: None,
        now: now(),
    }
}

pub(crate) fn new_session(user: UserId) -> SessionRow {
    SessionRow {
        id: session_id(),
        user,
        created_at: now(),
        last_seen_at: now(),
        expires_at: later(36_000),
        address: "192.0.2.7".to_owned(),
        user_agent: "Test/1 (Zoë)".to_owned(),
        ended_at: None,
        end_reason: None,
    }
}

pub(crate) fn new_token(session: SessionId, byte: u8) -> TokenRow {
    TokenRow {
        hash: [byte; 32],
        session,
        host: "app.corp.example".to_owned(),
        evidence: evidence(),
        created_at: now(),
        superseded_at: None,
    }
}

pub(crate) fn new_credential(user: UserId) -> Credential {
    Credential {
        id: credential_id(),
        user,
        kind: FactorKind::Totp,
        label: "Phone".to_owned(),
        secret: vec![0, 1, 2, 255],
        last_step: 100,
        failures: 0,
        created_at: now(),
        last_used_at: None,
        disabled_at: None,
    }
}

pub(crate) fn new_flow(user: UserId) -> FlowRow {
    FlowRow {
        id: FlowId::new(now(), &SystemRng),
        secret_hash: [1; 32],
        browser_hash: [2; 32],
        user,
        version: 1,
        state: "{\"step\":\"code\"}".to_owned(),
        created_at: now(),
        expires_at: later(600),
    }
}

pub(crate) fn new_handover(session: SessionId, code: u8) -> HandoverRow {
    HandoverRow {
        code_hash: [code; 32],
        session,
        host: "app.corp.example".to_owned(),
        nonce_hash: [9; 32],
        evidence: evidence(),
        target: "/runs?x=1".to_owned(),
        expires_at: later(60),
    }
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let settings = StoreSettings::Sqlite;
        let store = Store::open(&settings, &state, chain()).await.unwrap();
        Self { store, settings, state, _dir: dir, server: None }
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let (server, database, url) = scratch_database().await?;
        let settings = StoreSettings::Postgres { url: Arc::new(Secret::new(url)) };
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&settings, dir.path(), chain()).await.unwrap();
        let state = dir.path().to_owned();
        Some(Self { store, settings, state, _dir: dir, server: Some((server, database)) })
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
        if let Some((server, database)) = &self.server {
            drop_database(server, database).await;
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.server.is_some()
    }

    /// Another process's handle on the same store.
    pub(crate) async fn other(&self) -> Store {
        Store::open(&self.settings, &self.state, chain()).await.unwrap()
    }

    pub(crate) fn url(&self) -> Option<String> {
        match &self.settings {
            StoreSettings::Sqlite => None,
            StoreSettings::Postgres { url } => Some(url.expose().clone()),
        }
    }

    /// Runs SQL as someone who can write to the database but does not hold the keys.
    pub(crate) async fn by_hand(&self, sql: &str) {
        match self.url() {
            None => {
                let mut on = sqlite_connection(&self.state).await;
                on.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
                on.close().await.unwrap();
            }
            Some(url) => {
                let mut on = PgConnection::connect(&url).await.unwrap();
                on.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
                on.close().await.unwrap();
            }
        }
    }

    /// A number out of the database.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.url() {
            None => sqlx::query_scalar(sql).fetch_one(&mut sqlite_connection(&self.state).await).await.unwrap(),
            Some(url) => {
                sqlx::query_scalar(sql).fetch_one(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap()
            }
        }
    }

    pub(crate) async fn user(&self, text: &str) -> UserId {
        let new = new_user(text);
        let mut tx = self.store.begin().await.unwrap();
        assert!(tx.insert_user(&new).await.unwrap());
        tx.commit(&[event(Action::UserAdd)]).await.unwrap();
        new.id
    }

    pub(crate) async fn session(&self, user: UserId) -> SessionRow {
        let new = new_session(user);
        let mut tx = self.store.begin().await.unwrap();
        let held = tx.hold(user, 0).await.unwrap();
        tx.insert_session(held, &new).await.unwrap();
        tx.commit(&[event(Action::SignIn)]).await.unwrap();
        new
    }

    pub(crate) async fn credential(&self, user: UserId) -> Credential {
        let new = new_credential(user);
        let mut tx = self.store.begin().await.unwrap();
        tx.insert_credential(&new).await.unwrap();
        tx.commit(&[event(Action::FactorEnroll)]).await.unwrap();
        new
    }

    /// Runs `work` in `writers` transactions at once, half of them on another replica's handle; how
    /// many answered `true` and committed.
    pub(crate) async fn race<F>(&self, writers: usize, work: F) -> usize
    where
        F: for<'a> Fn(&'a mut Tx, usize) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        let other = self.other().await;
        let work = Arc::new(work);
        let tasks: Vec<_> = (0..writers)
            .map(|n| {
                let store = if n % 2 == 0 { self.store.clone() } else { other.clone() };
                let work = Arc::clone(&work);
                tokio::spawn(async move {
                    let mut tx = store.begin().await.unwrap();
                    let won = work(&mut tx, n).await;
                    tx.commit(&[event(Action::FactorVerify)]).await.unwrap();
                    won
                })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            winners += usize::from(task.await.unwrap());
        }
        other.close().await;
        winners
    }
}

pub(crate) async fn sqlite_connection(state: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(state.join("stepgate.db"))
        .busy_timeout(Duration::from_secs(5));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// The URL with another database; what stands behind `?` is kept.
/// An empty database on the scratch server: the server's URL, its name, its URL. `None`, said aloud, without
/// a server to test on.
pub(crate) async fn scratch_database() -> Option<(String, String, String)> {
    let Ok(server) = std::env::var("STEPGATE_TEST_POSTGRES") else {
        eprintln!("not run on PostgreSQL: STEPGATE_TEST_POSTGRES names no scratch server (scripts/test sets it)");
        return None;
    };
    let database = format!("t{}", session_id().to_string().replace('-', ""));
    let mut admin = PgConnection::connect(&server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await.unwrap();
    let url = with_database(&server, &database);
    Some((server, database, url))
}

pub(crate) async fn drop_database(server: &str, database: &str) {
    let mut admin = PgConnection::connect(server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("DROP DATABASE {database} WITH (FORCE)"))).await.unwrap();
}

fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &base[..end])
}
