//! Label sets: repeated name/value pairs on the wire, one packed buffer in the model.

use bytes::Bytes;
use model::Labels;

use crate::{prometheus, prometheus_copy, thanos};

/// A generated label message. Thanos and Prometheus each have their own, of the same shape.
pub trait LabelMessage {
    fn name(&self) -> &Bytes;
    fn value(&self) -> &Bytes;
    fn pair(name: Bytes, value: Bytes) -> Self;
}

macro_rules! pair {
    ($($message:ty),*) => {$(
        impl LabelMessage for $message {
            fn name(&self) -> &Bytes {
                &self.name
            }

            fn value(&self) -> &Bytes {
                &self.value
            }

            fn pair(name: Bytes, value: Bytes) -> Self {
                Self { name, value }
            }
        }
    )*};
}

pair!(thanos::Label, prometheus::Label, prometheus_copy::Label);

/// Peers send labels sorted and unique; others are sorted here, and the last of a duplicate name
/// wins.
pub fn labels_from_wire<P: LabelMessage>(pairs: &[P]) -> Labels {
    let sorted = pairs.windows(2).all(|w| w[0].name() < w[1].name());
    if sorted && pairs.iter().all(|p| !p.value().is_empty()) {
        return Labels::from_sorted(pairs.iter().map(|p| (&p.name()[..], &p.value()[..])));
    }
    Labels::from_pairs(pairs.iter().map(|p| (p.name(), p.value())))
}

/// One allocation for all names and values: each is a slice of the packed form.
pub fn labels_to_wire<P: LabelMessage>(labels: &Labels) -> Vec<P> {
    let packed = Bytes::copy_from_slice(labels.as_packed());
    let base = labels.as_packed().as_ptr() as usize;
    let slice = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        packed.slice(start..start + part.len())
    };
    labels.iter().map(|(name, value)| P::pair(slice(name), slice(value))).collect()
}

/// A label set message.
pub fn label_set(labels: &Labels) -> thanos::LabelSet {
    thanos::LabelSet { labels: labels_to_wire(labels) }
}

/// An absent message is an empty set.
pub fn labels_from_set(set: Option<&thanos::LabelSet>) -> Labels {
    set.map(|s| labels_from_wire(&s.labels)).unwrap_or_default()
}

/// Bytes as text for people; what is not UTF-8 is replaced.
pub fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(pairs: &[(&'static str, &'static [u8])]) -> Vec<thanos::Label> {
        let label = |(n, v): &(&'static str, &'static [u8])| {
            thanos::Label::pair(Bytes::from_static(n.as_bytes()), Bytes::from_static(v))
        };
        pairs.iter().map(label).collect()
    }

    #[test]
    fn labels_survive_the_round_trip_even_when_they_are_no_utf8() {
        let labels = labels_from_wire(&wire(&[("__name__", b"up"), ("bad", b"\xff\xfe")]));
        assert_eq!(labels.get("bad"), Some(&b"\xff\xfe"[..]));
        assert_eq!(labels_from_wire(&labels_to_wire::<prometheus::Label>(&labels)), labels);
    }

    #[test]
    fn a_peer_that_sends_labels_unsorted_doubled_or_empty_is_put_right() {
        let labels = labels_from_wire(&wire(&[("b", b"1"), ("a", b"2"), ("b", b"3"), ("c", b"")]));
        assert_eq!(labels.to_string(), r#"{a="2", b="3"}"#);
    }
}
