//! A namespace of several partitions, on one server and in a cluster: each run is in the partition of its id and nowhere
//! else, wherever its requests came in, and each request that concerns two partitions takes effect once.

mod across;
mod fleets;
mod receipts;
mod rule;
mod sessions;

use std::time::Duration;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(120);
const TTL: Duration = Duration::from_secs(3600);
