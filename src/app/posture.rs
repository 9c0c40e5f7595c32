//! Which posture is in force here? What the store says, within half a second; a gate that cannot ask stays as it is.

use std::sync::Arc;

use super::build::Core;
use crate::base::clock::Timestamp;
use crate::config::Snapshot;
use crate::domain::posture::Posture;
use crate::store::{PostureRow, StoreError};

/// Asks the store, and takes what it says.
pub(super) async fn look(core: &Arc<Core>) -> Result<(), StoreError> {
    let row = core.store.posture().await?;
    let now = core.clock.now();
    if in_force(row.as_ref(), now) != core.snapshot.load().posture {
        let core = Arc::clone(core);
        // It waits for a reload that is under way.
        let _ = tokio::task::spawn_blocking(move || take(&core, row.as_ref(), now)).await;
    }
    Ok(())
}

pub(super) fn in_force(row: Option<&PostureRow>, now: Timestamp) -> Posture {
    row.map_or(Posture::Normal, |row| row.at(now))
}

/// A policy of its own: what runs is judged by it anew, as after a reload.
fn take(core: &Core, row: Option<&PostureRow>, now: Timestamp) {
    let _one_at_a_time = core.hold();
    let old = core.snapshot.load_full();
    let posture = in_force(row, now);
    // A reload goes on counting from here.
    let normal = Snapshot { generation: old.generation + 1, ..Snapshot::clone(&core.normal.load()) };
    let in_force = normal.under(posture);
    core.normal.store(Arc::new(normal));
    core.snapshot.store(Arc::new(in_force));
    show(core, row, now);
    core.proxy.rejudge(&core.snapshot.load());
    core.proxy.follow(&core.snapshot.load());
    let why = row.map(|row| row.why.as_str()).unwrap_or_default();
    let until = row.and_then(|row| row.until).map(|until| until.to_string());
    match posture {
        Posture::Normal => tracing::warn!("the posture is normal again"),
        Posture::Elevated | Posture::Lockdown => tracing::warn!(why, until, "the posture is {posture}"),
    }
}

/// For `/readyz` and the metrics.
pub(super) fn show(core: &Core, row: Option<&PostureRow>, now: Timestamp) {
    let posture = in_force(row, now);
    let until = row.filter(|row| row.at(now) == row.posture).and_then(|row| row.until);
    core.readiness.posture(posture.as_str(), until);
    core.metrics.show_posture(posture);
}
