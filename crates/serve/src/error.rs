//! What can go wrong while starting to serve.

use model::layered_error;

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting is wrong.
    Invalid,
    /// An address, file or signal is not available now.
    Unavailable,
    /// A defect of ours.
    Internal,
}

pub type Result<T> = std::result::Result<T, Error>;

layered_error! {
    /// Names the address, file or metric and what was attempted.
    pub struct Error(Kind);
}
