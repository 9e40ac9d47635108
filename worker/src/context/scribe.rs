//! Writes what the body of an attempt streams, in a task beside it.

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

/// The streams of an attempt, and the task that writes them. It ends with the attempt.
#[derive(Debug)]
pub(super) struct Scribe {
    desk: Arc<Desk>,
    cancelled: CancellationToken,
    task: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    /// There is more to write.
    work: Notify,
    /// Something was written.
    progress: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    streams: Vec<Open>,
    begun: u64,
    /// What the store remembers for later attempts: call and number.
    remembered: Vec<(u64, u64)>,
    /// What it need not remember any more.
    done: Vec<String>,
    /// Nothing is written any more.
    stopped: Option<Stopped>,
}

#[derive(Clone, Debug)]
enum Stopped {
    /// The attempt is no longer the current one.
    Fenced,
    /// The store has refused.
    Refused(String),
}

/// A stream that is written.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: u64,
    call: u64,
    number: u64,
    name: String,
    /// How much of it was sent.
    sent: usize,
    waiting: String,
    is_on_its_way: bool,
    /// When the last piece went out.
    written: Option<Instant>,
    /// Somebody waits for all of it.
    is_hurried: bool,
    end: End,
}

/// Whether it is to be said that nothing comes after it.
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

/// What the task is to do.
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

    /// Whether it is to go out sooner than what waits for its time already.
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

    /// Those that have waited longest come first.
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

    /// A stream at this place. Answers what it is known by here.
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

    /// What is left of these is to go out at once. `ends`: nothing comes after it. False where there is none of them.
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

    /// The call is recorded: nobody streams there again.
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

    /// The body goes on after a wait.
    pub(super) fn go_on(&self) {
        self.state().streams.iter_mut().for_each(|stream| stream.is_hurried = false);
    }

    /// The body runs again.
    pub(super) fn begin_again(&self) {
        self.state().streams.clear();
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is aborted, or may write no more.
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
    /// Waits until this is so of the streams, or nothing is written any more.
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

    /// What a call has streamed goes out before it is recorded. `ends`: its work has come to something.
    pub(super) async fn settle_streams_of(&self, call: u64, ends: bool) {
        self.settle_those(|stream| stream.call == call, ends).await;
    }

    /// What the body has streamed goes out before its attempt ends. `ends`: the body has returned.
    pub(crate) async fn settle_streams(&self, ends: bool) {
        self.settle_those(|_| true, ends).await;
    }

    /// What the body has streamed goes out before it waits. It may go on with its streams.
    pub(crate) async fn flush_streams(&self) {
        self.flush_those(|_| true, false).await;
    }

    async fn settle_those(&self, which: impl Fn(&Open) -> bool, ends: bool) {
        self.flush_those(&which, ends).await;
        self.scribe.state().streams.retain(|stream| !which(stream));
    }

    async fn flush_those(&self, which: impl Fn(&Open) -> bool, ends: bool) {
        if self.scribe.hurry(&which, ends) {
            // What is refused was told to the body where it still streamed.
            let _ = self.until(|state| state.is_settled(&which)).await;
        }
    }
}
