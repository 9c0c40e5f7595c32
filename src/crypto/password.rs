//! Is this the person's password? argon2id on a few threads of its own.
//!
//! One hash costs as much as hundreds of proxied requests, so a storm of sign-ins must not slow
//! the apps (PERFORMANCE.md section 5): few threads at a low priority, a short queue, and an
//! honest "busy" beyond it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, KeyId as PepperId, Params, ParamsBuilder, Version};
use tokio::sync::oneshot;

use super::imported::Scheme;
use super::keyring::{KeyRing, Purpose, RingKey};
use super::new_password::nfc;
use crate::base::rng::{self, SharedRng};
use crate::base::secret::Secret;

/// Jobs that may wait for a thread.
const QUEUE: usize = 64;
/// How long one may wait.
const WAIT: Duration = Duration::from_secs(2);
/// What we make: OWASP's first choice for argon2id, 19 MiB and two passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What we are willing to compute for a stored hash that came from elsewhere: 256 MiB, 10 passes.
pub(super) const MAX_MEMORY_KIB: u32 = 256 * 1024;
pub(super) const MAX_PASSES: u32 = 10;
pub(super) const MAX_LANES: u32 = 16;
const HASH_LEN: usize = 32;
/// Blocks that are reserved for a hash at least. Only what is larger than 32 MiB does glibc always take
/// from the system, and give back: smaller pieces land in its heaps, where what is small settles between
/// them, and after some thousand sign-ins the process held 200 MiB. What is not used costs no memory.
const APART: usize = 33 * 1024;
/// The pool's threads against the 0 of everything else (`setpriority(2)`).
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Why there is no answer. Both become 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full, or the job waited too long in it: try again in a moment.
    #[error("too many sign-ins at once")]
    Busy,
    /// The pool has stopped, or memory ran out.
    #[error("the password could not be hashed")]
    Failed,
}

/// Threads that hash passwords, and the pepper that they use: a hash is worthless to someone who
/// has the database but not the key ring.
pub struct PasswordPool {
    shared: Arc<Shared>,
    keys: Arc<KeyRing>,
    rng: SharedRng,
    /// A hash that nothing matches: unknown users cost what known ones cost (S-LOGIN-1).
    decoy: String,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    hashes: AtomicU64,
    wait: Duration,
}

struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Runs on a pool thread; `begun` answers as soon as it does.
struct Job {
    begun: oneshot::Sender<()>,
    work: Box<dyn FnOnce(&mut Workplace<'_>) + Send>,
}

/// What a thread works with. The memory is used again while jobs wait: fresh pages cost a tenth of a hash.
pub(super) struct Workplace<'a> {
    hashes: &'a AtomicU64,
    memory: Vec<Block>,
}

impl PasswordPool {
    /// Starts `threads` threads (at least one); max(1, cores / 2) is right beside the proxy.
    #[must_use]
    pub fn new(threads: usize, keys: Arc<KeyRing>, rng: SharedRng) -> Arc<Self> {
        Self::with(threads.max(1), WAIT, keys, rng)
    }

    fn with(threads: usize, wait: Duration, keys: Arc<KeyRing>, rng: SharedRng) -> Arc<Self> {
        let queue = Mutex::new(Queue { jobs: VecDeque::with_capacity(QUEUE), closed: false });
        let shared = Arc::new(Shared { queue, filled: Condvar::new(), hashes: AtomicU64::new(0), wait });
        for n in 0..threads {
            let shared = Arc::clone(&shared);
            let started = std::thread::Builder::new().name(format!("password-{n}")).spawn(move || shared.run());
            if let Err(error) = started {
                tracing::error!(%error, "a thread for passwords could not be started");
            }
        }
        let decoy = phc(keys.current(), &rng::bytes(&*rng), &rng::bytes::<HASH_LEN>(&*rng));
        Arc::new(Self { shared, keys, rng, decoy })
    }

    /// A PHC string to store. It names the ring key whose pepper went in.
    pub async fn hash(&self, password: Secret<String>) -> Result<String, PoolError> {
        let keys = Arc::clone(&self.keys);
        let salt: [u8; 16] = rng::bytes(&*self.rng);
        self.shared
            .submit(move |place| {
                let password = Secret::new(nfc(password.expose()));
                let key = keys.current();
                let hash = argon2id(password.expose().as_bytes(), &salt, &pepper(key), &own_params(), place)?;
                Some(phc(key, &salt, &hash))
            })
            .await
    }

