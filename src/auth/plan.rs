//! What must a person still show, and what of theirs can show it? Pure: evidence and enrolled ways
//! in, the next question out.

use super::factors;
use super::factors::sms::Phone;
use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::level::{Requirement, Unfit, Why};
use crate::store::{BackupSet, Credential};

/// Everything that a person has enrolled beside the password.
#[derive(Clone, Debug, Default)]
pub struct Enrolled {
    pub credentials: Vec<Credential>,
    /// Those of them that are entries of another system in an authenticator app.
    pub elsewhere: Vec<CredentialId>,
    pub backup: Option<BackupSet>,
    /// Where codes are sent, where the file lets people confirm by them.
    pub email: Option<String>,
    /// The number that codes are sent to, likewise.
    pub phone: Option<Phone>,
}

/// One way to confirm, as the list of ways shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub kind: FactorKind,
    /// The name that the person gave it; the one used last where there are several of a kind.
    pub label: String,
    /// An authenticator entry of another system, whose name is the label.
    pub elsewhere: bool,
    pub last_used_at: Option<Timestamp>,
    /// Backup codes: left, made.
    pub left: Option<(u32, u32)>,
    /// Why it would not help here: it stays listed, with the reason.
    pub unfit: Option<Unfit>,
}

impl Way {
    /// Whether it would help here.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.unfit.is_none()
    }
}

/// The next question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Enough,
    Ask {
        why: Why,
        /// The password comes first: what it opens is named only after it (S-LOGIN-1).
        password: bool,
        /// The ways to confirm, last used first; empty when only the password is missing.
        ways: Vec<Way>,
    },
    /// Nothing that this person has would be enough.
    Impossible {
        why: Why,
        /// What would help, if they had it.
        any_of: Vec<FactorKind>,
        ways: Vec<Way>,
    },
}

impl Enrolled {
    /// Whether there is any second factor that works today.
    #[must_use]
    pub fn has_second(&self) -> bool {
        self.keys().next().is_some()
            || self.totp().next().is_some()
            || self.hotp().next().is_some()
            || self.of_kind(FactorKind::Sms).next().is_some()
            || self.backup.as_ref().is_some_and(|set| set.left > 0)
    }

    /// The entries of a kind that are not disabled.
    pub fn of_kind(&self, kind: FactorKind) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(move |c| c.kind == kind && c.disabled_at.is_none())
    }

    /// The authenticator entries that are not disabled.
    pub fn totp(&self) -> impl Iterator<Item = &Credential> {
        self.of_kind(FactorKind::Totp)
    }

    /// The counting tokens that are not disabled.
    pub fn hotp(&self) -> impl Iterator<Item = &Credential> {
        self.of_kind(FactorKind::Hotp)
    }

    /// The security keys and passkeys that are not disabled.
    pub fn keys(&self) -> impl Iterator<Item = &Credential> {
        self.of_kind(FactorKind::Webauthn)
    }

    #[must_use]
    pub fn find(&self, id: CredentialId) -> Option<&Credential> {
        self.credentials.iter().find(|c| c.id == id)
    }

    /// The ways, the one to offer first in front: what helps here before what does not, then what
    /// was used last, then what is of most use. Backup codes are for bad days and come last.
    #[must_use]
    pub fn ways(&self, unfit: impl Fn(FactorKind) -> Option<Unfit>) -> Vec<Way> {
        let mut ways = factors::ways(self);
        for way in &mut ways {
            way.unfit = unfit(way.kind);
        }
        // It counts for next to nothing: only where it does, it is worth a line (S-OOB-1).
        ways.retain(|way| way.fits() || way.kind != FactorKind::Email);
        // The sort is stable: among ways that were never used the order of `factors::ways` stays.
        ways.sort_by_key(|way| (!way.fits(), way.kind == FactorKind::BackupCodes, std::cmp::Reverse(way.last_used_at)));
        ways
    }
}

/// Decides the next question for `requirement`. Asks only what is missing.
#[must_use]
pub fn plan(requirement: &Requirement, evidence: &[FactorUse], enrolled: &Enrolled, now: Timestamp) -> Plan {
    let Some(missing) = requirement.missing(evidence, now) else { return Plan::Enough };
    let ways = enrolled.ways(|kind| requirement.refuses(kind));
    if !missing.any_of.is_empty() && !ways.iter().any(Way::fits) {
        return Plan::Impossible { why: missing.why, any_of: missing.any_of, ways };
    }
    let ways = if missing.any_of.is_empty() { Vec::new() } else { ways };
    Plan::Ask { why: missing.why, password: missing.password, ways }
}

