//! A run's context, as one step sees it: read from the snapshot that came with the event, written with its commit.

mod again;
mod cancellation;
mod checkpoint;
mod child;
mod collect;
mod compensate;
mod conflict;
mod entity;
mod join;
mod journal;
mod patch;
mod publish;
mod reach;
mod scribe;
mod send;
mod sleep;
mod state;
mod step;
mod stream;
mod task;
mod tries;
mod user;
mod wait;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use stepfleet_shared::step::{Bytes, Checkpoint, Checkpointed, Claimed, CommitStatus, Wait};
use tokio_util::sync::CancellationToken;

pub use self::cancellation::Cancellation;
pub(crate) use self::checkpoint::Interrupt;
use self::checkpoint::Saves;
pub use self::child::RunWorkflow;
pub use self::compensate::Compensate;
pub(crate) use self::conflict::MAX_CONFLICTS;
pub use self::entity::EntityHandle;
pub use self::join::{Each, Join, Map, Race};
pub(crate) use self::journal::Journal;
use self::publish::Places;
pub(crate) use self::reach::{Busy, Confirmed, Hold, Reach};
use self::scribe::Scribe;
pub(crate) use self::send::Sends;
pub use self::sleep::{Random, Sleep};
pub use self::state::State;
pub use self::step::{Call, StepCall};
pub use self::stream::Stream;
pub use self::user::{Answered, Approval, Choice, Choices, Question, Skippable, Text, WaitForUser};
pub use self::wait::WaitFor;
use crate::decisions::graph::Router;
use crate::decisions::overlay::Overlay;
use crate::error::{Error, Outcome};
use crate::replay::{Along, Idle};
use crate::workflow::ServedStep;

/// What a step knows of its run. `S` is the type of the run's state; leave it out for fields without one.
///
/// A step's writes commit together with the events that it returns, or with [`Context::checkpoint`]: an attempt that
/// fails, or whose worker seemed dead, leaves nothing else behind. [`State`] says what happens when several steps of
/// one run write the same field at the same time.
pub struct Context<S = ()> {
    core: Arc<Core>,
    state: PhantomData<fn() -> S>,
}

/// What an attempt shares with the code that it runs.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) reach: Reach,
    pub(crate) past: Past,
    overlay: Mutex<Overlay>,
    saves: Mutex<Saves>,
    /// Commits of the state are made one after the other.
    saving: tokio::sync::Mutex<()>,
    /// The state is committed before each call of the body.
    saves_state: bool,
    /// It replays what was recorded elsewhere: it does no work, and makes no call to the store.
    pub(crate) replays: bool,
    /// Whether its body may await futures that are not the SDK's.
    pub(crate) foreign: Foreign,
    /// How many calls it awaits.
    awaited: AtomicUsize,
    interrupt: Mutex<Option<Interrupt>>,
    /// How often others have changed what the attempt had read.
    conflicts: AtomicU32,
    cancelled: CancellationToken,
    journal: Mutex<Journal>,
    /// Entries that were sent and may not be recorded: the future that sent them may have been dropped.
    unsure: Mutex<Vec<Arc<(Checkpoint, Along)>>>,
    /// Events are published one after the other.
    published: tokio::sync::Mutex<()>,
    places: Mutex<Places>,
    /// When the run was created (ms), once somebody has asked for it.
    born: tokio::sync::OnceCell<u64>,
    scribe: Scribe,
    pub(crate) sends: Sends,
}

/// What to do about a body that awaits futures that are not the SDK's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Nothing: a step that records nothing may await anything.
    Allowed,
    /// A warning.
    Warned,
    /// It fails.
    Refused,
}

/// What is known about earlier attempts at the same step execution.
#[derive(Debug)]
pub(crate) struct Past {
    failures: u32,
    last_error: Option<String>,
    /// As of the claim, on the store's clock.
    elapsed: Duration,
    since: Instant,
}

impl Past {
    /// As in a claim that was just made.
    pub(crate) fn of(step: &Claimed) -> Self {
        let (failures, last_error) = (step.failures, step.last_error.clone());
        Self { failures, last_error, elapsed: step.elapsed, since: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed + self.since.elapsed()
    }
}

impl Core {
    /// Whether the store keeps something of what the attempt has published or saved, to know a repetition by.
    pub(crate) fn has_traces(&self) -> bool {
        !self.places().made.is_empty() || self.saves().made > 0
    }

