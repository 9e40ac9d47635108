//! `ctx.step`: once recorded, its result is reused.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::{codec, names};

use tokio::time::Instant;

use super::publish::Within;
use super::tries::{Options, Tries, within};
use super::{Context, Core};
use crate::error::{Error, Outcome};
use crate::replay::Recorded;
use crate::retry::RetryPolicy;

impl<S> Context<S> {
    /// Does a piece of work and records its result. Once recorded, the result is reused; everything else in a body
    /// may run again: after an error, after a wait ([`Context::wait_for`]), and after the worker died.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn charge(order: u64) -> Outcome<String> { Ok(format!("receipt {order}")) }
    /// # async fn body(ctx: &Context, order: u64) -> Outcome<()> {
    /// let receipt = ctx.step("charge", || charge(order)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The work may run more than once if the worker dies between the end of the work and its recording; make it
    /// harmless to repeat, for example with [`Context::idempotency_key`].
    ///
    /// With [`StepCall::retries`] or [`StepCall::retry`] the call is tried again by itself, and its error is recorded
    /// once it is given up. Without them, the call returns its error to the body and does not record it, so the next
    /// attempt of the step tries the work again. If the body goes on after the error, or awaits other calls that are
    /// recorded after it, each later attempt gets the same error. Give calls that run in parallel retries of their
    /// own.
    ///
    /// The name (any text of up to 200 bytes: [`names::check_call`]) is for people, and detects changed code. Calls
    /// are told apart by their order, so a body must make the same calls in the same order each time: what decides
    /// about them must come from the event, from calls, or from waits. The future may be joined or raced with others,
    /// or kept. The order in which calls ended is recorded, and so is what a race dropped, so that later attempts
    /// decide alike.
    ///
    /// Takes one round trip for each value that is recorded. Fails with a terminal error if the value is over 1 MiB,
    /// if the step has recorded 100,000 entries, and if the body makes other calls than the attempt that recorded.
    pub fn step<'a, T, F, W>(&'a self, name: &str, work: F) -> StepCall<'a, T>
    where
        T: Serialize + DeserializeOwned + Send + 'a,
        F: FnMut() -> W + Send + 'a,
        W: Future<Output = Outcome<T>> + Send + 'a,
    {
        let number = self.core.journal().next();
        let name = names::token(name);
        let core = &*self.core;
        let start: Start<'a, T> = Box::new(move |name, options| Box::pin(record(core, number, name, work, options)));
        let call = Call::new(core, number, name, Box::pin(std::future::pending()));
        StepCall { start: Some(start), options: Options::default(), call }
    }
}

async fn record<T, F, W>(core: &Core, number: u64, name: String, mut work: F, options: Options) -> Outcome<T>
where
    T: Serialize + DeserializeOwned,
    F: FnMut() -> W,
    W: Future<Output = Outcome<T>>,
{
    let text = names::text(&name);
    names::check_call("call", &text)?;
    let what = format!("the value of the call {text}");
    core.save_before(number).await?;
    let known = core.journal().recorded(number, &name)?;
    match known {
        Recorded::Value(payload) => {
            let value = codec::decode(&what, &payload).map_err(Error::from);
            return value.inspect_err(|error| core.journal().cannot_be_read(error));
        }
        Recorded::Never => std::future::pending().await,
        Recorded::New => {}
    }
    let mut tries = Tries::of(core, number, &name).inspect_err(|changed| core.journal().cannot_be_read(changed))?;
    if core.replays {
        return core.beyond(number, &name).await;
    }
    loop {
        tries.next(core).await;
        let began = Instant::now();
        let busy = core.reach.busy.enter();
        core.places().begin(number);
        let work = within(options.timeout, &text, async { work().await });
        let value = Within::new(core, number, work).await.and_then(|value| Ok((codec::encode(&what, &value)?, value)));
        core.settle_streams_of(number, value.is_ok()).await;
        let error = match value {
            Ok((payload, value)) => {
                core.record(number, &name, &payload).await?;
                core.scribe.recorded(number);
                return Ok(value);
            }
            Err(error) => error,
        };
        let Some(policy) = &options.retry else {
            let mut journal = core.journal();
            journal.fail(number, &name, &error);
            journal.has_gone_on();
            return Err(error);
        };
        if let Some(error) = tries.failed(core, policy, error, began.elapsed()).await? {
            return Err(error);
        }
        drop(busy);
    }
}

/// What makes the future of a call, once it is polled.
type Start<'a, T> = Box<dyn FnOnce(String, Options) -> BoxFuture<'a, Outcome<T>> + Send + 'a>;

/// A call of [`Context::step`], whose options may be set until it is awaited.
#[must_use = "a call does nothing unless it is awaited"]
pub struct StepCall<'a, T> {
    start: Option<Start<'a, T>>,
    options: Options,
    call: Call<'a, T>,
}

