//! What the fuzz target of this crate checks, of whatever bytes.
//!
//! The program in `fuzz/fuzz_targets` calls it, and `fuzz_replay.rs` does on stable Rust.

use block::Error;
use block::catalog::Catalog;

/// Reads the bytes as they are, and as the text of a catalog, without which hardly any change would
/// get beyond the checksum of the packed text. What is read comes back when it is written.
pub(crate) fn catalog(bytes: &[u8]) -> Result<(), Error> {
    // whatever it says, it must not end the process
    let _ = Catalog::decode(bytes, None);
    let packed = zstd::encode_all(bytes, 1).expect("memory is all it takes");
    let catalog = Catalog::decode(&packed, None)?;
    let written = catalog.encode().expect("no more than was read");
    let again = Catalog::decode(&written.bytes, Some(&written.hash));
    let again = again.expect("what was written is read");
    assert_eq!(again, catalog);
    assert_eq!(again.encode().expect("no more than was read").hash, written.hash);
    Ok(())
}
