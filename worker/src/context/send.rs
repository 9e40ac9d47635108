//! `ctx.send`: events that a step sends besides those that it returns.

use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use crate::decisions::graph::Router;
use crate::decisions::plan::Outgoing;
use crate::error::{Error, Outcome};
use crate::event::Event;

/// What an attempt has sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    /// None if the workflow is not known: nothing can be sent then.
    pub(crate) router: Option<Arc<Router>>,
    sent: Mutex<Vec<Outgoing>>,
}

impl Sends {
    pub(crate) fn of(router: Option<Arc<Router>>) -> Self {
        Self { router, sent: Mutex::default() }
    }

    pub(crate) fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push<E: Event>(&self, from: &str, event: &E, to: Option<&str>) -> Outcome<()> {
        let router =
            self.router.as_ref().ok_or_else(|| Error::terminal("nothing can be sent outside of a workflow"))?;
        check(router, from, E::NAME, to)?;
        let payload = event.payload(E::NAME)?;
        let sent = Outgoing { event: E::NAME, payload, to: to.map(str::to_owned) };
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        Ok(())
    }
}

/// Whether a step may send this event to that step. Pure.
fn check(router: &Router, from: &str, event: &str, to: Option<&str>) -> Outcome<()> {
    if router.is_stop(event) {
        return Err(Error::terminal(format!("step {from} sends {event}, which ends the run: return it instead")));
    }
    let takers = router.takers_names(event);
    if let Some(to) = to
        && !takers.contains(&to)
    {
        let known = if router.has_step(to) { "does not take it" } else { "does not exist" };
        let list = if takers.is_empty() { "none does".to_owned() } else { takers.join(", ") };
        return Err(Error::terminal(format!(
            "step {from} sends {event} to step {to}, which {known}; steps that take {event}: {list}"
        )));
    }
    if takers.is_empty() {
        return Err(Error::terminal(format!("step {from} sends {event}, which no step accepts")));
    }
    if !router.may_send(from, event) {
        return Err(Error::terminal(format!(
            "step {from} sends {event} without declaring it; write #[step(sends = [{event}])], so that the graph shows \
             it"
        )));
    }
    Ok(())
}

impl<S> Context<S> {
    /// Sends an event to every step that takes it, with the step's commit. The step names the event's type:
    /// `#[step(sends = [Lookup])]`. It does not wait.
    ///
    /// A sent event counts as if it were returned: it belongs to the same fan-out as this step execution, or to the one
    /// that this step opens with a `Vec`. Fails with a terminal error if no step takes the event, if `sends` does not
    /// name it, and for the stop event.
    pub fn send<E: Event>(&self, event: &E) -> Outcome<()> {
        self.core.sends.push(&self.core.reach.step, event, None)
    }

    /// Like [`Context::send`], to one step. Also fails if there is no such step, or if it does not take the event.
    pub fn send_to<E: Event>(&self, step: &str, event: &E) -> Outcome<()> {
        self.core.sends.push(&self.core.reach.step, event, Some(step))
    }
}
