//! Writes the streams of an attempt's body in a background task.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use stepfleet_shared::backoff::BODY;
use stepfleet_shared::log;
use stepfleet_shared::published::{MAX_STREAM, Piece};
use stepfleet_shared::step::CommitStatus;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Core, Reach};
use crate::decisions::pieces;
use crate::error::{Error, Outcome};

/// The streams of an attempt, and the task that writes them, which ends with the attempt.
#[derive(Debug)]
pub(super) struct Scribe {
    desk: Arc<Desk>,
    cancelled: CancellationToken,
    task: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    /// Notified when there is more to write.
    work: Notify,
    /// Notified when something was written.
    progress: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    streams: Vec<Open>,
    begun: u64,
    /// The streams that the store remembers for later attempts: call and number.
    remembered: Vec<(u64, u64)>,
    /// The streams that the store may forget.
    done: Vec<String>,
    /// Why nothing more is written.
    stopped: Option<Stopped>,
}

#[derive(Clone, Debug)]
enum Stopped {
    /// The attempt is no longer the current one.
    Fenced,
    /// The store refused a piece.
    Refused(String),
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: u64,
    call: u64,
    number: u64,
    name: String,
    /// How many bytes were sent.
    sent: usize,
    waiting: String,
    is_on_its_way: bool,
    /// When the last piece was sent.
    written: Option<Instant>,
    /// Send the rest at once: somebody waits for all of it.
    is_hurried: bool,
    end: End,
}

/// Whether a stream has ended, and whether its end was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    ToBeSaid,
    Said,
}

impl Open {
    fn has_something(&self) -> bool {
        !self.waiting.is_empty() || self.end == End::ToBeSaid
    }

    fn due(&self, now: Instant) -> Instant {
        if self.is_hurried {
            return now;
        }
        now + pieces::pause(self.waiting.len(), self.written.map(|written| now - written))
    }
}

/// What the task does next.
enum Next {
    Write(u64, Piece),
    Wait(Instant),
    Nothing,
}

impl State {
    pub(super) fn has_room(&self, key: u64) -> bool {
        self.streams.iter().all(|stream| stream.key != key || stream.waiting.len() < pieces::MOST_WAITING)
    }

    pub(super) fn is_settled(&self, which: impl Fn(&Open) -> bool) -> bool {
        self.streams.iter().all(|stream| !which(stream) || !stream.has_something() && !stream.is_on_its_way)
    }

    /// Appends text to a stream. True if it is now due earlier, so that the task must wake up.
    fn push(&mut self, key: u64, text: &str) -> Outcome<bool> {
        if let Some(Stopped::Refused(refused)) = &self.stopped {
            return Err(Error::terminal(refused.clone()));
        }
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.key == key && stream.end == End::Open) else {
            return Err(Error::terminal("the call in which the stream began has ended, and the stream with it"));
        };
        if stream.sent + stream.waiting.len() + text.len() > MAX_STREAM {
            let name = &stream.name;
            return Err(Error::terminal(format!(
                "the stream {name} would exceed {MAX_STREAM} bytes: begin another one, or publish the address of the \
                 text"
            )));
        }
        let before = stream.waiting.len();
        stream.waiting += text;
        Ok(pieces::hastens(before, stream.waiting.len()))
    }

    /// Picks the stream that is due first; of several, the one last written longest ago.
    fn next(&mut self, step: &str, now: Instant) -> Next {
        if self.stopped.is_some() {
            return Next::Nothing;
        }
        let with_something = self.streams.iter_mut().filter(|stream| stream.has_something());
        let Some(stream) = with_something.min_by_key(|stream| (stream.due(now), stream.written)) else {
            return Next::Nothing;
        };
        let due = stream.due(now);
        if due > now {
            return Next::Wait(due);
        }
        let rest = stream.waiting.split_off(pieces::cut(&stream.waiting));
        let text = std::mem::replace(&mut stream.waiting, rest);
        let last = stream.end == End::ToBeSaid && stream.waiting.is_empty();
        let Open { key, call, number, .. } = *stream;
        let (step, stream_name, at) = (step.to_owned(), stream.name.clone(), stream.sent as u64);
        stream.sent += text.len();
        if last {
            stream.end = End::Said;
        }
        (stream.is_on_its_way, stream.written) = (true, Some(now));
        Next::Write(
            key,
            Piece { call, number, step, stream: stream_name, at, text, last, done: std::mem::take(&mut self.done) },
        )
    }

    fn was_written(&mut self, key: u64) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.key == key) {
            stream.is_on_its_way = false;
        }
    }
}

