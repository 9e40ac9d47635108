//! Write durable workflows as event-driven steps, and run them on a fleet of workers coordinated through Redis.
//!
//! ```no_run
//! use stepfleet::prelude::*;
//!
//! #[derive(Event, Serialize, Deserialize)]
//! struct Asked { words: Vec<String> }
//! #[derive(Event, Serialize, Deserialize)]
//! struct Word { text: String }
//! #[derive(Event, Serialize, Deserialize)]
//! struct Counted { letters: usize }
//! #[derive(Event, Serialize, Deserialize)]
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
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Worker::from_env()?.serve(Letters)?.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! A step may run more than once (its worker can die after the work and before the commit), but only one attempt of it
//! is ever committed, with all that it leaves behind: events, context, joins.

//!
//! Callers need the client alone: [`Client`] starts runs, waits for their results and answers what they ask. With
//! `default-features = false` the crate is no more than that.

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
pub use runtime::{Config, Worker};
/// For `#[derive(JsonSchema)]` without a dependency on `schemars`: `#[schemars(crate = "stepfleet::schemars")]`.
#[cfg(feature = "worker")]
pub use schemars;
#[cfg(feature = "worker")]
pub use stepfleet_macros::{durable, step, task, workflow};
#[cfg(feature = "worker")]
pub use workflow::{Function, Workflow};

pub use stepfleet_shared::{
    Client, Error as ClientError, Result, attributes, client, codec, entity, export, follow, history, listing, names,
    question, request, run, snapshot, values,
};

/// What a run publishes, as those who follow it read it.
#[cfg(not(feature = "worker"))]
pub use stepfleet_shared::published;

/// All that a workflow's author needs.
#[cfg(feature = "worker")]
pub mod prelude {
    pub use crate::context::{Answered, Approval, Choice, Choices, Text};
    pub use crate::{Context, Error, First, Joined, Outcome, Terminal, Worker, Workflow};
    pub use crate::{Emit, Event, PublishedEvent, RetryOn, RetryPolicy, StepFailed};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use stepfleet_macros::{Emit, Event, durable, step, task, workflow};
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
    pub use crate::event::{Accepts, Input};
    pub use crate::failed::Catches;
    pub use crate::retry::RetryPolicy;
    pub use crate::schema::{Probe, Typed, Untyped};
    pub use crate::workflow::{Attempt, Definition, Step};
    pub use serde_json::Value;
    pub use std::boxed::Box;
    pub use std::sync::Arc;
    pub use std::time::Duration;
}
