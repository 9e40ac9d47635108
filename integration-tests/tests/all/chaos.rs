//! A fleet under mixed load while workers, coordinators, connections and Redis fail at random: every accepted run must end as it should,
//! each of its steps committed once, and nothing may be left over.
//!
//! `make chaos` runs it for longer. `STEPFLEET_CHAOS_SEED` repeats a run, `STEPFLEET_CHAOS_SECONDS` says how long faults happen.

use std::path::PathBuf;
use std::time::Duration;

use stepfleet_integration_tests::chaos::{Ground, Play, Programs};

const PROGRAMS: Programs =
    Programs { worker: env!("CARGO_BIN_EXE_test-worker"), stepfleet: env!("CARGO_BIN_EXE_test-stepfleet") };
/// How long faults happen: at least until each kind has happened.
const SECONDS: u64 = 20;

async fn play(ground: Ground) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("STEPFLEET_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("STEPFLEET_CHAOS_SEED").unwrap_or_else(rand::random);
    let play = Play {
        ground,
        time: Duration::from_secs(seconds),
        seed,
        programs: PROGRAMS,
        evidence: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos"),
        repeat: format!("STEPFLEET_CHAOS_SEED={seed} STEPFLEET_CHAOS_SECONDS={seconds} make chaos"),
    };
    play.play().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_on_a_redis_that_loses_nothing() {
    play(Ground::Lasting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_on_a_redis_that_forgets_its_last_moments() {
    play(Ground::Forgetful).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_on_masters_that_are_replaced() {
    play(Ground::Replicated).await;
}
