//! Turns an inbox entry into a run, a wait for a worker that serves it, or a rejection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stepfleet_shared::durability::Durability;
use stepfleet_shared::log;
use stepfleet_shared::request::{self, Fields, Request, SendRequest, SignalRequest, StartRequest};
use stepfleet_shared::run::Run;
use stepfleet_shared::step::{Cancelled, Paused, Resumed, Retried, SendDeferral, Sent, Signalled};
use stepfleet_shared::store::{ChildTold, CoordinatorStore, Deferral, InboxEntry, Origin, Rejection, Start, Started};
use stepfleet_shared::{Result, names};

use crate::Partitions;
use crate::across::Keyed;
use crate::answers;
use crate::fleet::Fleet;
use crate::metrics::Metrics;
use crate::routing::Destination;
use crate::sessions::{in_lines, line_full};
use crate::taken::{Became, Taken, Why, sum};

/// How much of each field of a rejected request is kept, in bytes.
const KEPT_BYTES: usize = 200;
/// How often it looks up the state of a run that an event is for, if that changes in between.
const LOOKS: usize = 3;
/// How many fields of a rejected request are kept.
const KEPT_FIELDS: usize = 16;

/// Processes requests, whether they come from the inbox or have waited.
pub(crate) struct Intake {
    pub(crate) partitions: Partitions,
    pub(crate) fleet: Fleet,
    pub(crate) key_ttl: Duration,
    /// How long runs that are cancelled stay readable.
    pub(crate) retention: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

impl Intake {
    /// Processes all entries at once. An entry that fails stays in the inbox, pending, and is found again as an orphan.
    /// `early`: entries that were about a run unknown at an earlier look are given up.
    pub(crate) async fn take_all(&self, entries: Vec<InboxEntry>, early: Early) -> Result<Taken> {
        let parsed = entries.into_iter().map(|entry| (request::parse(&entry.fields), entry));
        let (starts, others): (Vec<_>, Vec<_>) =
            parsed.partition(|(request, _)| matches!(request, Ok(Request::Start(_)) | Err(_)));
        // Those of one session keep their order too.
        let session = |(request, _): &(Result<Request>, InboxEntry)| match request {
            Ok(Request::Start(start)) => start.session.clone(),
            _ => None,
        };
        let lines = in_lines(starts, session).into_iter().map(async |line| {
            let mut results = Vec::new();
            for (request, entry) in line {
                results.push(self.take(request, entry).await);
            }
            results
        });
        let mut results: Vec<_> = join_all(lines).await.into_iter().flatten().collect();
        // After the starts, which they may be about, and one after the other: signals keep their order.
        for (request, entry) in others {
            results.push(self.steer(request, entry, early).await);
        }
        let taken = results.iter().flatten().fold(Taken::default(), |taken, became| taken.and(*became));
        self.metrics.taken(taken);
        sum(results)
    }

    async fn steer(&self, request: Result<Request>, entry: InboxEntry, early: Early) -> Result<Became> {
        let run = match &request {
            Ok(Request::Signal(signal)) => signal.run.clone(),
            Ok(Request::Send(send)) => send.run.clone(),
            Ok(Request::Answer(answer)) => answer.run.clone(),
            Ok(Request::Cancel(plain) | Request::Pause(plain) | Request::Resume(plain)) => plain.run.clone(),
            Ok(Request::Retry(retry)) => retry.run.clone(),
            Ok(Request::Fork(fork)) => fork.run.clone(),
            Ok(Request::ChildEnded(ended)) => ended.parent.run.clone(),
            _ => return self.take(request, entry).await,
        };
        let mut became = self.steer_run(&request, &run, &entry).await?;
        if matches!(became, Steering::Unknown)
            && let Some(known) = self.partitions.led_elsewhere(&run).await?
        {
            became = self.steer_run(&request, &known, &entry).await?;
        }
        match (became, early) {
            (Steering::Done, _) => Ok(Became::Steered),
            // Another coordinator may be about to start it.
            (Steering::Unknown, Early::Keep) => Ok(Became::Early),
            (Steering::Unknown, Early::Reject) => {
                self.reject(entry, Why::UnknownRun, format!("there is no run {run}; start it first, or check the id"))
                    .await
            }
            (Steering::Refused(reason), _) => self.reject(entry, Why::Refused, reason).await,
        }
    }

