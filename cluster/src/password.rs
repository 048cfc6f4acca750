//! Passwords: Argon2id, bounded in parallelism, and remembered by keyed hash.
//!
//! Checking a password costs about 20 ms and 19 MiB on purpose. So that thousands of miners that
//! reconnect do not take the machine down, a few checks run at a time on blocking threads, a bounded
//! number waits, and the answer is remembered under an HMAC of user, stored hash and password whose
//! key is drawn at start and never leaves the process: what is remembered is of no use to
//! whoever reads memory later, and is void as soon as the stored hash changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::ledger::Verifier;

/// Bytes of a password at most.
pub const MAX_PASSWORD: usize = 1_024;

/// Answers that are remembered at most, in two halves of which the older is dropped when the newer
/// is full. About 6 MB.
pub const MAX_REMEMBERED: usize = 131_072;

/// What hashing costs and how much of it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory of one hash in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Hashes that are computed at the same time.
    pub parallelism: usize,
    /// Checks that wait for their turn at most.
    pub waiting: usize,
}

impl Default for Settings {
    /// OWASP's minimum for Argon2id: 19 MiB, two passes, one lane. Half the processors.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            parallelism: (processors / 2).max(1),
            waiting: 4_096,
        }
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is not the password.
    Wrong,
    /// It is.
    Right,
    /// It is, and what is stored should be replaced with [`Passwords::hash`] of it: it is
    /// bcoin-stratum's unsalted double SHA-256, or was made with a lower cost.
    Rehash,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many checks wait already.
    #[error("too many logins wait for their password to be checked: try again")]
    Busy,
    /// Longer than [`MAX_PASSWORD`], or empty.
    #[error("a password has 1 to {MAX_PASSWORD} bytes")]
    Length,
    /// The parameters, the system's randomness or a thread failed.
    #[error("password could not be hashed: {0}")]
    Failed(&'static str),
}

/// Checks and hashes passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    argon2: Argon2<'static>,
    key: [u8; 32],
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    remembered: Mutex<Remembered>,
}

