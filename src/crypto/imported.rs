//! Passwords of people who were imported: verified as the other system hashed them, until the first
//! right one lets us make a hash of ours.
//!
//! Two such schemes cost a tenth of ours or ten times as much. So the work of a sign-in is that of every
//! scheme that some account still has, whoever signs in: else the time would tell who is known (S-LOGIN-1).

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Params, Version};
use aws_lc_rs::pbkdf2;
use data_encoding::BASE64_NOPAD;
use sha_crypt::password_hash::Error;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

use super::password::{MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES, Workplace, argon2};
use crate::base::secret::Secret;

/// About half a second each: more for one sign-in lets a few strangers keep everybody else out.
const MAX_BCRYPT_COST: u32 = 13;
/// KiB of memory times passes: a quarter of a second. Every attempt pays it, whoever it names (S-LOGIN-11).
const MAX_ARGON2_WORK: u32 = 8 * 65_536;
const MAX_SHA_CRYPT_ROUNDS: u32 = 1_000_000;
const MAX_PBKDF2_ITERATIONS: u32 = 2_000_000;
/// What `crypt(3)` takes where nobody says otherwise.
const SHA_CRYPT_ROUNDS: u32 = 5000;
const LEAST_SHA_CRYPT_ROUNDS: u32 = 1000;
/// The work of sha-crypt grows with the length of the password, which anybody chooses; no such system took more.
const LONGEST: usize = 512;
/// Output and salt of a hash that is plausible at all.
const LONGEST_OUTPUT: usize = 128;

/// How a hash of another system is computed, with all that its cost depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    Argon2 {
        variant: Variant,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        length: u32,
    },
    Bcrypt {
        cost: u32,
    },
    /// The salt's length tells how many blocks each round hashes.
    ShaCrypt {
        bits: Bits,
        rounds: u32,
        salt: u32,
    },
    Pbkdf2 {
        bits: Bits,
        iterations: u32,
        length: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    Id,
    I,
    D,
}

/// Of SHA-2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bits {
    Sha256,
    Sha512,
}

/// Why a hash cannot be taken over, in words for whoever imports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("{0} is too weak to be taken over")]
    Weak(&'static str),
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("the hash asks for more work than the gate does for one sign-in")]
    TooCostly,
    #[error("no known form of a password hash")]
    Unknown,
}

