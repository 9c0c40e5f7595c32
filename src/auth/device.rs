//! Has this browser signed in to this account before? Then strangers cannot lock it out (S-LOGIN-4).

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::base::rng::{self, Rng};
use crate::crypto::{KeyRing, Purpose};

pub const DEVICE_COOKIE: &str = "__Host-Http-stepgate-device";
/// How long a device stays known without a sign-in.
pub const DEVICE_LIFE: Duration = Duration::from_secs(180 * 86_400);
/// People who share a browser; the one longest away is forgotten first.
const PEOPLE: usize = 4;

/// What the device cookie says, once its seal was opened: each account that signed in here, with a
/// random name for the pair. It opens no door; it only chooses whose budget an attempt is charged to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device(Vec<Known>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    u: UserId,
    d: String,
    t: Timestamp,
}

impl Device {
    /// Reads the cookie's value. One that does not open is no device: it gives nothing, so it
    /// need not be refused.
    #[must_use]
    pub fn open(value: &str, keys: &KeyRing, now: Timestamp) -> Self {
        let Ok(plain) = keys.open_token(Purpose::Device, value) else { return Self::default() };
        let mut device: Self = serde_json::from_slice(&plain).unwrap_or_default();
        device.0.retain(|known| known.t.age(now).is_some_and(|age| age < DEVICE_LIFE));
        device
    }

    /// The name of this device for that account; `None` if it never signed in here.
    #[must_use]
    pub fn name_for(&self, user: UserId) -> Option<&str> {
        self.0.iter().find(|known| known.u == user).map(|known| known.d.as_str())
    }

    /// The cookie's value after a whole sign-in of `user`.
    #[must_use]
    pub fn signed_in(mut self, user: UserId, keys: &KeyRing, now: Timestamp, rng: &dyn Rng) -> String {
        let name = self.name_for(user).map_or_else(|| BASE64URL_NOPAD.encode(&rng::bytes::<12>(rng)), str::to_owned);
        self.0.retain(|known| known.u != user);
        self.0.insert(0, Known { u: user, d: name, t: now });
        self.0.truncate(PEOPLE);
        // Texts and numbers always serialise.
        keys.seal_token(Purpose::Device, &serde_json::to_vec(&self).unwrap_or_default())
    }
}
