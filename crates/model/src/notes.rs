//! Warnings and infos of an answer: each text once, and only so many of them.

use std::collections::HashSet;

/// A text is cut to this many bytes.
const TEXT_BYTES: usize = 4 << 10;

/// Knows the texts that were passed on, and counts those for which there was no room.
#[derive(Clone, Debug)]
pub struct Notes {
    known: HashSet<String>,
    texts: usize,
    bytes: usize,
    left_out: u64,
}

impl Notes {
    /// For what one server sends in one answer.
    pub fn of_server() -> Notes {
        Notes::bounded(50, 32 << 10)
    }

    /// For all that is said of one answer, which includes a line about every server that failed.
    pub fn of_answer() -> Notes {
        Notes::bounded(1000, 512 << 10)
    }

    fn bounded(texts: usize, bytes: usize) -> Notes {
        Notes { known: HashSet::new(), texts, bytes, left_out: 0 }
    }

    /// The text to pass on, cut if it is very long; `None` if it is known, or if there is no room.
    pub fn admit(&mut self, text: &str) -> Option<String> {
        let text = cut(text);
        if self.known.contains(&text) {
            return None;
        }
        if self.known.len() >= self.texts || self.bytes < text.len() {
            self.left_out += 1;
            return None;
        }
        self.bytes -= text.len();
        self.known.insert(text.clone());
        Some(text)
    }

    /// How many texts there was no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_passed_on_once_and_the_rest_is_counted() {
        let mut notes = Notes::of_server();
        let passed = (0..200).filter_map(|i| notes.admit(&format!("{}", i % 100))).count();
        assert_eq!((passed, notes.left_out()), (50, 100));
        assert_eq!(notes.admit("3"), None);
        assert_eq!(notes.left_out(), 100);
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_take_room() {
        let mut notes = Notes::of_server();
        let long = |i: usize| format!("{i}{}", "ü".repeat(1 << 20));
        let cut = notes.admit(&long(0)).unwrap();
        assert!(cut.len() < TEXT_BYTES + 4 && cut.ends_with("ü…"), "{}", cut.len());
        assert_eq!((1..20).filter_map(|i| notes.admit(&long(i))).count(), 6);
    }
}