    /// Whether `password` is the one behind `stored`. With `None` (no such user, no password set)
    /// the same work is done and the answer is `false`; so it is for a stored hash of no known scheme,
    /// one that names an unknown key or costs more than we are willing to compute.
    ///
    /// `imported` are the schemes of other systems that some account has: each is computed once, and
    /// ours, whoever's password it is (S-LOGIN-1).
    pub async fn verify(
        &self,
        stored: Option<String>,
        imported: &[Scheme],
        password: Secret<String>,
    ) -> Result<bool, PoolError> {
        let keys = Arc::clone(&self.keys);
        let foreign = stored.as_deref().filter(|text| !is_own(text)).and_then(|text| match Scheme::of(text) {
            Ok(scheme) => Some((scheme, text.to_owned())),
            Err(fault) => {
                tracing::error!(%fault, "a stored password hash cannot be used: nobody can sign in with it");
                None
            }
        });
        let own = stored.filter(|text| is_own(text)).filter(|text| match Stored::parse(text, &keys) {
            Ok(_) => true,
            Err(fault) => {
                tracing::error!(%fault, "a stored password hash cannot be used: nobody can sign in with it");
                false
            }
        });
        let known = own.is_some();
        let own = own.unwrap_or_else(|| self.decoy.clone());
        let mut schemes = imported.to_vec();
        // One that was imported since the schemes were read.
        schemes.extend(foreign.iter().map(|(scheme, _)| *scheme));
        schemes.sort_unstable();
        schemes.dedup();
        self.shared
            .submit(move |place| {
                let mut right = false;
                for scheme in schemes {
                    let hash = foreign.as_ref().filter(|(of, _)| *of == scheme).map(|(_, hash)| hash.as_str());
                    // As it was typed: what the other system hashed was not brought into one form.
                    right |= scheme.matches(hash, password.expose().as_bytes(), place);
                }
                let password = Secret::new(nfc(password.expose()));
                let stored = Stored::parse(&own, &keys).ok()?;
                let hash = argon2id(password.expose().as_bytes(), &stored.salt, &stored.pepper, &stored.params, place)?;
                Some(right | (super::ct_eq(&hash, &stored.hash) & known))
            })
            .await
    }

    /// The raw argon2id hash of something that is no password but must be as slow to guess (backup
    /// codes), with the pepper of the current key.
    // Doubt: the result does not name its key. Key rotation (a later issue) must either keep the
    // first pepper for good or derive under each key; people with backup codes would be hurt.
    pub async fn derive(&self, input: Vec<u8>, salt: [u8; 16]) -> Result<[u8; 32], PoolError> {
        let keys = Arc::clone(&self.keys);
        let input = Secret::new(input);
        self.shared
            .submit(move |place| {
                argon2id(input.expose(), &salt, &pepper(keys.current()), &own_params(), place)?.try_into().ok()
            })
            .await
    }

    /// How many hashes were computed. Tests compare work by it, not by a clock.
    #[must_use]
    pub fn hashes_run(&self) -> u64 {
        self.shared.hashes.load(Ordering::SeqCst)
    }
}

impl Drop for PasswordPool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

