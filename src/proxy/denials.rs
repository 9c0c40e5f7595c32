//! How does the refusal of a known person reach the audit trail without holding up the refusal?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::domain::audit::AuditEvent;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// Rows that may wait. Somebody who is refused faster than the store writes costs rows, and those
/// are counted; they never cost the gate its memory.
const WAITING: usize = 1024;
/// Rows in one transaction.
const BATCH: usize = 64;

/// The way in for data threads.
#[derive(Clone, Debug)]
pub struct Denials {
    to_writer: Sender<AuditEvent>,
    metrics: Arc<Metrics>,
}

impl Denials {
    /// Starts the writer on the background. It ends when the last way in is dropped.
    #[must_use]
    pub fn start(store: Store, background: &Handle, metrics: Arc<Metrics>) -> Self {
        let (to_writer, waiting) = channel(WAITING);
        background.spawn(write(waiting, store, Arc::clone(&metrics)));
        Self { to_writer, metrics }
    }

    pub fn record(&self, event: AuditEvent) {
        if self.to_writer.try_send(event).is_err() {
            self.metrics.audit_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn write(mut waiting: Receiver<AuditEvent>, store: Store, metrics: Arc<Metrics>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        if let Err(error) = store.audit_only(&batch).await {
            tracing::error!(rows = batch.len(), error = %error, "refusals could not be written to the audit trail");
            metrics.audit_dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        batch.clear();
    }
}
