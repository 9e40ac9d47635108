//! Durable workflows on the Redis you already run: the vocabulary, the codec, the store and the client.
//!
//! A caller's request lands in the inbox stream; a coordinator turns it into a *run* with its first step
//! events; workers claim step events, execute the steps and commit what they leave behind. All durable change
//! happens in the transitions of [`store::Store`], each of which is atomic.
//!
//! * [`client::Client`] starts runs and waits for their results.
//! * [`store`] holds the transitions, and the only code of the project that talks to Redis.
//! * [`published`] is what those who follow a run read, with a [`follow::Follower`] for instance.
//! * [`graph`] is a workflow's graph as data, and draws pictures of it.
//! * [`fleet`] tells whether a version of a workflow is served.
//! * [`names`] has the rules for names and ids and the layout of the keys.
//! * [`partition`] says which partition a run belongs to, [`partitions`] has them all.
//! * [`codec`] turns values into payloads and back, within limits.
//! * [`encryption`] encrypts payloads, for processes that have keys.
//! * [`values`] keeps context values in forms that can be merged into.
//! * [`durability`] says how safe a run's progress must be before the run goes on.
//! * [`backoff`] has the pauses before repetitions, [`outage`] waits through outages.
//! * `health` (with the feature of that name) answers over HTTP whether a process of a fleet is alive and ready, and `metrics` has what it counts.
//! * [`server`] judges whether a Redis is fit for a fleet, [`admission`] opens a namespace on one that is.
//!
//! Authors and callers use the crate `stepfleet`, which has of this what they need; the coordinator is `stepfleet-cli`.

// Much is there for both stores.
#![cfg_attr(not(feature = "memory"), allow(dead_code, unused_imports))]

pub mod admission;
pub mod attributes;
pub mod backoff;
pub mod child;
pub mod client;
pub mod codec;
mod core;
pub mod durability;
pub mod encryption;
pub mod entity;
pub mod env;
pub mod error;
pub mod export;
pub mod fields;
pub mod fleet;
pub mod follow;
#[doc(hidden)]
pub mod fuzzing;
pub mod graph;
#[cfg(feature = "health")]
pub mod health;
pub mod history;
pub mod journal;
pub mod listing;
#[doc(hidden)]
pub mod log;
#[cfg(feature = "logs")]
#[doc(hidden)]
pub mod logs;
#[cfg(feature = "health")]
pub mod metrics;
pub mod names;
pub mod outage;
pub mod partition;
pub mod partitions;
pub mod paths;
pub mod published;
pub mod question;
pub mod reply;
pub mod request;
pub mod run;
pub mod server;
pub mod snapshot;
pub mod step;
pub mod store;
mod untyped;
pub mod values;

pub use client::Client;
pub use error::{Error, Result};
pub use partitions::Partitions;
