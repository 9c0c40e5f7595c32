//! How does a request come to a connection of its own? An address that takes none is passed over
//! for the next: nothing was sent yet (S-FRAME-9).

use std::rc::Rc;

use super::connect;
use super::pool::{Addresses, Lease, Slot, Tried};
use crate::proxy::ProxyShared;
use crate::proxy::error::ProxyError;
use crate::proxy::forward::error_chain;

/// How a connection is run.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    Plain,
    /// It may stop being HTTP.
    Switching,
}

/// Opens a connection to the address chosen, or to another one, and runs it on this thread.
pub async fn dial(
    shared: &ProxyShared,
    addresses: &Rc<Addresses>,
    first: Rc<Slot>,
    drive: Drive,
) -> Result<Lease, ProxyError> {
    let upstream = addresses.upstream();
    let mut tried = Tried::default();
    let mut slot = first;
    loop {
        let url = slot.address().url();
        let error = match connect::open(url, upstream, &shared.tls).await {
            Ok((sender, driver)) => {
                tokio::task::spawn_local(async move {
                    let ended = match drive {
                        Drive::Plain => driver.await,
                        Drive::Switching => driver.with_upgrades().await,
                    };
                    if let Err(error) = ended {
                        tracing::debug!(error = %error, "an upstream connection ended early");
                    }
                });
                return Ok(slot.lease(sender));
            }
            Err(error) => error,
        };
        tracing::warn!(upstream.address = %url, error = error_chain(&error), "no connection to an app");
        blame(shared, addresses, &slot);
        tried = tried.with(slot.index());
        slot = addresses.choose(&shared.health, tried).ok_or(ProxyError::Connect(error))?;
    }
}

/// Counts a fault of an address against it.
pub fn blame(shared: &ProxyShared, addresses: &Addresses, slot: &Slot) {
    let now = shared.health.now();
    slot.address().failed(now, || addresses.has_another(slot.index(), now));
}
