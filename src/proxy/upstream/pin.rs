//! Which connection to an app belongs to one client connection alone?
//!
//! NTLM and Negotiate sign in the connection, not the request: whoever came next on it would be the
//! person before (S-UP-6). Such a connection serves the client connection that signed it in, and ends
//! with it; never more than one for each.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::h1;
use super::pool::{Addresses, Lease, Slot};
use crate::base::ids::SessionId;
use crate::base::net::ClientIp;
use crate::session::LiveSession;

/// On whose behalf a client connection signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(Option<SessionId>);

/// Who holds what this request signs in. `None` when that cannot be told: requests of strangers that
/// a trusted proxy brings on one connection may be from several people.
#[must_use]
pub fn holder(session: Option<&LiveSession>, client: ClientIp, peer: SocketAddr) -> Option<Holder> {
    let session = session.map(|s| s.authn.session);
    (session.is_some() || client == ClientIp::new(peer.ip())).then_some(Holder(session))
}

/// The one place of a client connection for such a connection to an app.
#[derive(Debug, Default)]
pub struct Pin {
    held: RefCell<Option<Held>>,
    /// Who holds the one that is in use now.
    holder: Cell<Option<Holder>>,
}

#[derive(Debug)]
struct Held {
    slot: Rc<Slot>,
    connection: h1::Connection,
    holder: Holder,
}

impl Pin {
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// The connection that waits here, for the same holder and the same app; one that does not fit
    /// is closed. However long it was idle: another connection would not be signed in.
    pub fn take(&self, addresses: &Addresses, holder: Option<Holder>) -> Option<Lease> {
        let Held { slot, connection, holder: own } = self.held.take()?;
        let fits = holder == Some(own) && addresses.holds(&slot) && !slot.address().is_down();
        (fits && connection.is_idle()).then(|| slot.lease(connection))
    }

    pub(super) fn expect(&self, holder: Holder) {
        self.holder.set(Some(holder));
    }

    pub(super) fn keep(&self, slot: &Rc<Slot>, connection: h1::Connection) {
        let Some(holder) = self.holder.take() else { return };
        *self.held.borrow_mut() = Some(Held { slot: Rc::clone(slot), connection, holder });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_up_6_strangers_behind_a_proxy_hold_nothing() {
        let peer: SocketAddr = "10.0.0.4:40000".parse().unwrap();
        let of = |client: [u8; 4]| holder(None, ClientIp::new(client.into()), peer);
        assert_eq!(of([10, 0, 0, 4]), Some(Holder(None)));
        assert_eq!(of([192, 0, 2, 7]), None);
    }
}
