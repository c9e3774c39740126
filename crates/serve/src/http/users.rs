//! Who may log in, by passwords of which bcrypt hashes are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Answers that are remembered, of each kind.
const REMEMBERED: usize = 100;

/// Passwords that may wait for their turn; each takes a processor for a tenth of a second or more.
const WAITING: usize = 64;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Wrong,
    /// Too many passwords wait to be checked.
    Busy,
}

/// A bcrypt hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    text: String,
    cost: u32,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(<hidden>)")
    }
}

/// A text that is no hash, which may be a password that was pasted here.
#[derive(Debug, thiserror::Error)]
#[error("it is not a bcrypt hash such as `htpasswd -nBC 10 NAME` prints")]
pub(super) struct NotAHash;

impl PasswordHash {
    pub(super) fn parse(text: &str) -> Result<PasswordHash, NotAHash> {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| NotAHash)?;
        let cost = parts.get_cost();
        // what cannot be verified would lock the user out without a word
        let is_valid = (4..=31).contains(&cost) && text.len() == 60;
        is_valid.then(|| PasswordHash { text: text.to_owned(), cost }).ok_or(NotAHash)
    }

    fn matches(&self, password: &[u8]) -> bool {
        let end = password.iter().position(|byte| *byte == 0);
        // as Go hashes them; the rest of a password with a zero byte is not looked at here
        end.is_none() && bcrypt::verify(password, &self.text).unwrap_or(false)
    }
}

/// Lets users in.
#[derive(Debug)]
pub(super) struct Users {
    hashes: BTreeMap<String, PasswordHash>,
    /// Compared where the user is unknown, so that this takes as long as for a known one.
    decoy: PasswordHash,
    /// What was right and what was wrong before, apart, so that guesses do not push out those who
    /// are let in.
    right: Mutex<Remembered>,
    wrong: Mutex<Remembered>,
    waiting: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

type Key = [u8; 32];

#[derive(Debug, Default)]
struct Remembered {
    /// When each was noted.
    keys: HashMap<Key, u64>,
    noted: u64,
}

impl Remembered {
    fn note(&mut self, key: Key) {
        if self.keys.len() >= REMEMBERED {
            let oldest = self.keys.iter().min_by_key(|(_, noted)| **noted).map(|(key, _)| *key);
            oldest.map(|key| self.keys.remove(&key));
        }
        self.noted += 1;
        self.keys.insert(key, self.noted);
    }
}

fn holds(remembered: &Mutex<Remembered>, key: &Key) -> bool {
    remembered.lock().unwrap_or_else(PoisonError::into_inner).keys.contains_key(key)
}

impl Users {
    /// `None` without a user: then nobody has to log in.
    pub(super) fn new(hashes: BTreeMap<String, PasswordHash>) -> Option<Users> {
        let decoy = hashes.values().max_by_key(|hash| hash.cost)?.clone();
        Some(Users {
            hashes,
            decoy,
            right: Mutex::default(),
            wrong: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether the request of these headers comes from a user. One password is compared at a time,
    /// and not on the thread that serves.
    pub(super) async fn let_in(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let (user, password) = credentials(headers).ok_or(Denied::Wrong)?;
        let known = self.hashes.get(&user);
        let hash = known.unwrap_or(&self.decoy).clone();
        let key = key(&user, &hash, &password);
        if known.is_some() && holds(&self.right, &key) {
            return Ok(());
        }
        if holds(&self.wrong, &key) {
            return Err(Denied::Wrong);
        }
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Denied::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| Denied::Busy)?;
        // the permits go with the comparison, which goes on when the client leaves
        let compare = move || {
            let _held = (place, turn);
            hash.matches(&password)
        };
        let matches = tokio::task::spawn_blocking(compare).await.unwrap_or(false);
        let is_right = matches && known.is_some();
        let remembered = if is_right { &self.right } else { &self.wrong };
        remembered.lock().unwrap_or_else(PoisonError::into_inner).note(key);
        if is_right { Ok(()) } else { Err(Denied::Wrong) }
    }
}

/// Says whose password was compared with what, without holding it.
fn key(user: &str, hash: &PasswordHash, password: &[u8]) -> Key {
    let mut digest = Sha256::new();
    for part in [user.as_bytes(), hash.text.as_bytes(), password] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Name and password of the header `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `sesame`, at the lowest cost.
    fn hash(password: &str) -> PasswordHash {
        PasswordHash::parse(&bcrypt::hash_with_result(password, 4).unwrap().to_string()).unwrap()
    }

    fn users() -> Users {
        let hashes = [("alice", "sesame"), ("bob", "other")];
        Users::new(hashes.map(|(name, word)| (name.to_owned(), hash(word))).into()).unwrap()
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let value = format!("Basic {text}").parse().unwrap();
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_opens() {
        let users = users();
        let cases = [
            (basic("alice", "sesame"), Ok(())),
            (basic("alice", "other"), Err(Denied::Wrong)),
            (basic("carol", "sesame"), Err(Denied::Wrong)),
            // the decoy is the hash of a user, whose password does not open for others
            (basic("carol", "other"), Err(Denied::Wrong)),
            (basic("", ""), Err(Denied::Wrong)),
            (basic("alice", "sesame\0x"), Err(Denied::Wrong)),
            (HeaderMap::new(), Err(Denied::Wrong)),
        ];
        for round in ["first", "remembered"] {
            for (headers, expected) in &cases {
                assert_eq!(users.let_in(headers).await, *expected, "{round} {headers:?}");
            }
        }
        for text in ["Basic", "Basic !", "Bearer x", "Basic YQ=="] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, text.parse().unwrap())]);
            assert_eq!(users.let_in(&headers).await, Err(Denied::Wrong), "{text}");
        }
    }

    #[tokio::test]
    async fn guesses_neither_pile_up_nor_push_out_who_is_let_in() {
        let users = users();
        users.let_in(&basic("alice", "sesame")).await.unwrap();
        for guess in 0..2 * REMEMBERED {
            let _ = users.let_in(&basic("alice", &guess.to_string())).await;
        }
        assert_eq!(users.wrong.lock().unwrap().keys.len(), REMEMBERED);
        // nothing can be compared any more: what is let in is remembered
        users.turn.close();
        users.let_in(&basic("alice", "sesame")).await.unwrap();
        assert_eq!(users.let_in(&basic("bob", "other")).await, Err(Denied::Busy));
    }

    #[test]
    fn a_password_in_place_of_a_hash_is_refused_and_not_shown() {
        for text in ["sesame", "", "$2y$10$short", "$2y$99$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQN"] {
            let error = PasswordHash::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let apache = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";
        assert!(!format!("{:?}", PasswordHash::parse(apache).unwrap()).contains("X0h1"));
    }
}
