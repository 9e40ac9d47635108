//! `ctx.continue_as_new`: a durable function that begins again with another input.

use serde::Serialize;
use stepfleet_shared::codec;

use super::checkpoint::Interrupt;
use super::{Context, Core};
use crate::error::{Error, Outcome};

impl<S> Context<S> {
    /// Makes the function begin again with this input, as its run's next step execution: what was recorded is
    /// dropped, and the state stays. The run keeps its id, and its result is that of the last round. Use it for
    /// bodies that run for ever, such as a subscription: a body that loops records more and more calls, and every
    /// attempt loads all of them.
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
    /// It does not return: nothing of the body runs after it, and active calls are dropped. Writes to the state
    /// commit with it. The function's retries and its timeout begin again; the run's timeout goes on. Nothing is
    /// copied between runs, so a run may do this up to a million times.
    ///
    /// Fails with a terminal error if the input cannot be serialized or is over 1 MiB, and in a step of an
    /// event-driven workflow: such a step returns an event that it takes itself.
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
