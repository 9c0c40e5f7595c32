//! What is still running under a verdict of the past, and how does it end when the verdict falls?
//!
//! Tunnels, event streams and downloads outlive the judging of their request. Each is registered
//! while it waits for its upstream, and ends when its session ends or when a new policy would not
//! have allowed it (S-WS-2).

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::form;
use crate::base::clock::Timestamp;
use crate::base::ids::SessionId;
use crate::base::net::ClientIp;
use crate::config::Snapshot;
use crate::domain::authn::Authn;
use crate::domain::host::HostName;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::{Decision, Facts, decide};

/// Tunnels that one session may hold open; without a session, one address (/64).
pub const TUNNELS_PER_HOLDER: u32 = 32;

/// Who holds a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    Session(SessionId),
    /// Nobody is signed in: a public path.
    Address(IpAddr),
}

/// A request as it was judged, kept to judge it again under a new policy. Always in an `Arc`, made once:
/// every future and body on its way would otherwise be as large.
#[derive(Debug)]
pub struct Judged {
    pub host: HostName,
    pub method: http::Method,
    pub said: form::Said,
    pub path: CanonicalPath,
    pub uri: http::Uri,
    pub client: ClientIp,
    pub authn: Authn,
    /// The load of the configuration whose policy judged it.
    pub generation: u64,
    /// When it was judged: judging it again asks what the new policy would have said then, so
    /// that a reload never ends a connection only because its sign-in has grown old since.
    pub at: Timestamp,
}

impl Judged {
    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        use crate::domain::host::Scheme;
        use crate::domain::path::PathForms;
        Self {
            host: HostName::parse(b"a.test", Scheme::Http).unwrap(),
            method: http::Method::GET,
            said: form::Said::Nothing,
            path: CanonicalPath::parse("/iso", PathForms::default()).unwrap(),
            uri: "/iso".parse().unwrap(),
            client: ClientIp::new([192, 0, 2, 1].into()),
            authn: Authn::Anonymous,
            generation: 1,
            at: Timestamp::from_secs(1_800_000_000),
        }
    }

    /// Whether `snapshot` would have allowed it.
    fn still_allowed(&self, snapshot: &Snapshot) -> bool {
        let Some(route) = snapshot.routes.find(&self.host) else { return false };
        let Ok(path) = CanonicalPath::parse(self.path.as_str(), route.policy.forms) else { return false };
        let facts = Facts {
            method: &self.method,
            also_methods: self.said.also_methods(),
            content: self.said.content(),
            path: &path,
            query: self.uri.query(),
            client: self.client,
            authn: &self.authn,
            now: self.at,
        };
        matches!(decide(&route.policy, &facts, &mut ()), Decision::Allow(_))
    }
}

/// Every connection of the process that outlives its judging.
#[derive(Debug, Default)]
pub struct LiveConnections {
    next: AtomicU64,
    open: DashMap<u64, Open>,
    /// The newest policy that everything open was judged by again; none before the first reload.
    policy: ArcSwapOption<Snapshot>,
    tunnels: DashMap<Holder, u32>,
    going_away: AtomicBool,
}

#[derive(Debug)]
struct Open {
    judged: Arc<Judged>,
    cut: CancellationToken,
    kind: Kind,
}

/// What outlives its judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream or a download: it has an end of its own, which a draining gate waits for.
    Answer,
    Tunnel,
}

impl LiveConnections {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Registers one. It is over when the guard's token is cancelled: by `ended` (the session's),
    /// by a reload, or because the gate stops.
    #[must_use]
    pub fn open(self: &Arc<Self>, kind: Kind, judged: Arc<Judged>, ended: Option<&CancellationToken>) -> LiveGuard {
        let cut = ended.map_or_else(CancellationToken::new, CancellationToken::child_token);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.insert(id, Open { judged: Arc::clone(&judged), cut: cut.clone(), kind });
        // A reload or a drain between the verdict and this line went through what was open then.
        if self.is_outdated(&judged) || (kind == Kind::Tunnel && self.going_away()) {
            cut.cancel();
        }
        LiveGuard { id, cut, all: Arc::clone(self) }
    }

    /// Whether a newer policy than the one that judged it would not have allowed it.
    fn is_outdated(&self, judged: &Judged) -> bool {
        let newer = |policy: &Snapshot| policy.generation > judged.generation && !judged.still_allowed(policy);
        self.policy.load().as_deref().is_some_and(newer)
    }

    /// Ends what the new policy would not have allowed.
    pub fn rejudge(&self, snapshot: &Arc<Snapshot>) {
        // First, so that whatever is opened behind the loop sees it.
        self.policy.store(Some(Arc::clone(snapshot)));
        for entry in &self.open {
            if !entry.judged.still_allowed(snapshot) {
                entry.cut.cancel();
            }
        }
    }

    /// Ends the tunnels, which have no end of their own: the gate stops, and their pages open them
    /// again elsewhere.
    pub fn close_tunnels(&self) {
        self.going_away.store(true, Ordering::Relaxed);
        for entry in self.open.iter().filter(|entry| entry.kind == Kind::Tunnel) {
            entry.cut.cancel();
        }
    }

    /// Whether things end because the gate stops (and not because somebody lost a right).
    #[must_use]
    pub fn going_away(&self) -> bool {
        self.going_away.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Takes one of the holder's tunnels; `None` when it holds [`TUNNELS_PER_HOLDER`].
    #[must_use]
    pub fn take_tunnel(self: &Arc<Self>, holder: Holder) -> Option<TunnelSlot> {
        let mut held = self.tunnels.entry(holder).or_insert(0);
        if *held >= TUNNELS_PER_HOLDER {
            return None;
        }
        *held += 1;
        drop(held);
        Some(TunnelSlot { holder, all: Arc::clone(self) })
    }
}