    /// In the partition of this run.
    async fn steer_run(&self, request: &Result<Request>, run: &str, entry: &InboxEntry) -> Result<Steering> {
        let store = self.partitions.of(run);
        let asked = request.as_ref().ok().and_then(Request::identity).map(|(_, request)| request.to_owned());
        let reply = match self.list_for(request::reply_of(&entry.fields), run) {
            Ok(reply) => reply.unwrap_or_default(),
            Err(reason) => return Ok(Steering::Refused(reason)),
        };
        let origin = Origin { entry: self.name_of(entry, run), request: asked.unwrap_or_default(), reply };
        let became = match request {
            Ok(Request::Signal(signal)) => {
                let name = names::token(&signal.name);
                let answer = store.signal(run, &name, &signal.payload(), Some(&origin)).await?;
                Steering::of_signal(answer, signal)
            }
            Ok(Request::Send(send)) => self.send(&**store, run, send, &origin).await?,
            Ok(Request::Answer(asked)) => answers::answer(&**store, run, asked, &origin).await?,
            Ok(Request::Cancel(_)) => match store.cancel(run, Some(&origin), self.retention).await? {
                Cancelled::Unknown => Steering::Unknown,
                Cancelled::Stopped => {
                    self.count_cancelled(&**store, run).await;
                    Steering::Done
                }
                _ => Steering::Done,
            },
            Ok(Request::ChildEnded(ended)) => match store.child_ended(ended, &origin.entry).await? {
                ChildTold::Told | ChildTold::Gone | ChildTold::Over => Steering::Done,
            },
            Ok(Request::Fork(fork)) => self.fork(&**store, run, fork, entry, &origin).await?,
            Ok(Request::Pause(_)) => Steering::of_pause(store.pause(run, Some(&origin)).await?, run),
            Ok(Request::Resume(_)) => Steering::of_resume(store.resume(run, Some(&origin)).await?, run),
            Ok(Request::Retry(retry)) => {
                let event = retry.payload();
                Steering::of_retry(store.retry(run, event.as_deref(), Some(&origin)).await?, &retry.run)
            }
            _ => Steering::Unknown,
        };
        if matches!(became, Steering::Done) {
            self.dismiss(entry, run).await?;
        }
        Ok(became)
    }

    /// An event for a held run comes again when the run is no longer held: only then is it known which steps take it.
    async fn send(
        &self,
        store: &dyn CoordinatorStore,
        run: &str,
        send: &SendRequest,
        origin: &Origin,
    ) -> Result<Steering> {
        for _ in 0..LOOKS {
            if let Some(live) = store.run(run).await?.filter(|run| !run.status.is_over()) {
                return self.send_to(store, &live, send, origin).await;
            }
            let held = SendRequest { run: run.to_owned(), ..send.clone() };
            return Ok(match store.defer_send(&held, Some(origin)).await? {
                SendDeferral::Deferred | SendDeferral::Gone | SendDeferral::Repeated => Steering::Done,
                SendDeferral::Unknown => Steering::Unknown,
                SendDeferral::Over => Steering::Refused(ended(send)),
                SendDeferral::Full => Steering::Refused(format!(
                    "run {} waits for a worker to start it, and no more events can be kept for it until then; send the \
                     event again after that",
                    send.run
                )),
                // It has just started.
                SendDeferral::Live => continue,
            });
        }
        Ok(Steering::Unknown)
    }

    async fn send_to(
        &self,
        store: &dyn CoordinatorStore,
        run: &Run,
        send: &SendRequest,
        origin: &Origin,
    ) -> Result<Steering> {
        let routes = match self.fleet.takers(&run.workflow, run.version, send).await? {
            Ok(routes) => routes,
            Err(reason) => return Ok(Steering::Refused(reason)),
        };
        let events: Vec<_> = routes.into_iter().map(|route| (route, send.payload())).collect();
        Ok(match store.send(&run.id, &events, Some(origin)).await? {
            Sent::Delivered | Sent::Gone | Sent::Repeated => Steering::Done,
            Sent::Unknown => Steering::Unknown,
            Sent::Over => Steering::Refused(ended(send)),
            Sent::Full => Steering::Refused(format!("run {} has reached its limit of step executions", send.run)),
        })
    }

    pub(crate) async fn take(&self, request: Result<Request>, entry: InboxEntry) -> Result<Became> {
        let request = match request {
            Ok(Request::Start(request)) => request,
            Ok(_) => return Ok(Became::Early),
            Err(error) => return self.reject(entry, Why::Malformed, error.to_string()).await,
        };
        let run = match self.run_id(&request, &entry) {
            Ok(run) => run,
            Err(reason) => return self.reject(entry, Why::Malformed, reason).await,
        };
        if let Err(reason) = self.list_of_start(&request, &run) {
            return self.reject(entry, Why::Malformed, reason).await;
        }
        if let Some(parent) = &request.parent
            && let Some(became) = self.take_known_child(&run, parent, &entry).await?
        {
            return Ok(became);
        }
        if let Some(to) = self.fleet.route(&request.workflow).await? {
            return match self.start(run, request, to, Some(&entry)).await? {
                Ok(became) => Ok(became),
                Err((why, reason)) => self.reject(entry, why, reason).await,
            };
        }
        let workflow = request.workflow.clone();
        if let Some(became) = self.defer(run, request, &entry).await? {
            return Ok(became);
        }
        let reason = format!(
            "no live worker serves the workflow \"{workflow}\", and too many requests wait for workers already; \
             start workers, and send the request again"
        );
        self.reject(entry, Why::TooMany, reason).await
    }

