//! What earlier requests of one connection came to, so that the next one need not find out again.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;

use super::upstream::pin::Pin;
use crate::base::net::ClientIp;
use crate::domain::host::{HostError, HostName, Scheme};
use crate::session::CookieMemo;
use crate::session::app_cookies::OpenedMemo;

/// Belongs to one client connection and its thread. Everything in it is keyed by the exact bytes
/// it was made from; no request is judged by it.
#[derive(Debug, Default)]
pub struct ConnMemory {
    pub(super) cookies: CookieMemo,
    pub(super) app_cookies: OpenedMemo,
    client: RefCell<Option<(ClientIp, HeaderValue)>>,
    host: RefCell<Option<Named>>,
    /// The connection to an app that this one signed in; made for the first that does.
    pin: OnceCell<Rc<Pin>>,
    had_request: Cell<bool>,
}

/// A host as it was sent, and what it was read as.
#[derive(Debug)]
struct Named {
    sent: Box<[u8]>,
    scheme: Scheme,
    name: HostName,
    value: HeaderValue,
}

impl ConnMemory {
    /// True once: for what is looked at with the first request of a connection alone.
    pub fn is_first_request(&self) -> bool {
        !self.had_request.replace(true)
    }

    /// The same as [`HostName::parse`].
    pub fn host_name(&self, sent: &[u8], scheme: Scheme) -> Result<HostName, HostError> {
        let mut known = self.host.borrow_mut();
        match &*known {
            Some(known) if *known.sent == *sent && known.scheme == scheme => Ok(known.name.clone()),
            _ => {
                let name = HostName::parse(sent, scheme)?;
                let value = host_value(&name);
                *known = Some(Named { sent: sent.into(), scheme, name: name.clone(), value });
                Ok(name)
            }
        }
    }

    /// A host as a field value.
    pub(super) fn host_value(&self, host: &HostName) -> HeaderValue {
        match &*self.host.borrow() {
            Some(known) if known.name == *host => known.value.clone(),
            _ => host_value(host),
        }
    }

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
        self.host.take();
    }
}

fn host_value(host: &HostName) -> HeaderValue {
    HeaderValue::from_str(host.as_str()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_anew_with_another_byte_or_scheme() {
        let memory = ConnMemory::default();
        for _ in 0..2 {
            for (sent, scheme, read) in [
                ("App.test", Scheme::Http, "app.test"),
                ("app.test:443", Scheme::Http, "app.test:443"),
                ("app.test:443", Scheme::Https, "app.test"),
            ] {
                let name = memory.host_name(sent.as_bytes(), scheme).unwrap();
                assert_eq!((name.as_str(), memory.host_value(&name).as_bytes()), (read, read.as_bytes()));
            }
            assert!(memory.host_name(b"app.test/", Scheme::Https).is_err());
        }
    }
}
