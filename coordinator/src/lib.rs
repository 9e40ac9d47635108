//! The Stepfleet coordinator: it turns requests into runs, takes back what dead workers held, and fires timers.
//!
//! It is leaderless: everything it does is a transition of [`stepfleet_shared::store::CoordinatorStore`] that may be
//! repeated, so three at once are safe and the loss of two is harmless. It keeps nothing that cannot be read again, and
//! is not in the path of a step: workers hand steps on to each other.
//!
//! ```no_run
//! # async fn example() -> stepfleet_shared::Result<()> {
//! use stepfleet_shared::Partitions;
//! use stepfleet_shared::store::Topology;
//! use stepfleet_coordinator::{Config, Coordinator};
//!
//! let partitions = Partitions::open(&Topology::new("redis://127.0.0.1")?, "sf", None).await?;
//! Coordinator::new(partitions, Config::default()).run(std::future::pending()).await;
//! # Ok(()) }
//! ```
//!
//! In the order of a request: [`Coordinator::intake_pass`] reads the inbox, `routing` finds the version to start, and
//! what no worker serves yet waits for [`Coordinator::deferred_pass`].

mod across;
mod answers;
mod children;
pub mod cli;
mod config;
mod coordinator;
mod deferred;
mod duties;
mod events;
mod fleet;
mod forks;
mod intake;
mod metrics;
mod partition;
mod replies;
mod routing;
mod schemas;
mod sessions;
mod steadiness;
mod suspicion;
mod taken;

/// Partitions, with what a coordinator may do in them.
type Partitions = stepfleet_shared::Partitions<dyn stepfleet_shared::store::CoordinatorStore>;

pub use config::Config;
pub use coordinator::Coordinator;
pub use routing::{Destination, Routes};
pub use suspicion::Suspicion;
pub use taken::Taken;
