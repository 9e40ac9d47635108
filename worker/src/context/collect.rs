//! `ctx.collect`: a step collects events across its executions.

use futures_util::future::BoxFuture;
use stepfleet_shared::names;
use stepfleet_shared::step::{Collect, collected};

use super::{Call, Context, Core};
use crate::error::{Error, Outcome};
use crate::event::Event;
use crate::replay::Collected;

/// The most events that a buffer holds: one call returns and records all of them.
const MAX_COUNT: u32 = 1000;

impl<S> Context<S> {
    /// Puts an event into a buffer of this step, at once. Returns `Some` with `count` events, in order of arrival, for
    /// the one that fills it; `None` for all others.
    ///
    /// All executions of the step in a run share the buffer, whichever workers they are on; within a fan-out, those of
    /// that fan-out. An event is put in once, however often its step execution is attempted, and later attempts get the
    /// same answer. It is a call of the body like [`Context::step`], with the same rules for its order, and takes one
    /// round trip.
    ///
    /// `Joined` does the same for the events of a fan-out, and needs no count.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # #[event] struct Vote { fine: bool }
    /// # #[event] struct Decided { fine: bool }
    /// # async fn body(ctx: &Context, ev: Vote) -> Outcome<Option<Decided>> {
    /// let Some(votes) = ctx.collect("votes", 3, &ev).await? else { return Ok(None) };
    /// Ok(Some(Decided { fine: votes.iter().all(|vote| vote.fine) }))
    /// # }
    /// ```
    ///
    /// Fails with a terminal error if the count is 0 or over 1,000, if the name is not valid ([`names::check_call`]),
    /// if the event is over 1 MiB, and if the step has recorded 100,000 entries.
    pub fn collect<'a, E: Event>(&'a self, buffer: &str, count: u32, event: &E) -> Call<'a, Option<Vec<E>>> {
        let number = self.core.journal().next();
        let payload = event.payload(E::NAME).map_err(Error::from);
        let name = names::token(buffer);
        let work = Box::pin(collect(&self.core, number, name.clone(), count, payload));
        Call::new(&self.core, number, name, work)
    }
}

async fn collect<E: Event>(
    core: &Core,
    number: u64,
    buffer: String,
    count: u32,
    payload: Outcome<Vec<u8>>,
) -> Outcome<Option<Vec<E>>> {
    let text = names::text(&buffer);
    names::check_call("buffer", &text)?;
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(Error::terminal(format!(
            "the buffer {text} cannot hold {count} events; it holds 1 to {MAX_COUNT} (a fan-out with Joined takes any \
             number)"
        )));
    }
    core.save_before(number).await?;
    let known = core.journal().collected(number, &buffer)?;
    let entry = match known {
        Collected::Came(entry) => entry,
        Collected::Never => std::future::pending().await,
        Collected::New => {
            let (step, group) = (core.reach.step.clone(), core.reach.group);
            put(core, Collect { number, step, group, buffer, count, payload: payload?, upon: None }).await?
        }
    };
    let event = |payload: &Vec<u8>| Ok(E::from_payload(E::NAME, payload)?);
    collected(&entry)?.map(|events| events.iter().map(event).collect()).transpose()
}

async fn put(core: &Core, collect: Collect) -> Outcome<Vec<u8>> {
    if core.replays {
        return core.beyond(collect.number, &collect.buffer).await;
    }
    let _busy = core.reach.busy.enter();
    // The body has received results whose order is not recorded yet.
    core.record_along().await?;
    let (reach, collect) = (&core.reach, &Collect { upon: core.journal().upon(), ..collect });
    let send = |_| -> BoxFuture<'_, _> {
        Box::pin(async move { reach.store.collect(&reach.worker, &reach.hold.fence(), collect).await })
    };
    match reach.record(send).await? {
        Some(entry) => {
            let mut journal = core.journal();
            journal.keep(collect.number, entry.clone());
            journal.has_gone_on();
            Ok(entry)
        }
        None => core.give_up().await,
    }
}
