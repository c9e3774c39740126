use proptest::prelude::*;

use super::*;

fn written(writer: &mut SegmentWriter) -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    while let Some(SegmentBytes { segment, bytes }) = writer.take() {
        segments.resize(segments.len().max(segment as usize + 1), Vec::new());
        segments[segment as usize].extend(bytes);
    }
    segments
}

#[test]
fn segments_are_cut_before_they_grow_too_large() {
    let mut writer = SegmentWriter::with_max_len(100);
    let refs: Vec<ChunkRef> =
        (0..10u8).map(|i| writer.push(Encoding::Xor, &[i; 25]).unwrap()).collect();
    let segments = written(&mut writer);
    assert_eq!(segments.len(), 5);
    for (i, at) in refs.iter().enumerate() {
        let segment = &segments[at.segment as usize];
        check_header(segment).unwrap();
        assert!(segment.len() <= 100);
        assert_eq!(ChunkRef::from_raw(at.to_raw()), *at);
        let record = parse_record(&segment[at.offset as usize..]).unwrap();
        assert_eq!(record.data, [i as u8; 25]);
    }
    assert!(matches!(writer.push(Encoding::Xor, &[0; 90]), Err(Error(Case::Limit { .. }))));
    assert_eq!(segment_name(0), "000001");
}

#[test]
fn damage_is_named() {
    let mut writer = SegmentWriter::new();
    let at = writer.push(Encoding::Histogram, &[1, 2, 3]).unwrap().offset as usize;
    let bytes = writer.take().unwrap().bytes;
    let record = &bytes[at..];
    assert_eq!(record_len(record).unwrap(), record.len());
    for len in 0..record.len() {
        assert!(
            matches!(parse_record(&record[..len]), Err(Error(Case::Truncated { .. }))),
            "{len}"
        );
    }
    let mut flipped = record.to_vec();
    flipped[2] ^= 0x10;
    assert!(matches!(parse_record(&flipped), Err(Error(Case::Checksum { .. }))));
    let mut unknown = Vec::new();
    put_record(&mut unknown, Encoding::Xor, &[1]);
    unknown[1] = 99;
    let crc = crc32c::crc32c(&unknown[1..3]).to_be_bytes();
    unknown[3..].copy_from_slice(&crc);
    let error = parse_record(&unknown).unwrap_err();
    assert_eq!(error.to_string(), "chunk: unknown encoding 99 at offset 1");
    assert!(matches!(parse_record(&[0xff; 20]), Err(Error(Case::Corrupt { .. }))));
    assert!(matches!(
        check_header(b"\x85\xbd\x40\xdd\x02\0\0\0"),
        Err(Error(Case::Unsupported { .. }))
    ));
    assert!(check_header(b"magic???").is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = (check_header(&bytes), parse_record(&bytes), record_len(&bytes));
    }

    #[test]
    fn draining_at_any_time_gives_the_same_bytes(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), any::<bool>()), 0..40),
    ) {
        let (mut at_once, mut bit_by_bit) = (SegmentWriter::with_max_len(120), SegmentWriter::with_max_len(120));
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for (data, drain) in &chunks {
            let expected = at_once.push(Encoding::Xor, data).unwrap();
            prop_assert_eq!(bit_by_bit.push(Encoding::Xor, data).unwrap(), expected);
            if *drain {
                while let Some(SegmentBytes { segment, bytes }) = bit_by_bit.take() {
                    pieces.resize(pieces.len().max(segment as usize + 1), Vec::new());
                    pieces[segment as usize].extend(bytes);
                }
            }
        }
        while let Some(SegmentBytes { segment, bytes }) = bit_by_bit.take() {
            pieces.resize(pieces.len().max(segment as usize + 1), Vec::new());
            pieces[segment as usize].extend(bytes);
        }
        prop_assert_eq!(written(&mut at_once), pieces);
    }
}
