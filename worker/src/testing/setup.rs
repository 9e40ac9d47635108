//! What a test sets up.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::Serialize;
use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::entity::{Address, Entity};
use stepfleet_shared::request::{SignalRequest, StartRequest};
use stepfleet_shared::store::memory::Moment;
use stepfleet_shared::{fields, names, values};

use super::crash::{self, Crash, Place};
use super::driver;
use super::report::TestRun;
use crate::event::Event;
use crate::workflow::{Served, Workflow};

/// Where the clock of the store begins: 2026-01-01 00:00 UTC, in ms since 1970.
pub(super) const EPOCH_MS: u64 = 1_767_225_600_000;

/// The run of a test, and its script.
#[must_use = "nothing happens before start()"]
pub struct Setup {
    pub(super) served: Served,
    /// For child runs.
    pub(super) others: Vec<Served>,
    pub(super) start: &'static str,
    pub(super) steps: BTreeSet<&'static str>,
    pub(super) run: String,
    pub(super) workers: usize,
    pub(super) keeps: usize,
    pub(super) context: Vec<(String, Vec<u8>)>,
    /// Kind, key and value.
    pub(super) entities: Vec<(&'static str, String, Vec<u8>)>,
    pub(super) session: Option<String>,
    /// What the session has from the beginning.
    pub(super) shared: Vec<(String, Vec<u8>)>,
    /// Given when waited for: name and payload, in order.
    pub(super) signals: Vec<(String, Vec<u8>)>,
    /// Given when asked for: the question's name, the answer, and who gives it, in order.
    pub(super) answers: Vec<(String, serde_json::Value, Option<String>)>,
    /// Events from outside, in order.
    pub(super) events: VecDeque<(&'static str, Vec<u8>)>,
    /// Done at a time after the start.
    pub(super) timed: Vec<(Duration, Timed)>,
    pub(super) crashes: Vec<Crash>,
    pub(super) max_attempts: usize,
}

/// What comes from outside at a time.
#[derive(Clone, Debug)]
pub(super) enum Timed {
    Signal(String, Vec<u8>),
    Cancel,
}

/// Prepares a run of a workflow: the workflow that a worker would serve, with the test's resources.
///
/// # Panics
/// When the workflow's graph cannot work.
pub fn run<W: Workflow>(workflow: W) -> Setup {
    let definition = W::definition();
    let steps = definition.steps.iter().map(|step| step.name).collect();
    let served = Served::new(workflow).unwrap_or_else(|mistake| panic!("{mistake}"));
    Setup {
        served,
        others: Vec::new(),
        start: definition.start,
        steps,
        run: "test".to_owned(),
        workers: 3,
        keeps: 0,
        context: Vec::new(),
        entities: Vec::new(),
        session: None,
        shared: Vec::new(),
        signals: Vec::new(),
        answers: Vec::new(),
        events: VecDeque::new(),
        timed: Vec::new(),
        crashes: Vec::new(),
        max_attempts: 100_000,
    }
}

impl Setup {
    /// How many durable functions that wait each worker keeps in memory, as [`Worker::keeps`](crate::Worker::keeps) does. None by default:
    /// so each wait is followed by a replay, which finds a body that is not deterministic.
    pub fn keeps(mut self, functions: usize) -> Self {
        self.keeps = functions;
        self
    }

    /// How many workers there are: 3 unless said otherwise. They take step executions in turn, and each that dies is
    /// replaced.
    pub fn workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "a run needs a worker; give workers() at least 1");
        self.workers = workers;
        self
    }

    /// Another workflow, for child runs ([`Context::run_workflow`](crate::context::Context::run_workflow)) and other
    /// runs that the run starts. They are executed with it. A child run of a workflow that is not added here is
    /// rejected.
    ///
    /// # Panics
    /// When the workflow's graph cannot work.
    pub fn serve<W: Workflow>(mut self, workflow: W) -> Self {
        self.others.push(Served::new(workflow).unwrap_or_else(|mistake| panic!("{mistake}")));
        self
    }

