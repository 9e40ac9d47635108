//! `ctx.task`: work that any worker of the fleet may do, with its own policy.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, RunWorkflow};
use crate::error::Outcome;
use crate::workflow::Function;

/// The field of a task's state that says how far it has come.
const PROGRESS: &str = "progress";

impl<S> Context<S> {
    /// Hands work to any worker that serves it, and waits for its result: a function with `#[task]`, or another
    /// durable function, named by its type.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// #[task(retries = 5, timeout = "10m")]
    /// async fn print_label(ctx: &Context, address: String) -> Outcome<u64> {
    ///     Ok(address.len() as u64)
    /// }
    ///
    /// # async fn body(ctx: &Context, address: String) -> Outcome<()> {
    /// let label = ctx.task::<print_label>(&address).await?;
    /// # Ok(()) }
    /// # fn main() { let _ = print_label::workflow(); }
    /// ```
    ///
    /// It is a child run: see [`Context::run_workflow`]. The task has its own retries and its own timeout, holds a
    /// slot of the worker that executes it and none of this one, and its error becomes an error here once it is given
    /// up. The work of [`Context::step`] runs in this worker and takes one round trip; a task takes about ten times
    /// that. Make a task of work that needs other workers than the function that calls it (a GPU, a network, a
    /// licence), or that should spread over the fleet.
    pub fn task<F>(&self, input: &F::Input) -> RunWorkflow<'_, F::Output>
    where
        F: Function<Input: Serialize, Output: DeserializeOwned>,
    {
        self.run_workflow(F::NAME, input)
    }

    /// Records the progress of a task, or of any other body: committed at once, as the field `progress` of the run's
    /// state, where people see it (`stepfleet show`). The next attempt reads it with [`Context::progress`].
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn encode(frame: u64) -> Outcome<()> { Ok(()) }
    /// #[task(retries = 10)]
    /// async fn encode_film(ctx: &Context, frames: u64) -> Outcome<u64> {
    ///     let begun = ctx.progress::<u64>().await?.unwrap_or(0);
    ///     for frame in begun..frames {
    ///         encode(frame).await?;
    ///         ctx.heartbeat(&(frame + 1)).await?;
    ///     }
    ///     Ok(frames)
    /// }
    /// # fn main() { let _ = encode_film::workflow(); }
    /// ```
    ///
    /// It does not prove that the worker is alive: the worker's lease does that. Takes one round trip, and is
    /// otherwise a [`Context::checkpoint`]: after a recorded call of the body it is a recorded call itself.
    pub async fn heartbeat<P: Serialize + Sync + ?Sized>(&self, progress: &P) -> Outcome<()> {
        self.state().set(PROGRESS, progress).await?;
        self.checkpoint().await
    }

    /// The progress that the last [`Context::heartbeat`] recorded, in any attempt; None before the first.
    pub async fn progress<P: DeserializeOwned>(&self) -> Outcome<Option<P>> {
        self.state().get(PROGRESS).await
    }
}
