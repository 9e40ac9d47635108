//! Turns a request into a run: the inbox, `start`, `defer` and `reject`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::data::{Begins, Data, Fields, Lead, RUN, Waiting};
use super::run::{Actor, EventSource, Fanout, RunData, Steps, Timeout, Work};
use super::signal::REQUEST_MS;
use super::stream::EntryId;
use super::timers::Timer;
use super::{REJECTED_RETENTION, millis};
use crate::codec::Content;
use crate::history::Kind;
use crate::request::{PlainRequest, StartRequest};
use crate::run::{Run, Status};
use crate::step::Route;
use crate::store::{Deferral, InboxEntry, Origin, Rejection, RequestFate, Start, Started};

/// How many requests are deferred until a worker serves their workflow.
const MAX_DEFERRED: usize = 10_000;
/// How many of the newest rejected requests are kept.
const MAX_REJECTED: usize = 10_000;
/// How many fields of a rejected request are kept.
const MAX_REJECTED_FIELDS: usize = 32;
/// How many inbox entries one read delivers.
const INBOX_BATCH: usize = 128;

impl Data {
    pub(super) fn submit(&mut self, now: u64, request: &StartRequest) -> String {
        let entry = self.enqueue(now, request.fields());
        request.id.clone().unwrap_or(entry)
    }

    pub(super) fn enqueue(&mut self, now: u64, fields: Fields) -> String {
        self.news.arrived = true;
        self.inbox.append(now, fields).to_string()
    }

    pub(super) fn read_inbox(&mut self, now: u64, coordinator: &str) -> Vec<InboxEntry> {
        inbox_entries(self.inbox.give(now, coordinator, INBOX_BATCH))
    }

    pub(super) fn reclaim_inbox(&mut self, now: u64, coordinator: &str, idle: u64) -> Vec<InboxEntry> {
        inbox_entries(self.inbox.take_over(now, coordinator, idle, INBOX_BATCH))
    }

    /// Creates the run, unless the request repeats an earlier one.
    pub(super) fn start(&mut self, now: u64, start: &Start) -> Started {
        if start.entry.as_ref().is_some_and(|entry| self.taken.contains(entry)) {
            return Started::Known(start.run.clone());
        }
        let entry = start.entry.as_deref();
        // A deferred request has the lists of all who requested it meanwhile.
        let mut lists: Vec<String> = match entry {
            Some(_) => self.list_of(&start.request, entry).into_iter().collect(),
            None => self.lists_of(&start.run),
        };
        let known = self.known_run(now, start);
        let ticket = start.ticket.as_deref().unwrap_or_default();
        if known.is_none() && self.is_void(now, &start.run, ticket) {
            return Started::Void;
        }
        let source = match (&start.request.context_from, &known) {
            (Some(from), None) => match self.source(now, from) {
                Some(context) => context,
                None => return Started::NoSource(from.clone()),
            },
            _ => BTreeMap::new(),
        };
        if let Some(name) = start.request.session.as_ref().filter(|name| known.is_none() && self.is_line_full(name)) {
            return Started::LineFull(name.clone());
        }
        self.leave_inbox(entry);
        // A request without an entry left the inbox when it was deferred.
        let starts_paused = start.entry.is_none() && known.is_none() && self.held_paused.remove(&start.run);
        if entry.is_none() && !self.hold_no_more(now, &start.run) {
            lists.clear();
        }
        let origin = Origin::entry(entry.unwrap_or_default());
        if let Some(known) = known {
            if entry.is_none() && known != start.run {
                self.followers.remove(&start.run);
            }
            self.tell_started(now, &known, &lists, &origin, true);
            return Started::Known(known);
        }
        let (run, request) = (&start.run, &start.request);
        if self.runs.contains_key(run) {
            // The id of a rejected request is free.
            self.forget_but_signals(run);
            self.timers.remove(&Timer::expire(run));
        }
        if let Some(key) = key_of(start) {
            self.keys.insert(key, lead(run, now, start));
        }
        self.insert_run(start, now);
        if let Some(state) = self.runs.get_mut(run) {
            state.context = source;
            state.context.extend(start.context.iter().cloned());
            state.context_version = u64::from(!state.context.is_empty());
            state.begun = state.context.clone();
        }
        let about = format!("{} {}", request.workflow, start.version);
        self.note(now, Kind::Start, &run_itself(run), about);
        let due = now.saturating_add(request.delay_ms);
        let in_session = request.session.is_some();
        if let Some(whole) = start.timeout.map(millis) {
            // In a session, the timeout begins with the run's turn.
            let due = (!in_session).then_some(due.saturating_add(whole));
            if let Some(due) = due {
                self.timers.set(due, Timer::timeout(run));
            }
            if let Some(state) = self.runs.get_mut(run) {
                state.timeout = Some(Timeout { whole, due });
            }
        }
        let begins = match request.delay_ms {
            1.. => Begins::At(due),
            0 if in_session => Begins::InTurn,
            0 => Begins::Now,
        };
        let work = |route: &Route| Work { group: RUN, route: route.clone(), event: EventSource::Input };
        self.create(now, run, begins, start.routes.iter().map(work).collect());
        if starts_paused {
            self.begin_pause(now, run);
        }
        self.tell_started(now, run, &lists, &origin, false);
        if in_session {
            self.join_session(now, run, request.delay_ms);
        }
        Started::New(run.clone())
    }

