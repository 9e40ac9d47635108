//! A worker's double: it calls the transitions by hand, one at a time, and says when a call is a repetition.

use std::time::Duration;

use stepfleet_shared::request::StartRequest;
use stepfleet_shared::step::{CallId, Claim, Claimed, Commit, CommitStatus, Fan, Join, Next, Refill, Route};
use stepfleet_shared::store::{Fire, Introduction, Reap, Registration, Start, Store};

/// How many slots are reserved for each call.
const SLOTS: u32 = 10_000;
/// The claim that goes with a completion has the completion's number and this.
const BESIDE: u64 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A step that takes an event `E` and the context.
pub fn route(step: &str) -> Route {
    Route { step: step.into(), event: "E".into(), context: true, ..Route::default() }
}

/// A run of version 1 of the workflow `w`, which begins with the step `first`.
pub fn start(run: &str) -> Start {
    Start {
        request: StartRequest::new("w", "{}"),
        run: run.into(),
        version: 1,
        routes: vec![route("first")],
        key_ttl: HOUR,
        ..Start::default()
    }
}

/// The same, requested through the inbox.
///
/// # Panics
///
/// If the store fails.
pub async fn requested(store: &dyn Store, run: &str) -> Start {
    let entry = store.enqueue(&[(b"op".to_vec(), b"start".to_vec())]).await.expect("an inbox");
    Start { entry: Some(entry), ..start(run) }
}

/// A worker that serves version 1 of the workflow `w`.
pub fn introduction(worker: &str) -> Introduction {
    let serves =
        vec![Registration { workflow: "w".into(), version: 1, start: vec![route("first")], ..Registration::default() }];
    Introduction { id: worker.into(), serves, concurrency: 8, ..Introduction::default() }
}

/// Registers such a worker, or gives it another lease.
///
/// # Panics
/// If the store refuses it.
pub async fn join_fleet(store: &dyn Store, worker: &str, lease: Duration) {
    store.register(&introduction(worker), lease).await.expect("the worker is registered");
}

/// Reaps workers whose lease ran out, and these, whose lease connection was seen closed.
pub fn reap(suspects: &[&str]) -> Reap {
    let suspects = suspects.iter().map(|worker| ((*worker).to_owned(), 0)).collect();
    Reap { limit: 100, max_losses: 3, retention: HOUR, suspects }
}

/// Fires due timers.
pub fn fire() -> Fire {
    Fire { limit: 100, retention: HOUR }
}

/// Does what a coordinator would do: reaps, then fires.
///
/// # Panics
/// If the store refuses it.
pub async fn catch_up(store: &dyn Store, suspects: &[&str]) {
    store.reap(&reap(suspects)).await.expect("what the lost held is taken back");
    store.fire(&fire()).await.expect("what is due is fired");
}

/// A call; `again` if an earlier try may have taken effect.
pub fn call(worker: &str, number: u64, again: bool) -> CallId {
    CallId { worker: worker.into(), number, again }
}

/// Separate slots for each number of a call: the worker's other holds stay in theirs.
///
/// # Panics
/// If the call's number is larger than tests use.
pub fn slots(call: &CallId, most: usize) -> Claim {
    let first = u32::try_from(call.number).ok().and_then(|number| number.checked_mul(SLOTS)).expect("a small number");
    Claim { slots: (first..).take(most).collect(), ..Claim::default() }
}

/// Asks for one step event if any are wanted, waiting ones before the successor.
pub fn refill(most: usize) -> Refill {
    Refill { next: if most > 0 { Next::Others } else { Next::Nothing }, after: None }
}

/// A commit that emits an event for each of these steps.
pub fn emit(steps: &[&str]) -> Commit {
    Commit {
        emits: steps.iter().map(|step| (route(step), vec![1, 0xc0])).collect(),
        retention: HOUR,
        ..Commit::default()
    }
}

/// A commit that ends the run.
pub fn stop() -> Commit {
    Commit { result: Some(b"\"ok\"".to_vec()), retention: HOUR, ..Commit::default() }
}

/// A commit that opens a fan-out of these branches and of this many staged ones, which these steps join.
pub fn fan(branches: &[&str], joins: &[&str], staged: u64) -> Commit {
    let joins = joins.iter().map(|step| Join::all(route(step))).collect();
    Commit { fan: Some(Fan { joins, staged }), ..emit(branches) }
}

/// A commit with an event for a joining step.
pub fn joins(step: &str, number: u8) -> Commit {
    Commit { joins: vec![(step.into(), vec![1, number])], ..emit(&[]) }
}

/// Claims up to this many step executions.
///
/// # Panics
/// If the store does not answer, or the worker's lease is gone.
pub async fn claim(store: &dyn Store, worker: &str, number: u64, most: usize) -> Vec<Claimed> {
    let call = call(worker, number, false);
    store.claim(&call, &slots(&call, most)).await.expect("an answer").expect("a lease").steps
}

/// Repeats such a claim.
///
/// # Panics
/// If the store does not answer, or the worker's lease is gone.
pub async fn claim_again(store: &dyn Store, worker: &str, number: u64, most: usize) -> Vec<Claimed> {
    let call = call(worker, number, true);
    store.claim(&call, &slots(&call, most)).await.expect("an answer").expect("a lease").steps
}

/// Completes a step execution, and claims up to this many in all.
///
/// # Panics
/// If the store does not answer.
pub async fn complete(
    store: &dyn Store,
    call: &CallId,
    step: &Claimed,
    commit: &Commit,
    most: usize,
) -> (CommitStatus, Vec<Claimed>) {
    let (outcome, mut claimed) = store.complete(call, step, commit, &refill(most)).await.expect("an answer");
    if outcome == CommitStatus::Committed && claimed.len() < most {
        let beside = CallId { number: call.number + BESIDE, ..call.clone() };
        let rest = slots(&beside, most - claimed.len());
        claimed.extend(store.claim(&beside, &rest).await.expect("an answer").unwrap_or_default().steps);
    }
    (outcome, claimed)
}
