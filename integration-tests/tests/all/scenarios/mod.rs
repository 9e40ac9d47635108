//! The transitions, driven by hand: each scenario has the same outcome on the memory store and on a real Redis.

mod answers;
mod children;
mod ends;
mod entities;
mod fan_outs;
mod fences;
mod forgotten;
mod forks;
mod journal;
mod kept;
mod losses;
mod pauses;
mod questions;
mod receipts;
mod repeats;
mod requests;
mod retries;
mod sessions;
mod slots;
mod streams;
mod timers;
mod unreadable;
mod waits;

use std::time::Duration;

use stepfleet_integration_tests::double::{self, call, fire, join_fleet, reap, start};
use stepfleet_integration_tests::scene::Scene;
use stepfleet_shared::step::{Claimed, Commit};
use stepfleet_shared::store::Store;

const MS: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The first step of a run `r`, which the worker `a` has.
async fn held(scene: &Scene) -> Claimed {
    let store = scene.store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    double::claim(store, "a", 1, 1).await.remove(0)
}

/// The worker `a` completes a step execution, and claims up to this many in all.
async fn complete(store: &dyn Store, number: u64, step: &Claimed, commit: &Commit, most: usize) -> Vec<Claimed> {
    double::complete(store, &call("a", number, false), step, commit, most).await.1
}
