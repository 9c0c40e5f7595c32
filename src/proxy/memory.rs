//! What earlier requests of one connection came to, so that the next one need not find out again.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;

use super::upstream::pin::Pin;
use crate::base::net::ClientIp;
use crate::session::CookieMemo;
use crate::session::app_cookies::OpenedMemo;

/// Belongs to one client connection and its thread. Everything in it is keyed by the exact bytes
/// it was made from; no request is judged by it.
#[derive(Debug, Default)]
pub struct ConnMemory {
    pub(super) cookies: CookieMemo,
    pub(super) app_cookies: OpenedMemo,
    client: RefCell<Option<(ClientIp, HeaderValue)>>,
    /// The connection to an app that this one signed in; made for the first that does.
    pin: OnceCell<Rc<Pin>>,
}

impl ConnMemory {
    /// The address as a field value.
    pub(super) fn client(&self, client: ClientIp) -> HeaderValue {
        let mut known = self.client.borrow_mut();
        match &*known {
            Some((same, value)) if *same == client => value.clone(),
            _ => {
                // Digits, letters, dots and colons: always a valid value.
                let text = Bytes::from(client.addr().to_string());
                let value = HeaderValue::from_maybe_shared(text).unwrap_or(HeaderValue::from_static(""));
                *known = Some((client, value.clone()));
                value
            }
        }
    }

    pub(super) fn pinned(&self) -> Option<&Rc<Pin>> {
        self.pin.get().filter(|pin| pin.is_held())
    }

    pub(super) fn pin(&self) -> &Rc<Pin> {
        self.pin.get_or_init(Rc::default)
    }

    /// For a connection that waits idle. What it signed in stays: that lasts as long as it does.
    pub fn forget(&self) {
        self.cookies.forget();
        self.app_cookies.forget();
        self.client.take();
    }
}
