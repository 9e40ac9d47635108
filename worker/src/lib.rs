//! Write durable workflows as event-driven steps, and run them on a fleet of workers coordinated through Redis.
//!
//! ```no_run
//! use stepfleet_worker::prelude::*;
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

extern crate self as stepfleet_worker;

pub mod context;
mod decisions;
pub mod emit;
pub mod error;
pub mod event;
pub mod failed;
pub mod published;
mod replay;
pub mod runtime;
#[doc(hidden)]
pub mod schema;
pub mod testing;
pub mod workflow;

pub use context::{Context, State};
pub use decisions::{graph, retry};
pub use emit::Emit;
pub use error::{Error, Outcome, Terminal};
pub use event::{Event, First, Joined};
pub use failed::StepFailed;
pub use published::PublishedEvent;
pub use retry::{RetryOn, RetryPolicy};
pub use runtime::{Config, Worker};
/// For `#[derive(JsonSchema)]` without a dependency on `schemars`: `#[schemars(crate = "stepfleet_worker::schemars")]`.
pub use schemars;
pub use stepfleet_macros::{durable, step, task, workflow};
pub use workflow::{Function, Workflow};

/// All that a workflow's author needs.
pub mod prelude {
    pub use crate::context::{Answered, Approval, Choice, Choices, Text};
    pub use crate::{Context, Error, First, Joined, Outcome, Terminal, Worker, Workflow};
    pub use crate::{Emit, Event, PublishedEvent, RetryOn, RetryPolicy, StepFailed};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use stepfleet::entity::Entity;
    pub use stepfleet_macros::{Emit, Event, durable, step, task, workflow};
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/workflows.md")]
struct Workflows;

#[cfg(doctest)]
#[doc = include_str!("../../docs/durable-functions.md")]
struct DurableFunctions;

#[cfg(doctest)]
#[doc = include_str!("../../docs/cancel-and-compensation.md")]
struct CancelAndCompensation;

#[cfg(doctest)]
#[doc = include_str!("../../docs/people.md")]
struct People;

#[cfg(doctest)]
#[doc = include_str!("../../docs/sessions.md")]
struct Sessions;

#[cfg(doctest)]
#[doc = include_str!("../../docs/streaming.md")]
struct Streaming;

#[cfg(doctest)]
#[doc = include_str!("../../docs/testing.md")]
struct Testing;

#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-llamaindex.md")]
struct ComingFromLlamaIndex;

#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-temporal.md")]
struct ComingFromTemporal;

#[cfg(doctest)]
#[doc = include_str!("../../docs/coming-from-agnt5.md")]
struct ComingFromAgnt5;

/// What the macros' output refers to. Not for use by hand.
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
