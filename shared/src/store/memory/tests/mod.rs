//! The scenarios that the store on Redis is tested with, and more, on a clock that moves only when told to.

mod journal;
mod kernel;
mod requests;
mod waiting;

use std::time::Duration;

use super::MemoryStore;
use crate::names::Namespace;
use crate::request::StartRequest;
use crate::step::{Call, Claim, Claimed, Commit, Fan, Join, Next, Refill, Route};
use crate::store::{Introduction, Registration, Start, Store, Tick};

const LEASE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

fn store() -> MemoryStore {
    MemoryStore::with_clock(Namespace::default(), 1_000_000)
}

fn route(step: &str) -> Route {
    Route { step: step.into(), event: "E".into(), context: true, ..Route::default() }
}

fn start(id: &str) -> Start {
    Start {
        request: StartRequest::new("w", "{}"),
        run: id.into(),
        version: 1,
        routes: vec![route("first")],
        key_ttl: LEASE,
        ..Start::default()
    }
}

/// Slots of their own for each call: what a worker holds stays where it is.
fn slots(call: &Call, most: usize) -> Claim {
    let first = u32::try_from(call.number).unwrap() * 10_000;
    Claim { slots: (first..).take(most).collect(), ..Claim::default() }
}

/// Takes what waits before what follows.
fn refill(most: usize) -> Refill {
    Refill { next: if most > 0 { Next::Others } else { Next::Nothing }, after: None }
}

fn call(worker: &str, number: u64, again: bool) -> Call {
    Call { worker: worker.into(), number, again }
}

async fn join_fleet(store: &dyn Store, worker: &str, lease: Duration) {
    let serves =
        vec![Registration { workflow: "w".into(), version: 1, start: vec![route("first")], ..Registration::default() }];
    let introduction = Introduction { id: worker.into(), serves, concurrency: 8, ..Introduction::default() };
    store.register(&introduction, lease).await.unwrap();
}

async fn claim(store: &dyn Store, worker: &str, number: u64, most: usize) -> Vec<Claimed> {
    let call = call(worker, number, false);
    store.claim(&call, &slots(&call, most)).await.unwrap().unwrap()
}

/// Completes a step execution, and claims up to `most` in all.
async fn complete(store: &dyn Store, number: u64, step: &Claimed, commit: &Commit, most: usize) -> Vec<Claimed> {
    let mut claimed = store.complete(&call("a", number, false), step, commit, &refill(most)).await.unwrap().1;
    if claimed.len() < most {
        claimed.extend(claim(store, "a", number + 1000, most - claimed.len()).await);
    }
    claimed
}

fn emit(steps: &[&str]) -> Commit {
    Commit { emits: steps.iter().map(|s| (route(s), vec![1, 0xc0])).collect(), retention: LEASE, ..Commit::default() }
}

fn fan(branches: &[&str], joins: &[&str], staged: u64) -> Commit {
    let joins = joins.iter().map(|step| Join::all(route(step))).collect();
    Commit { fan: Some(Fan { joins, staged }), ..emit(branches) }
}

fn joins(step: &str, number: u8) -> Commit {
    Commit { joins: vec![(step.into(), vec![1, number])], ..emit(&[]) }
}

fn stop() -> Commit {
    Commit { result: Some(b"\"ok\"".to_vec()), retention: LEASE, ..Commit::default() }
}

fn tick() -> Tick {
    Tick { limit: 100, max_losses: 3, retention: LEASE, suspects: vec![] }
}

fn assert_sound(store: &MemoryStore) {
    assert_eq!(store.breaches(), Vec::<String>::new());
}
