//! What concerns two partitions: pieces of it, each on the keys of one partition.
//!
//! No transition crosses partitions. What does (a request in another inbox than that of its run, an idempotency key that
//! is kept in another partition than its run) is a sequence of transitions, each of which may be repeated. A coordinator
//! goes through them, and another one does again what it has not finished. `docs/architecture.md` has the argument.

use std::time::Duration;

use async_trait::async_trait;

use super::InboxEntry;
use crate::error::Result;

/// An idempotency key is kept for the run of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// The workflow.
    pub workflow: String,
    /// The idempotency key.
    pub key: String,
    /// The run that the request asks for.
    pub run: String,
    /// Unlike that of any other reservation. A run is created under it only until it is void.
    pub ticket: String,
    /// The inbox and the entry that the request came from; none where it was deferred.
    pub place: Option<(u16, String)>,
}

/// The outcome of an attempt to void a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voided {
    /// No run will be created under it.
    Void,
    /// The run is there.
    Exists,
    /// The request waits for a worker that serves it.
    Deferred,
}

/// The pieces of what concerns two partitions.
#[async_trait]
pub trait Across: Send + Sync {
    /// Keeps a key for a request, for so long, unless it is kept already. Answers the reservation that stands: this one, an earlier
    /// one for the same run, or another run's.
    async fn reserve(&self, reservation: &Reservation, ttl: Duration) -> Result<Reservation>;
    /// The reservation of a key, where there is one.
    async fn reserved(&self, workflow: &str, key: &str) -> Result<Option<Reservation>>;
    /// Lets go of a key, where this reservation still stands.
    async fn let_go(&self, reservation: &Reservation) -> Result<()>;
    /// Makes sure that no run is created under this ticket from now on (for a day), unless there is one or its request is deferred.
    async fn void(&self, run: &str, ticket: &str) -> Result<Voided>;
    /// Notes that the request for this run repeats another run, for so long: its id leads there, and signals that came for it go into
    /// this partition's inbox, for that run. Takes the inbox entry away with it, and the request from the deferred.
    async fn alias(&self, run: &str, known: &str, entry: Option<&str>, ttl: Duration) -> Result<()>;
    /// An entry of this partition's inbox, where it is still there.
    async fn inbox_entry(&self, id: &str) -> Result<Option<InboxEntry>>;
    /// Takes an entry off this partition's inbox that was dealt with in another one.
    async fn dismiss(&self, entry: &str) -> Result<()>;
}
