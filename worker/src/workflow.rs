//! A workflow as the runtime sees it. The macro `#[workflow]` writes these definitions.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::durability::Durability;
use stepfleet_shared::step::Claimed;
use stepfleet_shared::store::Registration;
use stepfleet_shared::{codec, log, names};

use crate::context::{Context, Core};
use crate::decisions::graph::{self, GraphError, Router};
use crate::emit::{Emission, Emit, Shape};
use crate::error::Outcome;
use crate::event::Accepts;
use crate::failed::Catches;
use crate::retry::RetryPolicy;

/// The future of an attempt at a step.
pub type Running = Pin<Box<dyn Future<Output = Outcome<Emission>> + Send>>;

/// A workflow: its steps, with the resources that they use as fields. Implemented by `#[workflow]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "a worker serves workflows",
    note = "put `#[workflow(start = ..., stop = ...)]` on the `impl` block of `{Self}` that has its steps"
)]
pub trait Workflow: Send + Sync + Sized + 'static {
    /// Its definition.
    fn definition() -> Definition<Self>;
}

/// A workflow that is one function: its name, its input and its result. Implemented by `#[durable]` and `#[task]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "only a task or a durable function can be called",
    note = "put `#[task]` or `#[durable]` on the function `{Self}`"
)]
pub trait Function {
    /// The workflow's name.
    const NAME: &'static str;
    /// The type of its input.
    type Input;
    /// The type of its result.
    type Output;
}

/// The definition of a workflow.
pub struct Definition<W> {
    /// Its name, in snake case by default.
    pub name: &'static str,
    /// Its version. Runs stay with the version that they began with.
    pub version: u32,
    /// The event that a run begins with.
    pub start: &'static str,
    /// The event that ends a run.
    pub stop: &'static str,
    /// Events that may come from outside while a run is active.
    pub external: Vec<&'static str>,
    /// The schemas of its start, stop and external events.
    pub schemas: BTreeMap<String, serde_json::Value>,
    /// How long its runs stay readable after their end.
    pub retention: Duration,
    /// How long a run may take, from its first step on.
    pub timeout: Option<Duration>,
    /// How safe the progress of a run must be before it goes on, unless its request says so.
    pub durability: Durability,
    /// The retry policy of steps without their own; None for [`RetryPolicy::default`].
    pub retry: Option<RetryPolicy>,
    /// Its steps.
    pub steps: Vec<Step<W>>,
}

/// One step.
pub struct Step<W> {
    /// The function's name.
    pub name: &'static str,
    /// What it waits for.
    pub accepts: Accepts,
    /// What it may return.
    pub emits: Shape,
    /// What its body may also send.
    pub sends: Vec<&'static str>,
    /// It reads the run's context.
    pub context: bool,
    /// Its retry policy; None for the workflow's.
    pub retry: Option<RetryPolicy>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// For one that takes `StepFailed`: which failures it catches; None for the default.
    pub catches: Option<Catches>,
    /// How many of its executions may be active in a run at once.
    pub concurrency: Option<u32>,
    /// Whether the state is committed before each call that its body makes.
    pub saves_state: bool,
    /// Whether its body may await its calls only, so that all other work must be in them.
    pub awaits_calls_alone: bool,
    /// Executes it.
    pub run: fn(Arc<W>, Attempt) -> Running,
}

impl<W> Step<W> {
    /// The one step of a durable function: made by `#[durable]`.
    #[doc(hidden)]
    pub fn of_function(name: &'static str, run: fn(Arc<W>, Attempt) -> Running) -> Self {
        Self {
            name,
            accepts: Accepts::Each("Input"),
            emits: Shape { events: vec![("Output", false)], ends: false },
            sends: Vec::new(),
            context: true,
            retry: None,
            timeout: None,
            catches: None,
            concurrency: None,
            saves_state: true,
            awaits_calls_alone: true,
            run,
        }
    }

    /// A task, whose body is the work itself: made by `#[task]`.
    #[doc(hidden)]
    #[must_use]
    pub fn of_task(self) -> Self {
        Self { awaits_calls_alone: false, ..self }
    }

    /// Its own retry policy, that of its workflow, or the default.
    pub(crate) fn retry_policy(&self, definition: &Definition<W>) -> RetryPolicy {
        self.retry.as_ref().or(definition.retry.as_ref()).cloned().unwrap_or_default()
    }
}

/// One try at a step execution, as the step's code gets it.
pub struct Attempt {
    pub(crate) claimed: Arc<Claimed>,
    pub(crate) joined: Vec<Vec<u8>>,
    pub(crate) core: Arc<Core>,
    pub(crate) stop: &'static str,
}

