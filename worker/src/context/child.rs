//! `ctx.run_workflow`: child runs, which hold no worker while their parent waits for them.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Poll, Waker, ready};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::child::{ChildEnd, asked_for};
use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::names;
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Wait;

use super::step::{Place, StepCall};
use super::{Context, Core, Journal};
use crate::error::{Error, Outcome};
use crate::replay::Waited;

/// The most of its parent's id that a child's id begins with, in bytes.
const ID: usize = 120;

impl<S> Context<S> {
    /// Starts a run of any workflow as a child of this run, and waits for its result. The child is a run like any
    /// other: it has its own id, history and version, any worker that serves its workflow executes it, and
    /// in a Redis Cluster it may be in another partition. `stepfleet show` prints the parent of a child and the
    /// children of a parent.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # #[derive(Serialize, Deserialize)] struct Order { id: u64 }
    /// # async fn body(ctx: &Context, orders: Vec<Order>) -> Outcome<()> {
    /// let receipts: Vec<String> = ctx.map(orders, 10, |order| ctx.run_workflow("fulfil", &order)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// It is a wait like [`Context::wait_for`]: it holds no worker, you may join and race it, and it survives every
    /// restart. The child is started once, and its result is recorded.
    ///
    /// A child that fails, is cancelled, or cannot be started (because no worker serves its workflow) is an error
    /// here. The error is recorded, and says which run it was and why ([`Error::is_given_up`]). If this run fails
    /// with it and is retried, the child goes on from where it failed, too.
    ///
    /// A child that nobody waits for any more is cancelled: when its future is dropped, as by a race, when the step
    /// that waits for it ends, and when this run completes or is cancelled. If this run fails, its children go on, and
    /// a retry finds their results. With [`RunWorkflow::outlives_parent`], a child is never cancelled like that. For a
    /// run whose result nobody needs, see [`Context::start_workflow`].
    ///
    /// Fails with a terminal error if the workflow's name is not valid, if the input cannot be serialized or is over
    /// 1 MiB, if the result is not a `T`, and if the body makes other calls than an earlier attempt.
    pub fn run_workflow<T, I>(&self, workflow: &str, input: &I) -> RunWorkflow<'_, T>
    where
        T: DeserializeOwned,
        I: Serialize + ?Sized,
    {
        let core = &*self.core;
        let number = core.journal().next();
        RunWorkflow {
            place: Place::new(core, number, names::child(core.reach.seq, number, workflow)),
            workflow: workflow.to_owned(),
            asked: Some(requested(workflow, input)),
            outlives: false,
            result: PhantomData,
        }
    }

    /// Starts an independent run of any workflow, and returns its id without waiting for the run. It is started once:
    /// this is a recorded call, like [`Context::step`].
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context, user: u64) -> Outcome<()> {
    /// let run = ctx.start_workflow("welcome-mail", &user).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The call does not check whether a worker serves the workflow: the request waits for one, like any other. Fails
    /// like [`Context::run_workflow`] for its arguments.
    pub fn start_workflow<I>(&self, workflow: &str, input: &I) -> StepCall<'_, String>
    where
        I: Serialize + ?Sized,
    {
        let (core, mut request) = (&*self.core, Some(requested(workflow, input)));
        let number = core.journal().upcoming();
        self.step(&format!("start {workflow}"), move || {
            // An invalid request has failed for good at the first try.
            let request = request
                .take_if(|request| request.is_err())
                .or_else(|| Some(Ok(request.as_ref()?.as_ref().ok()?.clone())));
            async move {
                match request {
                    Some(request) => core.start_alone(number, request?).await,
                    None => Err(Error::terminal("the run cannot be started")),
                }
            }
        })
    }
}

/// The request, or what is wrong with it.
pub(super) type Requested = Outcome<StartRequest>;

pub(super) fn requested<I: Serialize + ?Sized>(workflow: &str, input: &I) -> Requested {
    let input = codec::encode_as("the input", Content::MessagePack, input)?;
    let content = Content::MessagePack.as_str().to_owned();
    let request = StartRequest { content, ..StartRequest::new(workflow, input) };
    request.check()?;
    Ok(request)
}

