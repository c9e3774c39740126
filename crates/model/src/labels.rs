//! Label sets, packed in one buffer.
//!
//! Layout: for each label, sorted by name, `uvarint len | name | uvarint len | value`. Names and
//! values are bytes, not UTF-8, as Prometheus' strings are. Order is Prometheus' `labels.Compare`:
//! name, then value, pair by pair, a shorter set that is a prefix first.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh64::Xxh64;

mod packer;

pub use packer::LabelsPacker;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// A sorted set of labels, cheap to clone. A label with an empty value does not exist.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[u8]>);

impl Labels {
    pub fn empty() -> Labels {
        Labels(Arc::from([]))
    }

    /// Sorts the pairs by name; of equal names the last wins; empty values are left out.
    pub fn from_pairs<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// Takes pairs that are already sorted by name, without duplicates and without empty values;
    /// the hot path of readers.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Labels {
        let mut packed = Vec::with_capacity(128);
        for (name, value) in pairs {
            push_pair(&mut packed, name, value);
        }
        let labels = Labels(Arc::from(packed));
        debug_assert!(labels.is_sorted(), "labels must be sorted");
        labels
    }

    fn is_sorted(&self) -> bool {
        self.iter().zip(self.iter().skip(1)).all(|(a, b)| a.0 < b.0)
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        for (n, v) in self.iter() {
            match n.cmp(name) {
                Ordering::Less => {}
                Ordering::Equal => return Some(v),
                Ordering::Greater => return None,
            }
        }
        None
    }

    pub fn metric_name(&self) -> Option<&[u8]> {
        self.get(METRIC_NAME)
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The packed form; equal label sets have equal bytes.
    pub fn as_packed(&self) -> &[u8] {
        &self.0
    }

    pub fn with(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Labels {
        let mut builder = LabelsBuilder::from(self);
        builder.set(name.as_ref(), value.as_ref());
        builder.build()
    }

    pub fn without<N: AsRef<[u8]>>(&self, names: &[N]) -> Labels {
        if names.is_empty() || !self.iter().any(|(n, _)| names.iter().any(|x| x.as_ref() == n)) {
            return self.clone();
        }
        Labels::from_sorted(self.iter().filter(|(n, _)| !names.iter().any(|x| x.as_ref() == *n)))
    }

    pub fn keep<N: AsRef<[u8]>>(&self, names: &[N]) -> Labels {
        Labels::from_sorted(self.iter().filter(|(n, _)| names.iter().any(|x| x.as_ref() == *n)))
    }

    /// Adds the labels of `over`, which replace those of the same names.
    pub fn overlaid(&self, over: &Labels) -> Labels {
        if over.is_empty() {
            return self.clone();
        }
        let mut packed = Vec::with_capacity(self.0.len() + over.0.len());
        let (mut a, mut b) = (self.iter().peekable(), over.iter().peekable());
        loop {
            let take_over = match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((x, _)), Some((y, _))) => match x.cmp(y) {
                    Ordering::Less => false,
                    Ordering::Greater => true,
                    Ordering::Equal => {
                        a.next();
                        true
                    }
                },
            };
            let (name, value) =
                if take_over { b.next().expect("peeked") } else { a.next().expect("peeked") };
            push_pair(&mut packed, name, value);
        }
        Labels(Arc::from(packed))
    }

    /// Names and values as text, as `meta.json` and APIs hold them; bytes that are not UTF-8 are
    /// replaced.
    pub fn to_text(&self) -> BTreeMap<String, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// xxh64 over `name 0xFF value 0xFF` of every label, as Thanos and Prometheus hash label sets.
    pub fn hash64(&self) -> u64 {
        let mut hasher = Xxh64::new(0);
        for (name, value) in self.iter() {
            hasher.update(name);
            hasher.update(&[0xff]);
            hasher.update(value);
            hasher.update(&[0xff]);
        }
        hasher.digest()
    }
}

