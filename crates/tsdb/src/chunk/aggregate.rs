//! Thanos' AggrChunk (encoding 0xff): the aggregates of downsampled samples, each a chunk of its
//! own.
//!
//! ```text
//! five times, in the order of `Aggregate`:  uvarint len | encoding byte | len bytes of data
//!                                           uvarint 0, where the aggregate does not exist
//! ```

use super::{Aggregate, Encoding};
use crate::error::{Case, Error};
use crate::varint::{put_uvarint, read_uvarint};

const WHAT: &str = "AggrChunk";

/// A chunk per [`Aggregate`], `None` where it does not exist.
pub type Aggregates<'a> = [Option<(Encoding, &'a [u8])>; 5];

/// The sub-chunks of an AggrChunk, borrowed from it.
///
/// # Errors
/// Truncated data, and sub-chunks of an unknown encoding.
pub fn split_aggregates(data: &[u8]) -> Result<Aggregates<'_>, Error> {
    let mut parts = Aggregates::default();
    let mut at = 0;
    for part in &mut parts {
        let (len, read) = read_uvarint(&data[at..]).ok_or(Error::truncated(WHAT, at))?;
        at += read;
        if len == 0 {
            continue;
        }
        let rest = &data[at..];
        let byte = *rest.first().ok_or(Error::truncated(WHAT, at))?;
        let end = usize::try_from(len).ok().and_then(|len| len.checked_add(1));
        let sub = end.and_then(|end| rest.get(1..end)).ok_or(Error::truncated(WHAT, at))?;
        let encoding =
            Encoding::from_byte(byte).filter(|encoding| *encoding != Encoding::Aggregate);
        *part = Some((
            encoding.ok_or(Error(Case::UnknownEncoding { encoding: byte, offset: at as u64 }))?,
            sub,
        ));
        at += sub.len() + 1;
    }
    Ok(parts)
}

/// The data of the AggrChunk with these sub-chunks; an empty one counts as none.
pub fn join_aggregates(parts: &Aggregates<'_>) -> Vec<u8> {
    let mut data =
        Vec::with_capacity(parts.iter().flatten().map(|(_, sub)| sub.len() + 4).sum::<usize>() + 5);
    for part in parts {
        match part {
            Some((encoding, sub)) if !sub.is_empty() => {
                put_uvarint(&mut data, sub.len() as u64);
                data.push(*encoding as u8);
                data.extend_from_slice(sub);
            }
            _ => data.push(0),
        }
    }
    data
}

/// Windows of the chunk: the samples of its count, without which there is no AggrChunk.
pub(super) fn num_samples(data: &[u8]) -> Result<usize, Error> {
    match split_aggregates(data)?[Aggregate::Count as usize] {
        Some((encoding, count)) => super::num_samples(encoding, count),
        None => Err(Error::corrupt(WHAT, 0, "it has no count")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absent_aggregates_stay_absent_and_damage_is_named() {
        let xor = [0u8, 1, 2, 3];
        let parts: Aggregates<'_> =
            [Some((Encoding::Xor, &xor)), None, None, Some((Encoding::Xor, &[])), None];
        let data = join_aggregates(&parts);
        assert_eq!(data, [4, 1, 0, 1, 2, 3, 0, 0, 0, 0]);
        assert_eq!(split_aggregates(&data).unwrap(), [parts[0], None, None, None, None]);
        assert_eq!(super::super::num_samples(Encoding::Aggregate, &data).unwrap(), 1);
        assert!(matches!(split_aggregates(&data[..7]), Err(Error(Case::Truncated { .. }))));
        assert!(matches!(
            split_aggregates(&[1, 0xff, 0]),
            Err(Error(Case::UnknownEncoding { .. }))
        ));
        assert!(super::super::num_samples(Encoding::Aggregate, &[0; 5]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (split_aggregates(&data), super::super::num_samples(Encoding::Aggregate, &data));
        }
    }
}
