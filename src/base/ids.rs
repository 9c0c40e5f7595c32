//! Identifiers that never repeat: UUIDv7 (RFC 9562) from a given time and given randomness.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::Timestamp;
use super::rng::{self, Rng};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            #[must_use]
            pub fn new(now: Timestamp, rng: &dyn Rng) -> Self {
                let millis = u64::try_from(now.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &rng::bytes::<10>(rng)).into_uuid())
            }

            /// Nobody's and nothing's: for questions about rules, which have no real person behind them.
            #[must_use]
            pub const fn nil() -> Self {
                Self(Uuid::nil())
            }

            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The text of `Display` without the machinery of `fmt`.
            #[must_use]
            pub fn encode<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
                self.0.hyphenated().encode_lower(buffer)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id! {
    /// A person, for ever: never changed, never given to another (S-ID-7). This is `sub`.
    UserId
}
id! {
    /// One sign-in and everything that hangs on it, over all hosts.
    SessionId
}
id! {
    /// One enrolled authenticator.
    CredentialId
}
id! {
    /// One ceremony in progress: a sign-in, a step-up, an enrollment.
    FlowId
}
id! {
    /// One form that waits for its person.
    KeptFormId
}
id! {
    /// One mail of ours.
    MailId
}
id! {
    /// One notice, whose mail holds a link.
    NoticeId
}
id! {
    /// One thing that a person said was not them.
    IncidentId
}
id! {
    /// One code on its way to a person.
    SentCodeId
}
id! {
    /// One browser that was remembered.
    RememberedId
}
id! {
    /// One request; the reference that people read out to the service desk.
    RequestId
}
