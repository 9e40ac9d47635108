//! `ctx.compensate`: undoes the effects of a run that does not complete.

use std::fmt;
use std::pin::Pin;
use std::task::{Poll, Waker, ready};

use serde::Serialize;
use stepfleet_shared::names;

use super::Context;
use super::child::{Requested, ask, requested};
use super::step::Place;
use crate::error::Outcome;
use crate::replay::Waited;
use crate::workflow::Function;

impl<S> Context<S> {
    /// Registers a task that undoes an effect of this run: a function with `#[task]` (or another durable function),
    /// and its input. If the run fails, is cancelled or exceeds its timeout, its compensations run in reverse order
    /// of registration, each when the one before it has completed. If the run completes, none of them runs.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # struct Shop;
    /// # impl Shop {
    /// #     async fn reserve(&self, key: &str) -> Outcome<()> { Ok(()) }
    /// #     async fn release(&self, key: &str) -> Outcome<()> { Ok(()) }
    /// # }
    /// #[task(retries = 10)]
    /// async fn release(ctx: &Context, shop: &Shop, reservation: String) -> Outcome<()> {
    ///     shop.release(&reservation).await                // and nothing, where nothing was reserved
    /// }
    ///
    /// #[durable]
    /// async fn fulfil(ctx: &Context, shop: &Shop, order: u64) -> Outcome<()> {
    ///     let reservation = ctx.uuid().await?;
    ///     ctx.compensate::<release>(&reservation).await?;
    ///     ctx.step("reserve", || shop.reserve(&reservation)).retries(5).await?;
    ///     // ...
    ///     Ok(())
    /// }
    /// # fn main() { let _ = (fulfil::with(Shop), release::with(Shop)); }
    /// ```
    ///
    /// Register before you act, under a key that you have chosen, and let the task do nothing if nothing was done:
    /// then no crash in between leaves an effect behind.
    ///
    /// The compensations are in Redis, not in the body. They run however the run has ended, even if its code has
    /// changed or its step has killed its workers. Each is a run of its own, a child of this one, with the retries of
    /// its task. The field `compensation` of this run (`stepfleet show`) is `running`, `done`, or `failed` if one has
    /// failed for good. In that case, a retry of this run or of the failed compensation continues them. A run whose
    /// compensations have begun cannot be retried from its failed step: fork it, or start it again.
    ///
    /// It is a recorded call: made once, in one round trip. Fails with a terminal error if the input cannot be
    /// serialized or is over 1 MiB, and if the body makes other calls than an earlier attempt.
    pub fn compensate<F>(&self, input: &F::Input) -> Compensate<'_>
    where
        F: Function<Input: Serialize>,
    {
        self.keep(F::NAME, input, false)
    }

    /// Registers a task that runs when the run ends, however it ends: to release a lock, to delete temporary data.
    /// Otherwise it is like [`Context::compensate`]; when a run does not complete, compensations and clean-ups run in
    /// one sequence, the last one first.
    pub fn cleanup<F>(&self, input: &F::Input) -> Compensate<'_>
    where
        F: Function<Input: Serialize>,
    {
        self.keep(F::NAME, input, true)
    }

    fn keep<I: Serialize + ?Sized>(&self, workflow: &str, input: &I, always: bool) -> Compensate<'_> {
        let core = &*self.core;
        let number = core.journal().next();
        let name = names::undo(core.reach.seq, number, workflow, always);
        Compensate { place: Place::new(core, number, name), asked: Some(requested(workflow, input)) }
    }
}

/// A compensation that is being registered: see [`Context::compensate`].
#[must_use = "nothing is registered unless it is awaited"]
pub struct Compensate<'a> {
    place: Place<'a>,
    /// Until it has failed.
    asked: Option<Requested>,
}

impl Compensate<'_> {
    fn look(&mut self, waker: &Waker) -> Poll<Outcome<()>> {
        let mut journal = self.place.core.journal();
        match journal.waited(self.place.number, &self.place.name) {
            Err(changed) => Poll::Ready(Err(changed)),
            Ok(Waited::Signal(_)) => Poll::Ready(Ok(())),
            // It has no deadline.
            Ok(Waited::Never | Waited::Overdue) => Poll::Pending,
            Ok(Waited::New) => ask(&self.place, &mut journal, (self.asked.as_ref(), false), waker),
        }
    }
}

impl Future for Compensate<'_> {
    type Output = Outcome<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<()>> {
        if let Some(Err(mistake)) = self.asked.take_if(|asked| asked.is_err()) {
            self.place.is_over = true;
            return Poll::Ready(Err(mistake));
        }
        ready!(self.place.poll_saved(context))?;
        let outcome = ready!(self.look(context.waker()));
        ready!(self.place.poll_over(context));
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Compensate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compensate").field("number", &self.place.number).finish_non_exhaustive()
    }
}
