//! What a step publishes to the followers of its run.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::future::BoxFuture;
use stepfleet_shared::names;
use stepfleet_shared::published::Publication;
use stepfleet_shared::step::CommitStatus;

use super::{Context, Core};
use crate::error::Outcome;
use crate::event::Event;

impl<S> Context<S> {
    /// Publishes an event to the followers of the run, at once: progress, a part of the answer, a question. No step
    /// gets it, and it need not be in the workflow's graph.
    ///
    /// What is published stays, however the attempt ends. Each event has an id that stands for its place in the body:
    /// a body that runs again, after a conflict or in a later attempt, passes the same places, and what it has published
    /// there already is not added again. If it publishes something else there, that is added under the same id: of
    /// the entries with one id the last one counts. Places are counted when `publish` is called, and within the work of
    /// [`Context::step`] on their own; so a body that makes the same calls in the same order each time repeats nothing.
    /// The first 10,000 places of a step execution are remembered.
    ///
    /// One call publishes once, even if the connection to Redis breaks. What one attempt publishes keeps its order.
    ///
    /// Takes one round trip, and waits while Redis is away. Fails if the event is over 1 MiB, or cannot be written
    /// the way that the run's caller reads (JSON or MessagePack). About 10,000 entries of a run are kept, the newest,
    /// for as long as the run is readable: publish what people follow, and keep large data elsewhere.
    ///
    /// If this attempt is no longer the current one, or the run has ended, nothing is published, and the step ends
    /// here: the call does not return.
    pub fn publish<'a, E: Event>(&'a self, event: &E) -> impl Future<Output = Outcome<()>> + Send + use<'a, S, E> {
        let core = &*self.core;
        let publication = core.publication(event);
        async move { core.publish(publication?).await }
    }
}

impl Core {
    fn publication<E: Event>(&self, event: &E) -> Outcome<Publication> {
        let (call, number) = self.places().next();
        names::check_name("event", E::NAME)?;
        let reach = &self.reach;
        let data = event.write_as(&format!("the event {}", E::NAME), reach.content)?;
        let (step, event) = (reach.step.clone(), E::NAME.to_owned());
        Ok(Publication { call, number, step, event, content: reach.content, data })
    }

    async fn publish(&self, publication: Publication) -> Outcome<()> {
        if self.replays {
            return Ok(());
        }
        // One after the other: when there is no room to remember more, only the last one is known.
        let _turn = self.published.lock().await;
        let (reach, publication) = (&self.reach, &publication);
        let send = |_| -> BoxFuture<'_, _> {
            Box::pin(async move { reach.store.publish(&reach.worker, &reach.hold.fence(), publication).await })
        };
        match reach.persist(send).await? {
            CommitStatus::Fenced | CommitStatus::Forgotten => self.give_up().await,
            CommitStatus::Committed | CommitStatus::Unstaged | CommitStatus::Conflict => Ok(()),
        }
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what a body publishes: within each recorded call, whose work is not done again once it is recorded, and outside
/// of any.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The call whose work is polled now; 0 for none.
    call: u64,
    pub(super) made: BTreeMap<u64, u64>,
}

impl Places {
    /// The call that a publication is made within, and its number there.
    pub(super) fn next(&mut self) -> (u64, u64) {
        let made = self.made.entry(self.call).or_default();
        *made += 1;
        (self.call, *made)
    }
}

impl Places {
    /// The work of a call begins, perhaps again: it then publishes at the same places.
    pub(super) fn begin(&mut self, call: u64) {
        if let Some(made) = self.made.get_mut(&call) {
            *made = 0;
        }
    }
}

/// The work of a recorded call: what it publishes is counted as its own.
pub(super) struct Within<'a, W> {
    core: &'a Core,
    call: u64,
    work: Pin<Box<W>>,
}

impl<'a, W: Future> Within<'a, W> {
    pub(super) fn new(core: &'a Core, call: u64, work: W) -> Self {
        Self { core, call, work: Box::pin(work) }
    }
}

impl<W: Future> Future for Within<'_, W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<W::Output> {
        let (core, call) = (self.core, self.call);
        let before = std::mem::replace(&mut core.places().call, call);
        let polled = self.work.as_mut().poll(context);
        core.places().call = before;
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recorded_call_counts_on_its_own() {
        let mut places = Places::default();
        assert_eq!((places.next(), places.next()), ((0, 1), (0, 2)));
        places.call = 3;
        assert_eq!((places.next(), places.next()), ((3, 1), (3, 2)));
        places.call = 0;
        assert_eq!(places.next(), (0, 3), "whether the call did its work or was replayed");
    }
}
