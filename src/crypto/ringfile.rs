//! How does the key ring stand on disk? Made whole or not at all, readable by its owner alone.
//!
//! ```json
//! {"version":1,"current":"abcdefgh","keys":[
//!  {"id":"abcdefgh","created":1795000000000,"key":"base64url, 32 bytes","assertion":"base64url, PKCS#8"}]}
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::keyring::KeyId;
use crate::base::clock::Timestamp;
use crate::base::owner;
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;

/// Why there is no key ring. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    #[error("the key ring {} cannot be read or written", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the key ring {} is open to other accounts (mode {mode:04o}); if nobody else can have read it, run: chmod 600 {}",
        path.display(),
        path.display()
    )]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error("the key ring {} is damaged ({fault}); restore it from its backup", path.display())]
    Damaged { path: PathBuf, fault: &'static str },
    #[error("the key ring {} names {id} as its current key but does not hold it", path.display())]
    CurrentKeyMissing { path: PathBuf, id: String },
}

/// One key as it stands in the file.
pub(super) struct StoredKey {
    pub(super) id: KeyId,
    pub(super) created: Timestamp,
    pub(super) master: Secret<[u8; MASTER_LEN]>,
    pub(super) assertion: Secret<Vec<u8>>,
}

const MASTER_LEN: usize = 32;
const MAX_FILE: u64 = 1 << 20;

impl StoredKey {
    #[expect(clippy::expect_used, reason = "without an EC key nothing safe can follow; no peer can cause it")]
    pub(super) fn generate(now: Timestamp, rng: &dyn Rng) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("aws-lc makes a P-256 key");
        let pkcs8 = pair.to_pkcs8v1().expect("a P-256 key has a PKCS#8 form");
        Self {
            id: KeyId::generate(rng),
            created: now,
            master: Secret::new(rng::bytes(rng)),
            assertion: Secret::new(pkcs8.as_ref().to_vec()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RingDoc<'a> {
    version: u32,
    current: &'a str,
    #[serde(borrow)]
    keys: Vec<KeyDoc<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDoc<'a> {
    id: &'a str,
    created: i64,
    key: &'a str,
    assertion: &'a str,
}

/// At least one key, the current one first.
pub(super) fn load_or_create(
    path: &Path,
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<(Vec<StoredKey>, bool), KeyRingError> {
    let fail = |source| KeyRingError::Io { path: path.to_owned(), source };
    match read(path) {
        Err(KeyRingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(|keys| (keys, false)),
    }
    let made = create(path, &StoredKey::generate(now, rng), rng).map_err(fail)?;
    // Read back what stands there now, also when this process made it: what was not written well
    // must fail today, not after the next start.
    Ok((read(path)?, made))
}

pub(super) fn load(path: &Path) -> Result<Vec<StoredKey>, KeyRingError> {
    read(path)
}

fn read(path: &Path) -> Result<Vec<StoredKey>, KeyRingError> {
    let fail = |source| KeyRingError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    // The mode of the open file, not of the name: the name may point elsewhere a moment later.
    let mode = file.metadata().map_err(fail)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyRingError::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE).read_to_string(&mut text).map_err(fail)?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<StoredKey>, KeyRingError> {
    let damaged = |fault| KeyRingError::Damaged { path: path.to_owned(), fault };
    // serde's own message could quote the file; a key must not reach a log that way.
    let doc: RingDoc<'_> = serde_json::from_str(text).map_err(|_| damaged("it is not the JSON of a key ring"))?;
    if doc.version != 1 {
        return Err(damaged("its version is not 1: it was made by another stepgate"));
    }
    let mut keys = Vec::with_capacity(doc.keys.len());
    for key in &doc.keys {
        let id = KeyId::parse(key.id).ok_or_else(|| damaged("a key id is not 8 letters or digits"))?;
        if keys.iter().any(|k: &StoredKey| k.id == id) {
            return Err(damaged("two keys have the same id"));
        }
        let bytes = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map(Zeroizing::new);
        let master = bytes(key.key).ok().and_then(|b| <[u8; MASTER_LEN]>::try_from(b.as_slice()).ok());
        let master = Secret::new(master.ok_or_else(|| damaged("a key is not 32 bytes of base64url"))?);
        let assertion = bytes(key.assertion).map_err(|_| damaged("an assertion key is not base64url"))?;
        if EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &assertion).is_err() {
            return Err(damaged("an assertion key is not a P-256 key in PKCS#8"));
        }
        let assertion = Secret::new(assertion.to_vec());
        keys.push(StoredKey { id, created: Timestamp::from_millis(key.created), master, assertion });
    }
    let current = keys.iter().position(|k| k.id.as_str() == doc.current);
    let current = current.ok_or_else(|| KeyRingError::CurrentKeyMissing {
        path: path.to_owned(),
        id: doc.current.chars().take(32).collect::<String>().escape_debug().to_string(),
    })?;
    keys.swap(0, current);
    Ok(keys)
}

/// `false` when another process was first.
fn create(path: &Path, key: &StoredKey, rng: &dyn Rng) -> io::Result<bool> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let text = Zeroizing::new(render(key));
    let draft = dir.join(format!(".keyring-{}", data_encoding::HEXLOWER.encode(&rng::bytes::<8>(rng))));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let owned = owner::as_its_directory(&file, &draft);
    let linked = owned.and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all()).and_then(|()| {
        // A link is made only where nothing stands: unlike a rename it cannot replace the ring
        // that another process made a moment ago and has begun to seal with.
        std::fs::hard_link(&draft, path)
    });
    let removed = std::fs::remove_file(&draft);
    match linked {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(e),
    }
    removed?;
    // The name itself must survive a power cut: what is sealed next is lost without its key.
    File::open(dir)?.sync_all()?;
    Ok(true)
}

fn render(key: &StoredKey) -> String {
    let master = Zeroizing::new(BASE64URL_NOPAD.encode(key.master.expose()));
    let assertion = Zeroizing::new(BASE64URL_NOPAD.encode(key.assertion.expose()));
    format!(
        "{{\"version\":1,\"current\":\"{id}\",\"keys\":[\n {{\"id\":\"{id}\",\"created\":{created},\"key\":\"{master}\",\
         \"assertion\":\"{assertion}\"}}]}}\n",
        id = key.id,
        created = key.created.as_millis(),
        master = *master,
        assertion = *assertion,
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::keyring::{KeyRing, Place};
    use super::*;
    use crate::base::rng::SystemRng;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_795_000_000)
    }

