//! What a worker decides: which steps take an event, what a commit leaves behind, whether a failed attempt is tried again and who
//! catches it, what a body makes of the context. All of it is data and pure functions: nothing here waits, reads a clock or knows
//! of Redis.

pub mod graph;
pub(crate) mod overlay;
pub(crate) mod pieces;
pub(crate) mod plan;
pub(crate) mod recovery;
pub(crate) mod renewal;
pub mod retry;
pub(crate) mod stopping;
