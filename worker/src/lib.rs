//! Write durable workflows as event-driven steps, and run them on a fleet of workers coordinated through Redis.
//!
//! ```no_run
//! use stepfleet::prelude::*;
//!
//! #[event]
//! struct Asked { words: Vec<String> }
//! #[event]
//! struct Word { text: String }
//! #[event]
//! struct Counted { letters: usize }
//! #[event]
//! struct Answered { letters: usize }
//!
//! struct Letters;
//!
//! #[workflow(start = Asked, stop = Answered)]
//! impl Letters {
//!     #[step]
//!     async fn split(&self, ev: Asked) -> Outcome<Vec<Word>> {
//!         Ok(ev.words.into_iter().map(|text| Word { text }).collect())
//!     }
//!     #[step(retries = 5, timeout = "30s")]
//!     async fn count(&self, ev: Word) -> Outcome<Counted> {
//!         Ok(Counted { letters: ev.text.chars().count() })
//!     }
//!     #[step]
//!     async fn total(&self, all: Joined<Counted>) -> Outcome<Answered> {
//!         Ok(Answered { letters: all.iter().map(|c| c.letters).sum() })
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), WorkerError> {
//!     Worker::from_env()?.serve(Letters)?.run().await
//! }
//! ```
//!
//! A step may run more than once (its worker can die after the work and before the commit), but only one attempt of it
//! is ever committed, with everything that it produced: events, state, joins.
//!
//! `cargo add stepfleet tokio` is all that this needs: no features of tokio, and no serde. [`macro@event`] makes a type
//! an event, and [`macro@data`] does so for everything else that is serialized: inputs and results of durable
//! functions, state, parts of events.
//!
//! Callers need the client only: [`Client`] starts runs, waits for their results and answers what they ask. With
//! `default-features = false`, the crate has nothing else.

extern crate self as stepfleet;

#[cfg(feature = "worker")]
pub mod context;
#[cfg(feature = "worker")]
mod decisions;
#[cfg(feature = "worker")]
pub mod emit;
#[cfg(feature = "worker")]
pub mod error;
#[cfg(feature = "worker")]
pub mod event;
#[cfg(feature = "worker")]
pub mod failed;
#[cfg(feature = "worker")]
pub mod published;
#[cfg(feature = "worker")]
mod replay;
#[cfg(feature = "worker")]
pub mod runtime;
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod schema;
#[cfg(feature = "worker")]
pub mod testing;
#[cfg(feature = "worker")]
pub mod workflow;

#[cfg(feature = "worker")]
pub use context::{Context, State};
#[cfg(feature = "worker")]
pub use decisions::{graph, retry};
#[cfg(feature = "worker")]
pub use emit::Emit;
#[cfg(feature = "worker")]
pub use error::{Error, Outcome, Terminal};
#[cfg(feature = "worker")]
pub use event::{Event, First, Joined};
#[cfg(feature = "worker")]
pub use failed::StepFailed;
#[cfg(feature = "worker")]
pub use published::PublishedEvent;
#[cfg(feature = "worker")]
pub use retry::{RetryOn, RetryPolicy};
#[cfg(feature = "worker")]
pub use runtime::{Config, Worker, WorkerError};
/// For `#[derive(JsonSchema)]` without a dependency on `schemars`: `#[schemars(crate = "stepfleet::schemars")]`.
#[cfg(feature = "worker")]
pub use schemars;
/// The serde that serializes everything here. `#[event]` and `#[data]` use it; `#[derive(Serialize)]` can too, without
/// a dependency on serde: `#[serde(crate = "stepfleet::serde")]`.
pub use serde;
#[cfg(feature = "worker")]
pub use stepfleet_macros::{data, durable, event, step, task, workflow};
#[cfg(feature = "worker")]
pub use workflow::{Function, Workflow};

pub use stepfleet_shared::{
    Client, Error as ClientError, Result, attributes, client, codec, durability::Durability, encryption, entity,
    export, follow, history, listing, names, question, request, run, snapshot, values,
};

/// What a run publishes, as its followers read it.
#[cfg(not(feature = "worker"))]
pub use stepfleet_shared::published;

/// Everything that a workflow's author needs.
#[cfg(feature = "worker")]
pub mod prelude {
    pub use crate::context::{Answered, Approval, Choice, Choices, Text};
    pub use crate::{Context, Error, First, Joined, Outcome, Terminal, Worker, WorkerError, Workflow};
    pub use crate::{Emit, Event, PublishedEvent, RetryOn, RetryPolicy, StepFailed};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use stepfleet_macros::{Emit, Event, data, durable, event, step, task, workflow};
    pub use stepfleet_shared::entity::Entity;
}

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/workflows.md")]
struct Workflows;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/workflows-reference.md")]
struct WorkflowsReference;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/durable-functions.md")]
struct DurableFunctions;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/cancel-and-compensation.md")]
struct CancelAndCompensation;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/guarantees.md")]
struct Guarantees;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/people.md")]
struct People;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/sessions.md")]
struct Sessions;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/streaming.md")]
struct Streaming;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/testing.md")]
struct Testing;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/coming-from-llamaindex.md")]
struct ComingFromLlamaIndex;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/coming-from-temporal.md")]
struct ComingFromTemporal;

#[cfg(all(doctest, feature = "worker"))]
#[doc = include_str!("../../docs/coming-from-agnt5.md")]
struct ComingFromAgnt5;

/// What the macros' output refers to. Not for use by hand.
#[cfg(feature = "worker")]
#[doc(hidden)]
pub mod __private {
    pub use crate::emit::{Emission, Shape};
    pub use crate::event::{Accepts, Input, name_of, schema_of};
    pub use crate::failed::Catches;
    pub use crate::retry::RetryPolicy;
    pub use crate::schema::{Probe, Typed, Untyped};
    pub use crate::workflow::{Attempt, Definition, Step};
    pub use serde_json::Value;
    pub use std::boxed::Box;
    pub use std::sync::Arc;
    pub use std::time::Duration;
    pub use stepfleet_macros::Event as DeriveEvent;
    pub use stepfleet_shared::durability::Durability;
}
