//! Checksums put right wherever the layout still shows where they are.

/// An index: its sections, its postings lists, its series and its table of contents.
pub(crate) fn index(bytes: &[u8]) -> Vec<u8> {
    /// Six offsets and their checksum.
    const TOC: usize = 52;
    let mut bytes = bytes.to_vec();
    let Some(toc) = bytes.len().checked_sub(TOC) else { return bytes };
    let offset = |i: usize| {
        let at = toc + 8 * i;
        let raw = u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        usize::try_from(raw).ok().filter(|offset| *offset <= toc)
    };
    let starts: [Option<usize>; 6] = std::array::from_fn(offset);
    let end_of = |start: usize| starts.iter().flatten().filter(|s| **s > start).min().copied();
    let [symbols, series, _, _, postings, table] = starts;
    for start in [symbols, table].into_iter().flatten() {
        section(&mut bytes, start);
    }
    if let Some(start) = postings {
        let end = end_of(start).unwrap_or(toc);
        let mut at = start.next_multiple_of(4);
        while at < end
            && let Some(len) = section(&mut bytes, at)
        {
            at = (at + len).next_multiple_of(4);
        }
    }
    if let Some(start) = series {
        let end = end_of(start).unwrap_or(toc);
        let mut at = start.next_multiple_of(16);
        while at < end
            && let Some(len) = entry(&mut bytes, at)
        {
            at = (at + len).next_multiple_of(16);
        }
    }
    checksum(&mut bytes, toc, TOC - 4);
    bytes
}

/// A chunk segment: its records, up to the first that does not end inside it.
pub(crate) fn segment(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = tsdb::segment::HEADER_LEN;
    while let Some((len, len_len)) = bytes.get(at..).and_then(uvarint) {
        // the length is that of the data, before which an encoding stands
        let Some(len) = len.checked_add(1) else { break };
        match checksum(&mut bytes, at + len_len, len) {
            Some(end) => at = end,
            None => break,
        }
    }
    bytes
}

pub(crate) fn tombstones(bytes: &[u8]) -> Vec<u8> {
    /// Magic number and version.
    const HEADER: usize = 5;
    let mut bytes = bytes.to_vec();
    if let Some(len) = bytes.len().checked_sub(HEADER + 4) {
        checksum(&mut bytes, HEADER, len);
    }
    bytes
}

/// `len u32 | content | checksum`; the length of all three.
fn section(bytes: &mut [u8], at: usize) -> Option<usize> {
    let len = bytes.get(at..)?.first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    Some(checksum(bytes, at + 4, len)? - at)
}

/// `uvarint len | content | checksum`; the length of all three.
fn entry(bytes: &mut [u8], at: usize) -> Option<usize> {
    let (len, len_len) = uvarint(bytes.get(at..)?)?;
    Some(checksum(bytes, at + len_len, len)? - at)
}

/// Writes the checksum of so many bytes behind them, if that is inside; gives where it ends.
fn checksum(bytes: &mut [u8], at: usize, len: usize) -> Option<usize> {
    let end = at.checked_add(len)?;
    let computed = crc32c::crc32c(bytes.get(at..end)?);
    bytes.get_mut(end..end.checked_add(4)?)?.copy_from_slice(&computed.to_be_bytes());
    Some(end + 4)
}

/// The value and the bytes it takes.
fn uvarint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if *byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}