impl Scheme {
    /// The scheme of a hash, if it is one that we verify.
    pub fn of(hash: &str) -> Result<Self, NotTaken> {
        let id = hash.strip_prefix('$').and_then(|rest| rest.split('$').next());
        match id {
            Some("argon2id" | "argon2i" | "argon2d") => argon2_scheme(hash),
            Some("2a" | "2b" | "2y") => {
                let cost = hash.get(4..6).and_then(|cost| cost.parse().ok()).ok_or(NotTaken::Unknown)?;
                let fine = hash.parse::<bcrypt::HashParts>().is_ok() && cost >= 4;
                if !fine { Err(NotTaken::Unknown) } else { Self::Bcrypt { cost }.capped() }
            }
            Some("5") => sha_crypt_scheme(hash, Bits::Sha256),
            Some("6") => sha_crypt_scheme(hash, Bits::Sha512),
            Some("pbkdf2-sha256") => pbkdf2_scheme(hash, Bits::Sha256),
            Some("pbkdf2-sha512") => pbkdf2_scheme(hash, Bits::Sha512),
            Some("apr1") => Err(NotTaken::Weak("Apache's MD5 (apr1)")),
            Some("1") => Err(NotTaken::Weak("MD5-crypt")),
            Some("pbkdf2") => Err(NotTaken::Weak("PBKDF2 with SHA-1")),
            Some("plaintext" | "base64") => Err(NotTaken::Weak("a password in clear")),
            Some("bcrypt-sha256") => Err(NotTaken::Unsupported("bcrypt over SHA-256")),
            Some("pbkdf2-sha224" | "pbkdf2-sha384") => Err(NotTaken::Unsupported("PBKDF2 with this digest")),
            Some("scrypt" | "7") => Err(NotTaken::Unsupported("scrypt")),
            Some("y" | "gy") => Err(NotTaken::Unsupported("yescrypt")),
            Some("2x") => Err(NotTaken::Weak("bcrypt with the error of 2011 (2x)")),
            Some(_) => Err(NotTaken::Unknown),
            None if hash.starts_with("{SHA}") || hash.starts_with("{SSHA}") => Err(NotTaken::Weak("SHA-1")),
            None if hash.len() == 13 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b)) => {
                Err(NotTaken::Weak("DES crypt (or a password in clear)"))
            }
            None if hash.is_empty() => Err(NotTaken::Unknown),
            None => Err(NotTaken::Weak("a password in clear")),
        }
    }

    fn capped(self) -> Result<Self, NotTaken> {
        let fine = match self {
            Self::Argon2 { memory_kib, passes, lanes, length, .. } => {
                memory_kib <= MAX_MEMORY_KIB
                    && memory_kib.saturating_mul(passes) <= MAX_ARGON2_WORK
                    && passes <= MAX_PASSES
                    && lanes <= MAX_LANES
                    && length as usize <= LONGEST_OUTPUT
            }
            Self::Bcrypt { cost } => cost <= MAX_BCRYPT_COST,
            Self::ShaCrypt { rounds, salt, .. } => rounds <= MAX_SHA_CRYPT_ROUNDS && salt <= 16,
            Self::Pbkdf2 { iterations, length, .. } => {
                iterations <= MAX_PBKDF2_ITERATIONS && length as usize <= LONGEST_OUTPUT
            }
        };
        if fine { Ok(self) } else { Err(NotTaken::TooCostly) }
    }

    /// Computes this scheme once: for `hash`, or with `None` for a hash that nothing matches.
    pub(super) fn matches(self, hash: Option<&str>, password: &[u8], place: &mut Workplace<'_>) -> bool {
        let short = password.get(..LONGEST).unwrap_or(password);
        let whole = short.len() == password.len();
        let known = hash.is_some();
        let right = match self {
            Self::Argon2 { .. } => {
                let Some((algorithm, params)) = self.argon2() else { return false };
                let parsed = hash.and_then(|text| PasswordHash::new(text).ok());
                let salt = parsed.as_ref().and_then(|p| p.salt.as_ref()).map_or(&[0; 16][..], |s| s.as_ref());
                let wanted = parsed.as_ref().and_then(|p| p.hash.as_ref()).map_or(&[0; 32][..], |h| h.as_bytes());
                let none = Secret::new(Vec::new());
                argon2(algorithm, short, salt, &none, &params, place).is_some_and(|out| super::ct_eq(&out, wanted))
            }
            Self::Bcrypt { cost } => {
                place.count();
                match hash {
                    Some(hash) => bcrypt::verify(short, hash).unwrap_or(false),
                    None => bcrypt::hash_with_salt(short, cost, [0; 16]).is_err(),
                }
            }
            Self::ShaCrypt { bits, rounds, salt } => {
                // Written out: what the library takes where nothing is written is its own choice.
                let prefix = match bits {
                    Bits::Sha256 => "$5$",
                    Bits::Sha512 => "$6$",
                };
                let rest = match hash {
                    Some(hash) => hash.strip_prefix(prefix).unwrap_or_default().to_owned(),
                    None => format!("{}${}", "x".repeat(salt as usize), ".".repeat(bits.sha_crypt_digest().0)),
                };
                let rest = rest
                    .split_once('$')
                    .filter(|(first, _)| first.starts_with("rounds="))
                    .map_or(rest.as_str(), |(_, rest)| rest);
                let whole = format!("{prefix}rounds={rounds}${rest}");
                let answer = ShaCrypt::default().verify_password(short, whole.as_str());
                // Any other error is told before the work, and what was not computed is not counted.
                if matches!(answer, Ok(()) | Err(Error::PasswordInvalid)) {
                    place.count();
                }
                answer.is_ok()
            }
            Self::Pbkdf2 { bits, iterations, length } => {
                place.count();
                let Some(iterations) = NonZeroU32::new(iterations) else { return false };
                let parts = hash.and_then(pbkdf2_parts);
                let decoy = (0, Vec::from([0; 16]), vec![0; length as usize]);
                let (_, salt, wanted) = parts.unwrap_or(decoy);
                let algorithm = match bits {
                    Bits::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
                    Bits::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
                };
                pbkdf2::verify(algorithm, iterations, &salt, short, &wanted).is_ok()
            }
        };
        right & known & whole
    }

    fn argon2(self) -> Option<(Algorithm, Params)> {
        let Self::Argon2 { variant, memory_kib, passes, lanes, length } = self else { return None };
        let algorithm = match variant {
            Variant::Id => Algorithm::Argon2id,
            Variant::I => Algorithm::Argon2i,
            Variant::D => Algorithm::Argon2d,
        };
        Some((algorithm, Params::new(memory_kib, passes, lanes, Some(length as usize)).ok()?))
    }
}

