//! The outcome of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::entity::Entity;
use stepfleet_shared::export::Export;
use stepfleet_shared::history::Kind;
use stepfleet_shared::published::{Published, StreamText, Streams};
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::store::MemoryStore;
use stepfleet_shared::{codec, fields, values};

use super::crash::Crashes;
use super::history::History;
use super::setup::check_step;
use crate::event::Event;

/// A run that has ended, or that waits for a signal which the test has not scripted.
///
/// Its `Display`, which every failed check prints, shows status, error, history and what the run waits for.
#[derive(Debug)]
pub struct TestRun {
    pub(super) run: Run,
    pub(super) steps: BTreeSet<&'static str>,
    pub(super) history: History,
    pub(super) context: BTreeMap<String, Vec<u8>>,
    pub(super) session: BTreeMap<String, Vec<u8>>,
    pub(super) memory: MemoryStore,
    pub(super) waits: Vec<String>,
    pub(super) signals_left: Vec<String>,
    pub(super) answers_left: Vec<String>,
    pub(super) published: Vec<Published>,
    pub(super) export: Export,
    pub(super) skipped: Duration,
    pub(super) crashes: Crashes,
    pub(super) ran: Vec<Ran>,
}

/// One attempt whose code was executed.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) step: String,
    pub(super) worker: String,
}

/// What one step did, over all of its executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    committed: usize,
    workers: Vec<String>,
    retries: Vec<Retried>,
}

/// An attempt that failed and was tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retried {
    /// Why it failed.
    pub error: String,
    /// The delay before the next attempt.
    pub delay: Duration,
}

impl TestRun {
    /// The run as callers see it: status, result, error, times.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.run.status
    }

    /// Checks its status.
    ///
    /// # Panics
    /// With the whole run, when it has another status.
    #[track_caller]
    pub fn assert_status(&self, status: Status) {
        assert!(self.run.status == status, "the run should be {status}, and is not:\n{self}");
    }

    /// The stop event.
    ///
    /// # Panics
    /// With the whole run, when it did not complete or its result has another type.
    #[track_caller]
    pub fn result<E: DeserializeOwned>(&self) -> E {
        match &self.run.result {
            Some(result) if self.run.status == Status::Completed => codec::decode_json("the result", result)
                .unwrap_or_else(|mistake| panic!("{mistake}; it is {}\n{self}", String::from_utf8_lossy(result))),
            _ => panic!("the run did not complete:\n{self}"),
        }
    }

    /// Why it failed.
    ///
    /// # Panics
    /// With the whole run, when it has no error.
    #[track_caller]
    pub fn error(&self) -> &str {
        self.run.error.as_deref().unwrap_or_else(|| panic!("the run has no error:\n{self}"))
    }

    /// All that happened.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What one step did.
    ///
    /// # Panics
    /// When the workflow has no step of that name.
    #[track_caller]
    pub fn step(&self, name: &str) -> StepReport {
        check_step(&self.steps, name);
        let retried = |detail: &str| {
            let (delay, error) = detail.split_once(' ').unwrap_or((detail, ""));
            Retried { error: error.to_owned(), delay: Duration::from_millis(delay.parse().unwrap_or(0)) }
        };
        let retries = self.history.of(Kind::Retry).filter(|record| record.step == name);
        StepReport {
            committed: self.history.steps().iter().filter(|step| **step == name).count(),
            workers: self.ran.iter().filter(|ran| ran.step == name).map(|ran| ran.worker.clone()).collect(),
            retries: retries.map(|record| retried(&record.detail)).collect(),
        }
    }

    /// The run's state. Fields that were never set have the values of `S::default()`.
    ///
    /// # Panics
    /// When it is of another type.
    #[track_caller]
    pub fn state<S: Serialize + DeserializeOwned + Default>(&self) -> S {
        self.state_of(&self.context)
    }

    /// An entity as the run has left it; None if it does not exist.
    ///
    /// # Panics
    /// When it is of another type.
    #[track_caller]
    pub fn entity<E: Entity>(&self, key: &str) -> Option<E> {
        let value = self.memory.entity_value(E::NAME, key)?;
        let value = codec::decode(&format!("the entity {} {key}", E::NAME), &value);
        Some(value.unwrap_or_else(|mistake| panic!("{mistake}\n{self}")))
    }

    /// The state of the run's session after the run has ended: what the run has left if it completed, and otherwise
    /// what was there before. Fields that were never set have the values of `S::default()`.
    ///
    /// # Panics
    /// When it is of another type.
    #[track_caller]
    pub fn session_state<S: Serialize + DeserializeOwned + Default>(&self) -> S {
        self.state_of(&self.session)
    }

    #[track_caller]
    fn state_of<S: Serialize + DeserializeOwned + Default>(&self, context: &BTreeMap<String, Vec<u8>>) -> S {
        let state = fields::split(&S::default()).and_then(|mut whole| {
            whole.extend(context.clone());
            fields::join(&whole)
        });
        state.unwrap_or_else(|mistake| panic!("{mistake}\n{self}"))
    }

    /// One field of the run's state; None if it is not set.
    ///
    /// # Panics
    /// When it is of another type.
    #[track_caller]
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let value = self.context.get(name)?;
        let value = values::decode(name, value);
        Some(value.unwrap_or_else(|mistake| panic!("{mistake}\n{self}")))
    }

    /// The names of the signals that it waits for; none once it has ended.
    pub fn waits(&self) -> &[String] {
        &self.waits
    }

    /// The events of one type that steps published, in order. A body that runs again adds what it did not publish before.
    ///
    /// # Panics
    /// When an event of that name is of another type.
    #[track_caller]
    pub fn published<E: Event>(&self) -> Vec<E> {
        let of_name = self.published.iter().filter(|entry| entry.name() == Some(E::NAME));
        let read = of_name.filter_map(|entry| E::from_published(entry).transpose());
        read.collect::<stepfleet_shared::Result<_>>().unwrap_or_else(|mistake| panic!("{mistake}\n{self}"))
    }

    /// The final text of its last stream with this name, as a follower has it.
    ///
    /// # Panics
    /// With the whole run, when it has none.
    #[track_caller]
    pub fn streamed(&self, name: &str) -> String {
        let streams = self.streams();
        let text = streams.named(name).map(|stream| stream.text.clone());
        text.unwrap_or_else(|| panic!("the run has no stream {name}:\n{self}"))
    }

    /// All of its streams.
    pub fn streams(&self) -> Streams {
        let mut streams = Streams::default();
        for entry in &self.published {
            streams.add(entry);
        }
        streams
    }

    /// All that a follower of the run sees, in order.
    pub fn all_published(&self) -> &[Published] {
        &self.published
    }

    /// The recorded results, as `stepfleet export` writes them: for [`replay`](super::replay()).
    ///
    /// # Panics
    /// Never: all of it can be serialized.
    pub fn exported(&self) -> String {
        serde_json::to_string(&self.export).expect("an export can be written as JSON")
    }

    /// How long the run would have waited: the sum of the jumps of the store's clock.
    pub fn time_skipped(&self) -> Duration {
        self.skipped
    }

    /// How many times code of a step was executed, over all steps.
    pub fn attempts(&self) -> usize {
        self.ran.len()
    }

    /// Where it ended, and with what.
    pub(super) fn end(&self) -> End<'_> {
        let Run { status, result, error, .. } = &self.run;
        End { status: *status, result: result.as_deref(), error: error.as_deref(), context: &self.context }
    }
}