    /// Keeps a request; None if too many are kept.
    pub(crate) async fn defer(&self, run: String, request: StartRequest, entry: &InboxEntry) -> Result<Option<Became>> {
        if let Some(known) = self.run_of_key(&run, &request).await? {
            return self.lead(&run, &known, Some(entry)).await.map(Some);
        }
        let start = Start {
            request,
            entry: Some(self.name_of(entry, &run)),
            ticket: self.are_several().then(String::new),
            key_ttl: self.key_ttl,
            run,
            ..Start::default()
        };
        let became = match self.partitions.of(&start.run).defer(&start).await? {
            Deferral::Kept => Became::Deferred,
            Deferral::Known => Became::Known,
            Deferral::Full => return Ok(None),
        };
        self.dismiss(entry, &start.run).await?;
        Ok(Some(became))
    }

    /// Creates the run, or says why its request is rejected.
    pub(crate) async fn start(
        &self,
        run: String,
        request: StartRequest,
        to: Destination,
        entry: Option<&InboxEntry>,
    ) -> Result<std::result::Result<Became, (Why, String)>> {
        let context = match request.context_fields() {
            Ok(context) => context,
            Err(error) => return Ok(Err((Why::Input, error.to_string()))),
        };
        let Destination { version, routes, timeout, durability } = to;
        let durability = request.durability.unwrap_or(durability);
        if let Some(mistake) = self.fleet.mistake(version, &request).await?
            && !self.repeats(&run, &request).await?
        {
            return Ok(Err((Why::Input, mistake)));
        }
        if let Some(why) = self.cannot_confirm(&run, durability).await?
            && !self.repeats(&run, &request).await?
        {
            return Ok(Err((Why::Durability, why)));
        }
        let name = entry.map(|entry| self.name_of(entry, &run));
        let key_ttl = self.key_ttl;
        let mut start =
            Start { request, run, version, routes, entry: name, ticket: None, context, key_ttl, timeout, durability };
        if let Err(from) = self.fetch_context(&mut start).await? {
            return Ok(Err((Why::UnknownRun, no_source(&from))));
        }
        let started = if self.are_several() && start.request.key.is_some() {
            match self.start_with_key(&mut start, entry).await? {
                Keyed::Started(started) => started,
                Keyed::Became(became) => return Ok(Ok(became)),
            }
        } else {
            self.partitions.of(&start.run).start(&start).await?
        };
        let became = match started {
            Started::New(_) => {
                self.metrics.started(&start.request.workflow);
                Became::Started
            }
            Started::Known(_) | Started::Void => Became::Known,
            Started::NoSource(from) => return Ok(Err((Why::UnknownRun, no_source(&from)))),
            Started::LineFull(session) => return Ok(Err((Why::TooMany, line_full(&session)))),
        };
        if let Some(entry) = entry {
            self.dismiss(entry, &start.run).await?;
        }
        Ok(Ok(became))
    }

    /// Why a run cannot be as safe as it asks for; None if it can.
    async fn cannot_confirm(&self, run: &str, durability: Durability) -> Result<Option<String>> {
        if !durability.waits() {
            return Ok(None);
        }
        let info = self.partitions.of(run).server().await?;
        Ok(info
            .and_then(|info| info.lacks(durability))
            .map(|lack| format!("it asks for durability {durability}, but {lack}")))
    }