/// A type that the state of a context can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the state of a context",
    label = "this type must be serializable, deserializable, and have a default",
    note = "put `#[data]` and `#[derive(Default)]` on `{Self}`; or take `&Context`, for fields without a type"
)]
pub trait StateType: Serialize + DeserializeOwned + Default {}

impl<S: Serialize + DeserializeOwned + Default> StateType for S {}

/// A type that a durable function can take and return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the input or the output of a durable function",
    label = "this is written by one process and read by another",
    note = "put `#[data]` on `{Self}`, or add `#[derive(Serialize, Deserialize)]`"
)]
pub trait Value: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

impl Attempt {
    /// Reads the input of a durable function. What cannot be read now cannot be read later: the error is terminal.
    #[doc(hidden)]
    pub fn input<T: Value>(&self) -> Outcome<T> {
        Ok(codec::decode("the input", &self.claimed.payload)?)
    }

    /// Serializes what a durable function returned.
    #[doc(hidden)]
    #[expect(clippy::needless_pass_by_value, reason = "the macro hands it over")]
    pub fn output<T: Value>(&self, output: T) -> Outcome<Emission> {
        let mut emission = Emission::new(self.stop, self.claimed.content);
        emission.result = Some(codec::encode_result(self.claimed.content, &output)?);
        Ok(emission)
    }

    /// The context for the step's code.
    pub fn context<S: StateType>(&self) -> Context<S> {
        Context::new(self.core.clone())
    }

    /// Serializes what the step returned.
    pub fn emission<T: Emit>(&self, returned: T) -> Outcome<Emission> {
        let mut emission = Emission::new(self.stop, self.claimed.content);
        returned.emit(&mut emission)?;
        Ok(emission)
    }
}

type Run = dyn Fn(Attempt) -> Running + Send + Sync;

/// A workflow that a worker serves: its definition is checked, its type erased.
pub(crate) struct Served {
    pub(crate) registration: Registration,
    pub(crate) stop: &'static str,
    pub(crate) retention: Duration,
    pub(crate) router: Arc<Router>,
    steps: HashMap<&'static str, ServedStep>,
}

pub(crate) struct ServedStep {
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Option<Duration>,
    pub(crate) saves_state: bool,
    pub(crate) awaits_calls_alone: bool,
    pub(crate) run: Box<Run>,
}

impl Served {
    /// Checks names and graph.
    pub(crate) fn new<W: Workflow>(workflow: W) -> Result<Self, GraphError> {
        let definition = W::definition();
        let invalid = |e: stepfleet_shared::Error| GraphError::new(definition.name, vec![e.to_string()]);
        names::check_name("workflow", definition.name).map_err(invalid)?;
        let router = Router::new(&definition);
        router.check()?;
        let registration = register(&definition, &router).map_err(invalid)?;
        let workflow = Arc::new(workflow);
        let policies: Vec<_> = definition.steps.iter().map(|step| step.retry_policy(&definition)).collect();
        let steps = definition.steps.into_iter().zip(policies).map(|(step, retry)| {
            let (workflow, run) = (workflow.clone(), step.run);
            let run: Box<Run> = Box::new(move |attempt| run(workflow.clone(), attempt));
            let Step { timeout, saves_state, awaits_calls_alone, .. } = step;
            (step.name, ServedStep { retry, timeout, saves_state, awaits_calls_alone, run })
        });
        Ok(Self {
            registration,
            stop: definition.stop,
            retention: definition.retention,
            router: Arc::new(router),
            steps: steps.collect(),
        })
    }

    /// Replaces a step's code.
    #[cfg(test)]
    pub(crate) fn replace<F>(&mut self, step: &str, run: impl Fn(Attempt) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Outcome<Emission>> + Send + 'static,
    {
        self.steps.get_mut(step).expect("the step is there").run = Box::new(move |attempt| Box::pin(run(attempt)));
    }

    pub(crate) fn steps(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        self.steps.keys().copied()
    }

    pub(crate) fn step(&self, name: &str) -> Option<&ServedStep> {
        self.steps.get(name)
    }
}

/// Its registration, for callers and coordinators.
fn register<W>(definition: &Definition<W>, router: &Router) -> stepfleet_shared::Result<Registration> {
    let mut registration = Registration {
        workflow: definition.name.to_owned(),
        version: definition.version,
        start: router.takers(definition.start),
        graph: graph::describe(definition),
        timeout_ms: definition.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        durability: definition.durability,
    };
    if registration.shorten() {
        log::warn!(workflow = definition.name, "its schemas are too large to be registered: callers will not see them");
    }
    registration.check()?;
    registration.to_json()?;
    Ok(registration)
}