/// What must not depend on workers' lives.
#[derive(PartialEq, Eq)]
pub(super) struct End<'a> {
    pub(super) status: Status,
    pub(super) result: Option<&'a [u8]>,
    pub(super) error: Option<&'a str>,
    pub(super) context: &'a BTreeMap<String, Vec<u8>>,
}

impl StepReport {
    /// How many executions of it were committed.
    pub fn executions(&self) -> usize {
        self.committed
    }

    /// How many times its code was executed, including attempts that failed, waited, or whose worker died.
    pub fn attempts(&self) -> usize {
        self.workers.len()
    }

    /// The worker of each attempt, in order.
    pub fn workers(&self) -> &[String] {
        &self.workers
    }

    /// Its attempts that failed and were tried again, in order.
    pub fn retries(&self) -> &[Retried] {
        &self.retries
    }
}

impl fmt::Display for TestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { id, workflow, version, status, .. } = &self.run;
        write!(f, "run {id} of {workflow} version {version} is {status}")?;
        if let Some(error) = &self.run.error {
            let step = self.run.error_step.as_deref().unwrap_or("-");
            write!(f, "\n  in step {step}, attempt {}: {error}", self.run.error_attempt.unwrap_or(0))?;
        }
        if let Some(result) = &self.run.result {
            write!(f, "\n  result: {}", String::from_utf8_lossy(result))?;
        }
        for (name, value) in &self.context {
            let value = values::decode::<serde_json::Value>(name, value);
            let value = value.map_or_else(|_| "(not readable)".to_owned(), |value| value.to_string());
            write!(f, "\n  context {name}: {value}")?;
        }
        for StreamText { name, text, take, is_whole, .. } in self.streams().all() {
            let anew = if *take > 1 { format!(", begun {take} times") } else { String::new() };
            let end = if *is_whole { "" } else { " (it has no end)" };
            write!(f, "\n  streamed {name}{anew}: {text:?}{end}")?;
        }
        for name in &self.waits {
            let question = name.strip_prefix("(answer to ").and_then(|rest| rest.strip_suffix(')'));
            match question {
                Some(name) => write!(f, "\n  asks {name}; answer it with .answer({name:?}, &value, None)"),
                None => write!(f, "\n  waits for the signal {name}; give it with .signal({name:?}, &value)"),
            }?;
        }
        for name in &self.signals_left {
            write!(f, "\n  never waited for the scripted signal {name}")?;
        }
        for name in &self.answers_left {
            write!(f, "\n  never asked the question {name} that the script answers")?;
        }
        write!(f, "\n{}", self.history)
    }
}
