//! The replay machine: what the body of a step execution has recorded, what its next call means, and in which order it
//! receives results.
//!
//! It is synchronous and does nothing itself: no task, no clock, no Redis, no user types. Its driver tells it which
//! calls the body makes and how they end; it returns what is known about a call, what to record, what the body waits
//! for, and which result it receives next. Each call has a number, counted when it is made. A replay gets the earlier
//! result of each number, in the same order, and so takes the same path: what was recorded, what was waited for, and
//! what the body had dropped.
//!
//! `machine` is its state and what is recorded; `calls` says what the journal has of a call; `waits` is what the body waits for;
//! `order` is the order of the results; `fault` is what can be wrong with a body, by number.

mod calls;
mod fault;
mod machine;
mod order;
#[cfg(test)]
mod tests;
mod waits;

pub(crate) use self::calls::{Collected, Marked, Recorded, Waited};
pub(crate) use self::machine::{Along, Before, Machine, remarked};
pub(crate) use self::waits::Idle;
