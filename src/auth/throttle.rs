//! Which counters an attempt is charged to, before anything is checked (S-LOGIN-2, S-LOGIN-3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::base::net::ClientIp;
use crate::crypto::{KeyRing, Purpose};
use crate::domain::factor::FactorKind;
use crate::domain::user::UserName;
use crate::store::{Attempt, AttemptRule, Store, StoreError};

const MINUTE: Duration = Duration::from_secs(60);

/// Passwords, per account and per device that signed in before: 5 free, then 1 s doubling to
/// 5 min; 10 in 30 min close it for 30 min (PCI DSS 8.3.4).
pub const PASSWORD: AttemptRule = AttemptRule {
    free: 5,
    backoff: Some((Duration::from_secs(1), Duration::from_secs(300))),
    limit: 10,
    window: Duration::from_secs(1800),
    lock: Duration::from_secs(1800),
};
/// Passwords, per address (/64) over all accounts: stops spraying.
pub const ADDRESS: AttemptRule = AttemptRule {
    free: 30,
    backoff: None,
    limit: 30,
    window: Duration::from_secs(600),
    lock: Duration::from_secs(600),
};
/// Passwords, per network (/24, or /48: what one line or one hoster's customer gets): one of them
/// has a tenth of what all have, so it cannot close the sign-in to the others.
pub const NETWORK: AttemptRule = AttemptRule { free: 60, backoff: None, limit: 60, window: MINUTE, lock: MINUTE };
/// Passwords from unknown devices over everything: stops spraying from many addresses. Devices
/// that signed in before are not charged here, so a storm does not lock people out.
pub const GLOBAL: AttemptRule = AttemptRule { free: 600, backoff: None, limit: 600, window: MINUTE, lock: MINUTE };
/// Codes of all kinds, per person: 10^6 codes against 3 open steps leave no room for more
/// (S-TOTP-3). Neither a new flow nor a right password resets it; a right code does.
pub const CODES: AttemptRule =
    AttemptRule { free: 5, backoff: None, limit: 5, window: Duration::from_secs(900), lock: Duration::from_secs(900) };
/// Codes that are sent, per person and per mailbox or number: 5 an hour (S-OOB-3).
pub const SENDING: AttemptRule = AttemptRule {
    free: 5,
    backoff: None,
    limit: 5,
    window: Duration::from_secs(3600),
    lock: Duration::from_secs(3600),
};
/// And one in half a minute.
pub const SENDING_GAP: AttemptRule =
    AttemptRule { free: 1, backoff: None, limit: 1, window: Duration::from_secs(30), lock: Duration::from_secs(30) };
/// Per address (/64), over all accounts: whoever has a list of passwords fills no mailboxes with it.
pub const SENDING_FROM: AttemptRule = AttemptRule {
    free: 30,
    backoff: None,
    limit: 30,
    window: Duration::from_secs(3600),
    lock: Duration::from_secs(3600),
};
/// Failures in a row that end one authenticator (NIST SP 800-63B section 3.2.2).
pub const FAILURES_IN_A_ROW: i64 = 100;

/// Unknown names share so many counters. Bounded, because anyone can invent names (S-LIM-3); many,
/// so that one name's failures hardly ever slow another's.
const UNKNOWN_BUCKETS: u32 = 1 << 16;

/// The counters that one attempt is charged to. Charged before the check; what turned out right is
/// given back, so that only failures count.
#[derive(Clone, Debug)]
pub struct Charges(Vec<(String, AttemptRule)>);

/// The answer of the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Check it. So many failures are left on the tightest counter.
    Go { left: u32 },
    Pause {
        until: Timestamp,
        /// The counter that refused.
        counter: String,
    },
}

/// The reason in the trail of an attempt that a counter refused.
pub const REFUSED: &str = "Too many tries; nothing was checked. Further ones in this pause are not listed.";

/// Which pauses have a row in the trail already. The first attempt that runs into a pause is
/// written down; a row for each would let a stranger who is refused fill the disk, and queue before
/// everybody else's sign-in for the one lock of the trail (S-LIM-3).
#[derive(Debug, Default)]
pub struct Pauses(Mutex<HashMap<String, Timestamp>>);

