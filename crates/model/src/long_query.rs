//! The query of a URL that is longer than the types of HTTP libraries can hold.

use std::fmt;
use std::sync::Arc;

/// Travels with its request, beside a URL without a query.
#[derive(Clone)]
pub struct LongQuery(Arc<[u8]>);

impl LongQuery {
    /// What follows the question mark, as it was sent.
    pub fn new(query: impl Into<Arc<[u8]>>) -> LongQuery {
        LongQuery(query.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for LongQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongQuery({} bytes)", self.0.len())
    }
}