/// Evidence with one use more; of the same authenticator only the newest is kept.
#[must_use]
pub fn with_evidence(mut evidence: Vec<FactorUse>, new: FactorUse) -> Vec<FactorUse> {
    // What was remembered stays beside what is shown now: the one counts longer, the other for more.
    evidence.retain(|old| old.kind != new.kind || old.credential != new.credential || old.remembered != new.remembered);
    evidence.push(new);
    evidence
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::ids::UserId;
    use crate::base::rng::SeededRng;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn mfa() -> Requirement {
        Requirement {
            factors: 2,
            max_age: Some(Duration::from_secs(600)),
            phishing_resistant: false,
            user_verified: false,
            kinds: None,
            remember: None,
        }
    }

    fn shown(kind: FactorKind, minutes_ago: u64) -> FactorUse {
        let at = now().minus(Duration::from_secs(minutes_ago * 60));
        FactorUse { kind, at, phishing_resistant: false, user_verified: false, credential: None, remembered: false }
    }

    fn phone() -> Credential {
        let rng = SeededRng::new(1);
        Credential {
            id: CredentialId::new(now(), &*rng),
            user: UserId::new(now(), &*rng),
            kind: FactorKind::Totp,
            label: "Ann's phone".to_owned(),
            secret: Vec::new(),
            last_step: 0,
            failures: 0,
            created_at: now(),
            last_used_at: None,
            disabled_at: None,
        }
    }

    fn ann() -> Enrolled {
        Enrolled {
            credentials: vec![phone()],
            backup: Some(BackupSet { salt: [0; 16], left: 7, made: 10, created_at: now() }),
            email: None,
            phone: None,
            elsewhere: Vec::new(),
        }
    }

    #[test]
    fn after_the_password_the_phone_is_asked_first_and_backup_codes_last() {
        let Plan::Ask { password, ways, .. } = plan(&mfa(), &[shown(FactorKind::Password, 0)], &ann(), now()) else {
            panic!("asks")
        };
        assert!(!password);
        assert_eq!(ways.iter().map(|w| w.kind).collect::<Vec<_>>(), [FactorKind::Totp, FactorKind::BackupCodes]);
        assert!(ways.iter().all(Way::fits));
    }

    #[test]
    fn an_old_password_of_this_session_is_not_asked_again() {
        let evidence = [shown(FactorKind::Password, 300), shown(FactorKind::Totp, 11)];
        let Plan::Ask { password, why, .. } = plan(&mfa(), &evidence, &ann(), now()) else { panic!("asks") };
        assert_eq!((password, why), (false, Why::Stale));
    }

    #[test]
    fn what_nobody_can_show_is_said_and_not_asked() {
        let strong = Requirement { phishing_resistant: true, ..mfa() };
        let Plan::Impossible { any_of, ways, .. } = plan(&strong, &[shown(FactorKind::Password, 0)], &ann(), now())
        else {
            panic!("impossible")
        };
        assert!(any_of.contains(&FactorKind::Webauthn));
        assert!(ways.iter().all(|w| w.unfit == Some(Unfit::PhishingResistant)), "listed, with the reason");
        let nothing = Enrolled::default();
        assert!(matches!(plan(&mfa(), &[shown(FactorKind::Password, 0)], &nothing, now()), Plan::Impossible { .. }));
    }

    #[test]
    fn disabled_entries_and_spent_sets_are_no_way() {
        let mut ann = ann();
        ann.credentials[0].disabled_at = Some(now());
        ann.backup = Some(BackupSet { salt: [0; 16], left: 0, made: 10, created_at: now() });
        assert!(!ann.has_second());
        assert!(ann.ways(|_| None).is_empty());
    }

    #[test]
    fn what_helps_stands_before_what_does_not() {
        let refuses = |kind| (kind == FactorKind::Totp).then_some(Unfit::Kind);
        let kinds: Vec<FactorKind> = ann().ways(refuses).into_iter().map(|way| way.kind).collect();
        assert_eq!(kinds, [FactorKind::BackupCodes, FactorKind::Totp]);
    }

    #[test]
    fn s_oob_1_a_mailbox_is_a_way_only_where_the_level_names_it_and_no_second_factor() {
        let mailed = Enrolled { email: Some("ann@corp.example".to_owned()), ..Enrolled::default() };
        assert!(!mailed.has_second());
        let password = [shown(FactorKind::Password, 0)];
        assert!(matches!(plan(&mfa(), &password, &mailed, now()), Plan::Impossible { ways, .. } if ways.is_empty()));
        let named = Requirement { kinds: Some(vec![FactorKind::Totp, FactorKind::Email]), ..mfa() };
        let Plan::Ask { ways, .. } = plan(&named, &password, &mailed, now()) else { panic!("asks") };
        assert_eq!((ways[0].kind, ways[0].label.as_str()), (FactorKind::Email, "a…@corp.example"));
        let kinds = Some(vec![FactorKind::Webauthn, FactorKind::Email]);
        let strong = Requirement { phishing_resistant: true, kinds, ..named };
        assert!(matches!(plan(&strong, &password, &mailed, now()), Plan::Impossible { .. }));
    }

    #[test]
    fn newer_evidence_of_the_same_authenticator_replaces_the_older() {
        let evidence = vec![shown(FactorKind::Password, 60), shown(FactorKind::Totp, 60)];
        let evidence = with_evidence(evidence, shown(FactorKind::Totp, 0));
        assert_eq!(evidence, [shown(FactorKind::Password, 60), shown(FactorKind::Totp, 0)]);
    }
}