impl Shared {
    async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Workplace<'_>) -> Option<T> + Send + 'static,
    ) -> Result<T, PoolError> {
        let (begun, has_begun) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |place: &mut Workplace<'_>| {
            // The asker may have gone (a closed connection): nobody to tell.
            let _ = reply.send(work(place));
        });
        {
            let mut queue = self.lock();
            if queue.jobs.len() >= QUEUE {
                return Err(PoolError::Busy);
            }
            queue.jobs.push_back(Job { begun, work });
        }
        self.filled.notify_one();
        // The wait is bounded, the work is not: once begun it ends in milliseconds.
        match tokio::time::timeout(self.wait, has_begun).await {
            Ok(Ok(())) => answer.await.ok().flatten().ok_or(PoolError::Failed),
            Ok(Err(_closed)) => Err(PoolError::Failed),
            Err(_elapsed) => Err(PoolError::Busy),
        }
    }

    fn run(&self) {
        lower_priority();
        let mut place = Workplace::new(&self.hashes);
        while let Some(job) = self.next() {
            // Whoever waited too long has gone with the receiver; their hash would only make the
            // next ones wait.
            if job.begun.send(()).is_ok() {
                // A fault of ours costs one answer, and not one of the few threads for good.
                let work = AssertUnwindSafe(|| (job.work)(&mut place));
                if catch_unwind(work).is_err() {
                    tracing::error!("a password was not hashed: the work on it ended early");
                }
            }
            if place.memory.len() > APART || self.lock().jobs.is_empty() {
                place.memory = Vec::new();
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                queue.jobs.clear();
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On Linux a niceness belongs to the thread, and 0 means the calling one.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the password threads run at normal priority");
    }
}

/// A stored hash that we are willing to compute.
struct Stored {
    params: Params,
    salt: Vec<u8>,
    hash: Vec<u8>,
    pepper: Secret<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
enum StoredFault {
    #[error("it is not an argon2id PHC string of version 19 with a key of ours")]
    Form,
    #[error("it asks for more than 256 MiB, 10 passes or 16 lanes")]
    TooCostly,
    #[error("its pepper is of a key that is not in the key ring")]
    UnknownKey,
}

impl Stored {
    fn parse(text: &str, keys: &KeyRing) -> Result<Self, StoredFault> {
        let parsed = PasswordHash::new(text).map_err(|_| StoredFault::Form)?;
        if parsed.algorithm != Algorithm::Argon2id.ident() || parsed.version != Some(Version::V0x13.into()) {
            return Err(StoredFault::Form);
        }
        let params = Params::try_from(&parsed).map_err(|_| StoredFault::Form)?;
        // Before any work: `m=4294967295` parses, and would take the machine down.
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES || params.p_cost() > MAX_LANES {
            return Err(StoredFault::TooCostly);
        }
        let id = params.keyid();
        if id.is_empty() {
            return Err(StoredFault::Form);
        }
        let key = keys.keys().find(|k| k.id.as_bytes() == id).ok_or(StoredFault::UnknownKey)?;
        Ok(Self {
            pepper: pepper(key),
            salt: parsed.salt.ok_or(StoredFault::Form)?.to_vec(),
            hash: parsed.hash.ok_or(StoredFault::Form)?.as_bytes().to_vec(),
            params,
        })
    }
}

/// Whether a stored hash is one of ours: it names the key whose pepper went in. All others were imported.
#[must_use]
pub fn is_own(stored: &str) -> bool {
    stored.split('$').nth(3).is_some_and(|params| params.contains("keyid="))
}

impl<'a> Workplace<'a> {
    pub(super) fn new(hashes: &'a AtomicU64) -> Self {
        Self { hashes, memory: Vec::new() }
    }

    pub(super) fn count(&self) {
        self.hashes.fetch_add(1, Ordering::SeqCst);
    }

    /// Memory for one hash; what the last one left there does not matter (RFC 9106 section 3.2: the first
    /// pass reads no block that it did not write). `None` where there is none to have.
    fn blocks(&mut self, count: usize) -> Option<&mut [Block]> {
        if self.memory.len() < count {
            self.memory = Vec::new();
            self.memory.try_reserve_exact(count.max(APART)).ok()?;
            self.memory.resize(count, Block::new());
        }
        self.memory.get_mut(..count)
    }
}

fn argon2id(
    input: &[u8],
    salt: &[u8],
    pepper: &Secret<Vec<u8>>,
    params: &Params,
    place: &mut Workplace<'_>,
) -> Option<Vec<u8>> {
    argon2(Algorithm::Argon2id, input, salt, pepper, params, place)
}

/// As many bytes as `params` say.
pub(super) fn argon2(
    algorithm: Algorithm,
    input: &[u8],
    salt: &[u8],
    pepper: &Secret<Vec<u8>>,
    params: &Params,
    place: &mut Workplace<'_>,
) -> Option<Vec<u8>> {
    let argon2 = if pepper.expose().is_empty() {
        Argon2::new(algorithm, Version::V0x13, params.clone())
    } else {
        Argon2::new_with_secret(pepper.expose(), algorithm, Version::V0x13, params.clone()).ok()?
    };
    let mut out = vec![0; params.output_len().unwrap_or(HASH_LEN)];
    place.count();
    argon2.hash_password_into_with_memory(input, salt, &mut out, place.blocks(params.block_count())?).ok()?;
    Some(out)
}

fn pepper(key: &RingKey) -> Secret<Vec<u8>> {
    Secret::new(key.mac(Purpose::Pepper, b"argon2 secret").to_vec())
}

#[expect(clippy::expect_used, reason = "the numbers are constants inside argon2's bounds")]
fn own_params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_LEN)).expect("our parameters are valid")
}

