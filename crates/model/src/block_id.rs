//! The ULID that names a block.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

/// A block's ULID: 48 bits of time in milliseconds, 80 bits of entropy; prints as 26 characters of
/// Crockford base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Ulid);

impl BlockId {
    /// `time_ms` is cut to 48 bits, `entropy` to 80.
    pub fn from_parts(time_ms: u64, entropy: u128) -> BlockId {
        BlockId(Ulid::from_parts(time_ms, entropy))
    }

    pub fn time_ms(self) -> u64 {
        self.0.timestamp_ms()
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BlockId {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<BlockId, ulid::DecodeError> {
        Ulid::from_string(text).map(BlockId)
    }
}

impl Serialize for BlockId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BlockId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|e| serde::de::Error::custom(format!("block id {text:?}: {e}")))
    }
}