    pub(crate) fn new(
        reach: Reach,
        past: Past,
        snapshot: Vec<(String, impl Into<Bytes>)>,
        cancelled: CancellationToken,
        journal: Journal,
    ) -> Self {
        let mut overlay = Overlay::new(snapshot);
        overlay.begin_with(journal.began_with());
        Self {
            reach,
            past,
            overlay: Mutex::new(overlay),
            saves: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            saves_state: false,
            replays: false,
            foreign: Foreign::Allowed,
            awaited: AtomicUsize::default(),
            interrupt: Mutex::default(),
            conflicts: AtomicU32::default(),
            scribe: Scribe::new(cancelled.clone()),
            cancelled,
            journal: Mutex::new(journal),
            unsure: Mutex::default(),
            published: tokio::sync::Mutex::default(),
            places: Mutex::default(),
            born: tokio::sync::OnceCell::new(),
            sends: Sends::default(),
        }
    }

    /// For a step of this workflow.
    pub(crate) fn within(mut self, router: Option<Arc<Router>>) -> Self {
        self.sends = Sends::of(router);
        self
    }

    /// For the body of this step. `foreign`: if it may await its calls only, what to do otherwise.
    pub(crate) fn of_body(self, step: &ServedStep, foreign: Foreign) -> Self {
        let foreign = if step.awaits_calls_alone { foreign } else { Foreign::Allowed };
        Self { saves_state: step.saves_state, foreign, ..self }
    }

    /// For a replay of what was recorded elsewhere.
    pub(crate) fn replaying(self) -> Self {
        Self { replays: true, ..self }
    }

    /// Whether a body that awaits awaits none of its calls.
    pub(crate) fn awaits_nothing(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) == 0 && !self.reach.busy.is_busy() && !self.cancelled.is_cancelled()
    }

    /// For a call beyond the end of a journal from elsewhere: it waits for ever.
    async fn beyond<T>(&self, number: u64, name: &str) -> T {
        std::future::poll_fn(|context| {
            let wait = Wait { number, name: name.to_owned(), ..Wait::default() };
            self.journal().wait(wait, context.waker());
            Poll::Pending
        })
        .await
    }

    /// For a step that its worker no longer holds: it ends here. The runtime drops it, unless it is already doing so.
    async fn give_up<T>(&self) -> T {
        self.cancelled.cancel();
        std::future::pending().await
    }