    /// The run's id; `test` by default.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.run = id.into();
        names::check_id("run id", &self.run).unwrap_or_else(|mistake| panic!("{mistake}"));
        self
    }

    /// A field of the state that the run begins with.
    pub fn field<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        let value = names::check_field(name).and_then(|()| values::encode(name, value));
        self.context.push((name.to_owned(), value.unwrap_or_else(|mistake| panic!("{mistake}"))));
        self
    }

    /// The state that the run begins with.
    pub fn state<S: Serialize>(mut self, state: &S) -> Self {
        self.context.extend(fields::split(state).unwrap_or_else(|mistake| panic!("{mistake}")));
        self
    }

    /// An entity that exists from the beginning.
    ///
    /// ```
    /// # use stepfleet::{prelude::*, testing};
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Counter { count: u32 }
    ///
    /// impl Entity for Counter {
    ///     const NAME: &'static str = "Counter";
    /// }
    ///
    /// #[durable]
    /// async fn visit(ctx: &Context, page: String) -> Outcome<u32> {
    ///     ctx.entity::<Counter>(page).call("count", |counter| {
    ///         counter.count += 1;
    ///         counter.count
    ///     }).await
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let setup = || testing::run(visit::workflow()).entity("home", &Counter { count: 41 });
    /// let run = testing::call_survives_every_crash(setup, "home").await;
    /// assert_eq!(run.result::<u32>(), 42);
    /// assert_eq!(run.entity::<Counter>("home").unwrap().count, 42);
    /// # }
    /// ```
    ///
    /// # Panics
    /// When the key or the name of its type is not valid, or the value cannot be serialized.
    pub fn entity<E: Entity>(mut self, key: &str, value: &E) -> Self {
        Address::of::<E>(key).check().unwrap_or_else(|mistake| panic!("{mistake}"));
        let value = codec::encode(&format!("the entity {} {key}", E::NAME), value);
        self.entities.push((E::NAME, key.to_owned(), value.unwrap_or_else(|mistake| panic!("{mistake}"))));
        self
    }

    /// Puts the run into a session of this name. It begins with the state of [`Setup::session_state`]; if it
    /// completes, [`TestRun::session_state`] returns the state that it has left.
    pub fn session(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        names::check_id("session", &name).unwrap_or_else(|mistake| panic!("{mistake}"));
        self.session = Some(name);
        self
    }

    /// The state that earlier runs of the session have left.
    ///
    /// ```
    /// # use stepfleet::{prelude::*, testing};
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Chat { heard: Vec<String> }
    ///
    /// #[durable]
    /// async fn hear(ctx: &Context<Chat>, text: String) -> Outcome<usize> {
    ///     ctx.state().push("heard", &text).await?;
    ///     let heard: Vec<String> = ctx.state().get("heard").await?.unwrap_or_default();
    ///     Ok(heard.len())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let first = testing::run(hear::workflow()).session("user-7").call("Hello").await;
    /// let chat: Chat = first.session_state();
    /// let second = testing::run(hear::workflow()).session("user-7").session_state(&chat).call("Still there?").await;
    /// assert_eq!(second.result::<usize>(), 2);
    /// # }
    /// ```
    pub fn session_state<S: Serialize>(mut self, state: &S) -> Self {
        self.shared.extend(fields::split(state).unwrap_or_else(|mistake| panic!("{mistake}")));
        self
    }

    /// A signal that the run gets when it waits for this name and nothing else is left to do. Several with one name
    /// are delivered in the order in which they were added, one for each wait.
    pub fn signal<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        let payload = self.payload(name, value);
        self.signals.push((name.to_owned(), payload));
        self
    }

    /// An answer that the run gets when it asks the question with this name and nothing else is left to do. Several
    /// to one name are given in the order in which they were added.
    ///
    /// # Panics
    /// [`Setup::start`] panics when the question does not take the answer.
    pub fn answer<T: Serialize + ?Sized>(mut self, question: &str, answer: &T, by: Option<&str>) -> Self {
        let value = serde_json::to_value(answer);
        let value = value.unwrap_or_else(|e| panic!("the answer to {question} cannot be written as JSON: {e}"));
        self.answers.push((question.to_owned(), value, by.map(str::to_owned)));
        self
    }

    /// A signal that the run gets this long after its start, on the store's clock, whether it waits for it or not.
    /// `Duration::ZERO` is before its first step.
    pub fn signal_at<T: Serialize + ?Sized>(mut self, at: Duration, name: &str, value: &T) -> Self {
        let payload = self.payload(name, value);
        self.timed.push((at, Timed::Signal(name.to_owned(), payload)));
        self
    }

    /// An event from outside, for every step that takes it. It is delivered when nothing else of the run is left to
    /// do: see the option `external` of `#[workflow]`. Several are delivered one after the other, in the order in
    /// which they were added.
    ///
    /// # Panics
    /// When no step takes the event, the workflow does not name it as `external`, or it cannot be serialized.
    pub fn send<E: Event>(mut self, event: &E) -> Self {
        let (name, workflow) = (E::NAME, &self.served.registration.workflow);
        assert!(!self.served.router.takers(name).is_empty(), "no step of {workflow} takes {name} by itself");
        let external = &self.served.registration.graph.external;
        assert!(external.iter().any(|known| known == name), "{workflow} does not name {name} in `external`");
        let payload = event.payload(name).unwrap_or_else(|mistake| panic!("{mistake}"));
        self.events.push_back((name, payload));
        self
    }

    /// Cancels the run this long after its start, on the store's clock.
    pub fn cancel_at(mut self, at: Duration) -> Self {
        self.timed.push((at, Timed::Cancel));
        self
    }

    /// The worker that makes the `number`th commit of a step (from 1, counted over all of its executions and attempts)
    /// dies before that commit takes effect. The step's next attempt then makes the commit `number + 1`.
    ///
    /// # Panics
    /// When the workflow has no such step; and [`Setup::start`] panics when the step never came to that commit.
    pub fn crash_before_commit(self, step: &str, number: usize) -> Self {
        self.crash(step, number, Moment::Before)
    }

    /// The worker that makes the `number`th commit of a step dies after that commit took effect, before it sees the
    /// reply.
    ///
    /// # Panics
    /// Like [`Setup::crash_before_commit`].
    pub fn crash_after_commit(self, step: &str, number: usize) -> Self {
        self.crash(step, number, Moment::After)
    }

    /// How many attempts there may be in all, before the run counts as one that never ends; 100,000 by default.
    pub fn max_attempts(mut self, attempts: usize) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Starts the run and drives it until it has ended, or only waits for a signal that is not in the script.
    ///
    /// # Panics
    /// When the event is not the workflow's start event, when the run takes more than [`Setup::max_attempts`], or
    /// when a crash that was asked for never happened.
    pub async fn start<E: Event>(self, input: &E) -> TestRun {
        assert!(
            E::NAME == self.start,
            "{} begins with {}, not with {}; give start() that event",
            self.served.registration.workflow,
            self.start,
            E::NAME
        );
        let input = input.write_as("the input", Content::Json).unwrap_or_else(|mistake| panic!("{mistake}"));
        self.start_json(&String::from_utf8_lossy(&input)).await
    }

    /// Like [`Setup::start`], for a durable function with this input.
    ///
    /// # Panics
    /// Like [`Setup::start`].
    pub async fn call<I: Serialize + ?Sized>(self, input: &I) -> TestRun {
        let input = serde_json::to_string(input).unwrap_or_else(|e| panic!("the input cannot be written as JSON: {e}"));
        self.start_json(&input).await
    }

    /// Like [`Setup::start`], with the JSON text that a caller would send.
    ///
    /// # Panics
    /// Even if it is not JSON.
    pub async fn start_json(self, input: &str) -> TestRun {
        let run = self.drive(input).await;
        let (left, commits) = (run.crashes.left(), &run.crashes);
        let missed: Vec<String> = left.iter().map(|crash| missed(crash, commits)).collect();
        assert!(missed.is_empty(), "{}\n{run}", missed.join("\n"));
        run
    }

    pub(super) async fn drive(self, input: &str) -> TestRun {
        let mut request = StartRequest::new(self.served.registration.workflow.clone(), input.as_bytes());
        request.session.clone_from(&self.session);
        request.check().unwrap_or_else(|mistake| panic!("{mistake}"));
        driver::drive(self, request).await
    }

    fn crash(mut self, step: &str, number: usize, moment: Moment) -> Self {
        check_step(&self.steps, step);
        assert!(number > 0, "commits are counted from 1");
        self.crashes.push(Crash { place: Place::OfStep(step.to_owned(), number), moment });
        self
    }

    fn payload<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Vec<u8> {
        let input = serde_json::to_vec(value);
        let input = input.unwrap_or_else(|e| panic!("the signal {name} cannot be written as JSON: {e}"));
        let request = SignalRequest {
            run: self.run.clone(),
            name: name.to_owned(),
            content: Content::Json,
            input,
            request: None,
        };
        request.check().unwrap_or_else(|mistake| panic!("{mistake}"));
        request.payload()
    }
}

pub(super) fn check_step(steps: &BTreeSet<&'static str>, step: &str) {
    let names: Vec<&str> = steps.iter().copied().collect();
    assert!(steps.contains(step), "the workflow has no step {step}; it has {}", names.join(", "));
}

fn missed(crash: &Crash, commits: &crash::Crashes) -> String {
    let moment = crash::name(crash.moment);
    match &crash.place {
        Place::OfStep(step, number) => format!(
            "the crash {moment} commit {number} of step {step} did not happen: the step made {} commits",
            commits.commits_of(step)
        ),
        Place::OfRun(number) => format!(
            "the crash {moment} commit {number} of the run did not happen: there were {}",
            commits.commits().len()
        ),
    }
}