impl Scribe {
    pub(super) fn new(cancelled: CancellationToken) -> Self {
        Self { desk: Arc::default(), cancelled, task: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.desk.state()
    }

    /// Begins a stream at this place. Returns its key.
    pub(super) fn begin(&self, reach: &Reach, call: u64, number: u64, name: &str) -> u64 {
        let (desk, reach, cancelled) = (self.desk.clone(), reach.clone(), self.cancelled.clone());
        self.task.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(write(desk, reach, cancelled))));
        let mut state = self.state();
        state.begun += 1;
        let key = state.begun;
        state.streams.push(Open {
            key,
            call,
            number,
            name: name.to_owned(),
            sent: 0,
            waiting: String::new(),
            is_on_its_way: false,
            written: None,
            is_hurried: false,
            end: End::Open,
        });
        if call > 0 && !state.remembered.contains(&(call, number)) {
            state.remembered.push((call, number));
        }
        key
    }

    pub(super) fn push(&self, key: u64, text: &str) -> Outcome<()> {
        if self.state().push(key, text)? {
            self.desk.work.notify_one();
        }
        Ok(())
    }

    /// Has the rest of these streams sent at once; `ends` also ends them. False if there are none.
    pub(super) fn hurry(&self, which: impl Fn(&Open) -> bool, ends: bool) -> bool {
        let mut state = self.state();
        let mut is_any = false;
        for stream in state.streams.iter_mut().filter(|stream| which(stream)) {
            (stream.is_hurried, is_any) = (true, true);
            if ends && stream.end == End::Open {
                stream.end = End::ToBeSaid;
            }
        }
        drop(state);
        if is_any {
            self.desk.work.notify_one();
        }
        is_any
    }

    /// The call is recorded, so the store may forget its streams.
    pub(super) fn recorded(&self, call: u64) {
        let mut state = self.state();
        let state = &mut *state;
        state.remembered.retain(|(of, number)| {
            if *of == call {
                state.done.push(format!("{of}.{number}"));
            }
            *of != call
        });
    }

    /// The body continues after a wait: its streams are no longer hurried.
    pub(super) fn go_on(&self) {
        self.state().streams.iter_mut().for_each(|stream| stream.is_hurried = false);
    }

    /// The body runs again: it begins its streams anew.
    pub(super) fn begin_again(&self) {
        self.state().streams.clear();
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the streams until it is aborted.
async fn write(desk: Arc<Desk>, reach: Reach, cancelled: CancellationToken) {
    loop {
        let next = desk.state().next(&reach.step, Instant::now());
        let (key, piece) = match next {
            Next::Write(key, piece) => (key, piece),
            Next::Wait(due) => {
                let _ = tokio::time::timeout_at(due, desk.work.notified()).await;
                continue;
            }
            Next::Nothing => {
                desk.work.notified().await;
                continue;
            }
        };
        let (reach, piece) = (&reach, &piece);
        let send = |_| -> BoxFuture<'_, _> {
            Box::pin(async move { reach.store.stream(&reach.worker, &reach.hold.fence(), piece).await })
        };
        let sent = reach.outages.outlast(("a stream", BODY), stepfleet_shared::Error::is_passing, send).await;
        let mut state = desk.state();
        match sent {
            Ok(CommitStatus::Fenced) => state.stopped = Some(Stopped::Fenced),
            Ok(_) => {}
            Err(refused) => {
                log::warn!(stream = piece.stream, %refused, "the stream cannot be written");
                state.stopped =
                    Some(Stopped::Refused(format!("the stream {} cannot be written: {refused}", piece.stream)));
            }
        }
        state.was_written(key);
        let is_fenced = matches!(state.stopped, Some(Stopped::Fenced));
        drop(state);
        desk.progress.notify_waiters();
        if is_fenced {
            cancelled.cancel();
        }
    }
}

impl Core {
    /// Waits until `is_so` holds for the streams. An error if the store refused a piece.
    pub(super) async fn until(&self, is_so: impl Fn(&State) -> bool) -> Outcome<()> {
        let desk = &self.scribe.desk;
        let stopped = loop {
            let mut progress = std::pin::pin!(desk.progress.notified());
            progress.as_mut().enable();
            {
                let state = desk.state();
                if state.stopped.is_some() || is_so(&state) {
                    break state.stopped.clone();
                }
            }
            let _busy = self.reach.busy.enter();
            progress.await;
        };
        match stopped {
            None => Ok(()),
            Some(Stopped::Refused(refused)) => Err(Error::terminal(refused)),
            Some(Stopped::Fenced) => self.give_up().await,
        }
    }

    /// Sends what a call has streamed, before the call is recorded. `ends`: the call has succeeded.
    pub(super) async fn settle_streams_of(&self, call: u64, ends: bool) {
        self.settle_those(|stream| stream.call == call, ends).await;
    }

    /// Sends what the body has streamed, before its attempt ends. `ends`: the body has returned.
    pub(crate) async fn settle_streams(&self, ends: bool) {
        self.settle_those(|_| true, ends).await;
    }

    /// Sends what the body has streamed, before it waits. The streams stay open.
    pub(crate) async fn flush_streams(&self) {
        self.flush_those(|_| true, false).await;
    }

    async fn settle_those(&self, which: impl Fn(&Open) -> bool, ends: bool) {
        self.flush_those(&which, ends).await;
        self.scribe.state().streams.retain(|stream| !which(stream));
    }

    async fn flush_those(&self, which: impl Fn(&Open) -> bool, ends: bool) {
        if self.scribe.hurry(&which, ends) {
            // The body gets a refusal from its next write.
            let _ = self.until(|state| state.is_settled(&which)).await;
        }
    }
}
