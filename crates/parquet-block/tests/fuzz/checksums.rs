use parquet_block::checksums::{Checksums, FileChecksums, InvalidChecksums};

use super::meter;

/// Checksums of a block, as they are and with their own checksum put right. What is read says where
/// its ranges are, and is the same bytes when it is written again.
pub(crate) fn checksums(bytes: &[u8]) -> Result<(), InvalidChecksums> {
    let _ = read(bytes);
    read(&sealed(bytes))
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let Some((content, _)) = bytes.split_last_chunk::<4>() else { return bytes.to_vec() };
    [content, &crc32c::crc32c(content).to_le_bytes()].concat()
}

fn read(bytes: &[u8]) -> Result<(), InvalidChecksums> {
    // a file may take five bytes and a range as many
    let most = 1024 + 20 * bytes.len();
    let checksums = meter::within(most, || Checksums::decode(bytes))?;
    assert!(checksums.memory_size() <= most);
    assert_eq!(checksums.encode(), bytes);
    assert_eq!(Checksums::new(checksums.files().to_vec()), Ok(checksums.clone()));
    checksums.files().iter().for_each(check);
    Ok(())
}

fn check(file: &FileChecksums) {
    let mut end = 0;
    for (range, _) in file.ranges() {
        assert_eq!(range.start, end, "no gaps");
        assert_eq!(file.covering(range.start..range.start + 1), Some(range.clone()));
        assert_eq!(file.covering(range.end - 1..range.end), Some(range.clone()));
        end = range.end;
    }
    assert_eq!(end, file.size());
    assert!(file.footer_start() <= end);
    assert_eq!(file.covering(0..end), Some(0..end));
    assert_eq!(file.covering(0..end + 1), None);
}
