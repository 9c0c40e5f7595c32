//! What "enough" means, by name; whether evidence meets it is computed, never stored.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::factor::{FactorKind, FactorType, FactorUse};
use crate::base::clock::Timestamp;

/// The name of a level. Levels have no order: a TOTP of a minute ago is not "more" than a key of
/// two hours ago.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LevelName(Arc<str>);

impl LevelName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LevelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LevelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a level holds. `factors` is 1 or 2: knows (or is), and has; there is no third (S-FAC-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub factors: u8,
    /// Must hold of one factor that is not the password (unless `factors: 1`).
    pub max_age: Option<Duration>,
    pub phishing_resistant: bool,
    pub user_verified: bool,
    /// Which kinds count beside the password; all but e-mail when absent.
    pub kinds: Option<Vec<FactorKind>>,
    /// For how long a factor counts that was shown when its browser was remembered. It never gives a property: whoever
    /// copies the cookie has no key.
    pub remember: Option<Duration>,
}

/// A named requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub name: LevelName,
    pub requirement: Requirement,
    /// What is enough meanwhile for people who never had a second factor.
    pub grace: Option<Grace>,
}

/// Time to set up a second factor: until then another level is enough for whoever never had one. Somebody who had
/// one, be it removed since, is asked for it (S-ENR-1): else whoever steals a password would wait for a lost phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    /// From this moment on it lets nobody pass any more.
    pub until: Timestamp,
    /// The level that is enough meanwhile.
    pub level: LevelName,
    pub requirement: Requirement,
}

impl Grace {
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// Days that are left, the last one counted as a whole.
    #[must_use]
    pub fn days_left(&self, now: Timestamp) -> u64 {
        let left = self.until.as_millis().saturating_sub(now.as_millis());
        u64::try_from(left).unwrap_or_default().div_ceil(24 * 3600 * 1000)
    }
}

impl Level {
    /// The grace that holds for somebody now.
    #[must_use]
    pub fn grace_for(&self, ever_enrolled: bool, now: Timestamp) -> Option<&Grace> {
        self.grace.as_ref().filter(|grace| !ever_enrolled && !grace.has_ended(now))
    }
}

/// Why evidence is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nobody is signed in.
    Login,
    /// A further type of factor is needed.
    MoreFactors,
    /// The right factor was shown, but too long ago.
    Stale,
    /// Nothing shown so far has the property asked for (phishing resistance, user verification, kind).
    Stronger,
}

/// Why a kind of factor does not do for a requirement, whenever it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// `kinds` does not name it, or it counts only where it is named.
    Kind,
    /// `phishing_resistant`: what is typed can be typed into a copy of the page.
    PhishingResistant,
    /// `user_verified`: it says nothing of who holds it.
    UserVerified,
}

/// What is missing, so that only that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub why: Why,
    /// The password must be shown (it was not, or with `factors: 1` too long ago).
    pub password: bool,
    /// Any one of these kinds, shown now, gives what else is missing; empty when only the
    /// password is.
    pub any_of: Vec<FactorKind>,
}

