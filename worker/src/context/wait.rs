//! `ctx.wait_for` and `ctx.ask`: waits that hold no worker.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::step::Wait;
use stepfleet_shared::{attributes, codec, names};

use super::Context;
use super::step::{Place, StepCall};
use crate::error::{Error, Outcome};
use crate::event::Event;
use crate::replay::Waited;

impl<S> Context<S> {
    /// Waits for a signal of this name (any text of up to 200 bytes: [`names::check_call`]) that anyone may send to the run: a Rust client
    /// ([`RunHandle::signal`](stepfleet::client::RunHandle::signal)), `stepfleet signal`, or an `XADD` from any language.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepfleet::prelude::*;
    /// #[derive(Deserialize)]
    /// struct Approval { order: u64, fine: bool }
    ///
    /// # async fn body(ctx: &Context, order: u64) -> Outcome<()> {
    /// let approval: Approval =
    ///     ctx.wait_for("approval").filter("order", order).timeout(Duration::from_secs(86_400)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A signal that is there already is returned at once, in one round trip. A body that has to wait and has nothing
    /// else to do ends its attempt after a moment (about 25 ms): it holds no worker and no slot, however long it takes.
    /// The signal then begins a new attempt, on any worker, which runs the body from its start; so wrap what comes
    /// before the wait in [`Context::step`], and keep what the body awaits beside it short. The wait, its filter and
    /// its deadline are in Redis and survive every restart. A step's timeout begins again in each attempt.
    ///
    /// Each signal ends one wait: the oldest one of the run that has its name and whose filter it passes. A signal that
    /// comes before its wait is kept. A wait that a race drops no longer takes a signal; one that reached it at the
    /// same moment is kept for the next wait.
    ///
    /// A signal that is not an `E` is set aside: the history records it (`unreadable`), and the wait goes on, with its
    /// deadline.
    ///
    /// Fails when the time is over ([`Error::is_overdue`]); with a terminal error if 1,000 waits of this name are open,
    /// and if the body makes other calls than an earlier attempt.
    pub fn wait_for<E: DeserializeOwned>(&self, name: &str) -> WaitFor<'_, E> {
        let number = self.core.journal().next();
        WaitFor {
            question: None,
            place: Place::new(&self.core, number, names::token(name)),
            filter: Vec::new(),
            timeout: None,
            mistake: names::check_call("signal", name).err().map(Error::from),
            signal: PhantomData,
        }
    }

    /// Asks the followers of the run, and waits for the answer: publishes the question ([`Context::publish`]) and waits
    /// for a signal of this name. The question is published once, and not again by later attempts; an answer may come at
    /// any time after it.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// #[event]
    /// struct InputRequired { prompt: String }
    ///
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let name: String = ctx.ask("name", InputRequired { prompt: "What is your name?".into() }).await?;
    /// # Ok(()) }
    /// ```
    pub fn ask<'a, A, Q>(&'a self, name: &str, question: Q) -> WaitFor<'a, A>
    where
        A: DeserializeOwned,
        Q: Event,
    {
        let question = self.step(name, move || self.publish(&question));
        WaitFor { question: Some(question), ..self.wait_for(name) }
    }
}

/// A wait of a body for a signal: see [`Context::wait_for`].
#[must_use = "a wait does nothing unless it is awaited"]
pub struct WaitFor<'a, E> {
    question: Option<StepCall<'a, ()>>,
    place: Place<'a>,
    filter: Vec<(String, String)>,
    timeout: Option<Duration>,
    mistake: Option<Error>,
    signal: PhantomData<fn() -> E>,
}

impl<E> WaitFor<'_, E> {
    /// Takes only a signal whose value has this field at its top, with this value: text, a number, a boolean or null.
    /// Up to eight may be given, and all must hold; each may take 200 bytes, and only the first 32 fields of a signal
    /// are looked at.
    pub fn filter(mut self, field: &str, value: impl Serialize) -> Self {
        match attributes::value(field, &value) {
            Ok(value) => self.filter.push((field.to_owned(), value)),
            Err(error) => self.mistake = Some(error.into()),
        }
        if let Err(error) = attributes::check(&self.filter) {
            self.mistake = Some(error.into());
        }
        self
    }

    /// Waits at most this long, on Redis' clock, counted from when the wait was opened, whatever is restarted
    /// meanwhile.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

impl<E: DeserializeOwned> WaitFor<'_, E> {
    fn look(&mut self, waker: &Waker) -> Poll<Outcome<E>> {
        let (number, name) = (self.place.number, &self.place.name);
        let mut journal = self.place.core.journal();
        let waited = match journal.waited(number, name) {
            Ok(waited) => waited,
            Err(changed) => return Poll::Ready(Err(changed)),
        };
        match waited {
            Waited::Signal(payload) => {
                match codec::decode(&format!("the signal {}", names::text(name)), &payload) {
                    Ok(signal) => Poll::Ready(Ok(signal)),
                    // It is not the run's fault, nor would another attempt read it.
                    Err(error) => {
                        journal.set_aside(number, name, Error::from(error).one_line());
                        let (name, filter) = (name.clone(), self.filter.clone());
                        journal.wait(Wait { number, name, deadline: self.timeout, filter, ..Wait::default() }, waker);
                        Poll::Pending
                    }
                }
            }
            Waited::Overdue => {
                Poll::Ready(Err(Error::overdue(format!("no signal {} came in time", names::text(name)))))
            }
            Waited::Never => Poll::Pending,
            // The answer comes when the store is asked, or to a later attempt.
            Waited::New => {
                let (name, filter) = (name.clone(), self.filter.clone());
                journal.wait(Wait { number, name, deadline: self.timeout, filter, ..Wait::default() }, waker);
                Poll::Pending
            }
        }
    }
}

impl<E: DeserializeOwned> Future for WaitFor<'_, E> {
    type Output = Outcome<E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<E>> {
        if let Some(question) = &mut self.question {
            let asked = ready!(Pin::new(question).poll(context));
            self.question = None;
            if let Err(error) = asked {
                self.place.is_over = true;
                return Poll::Ready(Err(error));
            }
        }
        if let Some(mistake) = self.mistake.take() {
            self.place.is_over = true;
            return Poll::Ready(Err(mistake));
        }
        ready!(self.place.poll_saved(context))?;
        let outcome = ready!(self.look(context.waker()));
        ready!(self.place.poll_over(context));
        Poll::Ready(outcome)
    }
}

impl<E> fmt::Debug for WaitFor<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WaitFor");
        shown.field("number", &self.place.number).field("name", &self.place.name).field("filter", &self.filter);
        shown.finish_non_exhaustive()
    }
}