impl Passwords {
    /// Starts with nothing remembered.
    ///
    /// # Errors
    ///
    /// Settings that Argon2 does not take, or a system without randomness.
    pub fn new(settings: Settings) -> Result<Self, PasswordError> {
        let params = Params::new(settings.memory_kib, settings.passes, 1, None)
            .map_err(|_| PasswordError::Failed("Argon2 does not take these parameters"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let shared = Shared {
            settings,
            argon2,
            key: random()?,
            turns: Arc::new(Semaphore::new(settings.parallelism.max(1))),
            waiting: AtomicUsize::new(0),
            remembered: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Checks a password against what is stored for a user.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`] when too many wait; the caller's thread is never blocked.
    pub async fn check(
        &self,
        user: &str,
        stored: &Verifier,
        password: &str,
    ) -> Result<Match, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Ok(Match::Wrong);
        }
        let phc = match stored {
            Verifier::None => return Ok(Match::Wrong),
            Verifier::Legacy(hash) => {
                let same: bool = legacy(password).ct_eq(&hash[..]).into();
                return Ok(if same { Match::Rehash } else { Match::Wrong });
            }
            Verifier::Argon2id(phc) => phc,
        };
        let tag = self.shared.tag(user, phc, password);
        if let Some(found) = self.shared.remembered.lock().recall(&tag) {
            return Ok(found);
        }
        let shared = self.shared.clone();
        let (phc, password) = (phc.clone(), password.to_owned());
        self.in_turn(move || {
            // Of many that wait with the same password only the first computes it.
            if let Some(found) = shared.remembered.lock().recall(&tag) {
                return Ok(found);
            }
            let found = shared.verify(&phc, &password);
            shared.remembered.lock().remember(tag, found);
            Ok(found)
        })
        .await
    }

    /// Hashes a password for the ledger.
    ///
    /// # Errors
    ///
    /// A password of a wrong length, or [`PasswordError::Busy`].
    pub async fn hash(&self, password: &str) -> Result<Verifier, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(PasswordError::Length);
        }
        let shared = self.shared.clone();
        let password = password.to_owned();
        self.in_turn(move || shared.hash(&password)).await
    }

    /// Runs costly work on a blocking thread when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Place::take(self.shared.clone())?;
        let turn = self.shared.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Failed("shutting down"))?;
        drop(place);
        // The turn moves with the work, so that a caller that gives up does not let more run.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|_| PasswordError::Failed("its thread ended early"))?
    }
}

impl Shared {
    fn verify(&self, phc: &str, password: &str) -> Match {
        let Ok(parsed) = PasswordHash::new(phc) else { return Match::Wrong };
        // Parameters come from the hash; they were bounded when it entered the ledger only by its
        // length, so that one that asks for gigabytes is refused here.
        let Ok(params) = Params::try_from(&parsed) else { return Match::Wrong };
        if u64::from(params.m_cost()) * u64::from(params.t_cost()) > MAX_COST {
            return Match::Wrong;
        }
        if self.argon2.verify_password(password.as_bytes(), &parsed).is_err() {
            return Match::Wrong;
        }
        let cheaper =
            params.m_cost() < self.settings.memory_kib || params.t_cost() < self.settings.passes;
        if cheaper { Match::Rehash } else { Match::Right }
    }

    fn hash(&self, password: &str) -> Result<Verifier, PasswordError> {
        let failed = |_| PasswordError::Failed("Argon2 failed");
        let salt: [u8; 16] = random()?;
        let salt = SaltString::encode_b64(&salt).map_err(failed)?;
        let phc = self.argon2.hash_password(password.as_bytes(), &salt).map_err(failed)?;
        Ok(Verifier::Argon2id(phc.to_string().into()))
    }

    fn tag(&self, user: &str, phc: &str, password: &str) -> Tag {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key)
            .expect("HMAC takes keys of any length");
        for part in [user, phc, password] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        tag
    }
}

/// KiB times passes of a hash that is checked at most: 1 GiB once.
const MAX_COST: u64 = 1 << 20;

/// bcoin-stratum's hash of a password: SHA-256 twice.
pub fn legacy(password: &str) -> [u8; 32] {
    Sha256::digest(Sha256::digest(password.as_bytes())).into()
}

type Tag = [u8; 16];

#[derive(Default)]
struct Remembered {
    newer: HashMap<Tag, Match>,
    older: HashMap<Tag, Match>,
}

impl Remembered {
    fn recall(&mut self, tag: &Tag) -> Option<Match> {
        if let Some(found) = self.newer.get(tag) {
            return Some(*found);
        }
        let found = *self.older.get(tag)?;
        self.remember(*tag, found);
        Some(found)
    }

    fn remember(&mut self, tag: Tag, found: Match) {
        if self.newer.len() >= MAX_REMEMBERED / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(tag, found);
    }
}

/// A place in the queue, given back when it is dropped.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: Arc<Shared>) -> Result<Self, PasswordError> {
        let bound = shared.settings.waiting + shared.settings.parallelism;
        let mut waiting = shared.waiting.load(Ordering::Relaxed);
        while waiting < bound {
            let next = waiting + 1;
            match shared.waiting.compare_exchange_weak(
                waiting,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(Self(shared)),
                Err(now) => waiting = now,
            }
        }
        Err(PasswordError::Busy)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn random<const N: usize>() -> Result<[u8; N], PasswordError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| PasswordError::Failed("no randomness"))?;
    Ok(bytes)
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Settings = Settings { memory_kib: 64, passes: 2, parallelism: 2, waiting: 100 };

    #[tokio::test]
    async fn right_password_passes_and_any_other_does_not() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let stored = passwords.hash("secret").await.unwrap();
        stored.check().unwrap();
        for _ in 0..2 {
            let check = async |word| passwords.check("a", &stored, word).await.unwrap();
            assert_eq!(check("secret").await, Match::Right);
            assert_eq!(check("Secret").await, Match::Wrong);
            assert_eq!(check("").await, Match::Wrong);
        }
        assert_eq!(passwords.check("a", &Verifier::None, "x").await.unwrap(), Match::Wrong);
    }

    #[tokio::test]
    async fn remembered_answer_is_void_once_the_stored_hash_changes() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let old = passwords.hash("old").await.unwrap();
        let new = passwords.hash("new").await.unwrap();
        assert_eq!(passwords.check("a", &old, "old").await.unwrap(), Match::Right);
        assert_eq!(passwords.check("a", &new, "old").await.unwrap(), Match::Wrong);
    }

    #[tokio::test]
    async fn legacy_hash_passes_and_asks_to_be_replaced() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let stored = Verifier::Legacy(Box::new(legacy("secret")));
        assert_eq!(passwords.check("a", &stored, "secret").await.unwrap(), Match::Rehash);
        assert_eq!(passwords.check("a", &stored, "wrong").await.unwrap(), Match::Wrong);
        assert_eq!(
            hex::encode(legacy("hello")),
            "9595c9df90075148eb06860365df33584b75bff782a510c6cd4883a419833d50"
        );
    }

    #[tokio::test]
    async fn hash_of_a_lower_cost_asks_to_be_replaced() {
        let stored = Passwords::new(CHEAP).unwrap().hash("secret").await.unwrap();
        let dearer = Passwords::new(Settings { memory_kib: 128, ..CHEAP }).unwrap();
        assert_eq!(dearer.check("a", &stored, "secret").await.unwrap(), Match::Rehash);
    }

    #[tokio::test]
    async fn hash_that_asks_for_too_much_memory_is_refused() {
        let stored = "$argon2id$v=19$m=4194304,t=9,p=1$c29tZXNhbHQ$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let stored = Verifier::Argon2id(stored.into());
        let passwords = Passwords::new(CHEAP).unwrap();
        assert_eq!(passwords.check("a", &stored, "x").await.unwrap(), Match::Wrong);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn thousands_of_reconnecting_miners_cost_one_check() {
        let passwords = Passwords::new(Settings { waiting: 5_000, ..CHEAP }).unwrap();
        let stored = passwords.hash("secret").await.unwrap();
        let checks = (0..5_000).map(|_| {
            let (passwords, stored) = (passwords.clone(), stored.clone());
            tokio::spawn(async move { passwords.check("a", &stored, "secret").await })
        });
        for check in checks.collect::<Vec<_>>() {
            assert_eq!(check.await.unwrap(), Ok(Match::Right));
        }
        assert_eq!(passwords.shared.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(passwords.shared.turns.available_permits(), CHEAP.parallelism);
    }

    #[tokio::test]
    async fn queue_is_bounded_and_giving_up_frees_it() {
        let passwords = Passwords::new(Settings { parallelism: 1, waiting: 2, ..CHEAP }).unwrap();
        let stored = passwords.hash("secret").await.unwrap();
        let turn = passwords.shared.turns.acquire().await.unwrap();
        let wait = |word: &'static str| {
            let (passwords, stored) = (passwords.clone(), stored.clone());
            tokio::spawn(async move { passwords.check("a", &stored, word).await })
        };
        let waiting: Vec<_> = ["1", "2", "3"].map(wait).into();
        while passwords.shared.waiting.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(wait("4").await.unwrap(), Err(PasswordError::Busy));
        for task in waiting {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        drop(turn);
        assert_eq!(wait("secret").await.unwrap(), Ok(Match::Right));
    }

    #[test]
    fn remembered_answers_are_bounded() {
        let mut remembered = Remembered::default();
        for number in 0..2 * MAX_REMEMBERED as u128 {
            remembered.remember(number.to_le_bytes(), Match::Right);
            assert!(remembered.newer.len() + remembered.older.len() <= MAX_REMEMBERED);
        }
    }
}
