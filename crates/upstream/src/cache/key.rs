//! Names of entries that every cache takes.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Stands before the digest in keys that have one, and in no other.
const DIGEST_MARK: u8 = b'#';

/// The name of an entry: 1 to [`Key::MAX_BYTES`] visible characters of ASCII, which is what
/// memcached takes; Redis takes more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    pub const MAX_BYTES: usize = 250;

    /// The key of what this name stands for. It is the name itself where that can be. Otherwise it
    /// is as much of the name's beginning as can be, and the SHA-256 of all of it, so that
    /// different names have different keys.
    ///
    /// Processes of other kinds may use the same servers: names begin with what they are of.
    pub fn new(name: impl AsRef<[u8]>) -> Key {
        let name = name.as_ref();
        let plain = name.iter().take_while(|byte| is_plain(**byte)).count();
        let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
        if plain == name.len() && (1..=Key::MAX_BYTES).contains(&plain) {
            return Key(text(name));
        }
        let digest = Sha256::digest(name);
        let head = plain.min(Key::MAX_BYTES - 1 - 2 * digest.len());
        let mut key = text(&name[..head]);
        key.push(char::from(DIGEST_MARK));
        for byte in digest {
            // Strings take all that is written to them.
            let _ = write!(key, "{byte:02x}");
        }
        Key(key)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != DIGEST_MARK
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn digest(name: impl AsRef<[u8]>) -> String {
        Sha256::digest(name.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn names_are_kept_where_memcached_takes_them() {
        for name in ["p", "postings:01H:job=web", &"x".repeat(250)] {
            assert_eq!(Key::new(name).as_str(), name);
        }
    }

    #[test]
    fn other_names_end_in_their_digest() {
        for (name, head) in [
            ("", ""),
            ("range:sum by (pod) (up)", "range:sum"),
            ("a\r\ndelete b", "a"),
            ("a#b", "a"),
            ("région", "r"),
        ] {
            assert_eq!(Key::new(name).as_str(), format!("{head}#{}", digest(name)));
        }
        let long = "x".repeat(251);
        let key = Key::new(&long);
        assert_eq!(key.as_str(), format!("{}#{}", "x".repeat(185), digest(&long)));
        assert_eq!(key.as_str().len(), Key::MAX_BYTES);
    }

    #[test]
    fn names_that_begin_alike_have_keys_of_their_own() {
        let names = ["a b", "a  b", "a\u{0}b", "a#b", "a"].map(str::to_owned);
        let long = [1000, 1001].map(|length| "y".repeat(length));
        let keys: HashSet<Key> = names.iter().chain(&long).map(Key::new).collect();
        assert_eq!(keys.len(), names.len() + long.len());
        assert_ne!(Key::new([0xff]), Key::new([0xfe]));
    }

    #[test]
    fn the_key_of_a_key_is_another_unless_it_is_the_name() {
        let digested = Key::new("a b");
        assert_ne!(Key::new(digested.as_str()), digested);
        let plain = Key::new("a");
        assert_eq!(Key::new(plain.as_str()), plain);
    }
}