impl Labels {
    /// xxh64 over every name and value, each preceded by its length (one byte, or 0xFF and three
    /// bytes from 255 on), as Prometheus 3 hashes label sets in memory; `limit_ratio` chooses
    /// series by it.
    pub fn length_prefixed_hash64(&self) -> u64 {
        let mut hasher = Xxh64::new(0);
        for bytes in self.iter().flat_map(|(name, value)| [name, value]) {
            match u8::try_from(bytes.len()) {
                Ok(len) if len < 0xff => hasher.update(&[len]),
                _ => {
                    let len = (bytes.len() as u32).to_le_bytes();
                    hasher.update(&[0xff, len[0], len[1], len[2]]);
                }
            }
            hasher.update(bytes);
        }
        hasher.digest()
    }
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::empty()
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Labels) -> Ordering {
        let (mut a, mut b) = (&*self.0, &*other.0);
        let mut common = common_prefix(a, b);
        loop {
            if a.is_empty() || b.is_empty() {
                return a.len().cmp(&b.len());
            }
            let mut rest = a;
            let x = take_bytes(&mut rest);
            let taken = a.len() - rest.len();
            // a string that ends within the common prefix is the same in both
            if taken > common {
                return x.cmp(take_bytes(&mut b));
            }
            common -= taken;
            (a, b) = (rest, &b[taken..]);
        }
    }
}

/// The length of the common prefix.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let equal = 8 * words.take_while(|(x, y)| x == y).count();
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(x, y)| x == y).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Prints as PromQL would: `{a="b", c="d"}`, with bytes that are not UTF-8 replaced.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            if is_legacy_name(&name) {
                write!(f, "{name}={value:?}")?
            } else {
                write!(f, "{name:?}={value:?}")?
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_legacy_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    matches!(bytes.next(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'_'))
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9'))
}

/// Iterates over `(name, value)` in order of names.
#[derive(Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some((take_bytes(&mut self.rest), take_bytes(&mut self.rest)))
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (mut len, mut shift, mut at) = (0usize, 0, 0);
    loop {
        let byte = rest[at];
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    let (bytes, after) = rest[at..].split_at(len);
    *rest = after;
    bytes
}

fn push_bytes(packed: &mut Vec<u8>, bytes: &[u8]) {
    let mut len = bytes.len();
    while len >= 0x80 {
        packed.push(len as u8 | 0x80);
        len >>= 7;
    }
    packed.push(len as u8);
    packed.extend_from_slice(bytes);
}

fn push_pair(packed: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push_bytes(packed, name);
    push_bytes(packed, value);
}

/// Builds a label set from pairs in any order.
#[derive(Default, Clone)]
pub struct LabelsBuilder {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        self.remove(name);
        if !value.is_empty() {
            self.pairs.push((name.to_vec(), value.to_vec()));
        }
        self
    }

    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> &mut Self {
        self.pairs.retain(|(n, _)| n != name.as_ref());
        self
    }

    pub fn build(mut self) -> Labels {
        self.pairs.sort_unstable();
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())))
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> LabelsBuilder {
        LabelsBuilder { pairs: labels.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect() }
    }
}

/// The values of `names` in `labels`, each followed by 0xFF: a key for grouping and matching.
pub fn join_label_bytes<N: AsRef<[u8]>>(labels: &Labels, names: &[N], key: &mut Vec<u8>) {
    key.clear();
    for name in names {
        key.extend_from_slice(labels.get(name.as_ref()).unwrap_or_default());
        key.push(0xff);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_replaces_what_is_no_utf8() {
        let labels = Labels::from_pairs([("b", &b"2"[..]), ("a", &b"\xff"[..])]);
        let text: Vec<(String, String)> = labels.to_text().into_iter().collect();
        let expected = [("a", "\u{fffd}"), ("b", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(text, expected);
    }

    #[test]
    fn pairs_are_sorted_deduplicated_and_found() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.get("b"), Some(&b"3"[..]));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn order_is_pairwise_and_prefixes_come_first() {
        let short = Labels::from_pairs([("a", "1")]);
        let long = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let other_name = Labels::from_pairs([("aa", "0")]);
        assert!(short < long && long < other_name);
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_pairs(
            a in prop::collection::vec(("[ab]{1,9}", "[ab\u{0}]{1,200}"), 0..5),
            b in prop::collection::vec(("[ab]{1,9}", "[ab\u{0}]{1,200}"), 0..5),
            shared in 0usize..5,
        ) {
            let other = a.iter().take(shared).chain(&b).cloned();
            let (a, b) = (Labels::from_pairs(a.clone()), Labels::from_pairs(other));
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
        }
    }

    #[test]
    fn the_overlay_wins() {
        let inner = Labels::from_pairs([("a", "1"), ("z", "1")]);
        let external = Labels::from_pairs([("m", "2"), ("z", "2")]);
        assert_eq!(inner.overlaid(&external).to_string(), r#"{a="1", m="2", z="2"}"#);
    }
}