    /// The context of the run `from`, which a new run starts with. None if there is no such run.
    fn source(&self, now: u64, from: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let found = self.runs.get(from).or_else(|| {
            let lead = self.aliases.get(from).filter(|lead| lead.is_good(now))?;
            self.runs.get(&lead.run)
        });
        found.filter(|run| run.shown.status != Status::Rejected).map(|run| run.context.clone())
    }

    fn insert_run(&mut self, start: &Start, now: u64) {
        let request = &start.request;
        let mut state = RunData::new(Run {
            workflow: request.workflow.clone(),
            version: start.version,
            content: request.content(),
            input: request.input.clone(),
            session: request.session.clone(),
            durability: Some(start.durability).filter(|durability| durability.waits()),
            ..shown(&start.run, Status::Queued, now)
        });
        let itself = Fanout { live: start.routes.len() as u64, ..Fanout::default() };
        state.follow_steps = request.follow_steps;
        state.parent.clone_from(&request.parent);
        state.shown.parent = request.parent.as_ref().map(|parent| parent.run.clone());
        let in_line = request.session.is_some();
        state.steps = Some(Steps { groups: [(RUN, itself)].into(), in_line, ..Steps::default() });
        self.runs.insert(start.run.clone(), state);
        self.created.insert((now, start.run.clone()));
    }

    /// The run that a request repeats: by its key, else by its id. A key may outlive its run, and the id of a rejected
    /// request is free.
    fn known_run(&mut self, now: u64, start: &Start) -> Option<String> {
        if let Some(known) = key_of(start).and_then(|key| self.run_of_key(now, &key)) {
            // The caller knows only the id that its run would have had: lead it to the known run.
            if known != start.run {
                self.aliases.insert(start.run.clone(), lead(&known, now, start));
                self.redirect_signals(now, &start.run, &known);
            }
            return Some(known);
        }
        self.is_taken(&start.run).then(|| start.run.clone())
    }

    fn run_of_key(&self, now: u64, key: &(String, String)) -> Option<String> {
        let known = self.keys.get(key).filter(|lead| lead.is_good(now))?;
        self.is_taken(&known.run).then(|| known.run.clone())
    }

    pub(super) fn is_taken(&self, run: &str) -> bool {
        self.runs.get(run).is_some_and(|run| run.shown.status != Status::Rejected)
    }

    pub(super) fn defer(&mut self, now: u64, start: &Start) -> Deferral {
        let entry = start.entry.as_deref();
        let list = self.list_of(&start.request, entry);
        let origin = Origin::entry(entry.unwrap_or_default());
        if let Some(known) = self.known_run(now, start) {
            let lists: Vec<String> = list.into_iter().collect();
            self.tell_started(now, &known, &lists, &origin, true);
            self.leave_inbox(entry);
            return Deferral::Known;
        }
        if !self.deferred.contains_key(&start.run) {
            if self.deferred.len() >= MAX_DEFERRED {
                return Deferral::Full;
            }
            self.deferred.insert(start.run.clone(), Waiting { request: start.request.clone(), since: now });
        }
        if let Some(list) = list {
            self.push_receipt(now, &list, "kept", &start.run, &[("entry", json!(origin.entry))]);
            self.follow_end(&start.run, &list);
        }
        self.leave_inbox(entry);
        Deferral::Kept
    }

