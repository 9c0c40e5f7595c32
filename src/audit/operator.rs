//! Who sits at the command line? The operating system's account, for the rows of what is done there.

use crate::base::owner;
use crate::domain::audit::{Actor, printable};

/// The account of this process. Under `sudo` the person's own account stands with it: the command
/// line is outside the two-person rule, so its rows must say who it was (S-ADM-2).
#[must_use]
pub fn operator() -> Actor {
    Actor::Operator { account: operator_account() }
}

/// The same as a text.
#[must_use]
pub fn operator_account() -> String {
    account(owner::own_account(), sudo_by())
}

/// Whoever asks from another process, by the account that the kernel names.
#[must_use]
pub fn operator_at(uid: u32, sudo_by: Option<String>) -> Actor {
    Actor::Operator { account: account(owner::account_name(uid), sudo_by) }
}

/// The person who became this account by `sudo`.
#[must_use]
pub fn sudo_by() -> Option<String> {
    std::env::var("SUDO_USER").ok()
}

/// `SUDO_USER` can be set by the caller; it stands beside the account, never for it.
fn account(own: String, by: Option<String>) -> String {
    match by.map(|name| printable(&name)).filter(|name| !name.is_empty() && *name != own) {
        Some(name) => format!("{own} (sudo by {name})"),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_adm_2_the_person_behind_sudo_is_named_beside_the_account() {
        assert_eq!(account("root".into(), Some("alice".into())), "root (sudo by alice)");
        assert_eq!(account("root".into(), Some(String::new())), "root");
        assert_eq!(account("alice".into(), Some("alice".into())), "alice");
        assert_eq!(account("root".into(), Some("a\nb".into())), "root (sudo by a\\u{a}b)");
        assert!(matches!(operator(), Actor::Operator { account } if !account.is_empty()));
    }
}
