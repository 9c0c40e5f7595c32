//! May this be somebody's password? Length, the commonest passwords, and words of this place;
//! no rules about kinds of characters (NIST 63B section 3.1.1.2, S-LOGIN-11).

use std::collections::HashSet;
use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;

use crate::base::secret::Secret;

/// Characters, whatever the configuration says.
pub const MIN_CHARS: usize = 8;
pub const MAX_CHARS: usize = 128;
pub const MAX_BYTES: usize = 512;
/// Own words shorter than this are not looked for: half of all passwords hold an `al`.
const OWN_WORD_CHARS: usize = 4;

/// Why a password was refused, for the person who chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRule {
    #[error("use at least {min} characters")]
    TooShort { min: usize },
    #[error("use at most {MAX_CHARS} characters")]
    TooLong,
    #[error("this is one of the passwords that attackers try first")]
    TooCommon,
    #[error("this is mostly your name or a word of this site")]
    OwnWord,
}

/// A password that somebody is about to choose.
pub struct NewPassword;

impl NewPassword {
    /// The password in NFC, when it may be used. `min` is in characters and counts from
    /// [`MIN_CHARS`] up; `own_words` are the person's name and address and the site's name.
    /// Any character is welcome, spaces too; nothing is cut off.
    pub fn check(text: &str, min: usize, own_words: &[&str]) -> Result<Secret<String>, PasswordRule> {
        // Before any work that grows with the length. NFC can shorten a text, though only to a
        // third, so this bound on the raw bytes refuses nothing that would pass below.
        if text.len() > 3 * MAX_BYTES {
            return Err(PasswordRule::TooLong);
        }
        let password = Secret::new(nfc(text));
        let chars = password.expose().chars().count();
        let min = min.max(MIN_CHARS);
        if chars < min {
            return Err(PasswordRule::TooShort { min });
        }
        if chars > MAX_CHARS || password.expose().len() > MAX_BYTES {
            return Err(PasswordRule::TooLong);
        }
        let folded = Secret::new(password.expose().to_lowercase());
        if common().contains(folded.expose().as_str()) {
            return Err(PasswordRule::TooCommon);
        }
        if own_words.iter().any(|word| leaves_too_little(folded.expose(), word)) {
            return Err(PasswordRule::OwnWord);
        }
        Ok(password)
    }
}

/// The one spelling of a password that is hashed: `é` typed as one character or as two is the same.
pub(super) fn nfc(text: &str) -> String {
    text.nfc().collect()
}

/// Whether a password is little more than `word`: with the word taken out, fewer than
/// [`MIN_CHARS`] characters are left. A long phrase may hold a name.
fn leaves_too_little(folded: &str, word: &str) -> bool {
    let word: String = word.nfc().collect::<String>().to_lowercase();
    word.chars().count() >= OWN_WORD_CHARS
        && folded.contains(&word)
        && Secret::new(folded.replace(&word, "")).expose().chars().count() < MIN_CHARS
}

fn common() -> &'static HashSet<&'static str> {
    static COMMON: OnceLock<HashSet<&'static str>> = OnceLock::new();
    COMMON.get_or_init(|| {
        // No entry holds a blank, so `# ` begins a comment only.
        include_str!("../../assets/passwords/common.txt").lines().filter(|line| !line.starts_with("# ")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, PasswordRule> {
        NewPassword::check(text, 8, &["Ann.Smith", "Payroll", "hr"]).map(|p| p.expose().clone())
    }

    #[test]
    fn s_login_11_any_characters_make_a_password() {
        for good in ["correct horse", "ÄÖÜäöüß!", "🐴🔋📎🐴🔋📎🐴🔋", " 8 spaces ", &"x y".repeat(21), &"7k".repeat(64)]
        {
            assert_eq!(check(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn s_login_11_both_forms_of_an_accent_are_one_password() {
        assert_eq!(check("cafe\u{301} creme"), check("caf\u{e9} creme"));
    }

    #[test]
    fn s_login_11_length_is_in_characters_and_bounded_in_bytes() {
        assert_eq!(check("äöüäöüä"), Err(PasswordRule::TooShort { min: 8 }));
        assert_eq!(check(&"7k".repeat(64)).map(|p| p.len()), Ok(128));
        assert_eq!(check(&("7k".repeat(64) + "x")), Err(PasswordRule::TooLong));
        assert!(check(&"🐴".repeat(128)).is_ok(), "512 bytes");
        assert_eq!(check(&"x".repeat(10_240)), Err(PasswordRule::TooLong));
        assert_eq!(NewPassword::check("only13chars..", 15, &[]).map(|_| ()), Err(PasswordRule::TooShort { min: 15 }));
        assert_eq!(NewPassword::check("short", 1, &[]).map(|_| ()), Err(PasswordRule::TooShort { min: 8 }));
    }

    #[test]
    fn s_login_11_the_commonest_are_refused_in_any_case() {
        assert!(common().len() >= 3000, "{}", common().len());
        for bad in ["password", "PassWord", "qwertyuiop", "1q2w3e4r5t", "iloveyou"] {
            assert_eq!(check(bad), Err(PasswordRule::TooCommon), "{bad}");
        }
    }

    #[test]
    fn s_login_11_words_of_this_place_do_not_make_a_password() {
        for bad in ["ann.smith", "Ann.Smith-1", "PAYROLL2026", "payrollpayroll", "2026-Payroll"] {
            assert_eq!(check(bad), Err(PasswordRule::OwnWord), "{bad}");
        }
        assert!(check("payroll is due on friday").is_ok());
        assert!(check("chromatic").is_ok(), "two letters are no word");
    }
}
