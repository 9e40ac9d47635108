//! Drives one run, step by step, in one task.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::export::Export;
use stepfleet_shared::history::Record;
use stepfleet_shared::names::{self, Namespace, QueueName};
use stepfleet_shared::published::{Position, Published};
use stepfleet_shared::question::{GivenAnswer, OpenQuestion};
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::run::{Compensation, Run};
use stepfleet_shared::store::{AnswerTo, Fire, MemoryStore, Reap, Start, Store};

use super::crash::Crashes;
use super::history::History;
use super::report::{Ran, TestRun};
use super::setup::{EPOCH_MS, Setup, Timed};
use crate::runtime::ByHand;
use crate::workflow::Served;

/// As in a coordinator.
const MAX_LOSSES: u32 = 3;
/// The same.
const LIMIT: usize = 500;
/// How many claims in a row may take only entries that are void by now.
const MAX_VAIN: usize = 100_000;

pub(super) struct Driver {
    pub(super) memory: MemoryStore,
    pub(super) store: Arc<dyn Store>,
    pub(super) served: Arc<HashMap<QueueName, Served>>,
    pub(super) retention: Duration,
    run: String,
    /// The one whose turn it is comes first.
    workers: VecDeque<ByHand>,
    hired: usize,
    crashes: Crashes,
    signals: Vec<(String, Vec<u8>)>,
    answers: Vec<(String, serde_json::Value, Option<String>)>,
    events: VecDeque<(&'static str, Vec<u8>)>,
    timed: Vec<(Duration, Timed)>,
    ran: Vec<Ran>,
    max_attempts: usize,
    keeps: usize,
}

pub(super) async fn drive(setup: Setup, request: StartRequest) -> TestRun {
    let Setup {
        served,
        others,
        steps,
        run,
        workers,
        context,
        entities,
        session,
        shared,
        signals,
        answers,
        events,
        mut timed,
        crashes,
        max_attempts,
        keeps,
        ..
    } = setup;
    timed.sort_by_key(|(at, _)| *at);
    let registration = served.registration.clone();
    let retention = served.retention;
    let queue = |served: &Served| QueueName::new(&served.registration.workflow, served.registration.version);
    let served = others.into_iter().chain([served]).map(|served| (queue(&served), served)).collect();
    let memory = MemoryStore::with_clock(Namespace::default(), EPOCH_MS);
    let crashes = Crashes::new(crashes);
    memory.watch_commits({
        let crashes = crashes.clone();
        move |worker, _, moment| crashes.strikes(worker, moment)
    });
    let mut driver = Driver {
        store: Arc::new(memory.clone()),
        memory,
        served: Arc::new(served),
        retention,
        run: run.clone(),
        workers: VecDeque::new(),
        hired: 0,
        crashes,
        signals,
        answers,
        events,
        timed,
        ran: Vec::new(),
        max_attempts,
        keeps,
    };
    for _ in 0..workers {
        driver.hire().await;
    }
    let (version, routes) = (registration.version, registration.start);
    let timeout = registration.timeout_ms.map(Duration::from_millis);
    let start = Start { request, run: run.clone(), version, routes, timeout, ..Start::default() };
    for (kind, key, value) in &entities {
        driver.memory.set_entity(kind, key, value);
    }
    if let Some(session) = &session {
        driver.memory.set_session(session, &shared);
    }
    answer(driver.store.start(&start).await);
    driver.memory.set_context(&run, &context);
    driver.go_on().await;
    driver.report(steps).await
}

impl Driver {
    async fn hire(&mut self) {
        self.hired += 1;
        let name = format!("worker-{}", self.hired);
        self.workers.push_back(answer(ByHand::register(self.store.clone(), &name, &self.served, self.keeps).await));
    }

    /// Runs until the run has ended, or waits for something that never comes.
    async fn go_on(&mut self) {
        let mut vain = 0;
        while !self.is_over().await {
            if self.do_what_is_due().await || self.take_requests().await || self.work().await {
                vain = 0;
            } else if self.is_queued() {
                vain += 1;
                assert!(vain < MAX_VAIN, "step executions are queued that no worker can take up: a bug in Stepfleet");
            } else if !self.give_awaited().await
                && !self.answer_asked().await
                && !self.send_next().await
                && !self.skip_time().await
            {
                return;
            }
        }
    }

    async fn is_over(&self) -> bool {
        let is_over = |run: Run| run.status.is_over() && run.compensation != Some(Compensation::Running);
        answer(self.store.run(&self.run).await).is_none_or(is_over)
    }

    fn is_queued(&self) -> bool {
        self.memory.backlog().iter().any(|(_, requeued, new)| requeued + new > 0)
    }

    /// One attempt, by the worker whose turn it is. False if it could take nothing.
    async fn work(&mut self) -> bool {
        let Some(worker) = self.workers.pop_front() else { return false };
        let Some(step) = worker.claim().await else {
            self.workers.push_front(worker);
            return false;
        };
        if self.ran.len() >= self.max_attempts {
            let records = self.records().await;
            let end = History::new(EPOCH_MS, records[records.len().saturating_sub(20)..].to_vec());
            panic!(
                "the run has not ended after {} attempts: does it loop for ever? Its history ends with\n{end}\n\
                 A test that needs more sets max_attempts().",
                self.max_attempts
            );
        }
        self.ran.push(Ran { step: step.step.clone(), worker: worker.id().to_owned() });
        let died = self.crashes.watch(worker.id(), &step.step);
        if died.run_until_cancelled(Box::pin(worker.work(&std::sync::Arc::new(step.clone())))).await.is_some() {
            self.workers.push_back(worker);
        } else {
            // It has never sent a heartbeat, so its connection is 0.
            self.reap(worker.id()).await;
            self.hire().await;
        }
        true
    }

