//! The tries of a recorded call: what the journal has of those that failed, the delays between them, and their time limit.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use stepfleet_shared::journal::{self, Entry};
use stepfleet_shared::step::{Checkpoint, Wait};
use stepfleet_shared::{log, names};
use tokio::time::Instant;

use super::Core;
use crate::error::{Error, Outcome};
use crate::retry::{Decision, RetryPolicy, Seed};

/// The longest delay that is waited in the worker. A longer one has a timer, and holds no worker.
const IN_WORKER: Duration = Duration::from_secs(1);

/// The options of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// None if its errors are those of the attempt.
    pub(super) retry: Option<RetryPolicy>,
    pub(super) timeout: Option<Duration>,
}

/// The state of a call so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    number: u64,
    name: String,
    failures: u32,
    /// Until the last one had failed, with the delays before.
    elapsed: Duration,
    /// Before the next one.
    delay: Duration,
    /// An earlier attempt has recorded the last one.
    is_known: bool,
}

impl Tries {
    /// As earlier attempts have left it.
    pub(super) fn of(core: &Core, number: u64, name: &str) -> Outcome<Self> {
        let mut tries = Self { number, name: name.to_owned(), ..Self::default() };
        let journal = core.journal();
        let (failures, last) = journal.tries(number, name)?;
        if let Some(Entry::Tried { elapsed_ms, delay_ms, .. }) = last {
            (tries.elapsed, tries.delay) = (Duration::from_millis(elapsed_ms), Duration::from_millis(delay_ms));
            tries.is_known = true;
        }
        tries.failures = failures;
        Ok(tries)
    }

    /// Waits until the next try may begin.
    pub(super) async fn next(&mut self, core: &Core) {
        // A sleep of no time still waits for the next tick of the timer, a millisecond away.
        if self.delay.is_zero() {
            return;
        }
        if self.delay <= IN_WORKER {
            let _busy = core.reach.busy.enter();
            tokio::time::sleep(self.delay).await;
            return;
        }
        let number = journal::of_try(self.number, self.failures) + 1;
        let name = names::retry(self.number, &self.name);
        let wait = Wait { number, name, deadline: Some(self.delay), ..Wait::default() };
        Pause { core, wait, is_known: self.is_known, is_over: false }.await;
    }

    /// A try has failed after this long. Returns the error if the call is given up, once that is recorded.
    pub(super) async fn failed(
        &mut self,
        core: &Core,
        policy: &RetryPolicy,
        error: Error,
        took: Duration,
    ) -> Outcome<Option<Error>> {
        let elapsed = self.elapsed.saturating_add(self.delay).saturating_add(took);
        let reach = &core.reach;
        let seed = Seed::new(&reach.run, reach.seq ^ (self.number << 32), self.failures);
        let (call, failures) = (names::text(&self.name), self.failures + 1);
        match policy.decide(self.failures, elapsed, &error, seed) {
            Decision::Retry(delay) => {
                log::warn!(
                    run = reach.run,
                    call,
                    failures,
                    error = error.one_line(),
                    ?delay,
                    "the call failed and will be retried"
                );
                (self.failures, self.elapsed, self.delay, self.is_known) = (failures, elapsed, delay, false);
                self.record(core, &error).await?;
                Ok(None)
            }
            Decision::GiveUp(reason) => {
                log::warn!(
                    run = reach.run,
                    call,
                    failures,
                    error = error.one_line(),
                    why = reason.as_str(),
                    "the call failed for good"
                );
                core.record_error(self.number, &self.name, &error).await?;
                Ok(Some(error.given_up()))
            }
        }
    }

    async fn record(&self, core: &Core, error: &Error) -> Outcome<()> {
        let number = journal::of_try(self.number, self.failures);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (elapsed_ms, delay_ms, error) = (ms(self.elapsed), ms(self.delay), error.write());
        let entry = Entry::Tried { name: &self.name, elapsed_ms, delay_ms, error: &error }.write();
        let along = core.journal().along();
        let mut checkpoint: Checkpoint = along.checkpoint();
        checkpoint.entries.insert(0, (number, entry));
        core.checkpoint(checkpoint, along).await.map(drop)
    }
}

/// A delay with a timer.
struct Pause<'a> {
    core: &'a Core,
    wait: Wait,
    is_known: bool,
    is_over: bool,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.is_over = self.core.journal().pause(&self.wait, self.is_known, context.waker());
        if self.is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.core.journal().let_go_pause(self.wait.number);
        }
    }
}

/// Ends work whose time is over: when it awaits, and at the latest when it returns.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    name: &str,
    work: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    let Some(limit) = limit else { return work.await };
    let began = Instant::now();
    let mut work = pin!(work);
    let mut time = pin!(tokio::time::sleep(limit));
    std::future::poll_fn(move |context| {
        let before = began.elapsed();
        let late = format_args_of(name, limit);
        // Other code of the body may have kept it waiting: it need not have been polled for long.
        if before <= limit {
            let polled = work.as_mut().poll(context);
            match (polled, began.elapsed() <= limit) {
                (polled @ Poll::Ready(_), true) => return polled,
                (Poll::Pending, true) => {}
                // A thread was blocked beyond the limit, so its result is too late as well.
                (_, false) => {
                    return Poll::Ready(Err(Error::msg(format!(
                        "{late} and blocked a thread of its worker: let it await, or move the blocking code into \
                         tokio::task::spawn_blocking"
                    ))));
                }
            }
        }
        match time.as_mut().poll(context) {
            Poll::Pending if before <= limit => Poll::Pending,
            _ => Poll::Ready(Err(Error::msg(late))),
        }
    })
    .await
}

fn format_args_of(name: &str, limit: Duration) -> String {
    format!("the call {name} took longer than its timeout of {limit:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn work_that_awaits_too_long_is_cut_off() {
        let slow = async {
            tokio::time::sleep(LIMIT * 2).await;
            Ok(1)
        };
        let error = within(Some(LIMIT), "fetch", slow).await.unwrap_err();
        assert_eq!(error.to_string(), "the call fetch took longer than its timeout of 20ms");
        assert!(!error.is_terminal());
        let fast = async {
            tokio::time::sleep(LIMIT / 2).await;
            Ok(1)
        };
        assert_eq!(within(Some(LIMIT), "fetch", fast).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn work_that_never_yields_is_late_when_it_returns() {
        let busy = async {
            std::thread::sleep(LIMIT * 2);
            Ok(1)
        };
        let error = within(Some(LIMIT), "fetch", busy).await.unwrap_err();
        assert!(error.to_string().contains("and blocked a thread of its worker"), "{error}");
        // Between two awaits that are ready at once.
        let ended = std::cell::Cell::new(false);
        let endless = async {
            for _ in 0..10_000 {
                std::thread::sleep(LIMIT / 10);
                tokio::task::yield_now().await;
            }
            ended.set(true);
            Ok(1)
        };
        assert!(within(Some(LIMIT), "fetch", endless).await.is_err() && !ended.get());
    }
}
