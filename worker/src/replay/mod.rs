//! The replay machine: what the body of a step execution has recorded, what its next call means, and in which order it is given
//! what its calls came to.
//!
//! It is synchronous and does nothing itself: no task, no clock, no Redis, no type of a user's. Whoever drives it tells it which
//! calls the body makes and what came of them; it answers what is known of a call, what is to be recorded, what the body waits for,
//! and which call it is given next. Each call has the number of its place in the body, counted when it is made. A replay is told what
//! each number came to before, in the same order, and so takes the same way: what was recorded, what was waited for, and what the body
//! had let go of.
//!
//! `machine` is its state and what is recorded; `calls` says what the journal has of a call; `waits` is what the body waits for;
//! `order` is the order of what it is given; `fault` is what can be wrong with a body, by number.

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
