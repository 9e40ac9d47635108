//! Waiting durable functions in the memory of their worker. One that is claimed again here continues at once; anywhere
//! else, it is replayed.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stepfleet_shared::log;
use stepfleet_shared::step::{self, Claimed, Fence};
use tokio::time::Instant;

use super::execute::{Body, panic_message};
use super::session::Session;
use crate::context::Core;

/// The most bytes in the journals of all kept functions.
const MOST_JOURNALS: usize = 64 * 1024 * 1024;
/// How long a waiting function is kept.
const KEPT: Duration = Duration::from_secs(600);

/// What a session keeps.
pub(super) struct Kept {
    /// How many at most.
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By run and number.
    bodies: HashMap<(String, u64), KeptBody>,
    /// In the order in which they came.
    order: BTreeMap<u64, (String, u64)>,
    last: u64,
    bytes: usize,
}

/// A body that waits.
pub(super) struct KeptBody {
    attempt: u32,
    /// Its event: it is not sent again.
    payload: Vec<u8>,
    core: Arc<Core>,
    body: Box<Body>,
    place: u64,
    bytes: usize,
    since: Instant,
}

impl Kept {
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: Mutex::default() }
    }

    /// Keeps the body of a waiting step, if that is allowed; older ones make room for it.
    pub(super) fn keep(&self, step: &Claimed, core: &Arc<Core>, body: Box<Body>) -> step::Body {
        let bytes = core.journal().size() + step.payload.len();
        if self.most == 0 || bytes > MOST_JOURNALS || !core.may_be_kept() {
            let_go(body);
            return step::Body::Dropped;
        }
        let (attempt, payload) = (step.fence.attempt, step.payload.clone());
        let kept = KeptBody { attempt, payload, core: core.clone(), body, place: 0, bytes, since: Instant::now() };
        let gone = {
            let mut waiting = self.waiting();
            let gone = waiting.remove(&step.fence);
            waiting.insert(&step.fence, kept);
            gone.into_iter().chain(waiting.make_room(self.most)).collect::<Vec<_>>()
        };
        gone.into_iter().for_each(KeptBody::let_go);
        step::Body::Kept
    }

    /// The body that continues as this attempt. It is dropped if another worker has added to the journal since.
    pub(super) fn take(&self, step: &Claimed) -> Option<KeptBody> {
        // Most steps wait for nothing.
        if step.fence.attempt < 2 {
            return None;
        }
        let kept = self.waiting().remove(&step.fence)?;
        if step.kept && kept.attempt + 1 == step.fence.attempt {
            return Some(kept);
        }
        kept.let_go();
        None
    }

    /// It does not wait.
    pub(super) fn drop(&self, fence: &Fence) {
        let gone = self.waiting().remove(fence);
        gone.into_iter().for_each(KeptBody::let_go);
    }

    /// Drops those that wait for very long.
    pub(super) fn tidy(&self) {
        let gone = self.waiting().remove_before(Instant::now().checked_sub(KEPT));
        gone.into_iter().for_each(KeptBody::let_go);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn insert(&mut self, fence: &Fence, mut kept: KeptBody) {
        self.last += 1;
        self.bytes += kept.bytes;
        kept.place = self.last;
        let key = (fence.run.clone(), fence.seq);
        self.order.insert(self.last, key.clone());
        self.bodies.insert(key, kept);
    }

    fn remove(&mut self, fence: &Fence) -> Option<KeptBody> {
        if self.bodies.is_empty() {
            return None;
        }
        let kept = self.bodies.remove(&(fence.run.clone(), fence.seq))?;
        self.order.remove(&kept.place);
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn remove_first(&mut self) -> Option<KeptBody> {
        let (_, key) = self.order.pop_first()?;
        let kept = self.bodies.remove(&key)?;
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn make_room(&mut self, most: usize) -> Vec<KeptBody> {
        let mut gone = Vec::new();
        while self.bodies.len() > most || self.bytes > MOST_JOURNALS {
            gone.extend(self.remove_first());
        }
        gone
    }

    fn remove_before(&mut self, time: Option<Instant>) -> Vec<KeptBody> {
        let mut gone = Vec::new();
        while let Some(first) = self.order.first_key_value().and_then(|(_, key)| self.bodies.get(key))
            && time.is_some_and(|time| first.since < time)
        {
            gone.extend(self.remove_first());
        }
        gone
    }
}

impl KeptBody {
    /// The step, its context and its body, for the attempt that has been claimed.
    pub(super) fn go_on(self, session: &Session, step: &Claimed) -> (Arc<Claimed>, Arc<Core>, Option<Box<Body>>) {
        session.ledger.go_on(&step.fence, self.core.stop());
        self.core.go_on(step);
        let step = Claimed { payload: self.payload, ..step.clone() };
        (Arc::new(step), self.core, Some(self.body))
    }

    fn let_go(self) {
        let_go(self.body);
    }
}

/// Drops a body: a panic in its author's code must not harm others.
fn let_go(body: Box<Body>) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(body))) {
        log::error!(panic = panic_message(&*panic), "a function panicked when it was dropped while it waited");
    }
}
