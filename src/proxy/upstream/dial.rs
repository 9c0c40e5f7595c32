//! How does a request come to a connection of its own? An address that takes none is passed over
//! for the next: nothing was sent yet (S-FRAME-9).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use super::connect::{self, ConnectError, Opened, Want};
use super::load::Load;
use super::pool::{Addresses, Lease, LocalPools, Slot, Tried};
use crate::domain::upstream::Upstream;
use crate::proxy::ProxyShared;
use crate::proxy::error::ProxyError;
use crate::proxy::forward::error_chain;
use crate::proxy::troubles::Trouble;

/// Opens a connection to the address chosen, or to another one.
pub async fn dial(
    shared: &ProxyShared,
    pools: &LocalPools,
    addresses: &Rc<Addresses>,
    first: Rc<Slot>,
    want: Want,
) -> Result<Lease, ProxyError> {
    let mut tried = Tried::default();
    let mut slot = first;
    let mut made_room = false;
    loop {
        let error = match open(shared, addresses.upstream(), &slot, want).await {
            Ok(lease) => return Ok(lease),
            // Connections that only wait make room for one that is needed.
            Err(ConnectError::NoPlace) if !made_room => {
                made_room = true;
                pools.give_up_idle();
                // A connection of HTTP/2 is closed when its task runs.
                tokio::task::yield_now().await;
                continue;
            }
            // No address is to blame for it.
            Err(ConnectError::NoPlace) => return Err(ProxyError::Overloaded),
            Err(error) => error,
        };
        let address = slot.address();
        shared.troubles.note(address.app(), Trouble::Connection(address.url()), error_chain(&error));
        blame(shared, addresses, &slot);
        tried = tried.with(slot.index());
        slot = addresses.choose(&shared.health, tried).ok_or(ProxyError::Connect(error))?;
    }
}

async fn open(shared: &ProxyShared, upstream: &Upstream, slot: &Rc<Slot>, want: Want) -> Result<Lease, ConnectError> {
    // One at a time where the connection will be shared: of a burst of requests, the first opens it
    // for the others.
    let turn = slot.may_share(want).then(|| tokio::time::timeout(upstream.connect_timeout, slot.opening()));
    let _turn = match turn {
        None => None,
        Some(turn) => {
            let turn = turn.await.map_err(|_| ConnectError::TimedOut)?;
            if let Some(lease) = slot.share(true) {
                return Ok(lease);
            }
            Some(turn)
        }
    };
    let place = shared.places.take(slot.address().app()).ok_or(ConnectError::NoPlace)?;
    match connect::open(slot.address().url(), upstream, &shared.tls, place, want).await? {
        Opened::Http1(connection) => {
            if want == Want::Configured {
                slot.speaks_http1();
            }
            Ok(slot.lease(connection))
        }
        Opened::Http2(sender, driver) => {
            let load = Load::new();
            let known = Rc::clone(&load);
            tokio::task::spawn_local(async move {
                let mut driver = pin!(driver);
                let ended = poll_fn(|cx| {
                    let polled = driver.as_mut().poll(cx);
                    // The app may lower or raise it whenever it likes.
                    known.limit(driver.current_max_send_streams());
                    polled
                });
                if let Err(error) = ended.await {
                    tracing::debug!(error = %error, "an upstream connection ended early");
                }
            });
            load.settled().await;
            Ok(slot.lease_shared(sender, load))
        }
    }
}

/// Counts a fault of an address against it.
pub fn blame(shared: &ProxyShared, addresses: &Addresses, slot: &Slot) {
    let now = shared.health.now();
    slot.address().failed(now, || addresses.has_another(slot.index(), now));
}