    /// False if nothing was due.
    async fn do_what_is_due(&mut self) -> bool {
        let now = self.time().await;
        if self.timed.first().is_none_or(|(at, _)| *at > now) {
            return false;
        }
        match self.timed.remove(0).1 {
            Timed::Signal(name, payload) => {
                answer(self.store.signal(&self.run, &names::token(&name), &payload, None).await);
            }
            Timed::Cancel => {
                answer(self.store.cancel(&self.run, None, self.retention).await);
            }
        }
        true
    }

    /// Sends one signal of the script that the run waits for. False if there is none.
    async fn give_awaited(&mut self) -> bool {
        let waits = self.memory.awaited(&self.run);
        let scripted = |wait: &String| self.signals.iter().position(|(name, _)| name == wait);
        let Some(at) = waits.iter().find_map(scripted) else { return false };
        let (name, payload) = self.signals.remove(at);
        answer(self.store.signal(&self.run, &names::token(&name), &payload, None).await);
        true
    }

    /// Gives one answer of the script to a question that the run asks. False if there is none.
    async fn answer_asked(&mut self) -> bool {
        let open = answer(self.store.questions(Some(&self.run), 0, u64::MAX).await);
        let scripted = |asked: &OpenQuestion| {
            let at = self.answers.iter().position(|(name, ..)| *name == asked.question.name)?;
            Some((asked.clone(), at))
        };
        let Some((asked, at)) = open.iter().find_map(scripted) else { return false };
        let (name, value, by) = self.answers.remove(at);
        if let Some(objection) = asked.question.objection(&value) {
            panic!("the question {name} does not take the answer {value}: {objection}");
        }
        let given = GivenAnswer::new(value, by, answer(self.store.now_ms().await));
        let payload = serde_json::to_vec(&given).unwrap_or_default();
        let payload = codec::input_payload(Content::Json, &payload);
        let by = given.by.as_deref().unwrap_or_default();
        let to = AnswerTo { question: &asked.id, name: &name, payload: &payload, by };
        answer(self.store.answer(&self.run, &to, None).await);
        true
    }

    /// Sends the next event of the script. False if there is none.
    async fn send_next(&mut self) -> bool {
        let Some((event, payload)) = self.events.pop_front() else { return false };
        let routes = self.served.values().flat_map(|served| served.router.takers(event));
        let events: Vec<_> = routes.map(|route| (route, payload.clone())).collect();
        answer(self.store.send(&self.run, &events, None).await);
        true
    }

    /// Moves the clock to what is due next. False if nothing is due.
    async fn skip_time(&mut self) -> bool {
        let (fired, timer) = self.fire().await;
        if fired {
            return true;
        }
        let now = self.time().await;
        let scripted = self.timed.first().map(|(at, _)| at.saturating_sub(now));
        let Some(wait) = timer.into_iter().chain(scripted).min() else { return false };
        self.memory.advance(wait);
        self.fire().await;
        true
    }

    /// Takes back what a worker held that has died.
    async fn reap(&self, worker: &str) {
        let suspects = vec![(worker.to_owned(), 0)];
        let reap = Reap { limit: LIMIT, max_losses: MAX_LOSSES, retention: self.retention, suspects };
        answer(self.store.reap(&reap).await);
    }

    /// Whether anything was due, and how long until something is.
    async fn fire(&self) -> (bool, Option<Duration>) {
        let fired = answer(self.store.fire(&Fire { limit: LIMIT, retention: self.retention }).await);
        (fired.fired > 0, fired.next_due)
    }

    /// Since the start.
    async fn time(&self) -> Duration {
        Duration::from_millis(answer(self.store.now_ms().await) - EPOCH_MS)
    }

    async fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let slice = answer(self.store.history(&self.run, records.len() as u64, 1000).await);
            if slice.is_empty() {
                return records;
            }
            records.extend(slice);
        }
    }

    async fn published(&self) -> Vec<Published> {
        let mut published: Vec<Published> = Vec::new();
        loop {
            let after = published.last().map_or(Position::BEGINNING, |last| last.position);
            let slice = answer(self.store.published(&self.run, after, 1000).await);
            if slice.is_empty() {
                return published;
            }
            published.extend(slice);
        }
    }

    async fn report(self, steps: BTreeSet<&'static str>) -> TestRun {
        let run = answer(self.store.run(&self.run).await).expect("the run was started and has not expired");
        let breaches = self.memory.breaches();
        assert!(breaches.is_empty(), "the memory store contradicts itself, a bug in Stepfleet: {breaches:?}");
        let session = match &run.session {
            Some(name) => answer(self.store.session(name).await).unwrap_or_default().context,
            None => Vec::new(),
        };
        let export = Export::of(&run, answer(self.store.journals(&self.run).await));
        TestRun {
            export,
            session: session.into_iter().collect(),
            memory: self.memory.clone(),
            history: History::new(EPOCH_MS, self.records().await),
            steps,
            context: self.memory.context(&self.run).unwrap_or_default(),
            waits: self.memory.awaited(&self.run),
            published: self.published().await,
            skipped: self.time().await,
            signals_left: self.signals.into_iter().map(|(name, _)| name).collect(),
            answers_left: self.answers.into_iter().map(|(name, ..)| name).collect(),
            crashes: self.crashes,
            ran: self.ran,
            run,
        }
    }
}

/// The memory store refuses calls only because of a bug.
pub(super) fn answer<T>(answer: stepfleet_shared::Result<T>) -> T {
    answer.unwrap_or_else(|error| panic!("the memory store refused a call: {error}"))
}
