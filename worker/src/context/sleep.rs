//! `ctx.sleep`, and recorded values that a body would otherwise get from outside: the time, random values.

use std::fmt;
use std::pin::Pin;
use std::task::{Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::names;
use stepfleet_shared::step::Wait;

use super::step::{Place, StepCall};
use super::{Context, Core};
use crate::error::{Error, Outcome};
use crate::replay::Waited;

impl<S> Context<S> {
    /// Sleeps for this long, on Redis' clock, from when the sleep began. It is a timer in Redis: it holds no worker
    /// and survives every restart. A body that has nothing else to do ends its attempt after a moment (about 25 ms),
    /// and the timer begins a new one, as with [`Context::wait_for`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// ctx.sleep(Duration::from_secs(3 * 86_400)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// It is a call of the body like [`Context::step`], with the same rules for its order, and takes one of the
    /// 100,000 entries that a step may record. Fails with a terminal error if the body makes other calls than an
    /// earlier attempt.
    pub fn sleep(&self, time: Duration) -> Sleep<'_> {
        self.sleep_for(Time::For(time))
    }

    /// Sleeps until this time, on Redis' clock; ends at once if it is past. Otherwise like [`Context::sleep`].
    ///
    /// The time must come from the event, or from a recorded call such as [`Context::now`].
    pub fn sleep_until(&self, time: SystemTime) -> Sleep<'_> {
        self.sleep_for(Time::Until(time))
    }

    fn sleep_for(&self, time: Time) -> Sleep<'_> {
        let number = self.core.journal().next();
        let place = Place::new(&self.core, number, names::sleep(number));
        Sleep { place, time, reading: None }
    }

    /// The time on Redis' clock, in milliseconds. It is recorded: each later attempt gets the same one.
    pub fn now(&self) -> StepCall<'_, SystemTime> {
        self.step("now", || async { time_of(&self.core).await })
    }

    /// A random value. It is recorded: each later attempt gets the same one. Whole numbers take all values of their
    /// type, and floats those from 0 up to 1, without 1. Not for secrets: the value is in Redis.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let is_chosen = ctx.random::<f64>().await? < 0.1;
    /// # Ok(()) }
    /// ```
    pub fn random<'a, T: Random + 'a>(&'a self) -> StepCall<'a, T> {
        self.step("random", || std::future::ready(Ok(T::random())))
    }

    /// A random id (a UUID of version 4, as text). It is recorded: each later attempt gets the same one.
    pub fn uuid(&self) -> StepCall<'_, String> {
        self.step("uuid", || std::future::ready(Ok(uuid(rand::random()))))
    }
}

/// What [`Context::random`] makes: a number, a boolean or a character.
pub trait Random: Serialize + DeserializeOwned + Send {
    #[doc(hidden)]
    fn random() -> Self;
}

macro_rules! random {
    ($($made:ty)+) => {$(
        impl Random for $made {
            fn random() -> Self {
                rand::random()
            }
        }
    )+};
}

random!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 bool char);

async fn time_of(core: &Core) -> Outcome<SystemTime> {
    let store = &core.reach.store;
    let ms = core.reach.persist(|_| -> BoxFuture<'_, _> { Box::pin(store.now_ms()) }).await?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[derive(Clone, Copy, Debug)]
enum Time {
    For(Duration),
    Until(SystemTime),
}

/// A sleep of a body: see [`Context::sleep`].
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep<'a> {
    place: Place<'a>,
    time: Time,
    /// The time, for one that ends at a time.
    reading: Option<BoxFuture<'a, Outcome<SystemTime>>>,
}

impl Sleep<'_> {
    fn look(&mut self, waker: &Waker, context: &mut std::task::Context<'_>) -> Poll<Outcome<()>> {
        let number = self.place.number;
        let waited = self.place.core.journal().waited(number, &self.place.name);
        match waited {
            Ok(Waited::Overdue) => return Poll::Ready(Ok(())),
            Ok(Waited::Never) => return Poll::Pending,
            Ok(Waited::New) => {}
            Ok(Waited::Signal(_)) => return Poll::Ready(Err(Error::terminal("a sleep has ended with a signal"))),
            Err(changed) => return Poll::Ready(Err(changed)),
        }
        let time = match self.time {
            Time::For(time) => time,
            Time::Until(until) => {
                let core = self.place.core;
                let reading = self.reading.get_or_insert_with(|| Box::pin(time_of(core)));
                let now = match ready!(reading.as_mut().poll(context)) {
                    Ok(now) => now,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                self.reading = None;
                let time = until.duration_since(now).unwrap_or_default();
                self.time = Time::For(time);
                time
            }
        };
        let name = self.place.name.clone();
        self.place.core.journal().wait(Wait { number, name, deadline: Some(time), ..Wait::default() }, waker);
        Poll::Pending
    }
}

impl Future for Sleep<'_> {
    type Output = Outcome<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Outcome<()>> {
        ready!(self.place.poll_saved(context))?;
        let waker = context.waker().clone();
        let outcome = ready!(self.look(&waker, context));
        ready!(self.place.poll_over(context));
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Sleep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Sleep");
        shown.field("number", &self.place.number).field("time", &self.time).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_of_version_4() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
