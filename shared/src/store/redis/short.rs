//! Short ways: commits, checkpoints and starts that are asked for at the same time travel in one call.
//!
//! While some calls are active, later requests wait for the next one: a busy worker makes few large calls, and an idle
//! one waits for nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::link::Link;
use super::wire;
use crate::core::args::{Args, Way};
use crate::core::generated::SHORT;
use crate::core::reply::Reply;
use crate::core::value::Value;
use crate::error::{Error, Result};

/// How many calls may be active at once.
const MOST_CALLS: usize = 2;
/// No call has more commits than this, or more bytes: it blocks Redis for about a millisecond at most.
const MOST_COMMITS: usize = 32;
const MOST_BYTES: usize = 512 * 1024;

struct Waiting {
    letter: &'static str,
    args: Args<'static>,
    answer: oneshot::Sender<Result<Value>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    calls: usize,
}

/// Collects what is asked for, and sends it.
#[derive(Clone)]
pub(super) struct Short {
    link: Link,
    prefix: Arc<str>,
    queue: Arc<Mutex<Queue>>,
}

impl Short {
    pub(super) fn new(link: &Link, prefix: &str) -> Self {
        Self { link: link.clone(), prefix: prefix.into(), queue: Arc::default() }
    }

    /// Goes a short way with these arguments; returns 0 if the caller must go the long way.
    pub(super) async fn go<W: Way>(&self, given: &W) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { letter: W::LETTER, args: Args::of(given).into_owned(), answer };
        // If no call is active, it goes by itself.
        if let Some(alone) = self.begin(waiting) {
            let _turn = Turn(self);
            self.send(alone).await;
        }
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("the call was given up")))
    }

    /// The call that the caller must make; none if another call takes it along.
    fn begin(&self, waiting: Waiting) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        if queue.calls == 0 {
            queue.calls = 1;
            return Some(vec![waiting]);
        }
        queue.waiting.push(waiting);
        if queue.calls < MOST_CALLS {
            queue.calls += 1;
            tokio::spawn(self.clone().send_all());
        }
        None
    }

    /// Sends until nothing waits.
    async fn send_all(self) {
        loop {
            let batch = {
                let mut queue = self.queue();
                let count = fitting(&queue.waiting);
                if count == 0 {
                    queue.calls -= 1;
                    return;
                }
                queue.waiting.drain(..count).collect::<Vec<_>>()
            };
            self.send(batch).await;
        }
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let (args, size) = batch.iter().fold((0, 0), |(args, size), waiting| {
            // With the letter, and how many arguments there are.
            (args + waiting.args.len() + 2, size + waiting.args.size() + 8)
        });
        let mut command = wire::function(wire::CALL, SHORT, &self.prefix, (args, size));
        for waiting in &batch {
            command.arg(waiting.letter).arg(waiting.args.len());
            wire::add(&mut command, &waiting.args);
        }
        match self.link.call(&command).await.and_then(Reply::new) {
            Ok(mut answers) => {
                for waiting in batch {
                    // The caller may be gone.
                    let _ = waiting.answer.send(answers.value());
                }
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that a caller makes itself. Requests that came meanwhile are sent even if it is dropped.
struct Turn<'a>(&'a Short);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                runtime.spawn(self.0.clone().send_all());
            }
            // Without a runtime, nobody waits for an answer.
            _ => {
                queue.waiting.clear();
                queue.calls -= 1;
            }
        }
    }
}

/// How many of the first fit into one call.
fn fitting(waiting: &[Waiting]) -> usize {
    let mut bytes = 0;
    let fits = |waiting: &&Waiting| {
        bytes += waiting.args.size();
        bytes <= MOST_BYTES
    };
    // A call that is too large goes alone.
    waiting.iter().take(MOST_COMMITS).take_while(fits).count().max(usize::from(!waiting.is_empty()))
}