    #[test]
    fn s_key_3_a_new_ring_is_for_its_owner_alone_and_is_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/keyring.json");
        let (first, created) = KeyRing::load_or_create(&path, now(), &SystemRng).unwrap();
        assert!(created);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let (second, created) = KeyRing::load_or_create(&path, now(), &SystemRng).unwrap();
        assert!(!created);
        assert_eq!(first.key_infos(), second.key_infos());
        let place = Place::new("t", b"r", "c");
        assert!(second.open(&place, &first.seal(&place, b"x", &SystemRng)).is_ok());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn s_key_3_a_ring_that_others_can_open_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.json");
        KeyRing::load_or_create(&path, now(), &SystemRng).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = KeyRing::load(&path).map(|_| ()).unwrap_err();
            assert!(matches!(refused, KeyRingError::OpenToOthers { mode: m, .. } if m == mode), "{mode:o}: {refused}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeyRing::load(&path).is_ok());
    }

    #[test]
    fn processes_that_start_at_once_end_with_one_ring() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.json");
        let barrier = std::sync::Barrier::new(8);
        let rings: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                KeyRing::load_or_create(&path, now(), &SystemRng).unwrap()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(rings.iter().filter(|(_, created)| *created).count(), 1);
        assert!(rings.iter().all(|(ring, _)| ring.key_infos() == rings[0].0.key_infos()));
    }

    #[test]
    fn s_key_3_a_damaged_ring_is_refused_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.json");
        KeyRing::load_or_create(&path, now(), &SystemRng).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let key = good.split("\"key\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let current = KeyRing::load(&path).unwrap().key_infos()[0].id.clone();
        let cut = &good[..good.len() - 9];
        for bad in [
            String::new(),
            cut.to_owned(),
            good.replace(&key, &key[..40]),
            good.replace("\"version\":1", "\"version\":2"),
            good.replace(&format!("\"current\":\"{current}\""), "\"current\":\"zzzzzzzz\""),
            good.replace(&format!("\"key\":\"{key}\""), &format!("\"key\":[\"{key}\"]")),
        ] {
            std::fs::write(&path, &bad).unwrap();
            let refused = KeyRing::load(&path).map(|_| ()).unwrap_err().to_string();
            assert!(!refused.contains(&key[..16]), "{refused}");
        }
    }
}
