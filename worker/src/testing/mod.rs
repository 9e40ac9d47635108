//! Run a workflow in a unit test: without Redis, without waiting, with workers that die when the test says so.
//!
//! [`run`] takes a workflow with the test's resources. What happens next is what happens on a fleet: your steps run
//! on several workers in turn, and every transition is made, on a memory store. Only the waiting is left out: when
//! nothing is left to do but wait, for a retry or a deadline, the clock jumps ahead. One task does it all, in the
//! same order each time.
//!
//! ```
//! use stepfleet::prelude::*;
//! use stepfleet::testing;
//!
//! #[event]
//! struct Asked { words: Vec<String> }
//! #[event]
//! struct Word { text: String }
//! #[event]
//! struct Counted { letters: usize }
//! #[event]
//! struct Answered { letters: usize }
//!
//! struct Letters;
//!
//! #[workflow(start = Asked, stop = Answered)]
//! impl Letters {
//!     #[step]
//!     async fn split(&self, ev: Asked) -> Outcome<Vec<Word>> {
//!         Ok(ev.words.into_iter().map(|text| Word { text }).collect())
//!     }
//!     #[step(retries = 2)]
//!     async fn count(&self, ctx: &Context, ev: Word) -> Outcome<Counted> {
//!         if ev.text == "stubborn" && ctx.failures() == 0 {
//!             return Err(Error::msg("not today"));
//!         }
//!         Ok(Counted { letters: ev.text.chars().count() })
//!     }
//!     #[step]
//!     async fn total(&self, all: Joined<Counted>) -> Outcome<Answered> {
//!         Ok(Answered { letters: all.iter().map(|c| c.letters).sum() })
//!     }
//! }
//!
//! # /*
//! #[tokio::test]
//! # */
//! # #[tokio::main(flavor = "current_thread")]
//! async fn letters_are_counted_although_a_worker_dies() {
//!     let asked = Asked { words: vec!["three".into(), "stubborn".into(), "words".into()] };
//!
//!     let run = testing::run(Letters)
//!         .workers(3)
//!         .crash_before_commit("count", 1) // the first worker that is about to commit a `count` dies
//!         .start(&asked)
//!         .await;
//!
//!     let answer: Answered = run.result();
//!     assert_eq!(answer.letters, 18);
//!     run.history().assert_steps(["split", "count", "count", "count", "total"]);
//!     assert_eq!(run.step("count").attempts(), 5); // three words, one crash, one retry
//!     assert_eq!(run.step("count").retries()[0].error, "not today");
//!     assert!(run.time_skipped().as_secs() < 2); // the retry's delay, which nobody waited for
//! }
//!
//! # /*
//! #[tokio::test]
//! # */
//! # #[tokio::main(flavor = "current_thread")]
//! async fn letters_are_counted_wherever_a_worker_dies() {
//!     let asked = Asked { words: vec!["three".into(), "words".into()] };
//!     testing::survives_every_crash(|| testing::run(Letters), &asked).await;
//! }
//! # fn main() {
//! #     letters_are_counted_although_a_worker_dies();
//! #     letters_are_counted_wherever_a_worker_dies();
//! # }
//! ```
//!
//! # Commits and crashes
//!
//! A commit is what a step writes at its end, successful or not, and also each checkpoint on the way and each time
//! that it stops to wait. A worker that dies *before* a commit has done the work and leaves nothing of it: the step
//! runs again, on another worker, as its next attempt. A worker that dies *after* a commit leaves all of it, but has
//! never seen the reply. [`Setup::crash_before_commit`] and [`Setup::crash_after_commit`] do this at one commit,
//! [`survives_every_crash`] at each in turn.
//!
//! # Time
//!
//! The store's clock stands still while steps run, and jumps to what is due next when nothing is queued:
//! [`TestRun::time_skipped`]. A step's own `tokio::time::sleep` and `timeout = ".."` use tokio's clock: in a test
//! with `#[tokio::test(start_paused = true)]` (tokio's feature `test-util`) they do not wait either.
//!
//! # What it does not show
//!
//! One attempt executes at a time. Test overlapping attempts, such as one whose worker only seemed dead, on a real
//! fleet; they can commit nothing, but their side effects happen.

mod crash;
mod driver;
mod every_crash;
mod history;
mod replay;
mod report;
mod requests;
mod setup;
#[cfg(test)]
mod tests;

pub use self::every_crash::{call_survives_every_crash, survives_every_crash};
pub use self::history::History;
pub use self::replay::{Replay, replay};
pub use self::report::{Retried, StepReport, TestRun};
pub use self::setup::{Setup, run};
pub use stepfleet_shared::history::{Kind, Record};
pub use stepfleet_shared::run::{Run, Status};