impl Requirement {
    /// `None` when `evidence` is enough at `now`. A use dated in the future is no evidence.
    #[must_use]
    pub fn missing(&self, evidence: &[FactorUse], now: Timestamp) -> Option<Missing> {
        let mut knows = false;
        let mut has = false;
        let mut fresh_witness = false;
        let mut stale_witness = false;
        for seen in evidence {
            let Some(age) = seen.at.age(now) else { continue };
            if !self.counts(seen.kind) {
                continue;
            }
            if seen.remembered {
                let counts =
                    self.remember.is_some_and(|life| age < life) && !self.phishing_resistant && !self.user_verified;
                has |= counts;
                fresh_witness |= counts && self.may_witness(seen.kind);
                continue;
            }
            match seen.kind.factor_type() {
                FactorType::Knows => knows = true,
                FactorType::Has | FactorType::Is => has = true,
            }
            // User verification may be a PIN: it stands where "knows" stands, so that password
            // plus passkey stays 2 (S-FAC-1).
            knows |= seen.user_verified;
            if self.may_witness(seen.kind)
                && (!self.phishing_resistant || seen.phishing_resistant)
                && (!self.user_verified || seen.user_verified)
            {
                // `age >= max_age` fails (S-STEP-1).
                if self.max_age.is_none_or(|max| age < max) {
                    fresh_witness = true;
                } else {
                    stale_witness = true;
                }
            }
        }
        let held = u8::from(knows) + u8::from(has);
        if held >= self.factors && fresh_witness {
            return None;
        }
        let why = if held == 0 {
            Why::Login
        } else if held < self.factors {
            Why::MoreFactors
        } else if stale_witness {
            Why::Stale
        } else {
            Why::Stronger
        };
        let need_type_has = !has && self.factors >= 2;
        let need_witness = !fresh_witness;
        let any_of: Vec<FactorKind> = FactorKind::ALL
            .into_iter()
            .filter(|kind| *kind != FactorKind::Password && self.refuses(*kind).is_none())
            .filter(|_| need_type_has || need_witness)
            .collect();
        // With two factors the password is needed when nothing known was shown; a user-verified
        // passkey shown now would give both, and the pages offer it.
        let password = if self.factors >= 2 {
            !knows
        } else {
            held == 0 || (need_witness && self.may_witness(FactorKind::Password))
        };
        let password = password && self.counts(FactorKind::Password);
        Some(Missing { why, password, any_of })
    }

    /// Whether a kind counts at all under this requirement.
    #[must_use]
    pub fn counts(&self, kind: FactorKind) -> bool {
        match &self.kinds {
            Some(kinds) => kinds.contains(&kind) || (kind == FactorKind::Password && self.factors >= 2),
            None => !kind.counts_only_when_named(),
        }
    }

    fn may_witness(&self, kind: FactorKind) -> bool {
        self.factors < 2 || kind != FactorKind::Password
    }