impl Pauses {
    /// Pauses remembered at most. They end by themselves; while more than these run at once, the
    /// access log alone says who was refused.
    const MOST: usize = 4096;

    /// Whether this is the first refusal that this process sees in the pause of `counter`.
    pub fn is_first(&self, counter: &str, until: Timestamp, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(counter).is_some_and(|end| *end > now) {
            return false;
        }
        if known.len() >= Self::MOST {
            known.retain(|_, end| *end > now);
        }
        if known.len() >= Self::MOST {
            return false;
        }
        known.insert(counter.to_owned(), until);
        true
    }
}

impl Charges {
    /// A password for an account from a device that never signed in to it.
    #[must_use]
    pub fn password(user: Option<UserId>, name: &str, client: ClientIp, keys: &KeyRing) -> Self {
        let account = match user {
            Some(id) => format!("password:user:{id}"),
            None => format!("password:name:{}", bucket(name, keys)),
        };
        Self(vec![
            (format!("password:address:{}", client.counter_key()), ADDRESS),
            (format!("password:network:{}", client.network_key()), NETWORK),
            (account, PASSWORD),
            ("password:global".to_owned(), GLOBAL),
        ])
    }

    /// A password from a device that signed in to this account before: a budget of its own, that a
    /// stranger's failures do not touch (S-LOGIN-4).
    #[must_use]
    pub fn known_device(user: UserId, device: &str) -> Self {
        Self(vec![(format!("password:device:{user}:{device}"), PASSWORD)])
    }

    /// How the counters of an account's own begin or are called: its passwords, those from devices it signed in on,
    /// and its codes. Those of addresses and networks are of nobody.
    #[must_use]
    pub fn counters_of(user: UserId) -> [String; 3] {
        [format!("password:user:{user}"), format!("password:device:{user}:"), format!("code:user:{user}")]
    }

    /// A code of whatever factor.
    #[must_use]
    pub fn code(user: UserId) -> Self {
        Self(vec![(format!("code:user:{user}"), CODES)])
    }

    /// What the trail tells of keys of this person that did not do.
    #[must_use]
    pub fn key(user: UserId) -> Self {
        Self(vec![(format!("key:user:{user}"), ADDRESS)])
    }

    /// What the trail tells of keys of this person that may have been copied: a counter of its own, so that no other
    /// answers use it up.
    #[must_use]
    pub fn copied_key(user: UserId) -> Self {
        Self(vec![(format!("copied-key:user:{user}"), ADDRESS)])
    }

    /// A code that is to be sent to `destination`. None of it is ever given back.
    #[must_use]
    pub fn send(user: UserId, kind: FactorKind, destination: &str, client: ClientIp, of_all: Option<u32>) -> Self {
        let all = of_all.map(|limit| (format!("send:{kind}:all"), AttemptRule { free: limit, limit, ..SENDING }));
        Self(
            all.into_iter()
                .chain([
                    (format!("send:from:{}", client.counter_key()), SENDING_FROM),
                    (format!("send:{kind}:gap:{user}"), SENDING_GAP),
                    (format!("send:{kind}:to:{destination}"), SENDING),
                    (format!("send:{kind}:user:{user}"), SENDING),
                ])
                .collect(),
        )
    }

    /// Charges all counters or none. What one refuses is given back to those before it: nothing is
    /// checked then, and an address that has used itself up must not spend everybody's budget, nor
    /// a paused account the budget of its office (S-LOGIN-4).
    pub async fn take(&self, store: &Store, now: Timestamp) -> Result<Verdict, StoreError> {
        let mut tightest = u32::MAX;
        for (at, (key, rule)) in self.0.iter().enumerate() {
            match store.take_attempt(key, rule, now).await? {
                Attempt::Taken { left, .. } => tightest = tightest.min(left),
                Attempt::Refused { until } => {
                    for (taken, _) in self.0.iter().take(at) {
                        store.return_attempt(taken).await?;
                    }
                    return Ok(Verdict::Pause { until, counter: key.clone() });
                }
            }
        }
        Ok(Verdict::Go { left: tightest })
    }

