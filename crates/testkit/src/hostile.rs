//! What hostile blocks, peers and callers do, as lists: a name, what it does, what must hold. Each component runs the
//! lists of its seams; whoever adds a parameter or a message adds a row.

mod blocks;
mod requests;
mod stores;

pub use blocks::{BLOCKS, BlockHolds, HostileBlock};
pub use requests::{CALLS, FORMS, HostileCall, HostileForm};
pub use stores::{HONEST, HostileStore, MustHold, STORES};
