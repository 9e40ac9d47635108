//! `ctx.task`: work that any worker of the fleet does, with a policy of its own.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, RunWorkflow};
use crate::error::Outcome;
use crate::workflow::Function;

/// The field of a task's state that says how far it has come.
const PROGRESS: &str = "progress";

impl<S> Context<S> {
    /// Hands work to whichever worker serves it, and waits for what it gives: a function with `#[task]`, or another durable function,
    /// by the name that it has.
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
    /// It is a child run, with all that [`Context::run_workflow`] says of these: the task has its own retries and its own time limit,
    /// holds a slot of the worker that executes it and none of this one, and its error is one here once it is given up on. What
    /// [`Context::step`] does runs in this worker and takes one round trip; a task takes some ten times that. Make a task of what needs
    /// other workers than the function that calls it (a GPU, a network, a licence), or is to be spread over the fleet.
    pub fn task<F>(&self, input: &F::Input) -> RunWorkflow<'_, F::Output>
    where
        F: Function<Input: Serialize, Output: DeserializeOwned>,
    {
        self.run_workflow(F::NAME, input)
    }

    /// Tells how far a task has come, or any other body: committed at once, as the field `progress` of the run's state, where
    /// people see it (`stepfleet show`). The next attempt finds it with [`Context::progress`].
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
    /// It says nothing of whether its worker is alive: that is what the worker's lease is for. Takes one round trip, and is a
    /// [`Context::checkpoint`] in all else: after a recorded call of the body it is one itself.
    pub async fn heartbeat<P: Serialize + Sync + ?Sized>(&self, progress: &P) -> Outcome<()> {
        self.state().set(PROGRESS, progress).await?;
        self.checkpoint().await
    }

    /// What the last [`Context::heartbeat`] told, by whichever attempt; None before the first.
    pub async fn progress<P: DeserializeOwned>(&self) -> Outcome<Option<P>> {
        self.state().get(PROGRESS).await
    }
}
