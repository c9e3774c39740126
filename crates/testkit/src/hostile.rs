//! What hostile blocks, peers and callers do, as lists: a name, what it does, and what must hold all
//! the same. Each component runs the lists of its seams; whoever adds a parameter or a message, or
//! something else that may come from outside, adds a row.

mod blocks;
mod clients;
mod objects;
mod prometheus;
mod requests;
mod servers;
mod stores;

pub use blocks::{BLOCKS, BlockHolds, HostileBlock};
pub use clients::{AskedServer, HostileClient, Port, TEST_SERVER, clients};
pub use objects::{AskedObject, HostileObject, objects};
pub use prometheus::{AskedPrometheus, HostilePrometheus, prometheus};
pub use requests::{CALLS, FORMS, HostileCall, HostileForm};
pub use servers::{Body, HostileAnswer, HostileServer};
pub use stores::{HONEST, HostileStore, MustHold, STORES, TALKATIVE};
