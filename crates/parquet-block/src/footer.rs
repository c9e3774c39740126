//! What footers say that is asked of files of every kind.

use parquet::file::metadata::ParquetMetaData;

/// The key under which every file names its format.
pub(crate) const FORMAT_KEY: &str = "drumlin.format";

/// A value of the key-value metadata.
pub(crate) fn value_of<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    pairs.filter(|pair| pair.key == key).find_map(|pair| pair.value.as_deref())
}

/// Checks that a file has no more than `most` rows, and as many as its row groups together.
///
/// # Errors
/// The rows that the footer claims.
pub(crate) fn rows_up_to(metadata: &ParquetMetaData, most: i64) -> Result<(), i64> {
    let rows = metadata.file_metadata().num_rows();
    let in_groups = metadata.row_groups().iter().try_fold(0i64, |sum, group| {
        let rows = group.num_rows();
        (rows >= 0).then(|| sum.checked_add(rows)).flatten()
    });
    if in_groups == Some(rows) && rows <= most { Ok(()) } else { Err(rows) }
}
