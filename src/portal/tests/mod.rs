//! People at their browsers against the real pages, a real SQLite file and a clock that tests move.

mod browser;
mod enroll;
mod imported;
mod keys;
mod leave;
mod login;
mod second;
#[path = "../../../tests/it/harness/soft_key.rs"]
mod soft_key;
mod step_up;

use std::sync::Arc;

use browser::Browser;

use super::{Portal, PortalRequest};
use crate::auth::ReturnTo;
use crate::auth::factors::TotpKey;
use crate::auth::return_to::{Form, nonce_hash};
use crate::auth::test_world::{World, host, snapshot};
use crate::config::snapshot::Snapshot;
use crate::domain::host::Scheme;
use crate::domain::level::LevelName;
use crate::domain::policy::RuleName;
use crate::domain::route::AppName;
use crate::domain::user::User;
use crate::pages::Pages;
use crate::session::KeptForms;

const LOGIN: &str = "https://login.corp.example";
const PAYROLL: &str = "payroll.corp.example";

/// The portal with its world.
struct Gate {
    world: World,
    portal: Arc<Portal>,
}

/// As long as real ones are.
fn nonce_of(word: &str) -> String {
    format!("{word:-<43}")
}

impl Gate {
    async fn new() -> Self {
        Self::with(snapshot(true)).await
    }

    async fn with(snapshot: Snapshot) -> Self {
        let world = World::with(snapshot).await;
        let auth = Arc::clone(&world.auth);
        let kept = KeptForms::new(auth.store.clone(), Arc::clone(&auth.keys), Arc::clone(&auth.rng));
        let portal = Portal::new(auth, Arc::clone(&world.sessions), Pages::new(), kept, "{\"keys\":[]}");
        Self { world, portal }
    }

    fn browser(&self) -> Browser<'_> {
        Browser::new(self)
    }

    async fn ann(&self) -> (User, TotpKey) {
        self.world.user_with_phone("ann").await
    }

    /// What the proxy seals when a page of payroll asks for `level`, for the browser with `nonce`.
    fn rd(&self, path: &str, level: &str, nonce: &str) -> String {
        self.return_to(path, level, nonce).seal(&self.world.auth.keys)
    }

    fn return_to(&self, path: &str, level: &str, nonce: &str) -> ReturnTo {
        ReturnTo {
            host: host(PAYROLL),
            scheme: Scheme::Https,
            path_and_query: path.to_owned(),
            app: AppName::new("payroll"),
            rule: RuleName::new("default"),
            level: LevelName::new(level),
            form: Form::None,
            nonce_hash: nonce_hash(&nonce_of(nonce)),
            issued_at: self.world.now(),
        }
    }

    /// Sessions that are alive now.
    async fn live_sessions(&self) -> usize {
        self.world.auth.store.sessions(self.world.now()).await.expect("reads").len()
    }
}
