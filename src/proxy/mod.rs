//! L5: the hot path: judge a request, carry it to the app, carry the answer back.

mod again;
mod answered;
mod authenticate;
pub mod body;
mod challenge;
pub mod denials;
mod destination;
pub mod error;
pub mod form;
mod forward;
pub mod framing;
pub mod gate;
mod harden;
pub mod headers;
mod keep;
pub mod live;
mod memory;
mod outbound;
mod shape;
pub mod troubles;
mod tunnel;
mod upgrade;
pub mod upstream;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use body::{Finish, ProxyBody};
pub use gate::{Inbound, handle};
pub use memory::ConnMemory;
pub use upstream::pool::LocalPools;

use crate::base::budget::Budget;
use crate::base::clock::SharedClock;
use crate::base::rng::SharedRng;
use crate::config::Snapshot;
use crate::crypto::KeyRing;
use crate::crypto::assertion::AssertionSigner;
use crate::pages::Pages;
use crate::session::app_cookies::BoundNames;
use crate::session::{KeptForms, Sessions};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use denials::Denials;
use headers::forwarded::Via;
use live::LiveConnections;
use troubles::Troubles;
use upstream::health::Health;
use upstream::places::Places;
use upstream::tls::{TlsConfigs, TlsSetupError};

/// What all data threads share; read without a lock held.
pub struct ProxyShared {
    pub sessions: Arc<Sessions>,
    pub keys: Arc<KeyRing>,
    pub signer: Arc<AssertionSigner>,
    pub pages: Arc<Pages>,
    pub metrics: Arc<Metrics>,
    pub access_log: Arc<AccessLog>,
    /// Refusals of known persons, on their way to the audit trail.
    pub denials: Denials,
    /// Where everything runs that waits for a disk or a hash.
    pub background: Handle,
    pub rng: SharedRng,
    pub clock: SharedClock,
    pub live: Arc<LiveConnections>,
    pub tls: Arc<TlsConfigs>,
    /// Sockets to apps, of all threads together.
    pub places: Arc<Places>,
    pub health: Arc<Health>,
    pub troubles: Arc<Troubles>,
    pub via: Via,
    pub bound_names: BoundNames,
    pub kept: Arc<KeptForms>,
    /// Bodies that are read to be judged.
    pub judged_bodies: Arc<Budget>,
}

/// What all bodies that are read to be judged may take together.
pub const JUDGED_BODIES: usize = 64 * 1024 * 1024;

impl ProxyShared {
    /// Reads the certificates of the upstreams anew. Blocks on files: for start and reload, before the
    /// snapshot takes effect.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<(), TlsSetupError> {
        self.tls.prepare(snapshot)
    }

    /// Checks the addresses of apps that this configuration names. To be called after the snapshot
    /// took effect, and at start.
    pub fn follow(&self, snapshot: &Snapshot) {
        self.health.follow(snapshot);
        self.troubles.follow(snapshot);
    }

    /// Ends the tunnels, streams and downloads that a new policy would not have allowed. To be
    /// called after the snapshot took effect.
    pub fn rejudge(&self, snapshot: &Arc<Snapshot>) {
        self.live.rejudge(snapshot);
    }
}