fn argon2_scheme(hash: &str) -> Result<Scheme, NotTaken> {
    let parsed = PasswordHash::new(hash).map_err(|_| NotTaken::Unknown)?;
    if parsed.version != Some(Version::V0x13.into()) {
        return Err(NotTaken::Unsupported("argon2 before version 19"));
    }
    let params = Params::try_from(&parsed).map_err(|_| NotTaken::Unknown)?;
    let (Some(_), Some(output)) = (&parsed.salt, &parsed.hash) else { return Err(NotTaken::Unknown) };
    if !params.keyid().is_empty() || !params.data().is_empty() {
        return Err(NotTaken::Unsupported("argon2 with a key"));
    }
    let variant = match hash.split('$').nth(1) {
        Some("argon2id") => Variant::Id,
        Some("argon2i") => Variant::I,
        _ => Variant::D,
    };
    let length = u32::try_from(output.as_bytes().len()).map_err(|_| NotTaken::TooCostly)?;
    let (memory_kib, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    Scheme::Argon2 { variant, memory_kib, passes, lanes, length }.capped()
}

fn sha_crypt_scheme(hash: &str, bits: Bits) -> Result<Scheme, NotTaken> {
    let mut fields = hash.split('$').skip(2).peekable();
    let rounds = match fields.peek().and_then(|field| field.strip_prefix("rounds=")) {
        Some(rounds) => {
            fields.next();
            rounds.parse().map_err(|_| NotTaken::TooCostly)?
        }
        None => SHA_CRYPT_ROUNDS,
    };
    let (Some(salt), Some(digest), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(NotTaken::Unknown);
    };
    let (length, ends) = bits.sha_crypt_digest();
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    if rounds < LEAST_SHA_CRYPT_ROUNDS
        || salt.is_empty()
        || salt.len() > 16
        || !letters(salt)
        || digest.len() != length
        || !letters(digest)
        || !digest.ends_with(|last| ends.contains(last))
    {
        return Err(NotTaken::Unknown);
    }
    let salt = u32::try_from(salt.len()).map_err(|_| NotTaken::Unknown)?;
    Scheme::ShaCrypt { bits, rounds, salt }.capped()
}

fn pbkdf2_scheme(hash: &str, bits: Bits) -> Result<Scheme, NotTaken> {
    let (iterations, salt, wanted) = pbkdf2_parts(hash).ok_or(NotTaken::Unknown)?;
    if iterations == 0 || wanted.len() < 16 || salt.is_empty() {
        return Err(NotTaken::Unknown);
    }
    let length = u32::try_from(wanted.len()).map_err(|_| NotTaken::TooCostly)?;
    Scheme::Pbkdf2 { bits, iterations, length }.capped()
}

/// passlib's form: `$pbkdf2-sha512$ROUNDS$SALT$HASH`, base64 with `.` in place of `+` and no padding.
fn pbkdf2_parts(hash: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let mut fields = hash.split('$').skip(2);
    let iterations = fields.next()?.parse().ok()?;
    let decode = |text: &str| BASE64_NOPAD.decode(text.replace('.', "+").as_bytes()).ok();
    let (salt, wanted) = (decode(fields.next()?)?, decode(fields.next()?)?);
    fields.next().is_none().then_some((iterations, salt, wanted))
}

/// The name in the store and for people: `bcrypt:12`, `argon2id:m=65536,t=3,p=4,l=32`.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argon2 { variant, memory_kib, passes, lanes, length } => {
                let name = match variant {
                    Variant::Id => "argon2id",
                    Variant::I => "argon2i",
                    Variant::D => "argon2d",
                };
                write!(f, "{name}:m={memory_kib},t={passes},p={lanes},l={length}")
            }
            Self::Bcrypt { cost } => write!(f, "bcrypt:{cost}"),
            Self::ShaCrypt { bits, rounds, salt } => write!(f, "{}-crypt:{rounds},s={salt}", bits.name()),
            Self::Pbkdf2 { bits, iterations, length } => write!(f, "pbkdf2-{}:{iterations},l={length}", bits.name()),
        }
    }
}