#[expect(clippy::expect_used, reason = "constants and fixed lengths inside the bounds of the PHC format")]
fn phc(key: &RingKey, salt: &[u8; 16], hash: &[u8]) -> String {
    let id = PepperId::new(key.id.as_bytes()).expect("8 bytes are a key id");
    let params = ParamsBuilder::new().m_cost(MEMORY_KIB).t_cost(PASSES).p_cost(LANES).keyid(id).build().expect("valid");
    PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: (&params).try_into().expect("our parameters have a PHC form"),
        salt: Some(Salt::new(salt).expect("16 bytes are a salt")),
        hash: Some(Output::new(hash).expect("32 bytes are a hash")),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SystemRng;

    fn keys() -> Arc<KeyRing> {
        Arc::new(KeyRing::ephemeral(&SystemRng))
    }

    fn pool(keys: &Arc<KeyRing>) -> Arc<PasswordPool> {
        PasswordPool::new(1, Arc::clone(keys), Arc::new(SystemRng))
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_verified_whole_and_in_either_form_of_its_accents() {
        let pool = pool(&keys());
        let long = "x y".repeat(30);
        let hash = pool.hash(secret(&(long.clone() + "caf\u{e9}"))).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1,keyid="), "{hash}");
        assert!(pool.verify(Some(hash.clone()), &[], secret(&(long.clone() + "cafe\u{301}"))).await.unwrap());
        assert!(!pool.verify(Some(hash.clone()), &[], secret(&(long.clone() + "cafe"))).await.unwrap());
        assert!(!pool.verify(Some(hash), &[], secret(&long)).await.unwrap());
    }

    #[tokio::test]
    async fn s_login_1_an_unknown_user_costs_one_hash_of_the_same_parameters() {
        let pool = pool(&keys());
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        let cost = |phc: &str| phc.split('$').nth(3).map(str::to_owned);
        assert_eq!(cost(&pool.decoy), cost(&hash));
        let before = pool.hashes_run();
        assert!(!pool.verify(Some(hash), &[], secret("wrong horse")).await.unwrap());
        let known = pool.hashes_run() - before;
        assert!(!pool.verify(None, &[], secret("wrong horse")).await.unwrap());
        assert_eq!(pool.hashes_run() - before - known, known);
        assert_eq!(known, 1);
    }

    #[tokio::test]
    async fn a_fault_in_one_hash_costs_one_answer_and_no_thread() {
        let pool = pool(&keys());
        let failed = pool.shared.submit(|_| -> Option<()> { panic!("on purpose") }).await;
        assert_eq!(failed, Err(PoolError::Failed));
        assert!(pool.hash(secret("correct horse")).await.is_ok());
    }

    #[tokio::test]
    async fn a_hash_is_worthless_without_the_key_ring() {
        let keys = keys();
        let hash = pool(&keys).hash(secret("correct horse")).await.unwrap();
        // The same string with the key's name taken out: a plain argon2id of the password.
        let id = hash.split("keyid=").nth(1).unwrap().split('$').next().unwrap();
        let bare = hash.replace(&format!(",keyid={id}"), "");
        assert!(!pool(&keys).verify(Some(bare), &[], secret("correct horse")).await.unwrap());
        assert!(pool(&keys).verify(Some(hash.clone()), &[], secret("correct horse")).await.unwrap());
        let stranger = PasswordPool::new(1, Arc::new(KeyRing::ephemeral(&SystemRng)), Arc::new(SystemRng));
        assert!(!stranger.verify(Some(hash), &[], secret("correct horse")).await.unwrap());
    }

    #[tokio::test]
    async fn s_login_11_a_stored_hash_over_the_cap_is_refused_before_work() {
        let keys = keys();
        let pool = pool(&keys);
        let hash = pool.hash(secret("correct horse")).await.unwrap();
        for (was, costly) in [("m=19456", "m=262145"), ("m=19456", "m=4294967295"), ("t=2", "t=11"), ("p=1", "p=17")] {
            let costly = hash.replacen(was, costly, 1);
            assert!(matches!(Stored::parse(&costly, &keys), Err(StoredFault::TooCostly)), "{costly}");
            let before = pool.hashes_run();
            assert!(!pool.verify(Some(costly), &[], secret("correct horse")).await.unwrap());
            assert_eq!(pool.hashes_run() - before, 1, "the decoy alone");
        }
        for other in ["", "plain", "$2y$10$abcdefghijklmnopqrstuu", &hash.replace("argon2id", "argon2d")] {
            assert!(!pool.verify(Some(other.to_owned()), &[], secret("plain")).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_hash_made_elsewhere_without_pepper_verifies() {
        // `argon2` command line: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24
        let (keys, hashes) = (keys(), AtomicU64::new(0));
        let params = Params::new(65_536, 2, 1, Some(24)).unwrap();
        let mut place = Workplace::new(&hashes);
        let hash = argon2id(b"password", b"somesalt", &Secret::new(Vec::new()), &params, &mut place).unwrap();
        let b64 = data_encoding::BASE64_NOPAD.encode(&hash);
        let phc = format!("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ${b64}");
        assert!(pool(&keys).verify(Some(phc), &[], secret("password")).await.unwrap());
    }

    #[test]
    fn a_hash_does_not_depend_on_the_one_before_it_whose_memory_it_takes() {
        let hashes = AtomicU64::new(0);
        let none = Secret::new(Vec::new());
        let hash = |input: &[u8], place: &mut Workplace<'_>| argon2id(input, &[1; 16], &none, &own_params(), place);
        let mut used = Workplace::new(&hashes);
        hash(b"another's", &mut used).unwrap();
        let at = used.memory.as_ptr();
        let second = hash(b"mine", &mut used).unwrap();
        assert_eq!(used.memory.as_ptr(), at);
        assert_eq!(second, hash(b"mine", &mut Workplace::new(&hashes)).unwrap());
        assert!(used.memory.capacity() * Block::SIZE > 32 << 20, "glibc would keep it");
    }

    #[tokio::test]
    async fn s_login_11_a_full_queue_answers_busy_at_once_and_an_old_job_is_given_up() {
        // No thread: nothing ever begins.
        let pool = PasswordPool::with(0, Duration::from_millis(20), keys(), Arc::new(SystemRng));
        let many = (0..500).map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.verify(None, &[], secret("x")).await })
        });
        for answer in futures_util::future::join_all(many).await {
            assert_eq!(answer.unwrap(), Err(PoolError::Busy));
        }
        assert_eq!(pool.hashes_run(), 0);
        assert_eq!(pool.shared.lock().jobs.len(), QUEUE, "the queue holds no more than its bound");
    }

    #[tokio::test]
    async fn a_sign_in_storm_ends_in_answers_not_in_a_hang() {
        let pool = pool(&keys());
        let many = (0..100).map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.verify(None, &[], secret("x")).await })
        });
        let answers = futures_util::future::join_all(many).await;
        let answered = answers.into_iter().map(Result::unwrap).filter(|a| *a == Ok(false)).count() as u64;
        assert!(answered >= 1);
        assert_eq!(pool.hashes_run(), answered, "who was told busy cost nothing");
    }

    #[tokio::test]
    async fn derived_codes_depend_on_salt_input_and_ring() {
        let (ours, theirs) = (keys(), keys());
        let derive =
            async |keys: &Arc<KeyRing>, input: &[u8], salt| pool(keys).derive(input.to_vec(), [salt; 16]).await;
        let code = derive(&ours, b"code", 1).await.unwrap();
        assert_eq!(derive(&ours, b"code", 1).await.unwrap(), code);
        assert_ne!(derive(&ours, b"code", 2).await.unwrap(), code);
        assert_ne!(derive(&ours, b"cod3", 1).await.unwrap(), code);
        assert_ne!(derive(&theirs, b"code", 1).await.unwrap(), code);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pool_threads_step_back_and_the_others_do_not() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let inside = std::thread::spawn(move || {
            lower_priority();
            niceness()
        });
        assert_eq!(inside.join().unwrap(), NICENESS.max(before));
        assert_eq!(niceness(), before);
    }
}
