//! `ctx.continue_as_new`: a durable function that begins anew, with another input.

use serde::Serialize;
use stepfleet_shared::codec;

use super::checkpoint::Interrupt;
use super::{Context, Core};
use crate::error::{Error, Outcome};

impl<S> Context<S> {
    /// Has the function begin anew with this input, as its run's next step execution: what was recorded is let go, and the state
    /// stays. The run has the same id, and its result is that of the last one. For bodies that go on for ever, such as a subscription: a
    /// body that loops records its calls without end, and is given all of them at each attempt.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepfleet::prelude::*;
    /// #[durable]
    /// async fn subscription(ctx: &Context, month: u32) -> Outcome<String> {
    ///     ctx.step("charge", || async { Ok(()) }).retries(5).await?;
    ///     ctx.sleep(Duration::from_secs(30 * 86_400)).await?;
    ///     if month == 12 {
    ///         return Ok("a year is over".into());
    ///     }
    ///     ctx.continue_as_new(&(month + 1)).await
    /// }
    /// # fn main() { let _ = subscription::workflow(); }
    /// ```
    ///
    /// It does not return: nothing of the body runs after it, and calls that are under way are dropped. What was written to the state
    /// is committed with it. The function's retries and its time limit, where it has one, begin anew; the run's timeout goes on. Nothing is copied between runs, so a
    /// run may do so up to a million times.
    ///
    /// Fails with a terminal error where the input cannot be written or is over 1 MiB, and in a step of an event-driven workflow: a step
    /// returns an event there that it takes itself.
    pub async fn continue_as_new<I, T>(&self, input: &I) -> Outcome<T>
    where
        I: Serialize + Sync + ?Sized,
    {
        let payload = codec::encode("the input", input)?;
        self.core.begin_anew(payload)?;
        std::future::pending().await
    }
}

impl Core {
    fn begin_anew(&self, payload: Vec<u8>) -> Outcome<()> {
        if !self.saves_state {
            return Err(Error::terminal(
                "only a durable function can continue as new; let the step return an event that it takes itself",
            ));
        }
        self.interrupt(Interrupt::Again(payload));
        Ok(())
    }
}
