//! The scenarios that the store on Redis is tested with, and more, on a clock that moves only when told to.

mod journal;
mod kernel;
mod requests;
mod waiting;

use std::time::Duration;

use super::MemoryStore;
use crate::names::{Namespace, QueueName};
use crate::request::StartRequest;
use crate::step::{Call, Claim, Claimed, Commit, Fan, Join, Route};
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

fn claim(max: usize) -> Claim {
    Claim { max, queues: vec![QueueName::new("w", 1)] }
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

async fn begin(store: &dyn Store, worker: &str, number: u64, max: usize) -> Vec<Claimed> {
    store.begin(&call(worker, number, false), &[], &claim(max)).await.unwrap().unwrap()
}

async fn done(store: &dyn Store, number: u64, step: &Claimed, commit: &Commit, max: usize) -> Vec<Claimed> {
    store.done(&call("a", number, false), step, commit, &claim(max)).await.unwrap().1
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