    /// Why `kind` can never be what this asks for; `None` when it can.
    #[must_use]
    pub fn refuses(&self, kind: FactorKind) -> Option<Unfit> {
        let resistant = matches!(kind, FactorKind::Webauthn | FactorKind::ClientCertificate);
        if !self.counts(kind) {
            Some(Unfit::Kind)
        } else if self.phishing_resistant && !resistant {
            Some(Unfit::PhishingResistant)
        } else if self.user_verified && kind != FactorKind::Webauthn {
            Some(Unfit::UserVerified)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: FactorKind, minutes_ago: u64) -> FactorUse {
        let at = now().minus(Duration::from_secs(minutes_ago * 60));
        let resistant = kind == FactorKind::Webauthn;
        FactorUse { kind, at, phishing_resistant: resistant, user_verified: false, credential: None, remembered: false }
    }

    fn verified(minutes_ago: u64) -> FactorUse {
        FactorUse { user_verified: true, ..shown(FactorKind::Webauthn, minutes_ago) }
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn two(max_age_minutes: u64) -> Requirement {
        Requirement {
            factors: 2,
            max_age: Some(Duration::from_secs(max_age_minutes * 60)),
            phishing_resistant: false,
            user_verified: false,
            kinds: None,
            remember: None,
        }
    }

    #[test]
    fn s_fac_1_types_are_counted_not_authenticators() {
        use FactorKind::{BackupCodes, Email, Password, Sms, Totp, Webauthn};
        let enough: [&[FactorUse]; 4] = [
            &[shown(Password, 1), shown(Totp, 1)],
            &[shown(Password, 1), shown(BackupCodes, 1)],
            &[verified(1)],
            &[shown(Password, 1), shown(Webauthn, 1)],
        ];
        for evidence in enough {
            assert_eq!(two(10).missing(evidence, now()), None, "{evidence:?}");
        }
        let short: [&[FactorUse]; 5] = [
            &[shown(Totp, 1), shown(Sms, 1)],
            &[shown(Webauthn, 1)],
            &[shown(Password, 1)],
            &[shown(Password, 1), shown(Email, 1)],
            &[shown(Totp, 1), shown(Totp, 1)],
        ];
        for evidence in short {
            assert!(two(10).missing(evidence, now()).is_some(), "{evidence:?}");
        }
    }

    #[test]
    fn s_step_1_the_last_second_counts_and_the_next_does_not() {
        let at =
            |secs: i64| FactorUse { at: Timestamp::from_secs(now().as_secs() - secs), ..shown(FactorKind::Totp, 0) };
        let password = shown(FactorKind::Password, 300);
        assert_eq!(two(10).missing(&[password.clone(), at(599)], now()), None);
        let missing = two(10).missing(&[password.clone(), at(600)], now()).expect("stale");
        assert_eq!(missing.why, Why::Stale);
        assert!(!missing.password, "the old password of this session still counts");
        assert!(two(10).missing(&[password, at(-1)], now()).is_some(), "evidence from the future is none");
    }

    #[test]
    fn properties_must_hold_of_one_and_the_same_factor() {
        let strong = Requirement { phishing_resistant: true, ..two(10) };
        let old_key_new_code =
            [shown(FactorKind::Password, 1), shown(FactorKind::Webauthn, 60), shown(FactorKind::Totp, 1)];
        let missing = strong.missing(&old_key_new_code, now()).expect("the key is stale, the code is no key");
        assert_eq!(missing.why, Why::Stale);
        assert!(!missing.any_of.contains(&FactorKind::Totp));
        assert!(missing.any_of.contains(&FactorKind::Webauthn));
    }

    #[test]
    fn what_does_not_do_is_refused_for_the_first_reason_that_holds() {
        use FactorKind::{Email, Totp, Webauthn};
        let strong = Requirement { phishing_resistant: true, user_verified: true, ..two(10) };
        assert_eq!(strong.refuses(Totp), Some(Unfit::PhishingResistant));
        assert_eq!(strong.refuses(Email), Some(Unfit::Kind), "it counts only where it is named");
        assert_eq!(strong.refuses(Webauthn), None);
        let person = Requirement { user_verified: true, ..two(10) };
        assert_eq!(person.refuses(Totp), Some(Unfit::UserVerified));
        let app = Requirement { kinds: Some(vec![Totp]), ..two(10) };
        assert_eq!((app.refuses(Totp), app.refuses(Webauthn)), (None, Some(Unfit::Kind)));
    }

    #[test]
    fn a_password_level_asks_for_the_password() {
        let one = Requirement { factors: 1, ..two(10) };
        assert_eq!(one.missing(&[shown(FactorKind::Password, 9)], now()), None);
        let missing = one.missing(&[], now()).expect("nobody");
        assert_eq!((missing.why, missing.password), (Why::Login, true));
        let missing = one.missing(&[shown(FactorKind::Password, 11)], now()).expect("stale");
        assert_eq!((missing.why, missing.password), (Why::Stale, true));
    }

    #[test]
    fn what_was_remembered_counts_where_a_level_says_so_for_its_time_and_never_as_a_key() {
        let key = FactorUse { phishing_resistant: true, user_verified: true, remembered: true, ..verified(60) };
        let evidence = [shown(FactorKind::Password, 1), key];
        let remember = |minutes: u64| Requirement { remember: Some(Duration::from_secs(minutes * 60)), ..two(10) };
        assert!(two(10).missing(&evidence, now()).is_some(), "a level that does not say so");
        assert!(remember(61).missing(&evidence, now()).is_none());
        assert!(remember(60).missing(&evidence, now()).is_some(), "its time is over");
        assert!(remember(61).missing(&evidence[1..], now()).is_some_and(|missing| missing.password), "no password");
        let resistant = Requirement { phishing_resistant: true, ..remember(61) };
        assert!(resistant.missing(&evidence, now()).is_some(), "whatever its row says");
        assert!(Requirement { user_verified: true, ..remember(61) }.missing(&evidence, now()).is_some());
        let codes = Requirement { kinds: Some(vec![FactorKind::Totp]), ..remember(61) };
        assert!(codes.missing(&evidence, now()).is_some(), "it stands for a key, and codes are asked for");
    }
}
