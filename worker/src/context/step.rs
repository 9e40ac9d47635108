//! `ctx.step`: a part of a body that is not repeated once it is recorded.

use std::fmt;
use std::pin::Pin;
use std::task::{Poll, ready};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet::{codec, names};

use super::journal::Recorded;
use super::publish::Within;
use super::{Context, Core};
use crate::error::Outcome;

impl<S> Context<S> {
    /// Makes a part of a step's body once: its value is recorded, and a later attempt is given it instead of doing the
    /// work again. A later attempt there is after an error, after a wait ([`Context::wait_for`]), and when the worker died.
    ///
    /// ```
    /// # use stepfleet_worker::prelude::*;
    /// # async fn charge(order: u64) -> Outcome<String> { Ok(format!("receipt {order}")) }
    /// # async fn body(ctx: &Context, order: u64) -> Outcome<()> {
    /// let receipt = ctx.step("charge", || charge(order)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The work may run more than once where the worker dies between its end and the recording; make it harmless to
    /// repeat, for example with [`Context::idempotency_key`]. An error is given to the body and not recorded, so an
    /// attempt that fails with it tries the work again; a body that goes on after it is given the same error by each
    /// later attempt.
    ///
    /// The name (any text of up to 200 bytes: [`names::check_call`]) is for people, and tells a body whose code was changed. Calls are told
    /// apart by their order, so a body must make the same calls in the same order each time: what decides about them
    /// must come from the event, from calls, or from waits. The future may be joined or raced with others, or kept; in
    /// which order calls ended is recorded, and what a race dropped, so that later attempts decide it alike.
    ///
    /// Takes one round trip for each value that is recorded. Fails with a terminal error where the value is over 1 MiB,
    /// where the step has recorded 10,000 entries, and where the body makes other calls than the attempt that recorded.
    pub fn step<'a, T, F, W>(&'a self, name: &str, work: F) -> Call<'a, T>
    where
        T: Serialize + DeserializeOwned + Send + 'a,
        F: FnOnce() -> W + Send + 'a,
        W: Future<Output = Outcome<T>> + Send + 'a,
    {
        let number = self.core.journal().next();
        let name = names::token(name);
        let work = Box::pin(record(&self.core, number, name.clone(), work));
        Call::new(&self.core, number, name, work)
    }
}

async fn record<T, F, W>(core: &Core, number: u64, name: String, work: F) -> Outcome<T>
where
    T: Serialize + DeserializeOwned,
    F: FnOnce() -> W,
    W: Future<Output = Outcome<T>>,
{
    let text = names::text(&name);
    names::check_call("call", &text)?;
    let what = format!("the value of the call {text}");
    let known = core.journal().recorded(number, &name)?;
    match known {
        Recorded::Value(payload) => return Ok(codec::decode(&what, &payload)?),
        Recorded::Never => std::future::pending().await,
        Recorded::New => {}
    }
    let _busy = core.reach.busy.enter();
    let value = Within::new(core, number, async { work().await })
        .await
        .and_then(|value| Ok((codec::encode(&what, &value)?, value)));
    match value {
        Ok((payload, value)) => {
            core.record(number, &name, &payload).await?;
            Ok(value)
        }
        Err(error) => {
            let mut journal = core.journal();
            journal.fail(number, &name, &error);
            journal.has_gone_on();
            Err(error)
        }
    }
}

/// A call of a body that is recorded, under way: see [`Context::step`].
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<'a, T> {
    work: BoxFuture<'a, Outcome<T>>,
    /// What it came to, until the body is given it.
    outcome: Option<Outcome<T>>,
    place: Place<'a>,
}

// Nothing points into its outcome.
impl<T> Unpin for Call<'_, T> {}

/// The place of a call in its body; its name is as [`names::token`] writes it. Dropped before the call is over, it is let go.
pub(super) struct Place<'a> {
    pub(super) core: &'a Core,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) is_over: bool,
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(core: &'a Core, number: u64, name: String, work: BoxFuture<'a, Outcome<T>>) -> Self {
        Self { work, outcome: None, place: Place { core, number, name, is_over: false } }
    }
}

impl Place<'_> {
    /// The call has ended: ready when it is the body's turn to be given that.
    pub(super) fn poll_over(&mut self, context: &std::task::Context<'_>) -> Poll<()> {
        self.is_over = self.core.journal().pass(self.number, context.waker());
        if self.is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Future for Call<'_, T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<T>> {
        let call = &mut *self;
        let outcome = match call.outcome.take() {
            Some(outcome) => outcome,
            None => ready!(call.work.as_mut().poll(context)),
        };
        match call.place.poll_over(context) {
            Poll::Ready(()) => Poll::Ready(outcome),
            Poll::Pending => {
                call.outcome = Some(outcome);
                Poll::Pending
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.core.journal().let_go(self.number, &self.name);
        }
    }
}

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("number", &self.place.number)
            .field("name", &self.place.name)
            .finish_non_exhaustive()
    }
}