/// One of a holder's tunnels, until dropped.
#[derive(Debug)]
pub struct TunnelSlot {
    holder: Holder,
    all: Arc<LiveConnections>,
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        if let Some(mut held) = self.all.tunnels.get_mut(&self.holder) {
            *held = held.saturating_sub(1);
        }
        self.all.tunnels.remove_if(&self.holder, |_, held| *held == 0);
    }
}

/// One registered connection, until dropped.
#[derive(Debug)]
pub struct LiveGuard {
    id: u64,
    cut: CancellationToken,
    all: Arc<LiveConnections>,
}

impl LiveGuard {
    #[must_use]
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    #[must_use]
    pub fn going_away(&self) -> bool {
        self.all.going_away()
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.all.open.remove(&self.id);
    }
}

/// Watches over one request and its answer. One that never waits for its upstream is never registered: the
/// common small page pays for three loads and no more.
#[derive(Debug)]
pub struct Watch {
    ended: Option<CancellationToken>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not registered yet.
    Quick(Option<Arc<Judged>>, Arc<LiveConnections>),
    Registered(LiveGuard, Pin<Box<WaitForCancellationFutureOwned>>),
}

impl Watch {
    #[must_use]
    pub fn new(judged: Arc<Judged>, ended: Option<CancellationToken>, all: Arc<LiveConnections>) -> Self {
        Self { ended, state: State::Quick(Some(judged), all) }
    }

    /// Whether the answer must end now. A download that never waits for its upstream is in no list
    /// that a reload goes through, and asks for the newest policy itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.state {
            State::Quick(judged, all) => {
                self.has_session_ended() || judged.as_ref().is_some_and(|judged| all.is_outdated(judged))
            }
            State::Registered(guard, _) => guard.cut.is_cancelled(),
        }
    }

    /// Whether it was the session that ended, not the policy that changed.
    #[must_use]
    pub fn has_session_ended(&self) -> bool {
        self.ended.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Ready when the answer must end; registers it the first time.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Quick(judged, all) = &mut self.state
            && let Some(judged) = judged.take()
        {
            let guard = all.open(Kind::Answer, judged, self.ended.as_ref());
            let cancelled = Box::pin(guard.cut.clone().cancelled_owned());
            self.state = State::Registered(guard, cancelled);
        }
        match &mut self.state {
            State::Quick(..) => Poll::Pending,
            State::Registered(_, cancelled) => cancelled.as_mut().poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Purpose};

    fn policy(rule: &str, generation: u64) -> Arc<Snapshot> {
        let text = format!(
            "version: 1\nlisten: [{{ addr: \"127.0.0.1:80\", role: proxy }}]\nportal: {{ host: login.test, title: T }}\n\
             apps: [{{ app: a, hosts: [a.test], upstream: {{ urls: [\"http://127.0.0.1:9\"] }}, {rule} }}]\n"
        );
        let (mut snapshot, _) = config::from_text(&text, std::path::Path::new("."), Purpose::Check).unwrap();
        snapshot.generation = generation;
        Arc::new(snapshot)
    }

    #[test]
    fn s_ws_2_a_download_that_never_waits_ends_with_a_reload_that_would_deny() {
        let all = LiveConnections::new();
        let judged = Arc::new(Judged::for_tests());
        let watch = Watch::new(judged, None, Arc::clone(&all));
        assert!(!watch.is_over());
        all.rejudge(&policy("require: none", 2));
        assert!(!watch.is_over(), "still allowed");
        all.rejudge(&policy("allow: [group:staff], require: mfa", 3));
        assert!(watch.is_over());
    }

    #[test]
    fn s_lim_1_without_a_session_an_address_holds_as_many_tunnels_as_a_session_would() {
        let all = LiveConnections::new();
        let holder = |last| Holder::Address(ClientIp::new([192, 0, 2, last].into()).counter_key());
        let mut held: Vec<_> = (0..TUNNELS_PER_HOLDER).map(|_| all.take_tunnel(holder(1)).unwrap()).collect();
        assert!(all.take_tunnel(holder(1)).is_none());
        assert!(all.take_tunnel(holder(2)).is_some());
        held.pop();
        assert!(all.take_tunnel(holder(1)).is_some());
    }
}
