//! Where the body of an HTTP/1 request ends.

#[derive(Debug)]
pub(super) enum BodyEnd {
    /// After so many bytes.
    Length(u64),
    /// In the line with the size of a chunk.
    Size {
        size: u64,
        digits: usize,
        /// What follows the digits is passed over.
        extension: bool,
    },
    /// In a chunk, so many bytes before the line break after it ends.
    Chunk(u64),
    /// Behind the last chunk; whether the current line is empty so far.
    Trailers {
        empty: bool,
    },
    Reached,
}

const SIZE: BodyEnd = BodyEnd::Size { size: 0, digits: 0, extension: false };

impl BodyEnd {
    pub(super) fn after(length: u64) -> BodyEnd {
        if length == 0 { BodyEnd::Reached } else { BodyEnd::Length(length) }
    }

    pub(super) fn chunked() -> BodyEnd {
        SIZE
    }

    pub(super) fn is_reached(&self) -> bool {
        matches!(self, BodyEnd::Reached)
    }

    /// How many of the next bytes belong to the body; `None` where they make no sense.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_reached() {
            taken += self.step(&bytes[taken..])?;
        }
        Some(taken)
    }

    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = *bytes.first()?;
        let passed = |left: u64| left.min(bytes.len() as u64);
        let (next, taken) = match *self {
            BodyEnd::Length(left) => match left - passed(left) {
                0 => (BodyEnd::Reached, passed(left)),
                more => (BodyEnd::Length(more), passed(left)),
            },
            BodyEnd::Chunk(left) => match left - passed(left) {
                0 => (SIZE, passed(left)),
                more => (BodyEnd::Chunk(more), passed(left)),
            },
            BodyEnd::Size { size, digits, extension } => {
                (size_line(first, size, digits, extension)?, 1)
            }
            BodyEnd::Trailers { empty } => match first {
                b'\n' if empty => (BodyEnd::Reached, 1),
                b'\n' => (BodyEnd::Trailers { empty: true }, 1),
                b'\r' => (BodyEnd::Trailers { empty }, 1),
                _ => (BodyEnd::Trailers { empty: false }, 1),
            },
            BodyEnd::Reached => (BodyEnd::Reached, 0),
        };
        *self = next;
        usize::try_from(taken).ok()
    }
}

fn size_line(byte: u8, size: u64, digits: usize, extension: bool) -> Option<BodyEnd> {
    match (byte, char::from(byte).to_digit(16)) {
        (b'\n', _) if digits == 0 => None,
        (b'\n', _) if size == 0 => Some(BodyEnd::Trailers { empty: true }),
        // and its line break
        (b'\n', _) => Some(BodyEnd::Chunk(size.checked_add(2)?)),
        (_, Some(digit)) if !extension => {
            let size = size.checked_mul(16)?.checked_add(u64::from(digit))?;
            Some(BodyEnd::Size { size, digits: digits + 1, extension })
        }
        (b'\r' | b';' | b' ' | b'\t', _) => Some(BodyEnd::Size { size, digits, extension: true }),
        _ if extension => Some(BodyEnd::Size { size, digits, extension }),
        _ => None,
    }
}
