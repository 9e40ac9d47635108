//! Detects that the body of a durable function awaits a future that is not the SDK's: a sleep of tokio, a request over
//! the network, a task. It would await that again each time it runs, and holds a worker meanwhile.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Context;

use stepfleet_shared::log;

use crate::context::{Core, Foreign};
use crate::error::Error;

/// A body that yields to others (`yield_now`, a budget of tokio's that is used up) is woken once the task has yielded. So the task
/// yields too, this many times, before it is sure.
const YIELDS: u32 = 3;

/// Workflows that were warned of.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

type Yield = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether the body awaits something foreign.
#[derive(Default)]
pub(super) struct Doubt {
    /// The body was polled, awaits, and awaits none of its calls.
    yielding: Option<(Yield, u32)>,
    is_settled: bool,
}

impl Doubt {
    /// The body awaits, and was not woken meanwhile.
    pub(super) fn look(&mut self, core: &Core) {
        if !self.is_settled && core.foreign != Foreign::Allowed && core.awaits_nothing() {
            self.yielding = Some((Box::pin(tokio::task::yield_now()), 0));
        }
    }

    /// It was woken.
    pub(super) fn dispel(&mut self) {
        self.yielding = None;
    }

    /// The error that the attempt is to end with, once that is sure and not allowed.
    pub(super) fn poll(&mut self, core: &Core, context: &mut Context<'_>) -> Option<Error> {
        while let Some((yielding, times)) = &mut self.yielding {
            if yielding.as_mut().poll(context).is_pending() {
                return None;
            }
            (*yielding, *times) = (Box::pin(tokio::task::yield_now()), *times + 1);
            if *times >= YIELDS {
                (self.yielding, self.is_settled) = (None, true);
                return tell(core);
            }
        }
        None
    }
}

fn tell(core: &Core) -> Option<Error> {
    let (about, last) = core.journal().whereabouts();
    let after = last.map_or_else(|| "before its first recorded call".to_owned(), |last| format!("after {last}"));
    let text = format!(
        "{about} awaits a future that is not Stepfleet's, {after}: its result is not recorded, it is awaited again \
         each time the body runs, and it occupies a worker meanwhile. Put it into ctx.step; instead of tokio's sleep, \
         use ctx.sleep"
    );
    if core.foreign == Foreign::Refused {
        return Some(Error::terminal(text));
    }
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(about) {
        log::warn!("{text}");
    }
    None
}
