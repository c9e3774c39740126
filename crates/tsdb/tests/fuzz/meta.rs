use tsdb::Error;
use tsdb::meta::BlockMeta;

use super::meter;

/// What is read comes back when it is written again.
pub(crate) fn meta(bytes: &[u8]) -> Result<(), Error> {
    // a list of empty values takes two bytes for each
    let most = 4096 + 400 * bytes.len();
    let read = meter::within(most, || BlockMeta::from_json(bytes));
    let meta = match read {
        Ok(meta) => meta,
        Err(error) => {
            assert_eq!(BlockMeta::from_json(bytes), Err(error.clone()));
            return Err(error);
        }
    };
    let written = meta.to_json();
    let again = BlockMeta::from_json(&written).expect("what was written is read");
    assert_eq!(again, meta);
    assert_eq!(again.to_json(), written);
    assert!(!meta.sources().is_empty());
    let _ = (meta.range(), meta.resolution(), meta.external_labels(), meta.source().len());
    if let Some(thanos) = &meta.thanos {
        let _ = thanos.upload_time_ms();
    }
    Ok(())
}
