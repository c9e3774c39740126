//! How blocks that this program wrote are told from those of others: a statement in
//! `thanos.extensions`, which Thanos keeps and does not read.

use serde_json::{Map, Value, json};

use super::BlockMeta;

/// The key in `thanos.extensions`. Its value names the block.
const EXTENSION: &str = "drumlin";

impl BlockMeta {
    /// States that this program wrote the block. Without a section `thanos`, or where extensions
    /// are no map, nothing is stated.
    pub fn sign(&mut self) {
        let id = self.ulid;
        let Some(thanos) = &mut self.thanos else { return };
        let extensions = thanos.extensions.get_or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(map) = extensions {
            map.insert(EXTENSION.to_owned(), json!({ "block": id }));
        }
    }

    /// Whether the block states that this program wrote it. Thanos' compactor copies extensions
    /// into what it makes, so a statement about another block is none about this one.
    pub fn is_signed(&self) -> bool {
        let extensions = self.thanos.as_ref().and_then(|thanos| thanos.extensions.as_ref());
        let named = extensions.and_then(|map| map.get(EXTENSION)?.get("block")?.as_str());
        named.is_some_and(|named| named == self.ulid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use model::BlockId;

    use super::*;

    fn meta(thanos: &str) -> BlockMeta {
        let id = BlockId::from_parts(7, 7);
        let text = format!(r#"{{"ulid":"{id}","minTime":0,"maxTime":1,"version":1{thanos}}}"#);
        BlockMeta::from_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_statement_is_read_back_and_leaves_others_alone() {
        let mut meta = meta(r#","thanos":{"labels":{},"extensions":{"other":1}}"#);
        assert!(!meta.is_signed());
        meta.sign();
        let read = BlockMeta::from_json(&meta.to_json()).unwrap();
        assert!(read.is_signed());
        assert_eq!(read.thanos.unwrap().extensions.unwrap()["other"], 1);
    }

    #[test]
    fn a_statement_that_was_copied_from_another_block_is_none() {
        let mut copied = meta(r#","thanos":{"labels":{}}"#);
        copied.sign();
        copied.ulid = BlockId::from_parts(8, 8);
        assert!(!copied.is_signed());
    }

    #[test]
    fn what_has_no_place_for_it_stays_unsigned() {
        for thanos in ["", r#","thanos":{"labels":{},"extensions":1.5}"#] {
            let mut meta = meta(thanos);
            let before = meta.to_json();
            meta.sign();
            assert!(!meta.is_signed() && meta.to_json() == before, "{thanos}");
        }
    }
}