impl FromStr for Scheme {
    type Err = NotTaken;

    fn from_str(text: &str) -> Result<Self, NotTaken> {
        let (name, rest) = text.split_once(':').ok_or(NotTaken::Unknown)?;
        let numbers: Option<Vec<u32>> =
            rest.split(',').map(|part| part.rsplit('=').next().unwrap_or(part).parse().ok()).collect();
        let scheme = match (name, numbers.unwrap_or_default().as_slice()) {
            ("argon2id", [m, t, p, l]) => Self::argon2_of(Variant::Id, [*m, *t, *p, *l]),
            ("argon2i", [m, t, p, l]) => Self::argon2_of(Variant::I, [*m, *t, *p, *l]),
            ("argon2d", [m, t, p, l]) => Self::argon2_of(Variant::D, [*m, *t, *p, *l]),
            ("bcrypt", [cost]) => Self::Bcrypt { cost: *cost },
            ("sha256-crypt", [rounds, salt]) => Self::ShaCrypt { bits: Bits::Sha256, rounds: *rounds, salt: *salt },
            ("sha512-crypt", [rounds, salt]) => Self::ShaCrypt { bits: Bits::Sha512, rounds: *rounds, salt: *salt },
            ("pbkdf2-sha256", [n, l]) => Self::Pbkdf2 { bits: Bits::Sha256, iterations: *n, length: *l },
            ("pbkdf2-sha512", [n, l]) => Self::Pbkdf2 { bits: Bits::Sha512, iterations: *n, length: *l },
            _ => return Err(NotTaken::Unknown),
        };
        // Whoever writes into the database must not make every sign-in take a minute.
        scheme.capped()
    }
}

impl Scheme {
    fn argon2_of(variant: Variant, [memory_kib, passes, lanes, length]: [u32; 4]) -> Self {
        Self::Argon2 { variant, memory_kib, passes, lanes, length }
    }
}