    pub(crate) fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn conflicts(&self) -> u32 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// The body is to run again, within the same attempt, with the context as it is by now. It was dropped before.
    pub(crate) fn begin_again(&self, context: Vec<(String, Vec<u8>)>) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        let mut overlay = Overlay::new(context);
        {
            let mut journal = self.journal();
            journal.begin_again();
            overlay.begin_with(journal.began_with());
        }
        *self.overlay() = overlay;
        self.saves().forget_pending();
        *self.places() = Places::default();
        self.scribe.begin_again();
        self.sends.take();
        self.take_interrupt();
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body waited in memory, and continues as this attempt, with the outcomes of its waits. It is not polled
    /// meanwhile.
    pub(crate) fn go_on(&self, step: &Claimed) {
        self.reach.hold.renew(&step.fence);
        self.scribe.go_on();
        let wakers = {
            let mut journal = self.journal();
            let wakers = journal.answer(step.journal.clone());
            journal.goes_on();
            wakers
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the body may wait in memory: nobody else changes what it has read of the state.
    pub(crate) fn may_be_kept(&self) -> bool {
        self.saves_state && !self.cancelled.is_cancelled()
    }

    /// Cancelled when the run is.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Whether there is nothing to do but wait.
    pub(crate) fn idle(&self) -> Idle {
        self.journal().idle(self.reach.busy.is_busy())
    }

    /// Records the value of a call, with what the body has gone on with before.
    async fn record(&self, number: u64, name: &str, payload: &[u8]) -> Outcome<()> {
        let (entry, along) = self.journal().value(number, name, payload);
        self.record_entry(number, entry, along).await
    }

    /// Records that a call was given up after this error.
    async fn record_error(&self, number: u64, name: &str, error: &Error) -> Outcome<()> {
        let (entry, along) = self.journal().given_up(number, name, error);
        self.record_entry(number, entry, along).await
    }

    async fn record_entry(&self, number: u64, entry: Vec<u8>, along: Along) -> Outcome<()> {
        let mut checkpoint = along.checkpoint();
        checkpoint.entries.insert(0, (number, entry));
        self.checkpoint(checkpoint, along).await?;
        self.journal().has_gone_on();
        Ok(())
    }

    /// Records the results that the body has received, if there are any.
    async fn record_along(&self) -> Outcome<()> {
        let along = self.journal().along();
        if along.is_empty() { Ok(()) } else { self.checkpoint(along.checkpoint(), along).await.map(drop) }
    }

    /// Tells the store what the body waits for, and gives the body what is there of it already.
    pub(crate) async fn ask(&self) -> Outcome<()> {
        let (along, waits, unreadable) = {
            let mut journal = self.journal();
            (journal.along(), journal.ask(), journal.take_unreadable())
        };
        self.ask_for(Checkpoint { waits, unreadable, ..along.checkpoint() }, along).await
    }

    /// Gives the body what is there by now of what it waits for. Records nothing: when that is asked is chance.
    pub(crate) async fn look(&self) -> Outcome<()> {
        let waits = self.journal().waits();
        self.ask_for(Checkpoint { waits, ..Checkpoint::default() }, Along::default()).await
    }

    async fn ask_for(&self, checkpoint: Checkpoint, along: Along) -> Outcome<()> {
        let answers = self.checkpoint(checkpoint, along).await?;
        let wakers = self.journal().answer(answers);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Delivers the outcomes of waits.
    async fn checkpoint(&self, checkpoint: Checkpoint, along: Along) -> Outcome<Vec<(u64, Vec<u8>)>> {
        let checkpoint = Checkpoint { upon: self.journal().upon(), ..checkpoint };
        let sent = Arc::new((checkpoint, along));
        self.unsure().push(sent.clone());
        let answered = self.send(&sent).await;
        self.unsure().retain(|other| !Arc::ptr_eq(other, &sent));
        answered
    }

    /// To be asked before the body runs again: what was on its way when it was dropped may have taken effect or not.
    pub(crate) async fn settle_records(&self) {
        let unsure = std::mem::take(&mut *self.unsure());
        for sent in unsure {
            // A refused change has not taken effect.
            let _ = self.send(&sent).await;
        }
    }

    fn unsure(&self) -> MutexGuard<'_, Vec<Arc<(Checkpoint, Along)>>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, sent: &(Checkpoint, Along)) -> Outcome<Vec<(u64, Vec<u8>)>> {
        let (reach, (checkpoint, along)) = (&self.reach, sent);
        let send = |_| -> BoxFuture<'_, _> {
            Box::pin(async move { reach.store.checkpoint(&reach.worker, &reach.hold.fence(), checkpoint).await })
        };
        let checkpointed = match () {
            () if self.replays => Checkpointed::from(CommitStatus::Committed),
            () if checkpoint.entries.is_empty() && checkpoint.waits.is_empty() => reach.persist(send).await?,
            () => reach.record(send).await?,
        };
        match checkpointed.outcome {
            CommitStatus::Fenced | CommitStatus::Forgotten => self.give_up().await,
            // It expects nothing of the context.
            CommitStatus::Committed | CommitStatus::Unstaged | CommitStatus::Conflict => {
                let mut journal = self.journal();
                checkpoint.entries.iter().for_each(|(number, entry)| journal.keep(*number, entry.clone()));
                journal.was_recorded(along);
                Ok(checkpointed.answers)
            }
        }
    }
}

impl<S> Context<S> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, state: PhantomData }
    }

    /// Cancelled when the run is, within about a second. Code that awaits is dropped then and need not look; code that
    /// computes for long, or has given work to other tasks or threads, can use it to stop.
    pub fn cancelled(&self) -> Cancellation {
        Cancellation(self.core.cancelled.clone())
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.core.reach.run
    }

    /// The step execution's number, unique in its run.
    pub fn seq(&self) -> u64 {
        self.core.reach.seq
    }

    /// The number of this attempt, from 1. Attempts whose worker died count too, and so do those that ended by
    /// waiting.
    pub fn attempt(&self) -> u32 {
        self.core.reach.hold.fence().attempt
    }

    /// How many attempts before this one ended with an error.
    pub fn failures(&self) -> u32 {
        self.core.past.failures
    }

    /// The error of the last attempt; None in the first attempt, and if only workers were lost so far.
    pub fn last_error(&self) -> Option<&str> {
        self.core.past.last_error.as_deref()
    }

    /// How long this step execution has taken so far, from the beginning of the first attempt that failed, or of this
    /// one if none has. Delays between attempts count too.
    pub fn elapsed(&self) -> Duration {
        self.core.past.elapsed()
    }

    /// An idempotency key for calls to other services: the same for every attempt at this step execution, and unique
    /// to it.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.core.reach.run, self.core.reach.seq)
    }

    /// The run's state.
    pub fn state(&self) -> State<'_, S> {
        State::of(&self.core)
    }
}
