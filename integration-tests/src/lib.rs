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

use std::fmt::Debug;
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
    look_for(LONGEST, async move || look().await.ok_or(()), |()| String::new())
}

/// Looks again and again until what is seen is right, and returns it.
///
/// # Panics
/// If it is not within two minutes; the message has what was seen last.
#[track_caller]
pub fn seen<T: Debug, F: AsyncFnMut() -> T>(mut look: F, is_right: impl Fn(&T) -> bool) -> impl Future<Output = T> {
    let look = async move || {
        let seen = look().await;
        if is_right(&seen) { Ok(seen) } else { Err(seen) }
    };
    look_for(LONGEST, look, |seen| format!("; seen was {seen:?}"))
}

/// Looks again and again until there is something. Panics with what `tell` makes of the last thing that was there instead.
#[track_caller]
fn look_for<T, E, F: AsyncFnMut() -> Result<T, E>>(
    longest: Duration,
    mut look: F,
    tell: impl Fn(E) -> String,
) -> impl Future<Output = T> {
    let patience = Patience::new(longest);
    async move {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(instead) => patience.pause(|| tell(instead)).await,
            }
        }
    }
}

/// For loops whose futures are sent to other threads, which those of asynchronous closures cannot be.
struct Patience {
    caller: &'static Location<'static>,
    longest: Duration,
    end: Instant,
}

impl Patience {
    #[track_caller]
    fn new(longest: Duration) -> Self {
        Self { caller: Location::caller(), longest, end: Instant::now() + longest }
    }

    /// Pauses between two looks. Panics once the time is over, with what was there instead.
    async fn pause(&self, instead: impl FnOnce() -> String) {
        assert!(Instant::now() < self.end, "{} has waited in vain for {:?}{}", self.caller, self.longest, instead());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