    pub(super) fn reject(&mut self, now: u64, rejection: &Rejection) {
        let entry = Some(rejection.entry.as_str()).filter(|entry| !entry.is_empty());
        let mut lists: Vec<String> = rejection.reply.iter().filter(|_| !self.is_gone(entry)).cloned().collect();
        self.leave_inbox(entry);
        if let Some(deferred) = &rejection.deferred {
            if !self.hold_no_more(now, deferred) {
                // Another coordinator has settled the deferred request.
                return;
            }
            lists = self.followers.remove(deferred).unwrap_or_default().into_iter().collect();
        }
        let (asked, request) = rejection.request.as_ref().map_or(("", ""), |(run, request)| (run, request));
        let run = if asked.is_empty() { rejection.run.as_deref().unwrap_or_default() } else { asked };
        let more = [("entry", &*rejection.entry), ("request", request), ("reason", &rejection.reason)];
        let more = more.map(|(name, value)| (name, json!(value)));
        for list in lists {
            self.push_receipt(now, &list, "rejected", run, &more);
        }
        if let Some(request) = rejection.request.as_ref().filter(|(_, request)| !request.is_empty()) {
            self.requests.retain(|_, (_, until)| now <= *until);
            let fate = RequestFate::Rejected(rejection.reason.clone());
            self.requests.entry(request.clone()).or_insert((fate, now + REQUEST_MS));
        }
        if let Some(parent) = rejection.parent.clone() {
            let (run, reason) = (rejection.run.as_deref().unwrap_or_default(), rejection.reason.clone());
            self.tell_parent(now, run, parent, Status::Rejected, reason.into_bytes());
        }
        let mut fields = vec![field("reason", &rejection.reason), field("entry", &rejection.entry)];
        fields.extend(rejection.fields.iter().take(MAX_REJECTED_FIELDS).cloned());
        if !rejection.only_shown {
            self.rejected.push_back((now, fields));
        }
        if self.rejected.len() > MAX_REJECTED {
            self.rejected.pop_front();
        }
        if let Some(run) = &rejection.run {
            self.show_rejected(now, run, &rejection.reason);
            let is_rejected = self.runs.get(run).is_some_and(|run| run.shown.status == Status::Rejected);
            if is_rejected && rejection.deferred.is_some() {
                // No run will take the signals kept while the request was deferred.
                self.tell_kept(now, run);
                self.signals.retain(|(of, _), _| of != run);
            }
        }
    }

    /// Ends the deferral of a request. What was sent to its run meanwhile goes through the inbox again. False if it was
    /// not deferred.
    pub(super) fn hold_no_more(&mut self, now: u64, run: &str) -> bool {
        let was_held = self.deferred.remove(run).is_some();
        if self.held_paused.remove(run) {
            self.enqueue(now, PlainRequest { run: run.to_owned(), request: None }.fields("pause"));
        }
        for send in self.sent.remove(run).unwrap_or_default() {
            self.enqueue(now, send.fields());
        }
        was_held
    }

    fn show_rejected(&mut self, now: u64, run: &str, reason: &str) {
        let leads_elsewhere = self.aliases.get(run).is_some_and(|lead| lead.is_good(now));
        // A known run or a deferred request keeps the id.
        if self.runs.contains_key(run) || leads_elsewhere || self.deferred.contains_key(run) {
            return;
        }
        let rejected =
            Run { finished_ms: Some(now), error: Some(reason.to_owned()), ..shown(run, Status::Rejected, now) };
        self.runs.insert(run.to_owned(), RunData::new(rejected));
        self.created.insert((now, run.to_owned()));
        self.timers.set(now + millis(REJECTED_RETENTION), Timer::expire(run));
        self.news.ended.push(run.to_owned());
    }

    pub(super) fn leave_inbox(&mut self, entry: Option<&str>) {
        if let Some(foreign) = entry.filter(|entry| entry.contains('@')) {
            self.taken.insert(foreign.to_owned());
        } else if let Some(id) = entry.and_then(EntryId::parse) {
            self.inbox.remove(id);
        }
    }
}

impl Lead {
    pub(super) fn is_good(&self, now: u64) -> bool {
        now <= self.expires
    }
}

fn lead(run: &str, now: u64, start: &Start) -> Lead {
    Lead { run: run.to_owned(), expires: now.saturating_add(millis(start.key_ttl)) }
}

/// The key to check together with the run. None if it was reserved before, as in a namespace of several partitions.
fn key_of(start: &Start) -> Option<(String, String)> {
    let request = Some(&start.request).filter(|_| start.ticket.is_none())?;
    request.key.as_ref().filter(|key| !key.is_empty()).map(|key| (request.workflow.clone(), key.clone()))
}

fn field(name: &str, value: impl AsRef<[u8]>) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

fn inbox_entries(entries: Vec<(EntryId, Fields)>) -> Vec<InboxEntry> {
    entries
        .into_iter()
        .map(|(id, fields)| InboxEntry { id: id.to_string(), inbox: 0, fields: Arc::new(fields) })
        .collect()
}

pub(super) fn run_itself(run: &str) -> Actor {
    Actor { run: run.to_owned(), seq: 0, number: 0, step: "-".to_owned(), worker: "-".to_owned() }
}

pub(super) fn shown(id: &str, status: Status, now: u64) -> Run {
    Run {
        id: id.to_owned(),
        status,
        workflow: String::new(),
        version: 0,
        content: Content::default(),
        created_ms: now,
        started_ms: None,
        finished_ms: None,
        input: Vec::new(),
        result: None,
        error: None,
        error_step: None,
        error_attempt: None,
        session: None,
        durability: None,
        parent: None,
        compensation: None,
    }
}
