//! Executes one attempt: reads what it needs, runs the step's code, and survives whatever the code does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, CatchUnwind};
use stepfleet_shared::names::QueueName;
use stepfleet_shared::step::Claimed;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::drive::{Ended, Waits, drive};
use super::session::Session;
use crate::context::{Busy, Confirmed, Core, Foreign, Hold, Interrupt, Journal, Past, Reach};
use crate::emit::Emission;
use crate::error::{Error, Outcome};
use crate::workflow::{Attempt, Served};

/// How many joined events are read at a time.
const SLICE: u64 = 500;
/// How long code has to release its thread after its timeout, before it counts as blocking.
const PARTING: Duration = Duration::from_millis(100);

/// The outcome of an attempt, with the context that it may have changed.
pub(super) struct Attempted {
    pub(super) outcome: Outcome<Came>,
    pub(super) core: Arc<Core>,
}

/// The outcome of the step's code.
pub(super) enum Came {
    /// It returned this.
    To(Emission),
    /// It waits.
    ToWait(Waits, Box<Body>),
    /// Others have changed what it had read.
    Conflict,
}

/// The running code of a step.
pub(super) type Body = CatchUnwind<AssertUnwindSafe<BoxFuture<'static, Outcome<Emission>>>>;

/// The attempt that the code of a held step gets.
pub(super) fn core(session: &Session, step: &Claimed) -> Arc<Core> {
    let fence = &step.fence;
    let router = served(session, step).map(|served| served.router.clone());
    let reach = Reach {
        store: session.store.clone(),
        partitions: session.partitions.clone(),
        worker: session.id.clone(),
        run: fence.run.clone(),
        seq: fence.seq,
        hold: Hold::of(fence),
        step: step.step.clone(),
        group: step.group,
        content: step.content,
        busy: Busy::default(),
        outages: session.outages.clone(),
        durability: step.durability,
        confirmed: Confirmed::default(),
    };
    let stop = session.ledger.stop(&step.fence);
    let core = Core::new(reach, Past::of(step), step.context.clone(), stop, Journal::of(step)).within(router);
    let refused = if session.refuses_foreign { Foreign::Refused } else { Foreign::Warned };
    let known = served(session, step).and_then(|served| served.step(&step.step));
    Arc::new(match known {
        Some(known) => core.of_body(known, refused),
        None => core,
    })
}

/// `body` is one that continues after a wait; otherwise it begins at its top.
pub(super) async fn attempt(
    session: &Session,
    step: &Arc<Claimed>,
    core: Arc<Core>,
    body: Option<Box<Body>>,
) -> Attempted {
    let outcome = run(session, step, core.clone(), body).await;
    match &outcome {
        Ok(Came::ToWait(..)) => core.flush_streams().await,
        outcome => core.settle_streams(matches!(outcome, Ok(Came::To(_)))).await,
    }
    Attempted { outcome, core }
}

pub(super) fn served<'a>(session: &'a Session, step: &Claimed) -> Option<&'a Served> {
    session.served.get(&QueueName::new(&step.workflow, step.version))
}

async fn run(session: &Session, step: &Arc<Claimed>, core: Arc<Core>, body: Option<Box<Body>>) -> Outcome<Came> {
    if let Some(damage) = &step.damage {
        return Err(Error::terminal(format!("step execution {} cannot be read: {damage}", step.fence.seq)));
    }
    let served = served(session, step).ok_or_else(|| {
        Error::terminal(format!("this worker does not serve {} version {}", step.workflow, step.version))
    })?;
    let known = served.step(&step.step).ok_or_else(|| {
        Error::terminal(format!(
            "workflow {} version {} has no step {} any more; serve the old code under its version and give the new code a higher one",
            step.workflow, step.version, step.step
        ))
    })?;
    let mut body = if let Some(body) = body {
        body
    } else {
        let joined = read_joined(&core, step).await?;
        let attempt = Attempt { claimed: Arc::clone(step), joined, core: core.clone(), stop: served.stop };
        Box::new(AssertUnwindSafe((known.run)(attempt)).catch_unwind())
    };
    let (ended, body) = match known.timeout {
        None => (drive(core.clone(), &mut body).await, body),
        Some(limit) => {
            let core = core.clone();
            within(limit, &step.step, async move { (drive(core, &mut body).await, body) }).await?
        }
    };
    match ended {
        Ended::Returned(Ok(returned)) => committable(&core, returned?).await,
        Ended::Again(input) => committable(&core, Emission::again(served.stop, step.content, input)).await,
        Ended::Returned(Err(panic)) => {
            Err(Error::msg(format!("step {} panicked: {}", step.step, panic_message(&*panic))))
        }
        Ended::Waits(waits) => Ok(Came::ToWait(waits, body)),
        Ended::Conflict => Ok(Came::Conflict),
        Ended::Refused(error) => Err(error),
    }
}

/// What the body has come to may be committed, unless it came there on another way than an earlier attempt.
async fn committable(core: &Core, emission: Emission) -> Outcome<Came> {
    if let Some(astray) = core.journal().astray() {
        return Err(astray);
    }
    match core.settle_saves().await {
        Ok(()) => Ok(Came::To(emission)),
        Err(Interrupt::Conflict) => Ok(Came::Conflict),
        Err(Interrupt::Refused(error)) => Err(error),
        Err(Interrupt::Again(_)) => Err(Error::msg("a commit of the state cannot begin the function anew")),
    }
}

/// Runs code in a separate task: code that blocks its thread would otherwise block the clock that is to end it.
async fn within<T: Send + 'static>(
    limit: Duration,
    step: &str,
    code: impl Future<Output = T> + Send + 'static,
) -> Outcome<T> {
    let running = Arc::new(AtomicBool::new(false));
    let mut task = AbortOnDropHandle::new(tokio::spawn(watched(code, running.clone()).in_current_span()));
    if let Ok(ended) = tokio::time::timeout(limit, &mut task).await {
        return ended.map_err(|cut| Error::msg(format!("step {step} was cut off: {cut}")));
    }
    task.abort();
    let late = format!("step {step} took longer than its timeout of {limit:?}");
    // Whatever awaits is dropped at once; only then may another attempt begin.
    match tokio::time::timeout(PARTING, task).await {
        // Without the mark, its runtime has only had no time to drop it yet.
        Err(_) if running.load(Ordering::SeqCst) => Err(Error::msg(format!(
            "{late} and still blocks a thread of its worker: let it await, or move the blocking code into \
             tokio::task::spawn_blocking"
        ))),
        _ => Err(Error::msg(late)),
    }
}

/// Marks when the code has a thread.
fn watched<T>(code: impl Future<Output = T> + Send, running: Arc<AtomicBool>) -> impl Future<Output = T> + Send {
    let mut code = Box::pin(code);
    std::future::poll_fn(move |context| {
        running.store(true, Ordering::SeqCst);
        let poll = code.as_mut().poll(context);
        running.store(false, Ordering::SeqCst);
        poll
    })
}

pub(super) async fn read_joined(core: &Core, step: &Claimed) -> Outcome<Vec<Vec<u8>>> {
    let Some(joined) = &step.joined else { return Ok(Vec::new()) };
    let (reach, mut events) = (&core.reach, Vec::new());
    while (events.len() as u64) < joined.count {
        let from = events.len() as u64;
        let slice = reach.persist(|_| reach.store.joined(step, joined, from, SLICE)).await?;
        if slice.is_empty() {
            return Err(Error::msg("the joined events are gone: another attempt has committed"));
        }
        events.extend(slice);
    }
    Ok(events)
}

pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