impl<T> StepCall<'_, T> {
    /// Tries the work again this many times when it fails, after about 1, 2, 4 seconds and so on up to a minute.
    /// [`StepCall::retry`] takes other delays and limits, and says what a retry means for the call.
    pub fn retries(self, retries: u32) -> Self {
        self.retry(RetryPolicy::default().attempts(retries.saturating_add(1)))
    }

    /// Tries the work again when it fails, as this policy says. Each try is recorded, so the count survives the death
    /// of the worker. A delay of more than a second is a timer and holds no worker: if the body has nothing else to
    /// do, its attempt ends, and a later one continues here. The worker sits out a shorter delay.
    ///
    /// Once the policy gives up, the last error is recorded like a value: each later attempt gets the same error,
    /// with its text, its causes, and whether it was terminal. A step that fails with it is not tried again
    /// ([`Error::is_given_up`]). If the run fails with it and is retried, the call is made again.
    ///
    /// Each failed try takes a round trip, and up to two of the 100,000 entries that a step may record.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = Some(policy);
        self
    }

    /// Says what the call is about, in addition to its name: an order's number, a page's address. The key is part of
    /// the name in the journal, so a body that makes the call about something else than an earlier attempt fails with
    /// an error that shows both keys, and does not get what was recorded for the other. Any text, of 200 bytes at
    /// most together with the name.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn charge(order: u64) -> Outcome<()> { Ok(()) }
    /// # async fn body(ctx: &Context, orders: Vec<u64>) -> Outcome<()> {
    /// for order in orders {
    ///     ctx.step("charge", || charge(order)).key(order).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn key(mut self, key: impl fmt::Display) -> Self {
        self.call.place.name = names::token(&format!("{} {key}", names::text(&self.call.place.name)));
        self
    }

    /// Limits each try: when the time is over, the try has failed. Work that awaits is dropped; work that blocks its
    /// thread cannot be stopped, and counts as failed when it returns.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }
}

impl<T> Future for StepCall<'_, T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<T>> {
        let this = &mut *self;
        if let Some(start) = this.start.take() {
            this.call.work = start(this.call.place.name.clone(), std::mem::take(&mut this.options));
        }
        Pin::new(&mut this.call).poll(context)
    }
}

impl<T> fmt::Debug for StepCall<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.call.fmt(f)
    }
}

/// A call of a body that is recorded, under way: see [`Context::step`] and [`Context::collect`].
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<'a, T> {
    work: BoxFuture<'a, Outcome<T>>,
    /// Its result, until the body receives it.
    outcome: Option<Outcome<T>>,
    place: Place<'a>,
}

// Nothing points into its outcome.
impl<T> Unpin for Call<'_, T> {}

/// The place of a call in its body, with its name as [`names::token`] writes it. Dropping it early drops the call.
pub(super) struct Place<'a> {
    pub(super) core: &'a Core,
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) is_over: bool,
    is_mark: bool,
    /// What the body has written before the call is committed first.
    saving: Option<BoxFuture<'a, Outcome<()>>>,
    is_saved: bool,
    awaited: Option<Awaited<'a>>,
}

/// The body awaits a call, until this is dropped.
struct Awaited<'a>(&'a AtomicUsize);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(core: &'a Core, number: u64, name: String, work: BoxFuture<'a, Outcome<T>>) -> Self {
        Self { work, outcome: None, place: Place::new(core, number, name) }
    }

    /// A checkpoint: it may be made even if it is dropped.
    pub(super) fn of_mark(core: &'a Core, number: u64, name: String, work: BoxFuture<'a, Outcome<T>>) -> Self {
        let mut call = Self::new(core, number, name, work);
        call.place.is_mark = true;
        call
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(core: &'a Core, number: u64, name: String) -> Self {
        Self {
            core,
            number,
            name,
            is_over: false,
            is_mark: false,
            saving: None,
            is_saved: !core.saves_state,
            awaited: None,
        }
    }

    /// The body awaits it.
    pub(super) fn is_polled(&mut self) {
        let awaited = &self.core.awaited;
        self.awaited.get_or_insert_with(|| {
            awaited.fetch_add(1, Ordering::Relaxed);
            Awaited(awaited)
        });
    }

    /// Writes that the body has made before the call are committed first, if its function commits by itself.
    pub(super) fn poll_saved(&mut self, context: &mut std::task::Context<'_>) -> Poll<Outcome<()>> {
        self.is_polled();
        if self.is_saved {
            return Poll::Ready(Ok(()));
        }
        let (core, number) = (self.core, self.number);
        let saving = self.saving.get_or_insert_with(|| Box::pin(core.save_before(number)));
        let saved = ready!(saving.as_mut().poll(context));
        (self.saving, self.is_saved) = (None, true);
        Poll::Ready(saved)
    }

    /// The call has ended: ready when it is the body's turn to be given that.
    pub(super) fn poll_over(&mut self, context: &std::task::Context<'_>) -> Poll<()> {
        self.is_over = self.core.journal().pass(self.number, context.waker());
        if self.is_over {
            self.awaited = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T> Future for Call<'_, T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<T>> {
        let call = &mut *self;
        call.place.is_polled();
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
        if self.is_over {
            return;
        }
        let mut journal = self.core.journal();
        if self.is_mark {
            journal.let_go_mark(self.number);
        } else {
            journal.let_go(self.number, &self.name);
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
