//! What a step tells those who follow its run.

use futures_util::future::BoxFuture;
use stepfleet::published::Publication;
use stepfleet::step::Outcome as Stands;
use stepfleet::{codec, names};

use super::Context;
use crate::error::Outcome;
use crate::event::Event;

impl<S> Context<S> {
    /// Tells those who follow the run, at once: progress, a part of the answer, a question. No step gets the event, and
    /// it need not be in the workflow's graph.
    ///
    /// What is published stays, whatever becomes of the attempt, and an attempt that runs again publishes again: each
    /// entry says which step execution (`seq`) and which attempt it is of. One call publishes once, also where Redis
    /// breaks off in the middle. What one attempt publishes keeps its order.
    ///
    /// Takes one round trip, and waits while Redis is away. Fails where the event is over 1 MiB, or cannot be written
    /// the way that the run's caller reads (JSON or MessagePack). About 10,000 entries of a run are kept, the newest,
    /// for as long as the run is readable: publish what people follow, and keep large data elsewhere.
    ///
    /// Where this attempt is no longer the current one, or the run has ended, nothing is published, and the step ends
    /// here: the call does not return.
    pub async fn publish<E: Event>(&self, event: &E) -> Outcome<()> {
        names::check_name("event", E::NAME)?;
        let reach = &self.core.reach;
        let data = codec::encode_as(&format!("the event {}", E::NAME), reach.content, event)?;
        // One after the other: a repetition is known by the number of the last one.
        let mut published = self.core.published.lock().await;
        *published += 1;
        let publication = Publication {
            number: *published,
            step: reach.step.clone(),
            event: E::NAME.to_owned(),
            content: reach.content,
            data,
        };
        let send = |_| -> BoxFuture<'_, _> {
            let publication = &publication;
            Box::pin(async move { reach.store.publish(&reach.worker, &reach.fence, publication).await })
        };
        match reach.persist(send).await? {
            Stands::Fenced => self.core.give_up().await,
            Stands::Committed | Stands::Unstaged | Stands::Conflict => Ok(()),
        }
    }
}