    /// The attempt was no failure: it is taken off again.
    pub async fn give_back(&self, store: &Store) -> Result<(), StoreError> {
        for (key, _) in &self.0 {
            store.return_attempt(key).await?;
        }
        Ok(())
    }

    /// What was counted came out right: its own counters begin anew.
    pub async fn succeed(&self, store: &Store) -> Result<(), StoreError> {
        for (key, _) in &self.0 {
            store.clear_attempts(key).await?;
        }
        Ok(())
    }

    /// A right password clears its own account counter (S-LOGIN-3), and is given back elsewhere:
    /// one good account must not wash an address that sprays the others.
    pub async fn succeed_password(&self, store: &Store) -> Result<(), StoreError> {
        for (key, rule) in &self.0 {
            if *rule == PASSWORD {
                store.clear_attempts(key).await?;
            } else {
                store.return_attempt(key).await?;
            }
        }
        Ok(())
    }
}

/// Names of accounts are kept in NFC, so another spelling of one finds it, and its counter. A name
/// that nobody has must share its counter over all spellings too, or the difference tells (S-LOGIN-1).
fn one_spelling(name: &str) -> String {
    UserName::parse(name).map_or_else(|_| name.to_owned(), |name| name.as_str().to_owned())
}

fn bucket(name: &str, keys: &KeyRing) -> u32 {
    let [a, b, c, d, ..] = keys.mac(Purpose::NameHash, one_spelling(name).as_bytes());
    u32::from_be_bytes([a, b, c, d]) % UNKNOWN_BUCKETS
}

/// What the trail holds of a name that matches no account (S-LOG-2).
#[must_use]
pub fn name_hash(name: &str, keys: &KeyRing) -> String {
    let [a, b, c, d, e, f, g, h, ..] = keys.mac(Purpose::NameHash, one_spelling(name).as_bytes());
    data_encoding::HEXLOWER.encode(&[a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::test_world::{World, snapshot};
    use super::*;
    use crate::base::rng::SystemRng;

    #[test]
    fn s_lim_3_names_that_nobody_has_share_a_bounded_number_of_counters() {
        let keys = KeyRing::ephemeral(&SystemRng);
        let client = ClientIp::new([192, 0, 2, 1].into());
        let charged = |name: &str| Charges::password(None, name, client, &keys).0[2].0.clone();
        let counters: HashSet<String> = (0..200_000).map(|n| charged(&format!("name-{n}"))).collect();
        let most = usize::try_from(UNKNOWN_BUCKETS).unwrap();
        assert!(counters.len() <= most, "{}", counters.len());
        assert!(counters.len() > most / 2, "and few of them meet: {}", counters.len());
        assert_eq!(charged("Zo\u{eb}"), charged("Zoe\u{308}"), "another spelling is no further guess");
    }

    #[test]
    fn s_lim_3_pauses_that_run_at_once_are_remembered_up_to_a_bound() {
        let (pauses, now) = (Pauses::default(), Timestamp::from_secs(1_800_000_000));
        let until = now.plus(MINUTE);
        let first = (0..Pauses::MOST + 1000).filter(|n| pauses.is_first(&format!("c{n}"), until, now)).count();
        assert_eq!(first, Pauses::MOST);
        assert!(!pauses.is_first("c0", until, now), "the second try in a pause is no news");
        assert!(pauses.is_first("later", until.plus(MINUTE), until), "what is over makes room");
        assert_eq!(pauses.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn s_oob_3_one_address_has_thirty_codes_an_hour_sent_over_all_accounts() {
        let world = World::with(snapshot(true)).await;
        let sends = async |from: [u8; 4]| {
            let user = UserId::new(world.now(), &SystemRng);
            let charges = Charges::send(user, FactorKind::Email, &user.to_string(), ClientIp::new(from.into()), None);
            matches!(charges.take(&world.auth.store, world.now()).await.unwrap(), Verdict::Go { .. })
        };
        let mut sent = 0;
        while sends([192, 0, 2, 1]).await {
            sent += 1;
            assert!(sent <= 30, "there is an end");
        }
        assert_eq!(sent, 30);
        assert!(sends([192, 0, 2, 2]).await, "another address is not in its way");
        world.later(3601);
        assert!(sends([192, 0, 2, 1]).await, "an hour later");
    }
}