impl Bits {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How long a digest of sha-crypt is, and the letters that it can end in: the last one holds the bits that are
    /// left, and the library computes nothing for one with others.
    fn sha_crypt_digest(self) -> (usize, &'static str) {
        match self {
            Self::Sha256 => (43, "./0123456789ABCD"),
            Self::Sha512 => (86, "./01"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// By Openwall's crypt_blowfish, OpenSSL, Drepper's paper, Python's hashlib and argon2-cffi.
    const KNOWN: [(&str, &str); 6] = [
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
        (
            "Hello world!",
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        ),
        PBKDF2,
        ARGON2I,
    ];
    const PBKDF2: (&str, &str) = (
        "correct horse",
        "$pbkdf2-sha512$2000$c2FsdHNhbHRzYWx0c2FsdA$1sVSnseTmZUPl/4v9Iz2FeTx5iGm5d2WJgTC3jdrCR4mENeP28Qm9/s7jYCfQi1FOkBBiUcnBPEL8NZbkfMMUQ",
    );
    const ARGON2I: (&str, &str) =
        ("correct horse", "$argon2i$v=19$m=1024,t=2,p=2$nWx7obPHhbTCUiDPWM3brA$qVzSD2gKYXXSSMtqIyOtxi2EA0xjP0f/");

    fn matches(scheme: Scheme, hash: Option<&str>, password: &str) -> bool {
        let hashes = AtomicU64::new(0);
        let right = scheme.matches(hash, password.as_bytes(), &mut Workplace::new(&hashes));
        assert_eq!(hashes.into_inner(), 1, "{scheme}: one hash, whatever the answer");
        right
    }

    #[test]
    fn a_hash_of_another_system_takes_its_password_and_no_other() {
        for (password, hash) in KNOWN {
            let scheme = Scheme::of(hash).unwrap_or_else(|why| panic!("{hash}: {why}"));
            assert!(matches(scheme, Some(hash), password), "{hash}");
            assert!(!matches(scheme, Some(hash), &format!("{password} ")), "{hash}");
            assert!(!matches(scheme, None, password), "{hash}: nobody's");
            assert_eq!(scheme.to_string().parse::<Scheme>(), Ok(scheme), "the store's name of it");
        }
    }

    #[test]
    fn s_login_11_a_hash_over_the_cap_is_not_taken_over() {
        for costly in [
            "$2y$14$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            &format!("$6$rounds=999999999$saltstring${}", ".".repeat(86)),
            "$pbkdf2-sha512$2147483647$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
            "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
            "$argon2id$v=19$m=262144,t=10,p=16$c29tZXNhbHQ$c2FsdHNhbHRzYWx0c2FsdHNhbHQ",
        ] {
            assert_eq!(Scheme::of(costly), Err(NotTaken::TooCostly), "{costly}");
        }
        assert_eq!("bcrypt:31".parse::<Scheme>(), Err(NotTaken::TooCostly), "from the store neither");
        let long = "x".repeat(64 * 1024);
        let (_, hash) = KNOWN[1];
        assert!(!matches(Scheme::of(hash).unwrap(), Some(hash), &long), "and no work for 64 KiB of it");
    }

    #[test]
    fn what_is_weak_is_named_and_not_taken_over() {
        for (hash, why) in [
            ("$apr1$abc$0123456789", "apr1"),
            ("{SHA}Dvs/L78raajL4jEAHPkwflQXJzI=", "SHA-1"),
            ("rqXexS6ZhobKA", "DES crypt"),
            ("$1$abc$0123456789", "MD5"),
            ("hunter2", "in clear"),
            ("$scrypt$ln=16,r=8,p=1$abc$abc", "scrypt"),
        ] {
            let said = Scheme::of(hash).unwrap_err().to_string();
            assert!(said.contains(why), "{hash}: {said}");
            assert!(!said.contains(hash), "the words hold nothing of the hash");
        }
        let no_salt = format!("$6$${}", ".".repeat(86));
        let loose_end = format!("$6$saltstring${}", "A".repeat(86));
        for broken in [
            &no_salt,
            &loose_end,
            "",
            "$",
            "$6$",
            "$6$salt",
            "$2y$10$abcdefghijklmnopqrstuu",
            "$argon2id$v=19$m=19456,t=2,p=1",
        ] {
            assert!(Scheme::of(broken).is_err(), "{broken:?}");
        }
    }
}
