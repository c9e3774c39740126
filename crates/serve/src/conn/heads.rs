//! The heads of HTTP/1 requests before the server behind sees them.
//!
//! The HTTP library takes no target longer than 64 KiB, and refuses some bytes that clients send
//! unescaped, such as the quotes of a selector. So heads are received here first: what stands
//! unescaped is escaped, and a long query is put aside, where the request finds it again. Heads that
//! are too long become a request that is answered with the reason.
//!
//! For this the ends of bodies must be known, too. Where that is in doubt, everything passes
//! unchanged from there on, so that nobody sees other requests than the server does.

mod body;
mod parse;

use std::sync::Arc;

use model::LongQuery;

use super::aside::{Asides, Refusal, SetAside};
use crate::received::{Bodies, HeldBody};
use body::BodyEnd;
use parse::{Framing, Head};

/// The longest target that is answered, as in Go.
const MAX_TARGET: usize = 1 << 20;

/// Targets up to this length stay in their request.
const SHORT_TARGET: usize = 32 << 10;

/// The most bytes of header fields.
const MAX_FIELDS: usize = 256 << 10;

/// A head may take this much before it is charged to the room for bodies, ...
const FREE: usize = 16 << 10;
/// ... in steps of this.
const STEP: usize = 64 << 10;

/// How HTTP/2 begins.
const HTTP2: &[u8] = b"PRI ";

#[derive(Debug)]
pub(super) struct Heads {
    state: State,
    /// What the server may read.
    ready: Vec<u8>,
    read: usize,
    bodies: Bodies,
    asides: Asides,
}

#[derive(Debug)]
enum State {
    Head(Received),
    Body(BodyEnd),
    /// Everything passes.
    Through,
    /// Nothing passes any more.
    Refused,
}

/// As much of a head as has come.
#[derive(Debug, Default)]
struct Received {
    bytes: Vec<u8>,
    /// Up to where it was searched for its end.
    searched: usize,
    /// Whether anything but empty lines has come.
    is_begun: bool,
    /// Where the first line ends.
    first_line: Option<usize>,
    held: Option<Arc<HeldBody>>,
}

impl Heads {
    pub(super) fn new(bodies: Bodies, asides: Asides) -> Heads {
        let state = State::Head(Received::default());
        Heads { state, ready: Vec::new(), read: 0, bodies, asides }
    }

    /// What the server may read now.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready[self.read..]
    }

    /// The server has read so many bytes.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.read += bytes;
        if self.read == self.ready.len() {
            (self.ready, self.read) = (Vec::new(), 0);
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// The peer sends no more: what it began is for the server to judge.
    pub(super) fn end(&mut self) {
        if let State::Head(received) = &mut self.state {
            self.ready.append(&mut received.bytes);
            self.state = State::Through;
        }
    }

    /// Bytes of the peer.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.state {
                State::Through => {
                    self.ready.extend_from_slice(bytes);
                    return;
                }
                State::Refused => return,
                State::Body(end) => match end.take(bytes) {
                    Some(taken) => {
                        let (body, rest) = bytes.split_at(taken);
                        self.ready.extend_from_slice(body);
                        if end.is_reached() {
                            self.state = State::Head(Received::default());
                        }
                        rest
                    }
                    None => {
                        self.state = State::Through;
                        bytes
                    }
                },
                State::Head(_) => self.receive_head(bytes),
            };
        }
    }

    /// Returns what follows the head, or nothing.
    fn receive_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let State::Head(received) = &mut self.state else { return bytes };
        let Some(end) = received.end(bytes) else {
            let kept = received.keep(bytes, &self.bodies);
            let bytes = &received.bytes;
            if HTTP2.starts_with(&bytes[..bytes.len().min(HTTP2.len())])
                && bytes.len() >= HTTP2.len()
            {
                self.end();
            } else {
                let first_line = received.first_line;
                let checked = kept.and_then(|()| parse::check_length(bytes.len(), first_line));
                if let Err(refusal) = checked {
                    self.refuse(refusal);
                }
            }
            return &[];
        };
        let (head, rest) = bytes.split_at(end);
        if let Err(refusal) = received.keep(head, &self.bodies) {
            self.refuse(refusal);
            return &[];
        }
        let received = std::mem::take(received);
        self.pass(received);
        rest
    }

    fn refuse(&mut self, refusal: Refusal) {
        let id = self.asides.put(SetAside::Refused(refusal));
        self.ready.extend(parse::refused_request(id));
        self.state = State::Refused;
    }

    /// Hands a whole head on.
    fn pass(&mut self, received: Received) {
        let Received { bytes, held, .. } = received;
        let Some(head) = Head::parse(&bytes) else {
            self.ready.extend(&bytes);
            self.state = State::Through;
            return;
        };
        if let Err(refusal) = head.check() {
            return self.refuse(refusal);
        }
        let target = head.escaped_target();
        let (target, aside) = match target.iter().position(|byte| *byte == b'?') {
            Some(at) if target.len() > SHORT_TARGET && at <= SHORT_TARGET => {
                // what was escaped is longer than what was charged
                if let Some(held) = &held {
                    let grown = target.len().saturating_sub(bytes.len()) as u64;
                    if let Err(reason) = self.bodies.grow(held, grown) {
                        return self.refuse(Refusal::of(reason));
                    }
                }
                let query = LongQuery::new(&target[at + 1..]);
                (&target[..at], Some(self.asides.put(SetAside::Query(query, held))))
            }
            _ if target.len() > SHORT_TARGET => return self.refuse(parse::too_long()),
            _ => (&*target, None),
        };
        head.write(target, aside, &mut self.ready);
        self.state = match head.framing() {
            Framing::None => State::Head(Received::default()),
            Framing::Length(length) => State::Body(BodyEnd::after(length)),
            Framing::Chunked => State::Body(BodyEnd::chunked()),
            Framing::Unclear => State::Through,
        };
        if matches!(&self.state, State::Body(end) if end.is_reached()) {
            self.state = State::Head(Received::default());
        }
    }
}

impl Received {
    /// How many of the next bytes belong to the head, if its end is among them.
    fn end(&mut self, next: &[u8]) -> Option<usize> {
        let before = self.bytes.len();
        let byte = |at: usize| {
            if at < before { self.bytes[at] } else { next[at - before] }
        };
        for at in self.searched..before + next.len() {
            self.is_begun |= !matches!(byte(at), b'\r' | b'\n');
            let line_ends = byte(at) == b'\n';
            self.first_line = self.first_line.or(line_ends.then_some(at));
            let after_line = (at > 0 && byte(at - 1) == b'\n')
                || (at > 1 && byte(at - 1) == b'\r' && byte(at - 2) == b'\n');
            // an empty line, however it is ended; those before the request line do not count
            if line_ends && after_line && self.is_begun {
                return Some(at + 1 - before);
            }
        }
        self.searched = before + next.len();
        None
    }

    /// Keeps bytes that are charged once they are many.
    fn keep(&mut self, bytes: &[u8], bodies: &Bodies) -> Result<(), Refusal> {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity().max(FREE) {
            let held = self.held.get_or_insert_with(|| bodies.hold());
            let capacity = needed.next_multiple_of(STEP);
            bodies.grow(held, (capacity - self.bytes.capacity()) as u64).map_err(Refusal::of)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
