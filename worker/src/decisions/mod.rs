//! What a worker decides: which steps take an event, what a commit contains, whether a failed attempt is retried and
//! who catches it, how a body changes the context. All of it is data and pure functions: nothing here waits, reads a
//! clock or knows Redis.

pub mod graph;
pub(crate) mod overlay;
pub(crate) mod pieces;
pub(crate) mod plan;
pub(crate) mod recovery;
pub(crate) mod renewal;
pub mod retry;
pub(crate) mod stopping;
