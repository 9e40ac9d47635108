//! What the integration tests share: a real Redis, real worker and coordinator processes, and the workflows they run.

pub mod authority;
pub mod both;
pub mod buggy;
pub mod chaos;
pub mod cluster;
pub mod containers;
pub mod documents;
pub mod double;
pub mod durable;
pub mod fleet;
pub mod letters;
pub mod pages;
pub mod proxy;
pub mod redis;
pub mod refusing;
pub mod renaming;
pub mod scene;
pub mod sentinel;
pub mod signals;
pub mod terminal;
pub mod unruly;
pub mod workflows;

use std::panic::Location;
use std::time::{Duration, Instant};

/// Nothing that a test waits for takes longer, even on a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(120);

/// Checks again and again until it is true. As [`found`].
#[track_caller]
pub fn until<F: AsyncFnMut() -> bool>(mut is_so: F) -> impl Future<Output = ()> {
    found(async move || is_so().await.then_some(()))
}

/// Looks again and again until there is something.
///
/// # Panics
/// If there is nothing within two minutes; the message says which test waited.
#[track_caller]
pub fn found<T, F: AsyncFnMut() -> Option<T>>(mut look: F) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + LONGEST;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < end, "{caller} has waited in vain for {LONGEST:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
