//! Compression of gRPC messages with snappy, which queriers of Thanos may use, and gzip: on bodies,
//! because tonic has no snappy, and unpacks gzip without asking for the memory.
//!
//! A message on the wire is a byte that says whether it is compressed, its length in four bytes,
//! and its content. Snappy is framed, as in Go's `snappy.NewBufferedWriter`.

mod body;

use std::io::{Read, Write};

use http::HeaderValue;
use tonic::Status;

pub use body::{Packed, Unpacked};

/// The header that says how the messages of a body are compressed.
pub const ENCODING: &str = "grpc-encoding";
/// The header that says what the other side can unpack.
pub const ACCEPTED: &str = "grpc-accept-encoding";
/// What can be unpacked here.
pub(crate) const ALL: HeaderValue = HeaderValue::from_static("identity,snappy,gzip");

/// What is in front of a message.
const PREFIX: usize = 5;

/// How much is unpacked at a time.
const PIECE: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Snappy,
    Gzip,
}

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Compression::Snappy => "snappy",
            Compression::Gzip => "gzip",
        }
    }

    /// What the header [`ENCODING`] names, if it is known here.
    pub fn named(value: &HeaderValue) -> Option<Compression> {
        [Compression::Snappy, Compression::Gzip].into_iter().find(|known| known.name() == value)
    }

    /// Whether it is in a header [`ACCEPTED`].
    pub fn is_in(self, accepted: &HeaderValue) -> bool {
        let Ok(names) = accepted.to_str() else { return false };
        names.split(',').any(|name| name.trim() == self.name())
    }

    fn pack(self, content: &[u8], into: &mut Vec<u8>) -> std::io::Result<()> {
        match self {
            Compression::Snappy => {
                let mut writer = snap::write::FrameEncoder::new(into);
                writer.write_all(content)?;
                writer.flush()
            }
            Compression::Gzip => {
                let fast = flate2::Compression::fast();
                let mut writer = flate2::write::GzEncoder::new(into, fast);
                writer.write_all(content)?;
                writer.try_finish()
            }
        }
    }

    /// Appends what was packed, as far as `room` allows.
    fn unpack(self, packed: &[u8], into: &mut Vec<u8>, room: &mut impl Room) -> Result<(), Status> {
        let mut reader: Box<dyn Read + '_> = match self {
            Compression::Snappy => Box::new(snap::read::FrameDecoder::new(packed)),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        };
        let mut piece = [0; PIECE];
        loop {
            let read = reader.read(&mut piece).map_err(|error| {
                let name = self.name();
                Status::internal(format!("a message is not the {name} that it says it is: {error}"))
            })?;
            if read == 0 {
                return Ok(());
            }
            if into.capacity() - into.len() < read {
                let more = into.capacity().max(read);
                room.take(into.len() + read, more)?;
                into.reserve_exact(more);
            }
            room.check(into.len() + read)?;
            into.extend_from_slice(&piece[..read]);
        }
    }
}

/// What may be unpacked.
pub trait Room {
    /// The longest message.
    fn limit(&self) -> usize;

    /// Asks for memory before it is allocated.
    ///
    /// # Errors
    /// What the other side is told when there is none.
    fn charge(&mut self, bytes: usize) -> Result<(), Status>;

    /// # Errors
    /// For a message that is longer than it may be.
    fn check(&self, with_prefix: usize) -> Result<(), Status> {
        let (bytes, limit) = (with_prefix.saturating_sub(PREFIX), self.limit());
        if bytes <= limit {
            return Ok(());
        }
        Err(Status::resource_exhausted(format!(
            "a compressed message holds more than {limit} bytes, which is the most one may hold"
        )))
    }

    /// Asks for `more` bytes, for a message that is to be so long.
    ///
    /// # Errors
    /// Those of the other two.
    fn take(&mut self, with_prefix: usize, more: usize) -> Result<(), Status> {
        self.check(with_prefix)?;
        self.charge(more)
    }
}

/// Room for messages up to this many bytes, where nothing else is to be asked.
#[derive(Clone, Copy, Debug)]
pub struct UpTo(pub usize);

impl Room for UpTo {
    fn limit(&self) -> usize {
        self.0
    }

    fn charge(&mut self, _: usize) -> Result<(), Status> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