/// Opens a wait that asks for a run.
pub(super) fn ask<T>(
    place: &Place<'_>,
    journal: &mut Journal,
    (asked, outlives): (Option<&Requested>, bool),
    waker: &Waker,
) -> Poll<Outcome<T>> {
    let (number, name) = (place.number, place.name.clone());
    let question = match asked {
        Some(Ok(request)) => asked_for(&place.core.child_id(number), outlives, request),
        _ => Ok(Vec::new()),
    };
    match question {
        Ok(question) => {
            journal.wait(Wait { number, name, question, ..Wait::default() }, waker);
            Poll::Pending
        }
        Err(error) => Poll::Ready(Err(error.into())),
    }
}

impl Core {
    /// The same for each attempt at this call, and for no call of a later run of this id.
    async fn start_alone(&self, number: u64, request: StartRequest) -> Outcome<String> {
        let (reach, born) = (&self.reach, self.born().await?);
        let id = format!("{}.{}.{number}.{born:x}", self.own_id(), reach.seq);
        let durability = request.durability.or(Some(reach.durability).filter(|durability| durability.waits()));
        let request = StartRequest { id: Some(id.clone()), durability, ..request };
        reach.record(|_| -> BoxFuture<'_, _> { Box::pin(reach.store.start_run(&request)) }).await?;
        Ok(id)
    }

    /// Unique to this run: the same call of a later run with this id asks for another child.
    fn child_id(&self, number: u64) -> String {
        format!("{}.{}.{number}.{:016x}", self.own_id(), self.reach.seq, rand::random::<u64>())
    }

    fn own_id(&self) -> &str {
        let run = &self.reach.run;
        &run[..run.len().min(ID)]
    }
}

/// A child run that a body waits for: see [`Context::run_workflow`].
#[must_use = "no child run is started unless it is awaited"]
pub struct RunWorkflow<'a, T> {
    place: Place<'a>,
    workflow: String,
    /// Until it has failed.
    asked: Option<Requested>,
    /// Only a cancel request for the child itself cancels it.
    outlives: bool,
    result: PhantomData<fn() -> T>,
}

impl<T> RunWorkflow<'_, T> {
    /// Lets the child go on when nobody waits for it any more: when this future is dropped, as by a race, when the step
    /// that waits for it ends, and when the parent completes or is cancelled. By default, the child is then cancelled.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let report: String = ctx.run_workflow("report", &2026).outlives_parent().await?;
    /// # Ok(()) }
    /// ```
    pub fn outlives_parent(mut self) -> Self {
        self.outlives = true;
        self
    }
}

impl<T: DeserializeOwned> RunWorkflow<'_, T> {
    fn look(&mut self, waker: &Waker) -> Poll<Outcome<T>> {
        let (number, name) = (self.place.number, &self.place.name);
        let mut journal = self.place.core.journal();
        let waited = match journal.waited(number, name) {
            Ok(waited) => waited,
            Err(changed) => return Poll::Ready(Err(changed)),
        };
        match waited {
            Waited::Signal(payload) => Poll::Ready(self.read(&payload)),
            // It has no deadline.
            Waited::Never | Waited::Overdue => Poll::Pending,
            Waited::New => ask(&self.place, &mut journal, (self.asked.as_ref(), self.outlives), waker),
        }
    }

    fn read(&self, payload: &[u8]) -> Outcome<T> {
        let end = ChildEnd::read(payload)?;
        let (run, workflow) = (&end.run, &self.workflow);
        match end.result() {
            Ok(result) => Ok(codec::decode(&format!("the result of the child run {run} of {workflow}"), &result)?),
            Err(why) => {
                let how = match end.status {
                    Status::Failed => "failed",
                    Status::Cancelled => "was cancelled",
                    _ => "could not be started",
                };
                Err(Error::terminal(format!("the child run {run} of {workflow} {how}: {why}")).given_up())
            }
        }
    }
}

impl<T> Unpin for RunWorkflow<'_, T> {}

impl<T: DeserializeOwned> Future for RunWorkflow<'_, T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<T>> {
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

impl<T> fmt::Debug for RunWorkflow<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RunWorkflow");
        shown.field("number", &self.place.number).field("workflow", &self.workflow).finish_non_exhaustive()
    }
}