    /// A request from another inbox than that of its run's partition is kept among the rejected there, and its run is
    /// shown in its own partition.
    async fn reject(&self, entry: InboxEntry, why: Why, reason: String) -> Result<Became> {
        log::debug!(entry = entry.id, reason, "rejected a request");
        let (mut run, fields) = (request::id_of(&entry.fields), shortened(&entry.fields));
        let mut parent = request::parent_of(&entry.fields);
        if let Some(elsewhere) = run.take_if(|run| self.is_foreign(&entry, run)) {
            let (run, parent, reason) = (Some(elsewhere.clone()), parent.take(), reason.clone());
            let shown = Rejection { run, parent, reason, only_shown: true, ..Rejection::default() };
            self.partitions.of(&elsewhere).reject(&shown).await?;
        }
        let mut request = request::identity_of(&entry.fields);
        if let Some(elsewhere) = request.take_if(|(run, _)| self.is_foreign(&entry, run)) {
            let store = self.partitions.of(&elsewhere.0);
            let (request, reason) = (Some(elsewhere), reason.clone());
            store.reject(&Rejection { request, reason, only_shown: true, ..Rejection::default() }).await?;
        }
        let list = self.list_in(request::reply_of(&entry.fields));
        let (here, elsewhere) = match list {
            Some(list) if list.partition == entry.inbox => (Some(list.name), None),
            list => (None, list),
        };
        if let Some(list) = elsewhere {
            self.tell_elsewhere(list, &entry.fields, &reason).await?;
        }
        if here.is_some() && request.is_none() {
            request = request::subject_of(&entry.fields).map(|(run, _)| (run, String::new()));
        }
        let store = self.partitions.get(entry.inbox);
        let entry = entry.id;
        let rejection = Rejection { entry, run, parent, request, reply: here, reason, fields, ..Rejection::default() };
        store.reject(&rejection).await?;
        self.metrics.rejected(why);
        Ok(Became::Rejected)
    }
}

fn ended(send: &SendRequest) -> String {
    format!("run {} has ended: it takes no more events", send.run)
}

fn no_source(from: &str) -> String {
    format!("its context was to come from run {from}, which does not exist: it was never started, or has expired")
}

/// What to do with requests about an unknown run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Early {
    /// Leave them in the inbox, pending, to be reclaimed.
    Keep,
    Reject,
}

pub(crate) enum Steering {
    Done,
    Unknown,
    Refused(String),
}

impl Steering {
    fn of_retry(answer: Retried, run: &str) -> Self {
        let only = "only a run that has failed can be retried";
        match answer {
            Retried::GoesOn | Retried::Gone | Retried::Repeated => Self::Done,
            Retried::Unknown => Self::Unknown,
            Retried::Live => Self::Refused(format!("run {run} is under way: {only}")),
            Retried::Paused => Self::Refused(format!("run {run} is paused: {only}; resume it to have it go on")),
            Retried::Held => Self::Refused(format!("run {run} waits for a worker to start it: {only}")),
            Retried::Over => Self::Refused(format!("run {run} has ended and did not fail: {only}")),
            Retried::Refused(why) => Self::Refused(format!("run {run} cannot be retried: {why}")),
        }
    }

    fn of_pause(answer: Paused, run: &str) -> Self {
        match answer {
            Paused::Paused | Paused::Already | Paused::Gone | Paused::Repeated => Self::Done,
            Paused::Unknown => Self::Unknown,
            Paused::Over => Self::Refused(format!("run {run} has ended: there is nothing to pause")),
        }
    }

    fn of_resume(answer: Resumed, run: &str) -> Self {
        match answer {
            Resumed::GoesOn | Resumed::Already | Resumed::Gone | Resumed::Repeated => Self::Done,
            Resumed::Unknown => Self::Unknown,
            Resumed::Over => Self::Refused(format!(
                "run {run} has ended: only a run that is paused can be resumed; retry one that failed"
            )),
        }
    }

    fn of_signal(answer: Signalled, signal: &SignalRequest) -> Self {
        let (run, name) = (&signal.run, &signal.name);
        match answer {
            Signalled::Delivered | Signalled::Kept | Signalled::Gone | Signalled::Repeated => Self::Done,
            Signalled::Unknown => Self::Unknown,
            Signalled::Over => Self::Refused(format!("run {run} has ended: no step will take the signal {name}")),
            Signalled::Full => Self::Refused(format!(
                "run {run} keeps as many signals {name} as it may, none of which it has waited for; send the signal \
                 again when a step waits for it"
            )),
        }
    }
}

/// Enough of a request to recognize it by.
pub(crate) fn shortened(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().take(KEPT_FIELDS).map(|(name, value)| (cut(name), cut(value))).collect()
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    let mut end = bytes.len().min(KEPT_BYTES);
    let inside_a_character = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    while end > KEPT_BYTES - 4 && inside_a_character(end) {
        end -= 1;
    }
    bytes[..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_rejected_request_is_bounded() {
        let fields: Vec<_> = (0..1000).map(|_| (vec![b'n'; 5000], vec![b'v'; 5000])).collect();
        let kept = shortened(&fields);
        assert_eq!(kept.len(), KEPT_FIELDS);
        assert!(kept.iter().all(|(name, value)| name.len() == KEPT_BYTES && value.len() == KEPT_BYTES));
    }

    #[test]
    fn text_is_cut_between_characters() {
        for pad in 0..4 {
            let text = format!("{}{}", "x".repeat(pad), "\u{1F980}".repeat(100));
            let kept = String::from_utf8(cut(text.as_bytes())).unwrap();
            assert!(kept.len() > KEPT_BYTES - 4, "{pad}");
        }
        assert_eq!(cut(&[0x80; 300]).len(), KEPT_BYTES - 4);
        assert_eq!(cut(b"short"), b"short");
    }
}
