//! Short ways: commits and checkpoints that are asked for at the same time travel in one call.
//!
//! While some calls are under way, what comes meanwhile waits for the next one: a busy worker makes few large calls, and an idle one
//! waits for nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Arg, Cmd, Value};
use tokio::sync::oneshot;

use super::functions::LIBRARY;
use super::link::Link;
use super::reply::Reply;
use crate::error::{Error, Result};

/// So many calls are under way at once.
const MOST_CALLS: usize = 2;
/// No call has more commits than this, or more bytes: it holds Redis up for about a millisecond at most.
const MOST_COMMITS: usize = 32;
const MOST_BYTES: usize = 512 * 1024;

/// Which way: the letters of `lua/short.lua`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    HandOver,
    EndBranch,
    EndRun,
    Record,
    Start,
}

impl Way {
    fn letter(self) -> &'static str {
        match self {
            Self::HandOver => "h",
            Self::EndBranch => "b",
            Self::EndRun => "e",
            Self::Record => "r",
            Self::Start => "s",
        }
    }
}

struct Waiting {
    way: Way,
    args: Cmd,
    bytes: usize,
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

    /// Goes a short way with these arguments; answers 0 where the long one is to be gone.
    pub(super) async fn go(&self, way: Way, args: Cmd) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let bytes = args.args_iter().map(|arg| if let Arg::Simple(bytes) = arg { bytes.len() } else { 0 }).sum();
        let waiting = Waiting { way, args, bytes, answer };
        // Where nobody else is under way it goes by itself.
        if let Some(alone) = self.begin(waiting) {
            let _turn = Turn(self);
            self.send(alone).await;
        }
        answered.await.unwrap_or_else(|_| Err(Error::unavailable("the call was given up")))
    }

    /// The call that is to be made by whoever asks; none where another call takes it along.
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
        let mut command = redis::cmd("FCALL");
        command.arg(LIBRARY.function("short")).arg(1).arg(&*self.prefix);
        for waiting in &batch {
            command.arg(waiting.way.letter()).arg(waiting.args.args_iter().count());
            for arg in waiting.args.args_iter() {
                if let Arg::Simple(bytes) = arg {
                    command.arg(bytes);
                }
            }
        }
        match self.link.call(&command).await.and_then(Reply::new) {
            Ok(mut answers) => {
                for waiting in batch {
                    // Whoever asked may be gone.
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

/// A call that somebody makes for himself. What has come meanwhile is sent, also where he is dropped.
struct Turn<'a>(&'a Short);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !queue.waiting.is_empty() => {
                runtime.spawn(self.0.clone().send_all());
            }
            // Where there is no runtime any more, nobody waits for an answer.
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
        bytes += waiting.bytes;
        bytes <= MOST_BYTES
    };
    // One that is too large by itself goes alone.
    waiting.iter().take(MOST_COMMITS).take_while(fits).count().max(usize::from(!waiting.is_empty()))
}
