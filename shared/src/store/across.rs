//! What concerns two partitions, in pieces that each use the keys of one partition.
//!
//! No transition crosses partitions. What concerns two (a request in another inbox than that of its run, an idempotency
//! key that is kept in another partition than its run) is a sequence of transitions, each of which may be repeated. A
//! coordinator goes through them, and another one repeats what it has not finished. `docs/architecture.md` has the
//! argument.

use std::time::Duration;

use async_trait::async_trait;

use super::InboxEntry;
use crate::error::Result;

/// A reservation of an idempotency key for the run of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// The workflow.
    pub workflow: String,
    /// The idempotency key.
    pub key: String,
    /// The run that the request asks for.
    pub run: String,
    /// Unique to this reservation. A run is created under it only until it is void.
    pub ticket: String,
    /// The inbox and the entry that the request came from; none if it was deferred.
    pub place: Option<(u16, String)>,
}

/// The outcome of an attempt to void a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voided {
    /// No run will be created under it.
    Void,
    /// The run exists.
    Exists,
    /// The request waits for a worker that serves it.
    Deferred,
}

/// The pieces of what concerns two partitions.
#[async_trait]
pub trait Across: Send + Sync {
    /// Reserves a key for a request, for this long, unless it is reserved already. Returns the reservation that holds:
    /// this one, an earlier one for the same run, or another run's.
    async fn reserve(&self, reservation: &Reservation, ttl: Duration) -> Result<Reservation>;
    /// The reservation of a key, if there is one.
    async fn reserved(&self, workflow: &str, key: &str) -> Result<Option<Reservation>>;
    /// Releases a key, if this reservation still holds.
    async fn let_go(&self, reservation: &Reservation) -> Result<()>;
    /// Makes sure that no run is created under this ticket from now on (for a day), unless there is one or its request is deferred.
    async fn void(&self, run: &str, ticket: &str) -> Result<Voided>;
    /// Records for this long that the request for this run repeats another run: its id leads there, and signals that
    /// came for it go into this partition's inbox, for that run. Also removes the inbox entry, and the request from the
    /// deferred ones.
    async fn alias(&self, run: &str, known: &str, entry: Option<&str>, ttl: Duration) -> Result<()>;
    /// An entry of this partition's inbox, if it is still there.
    async fn inbox_entry(&self, id: &str) -> Result<Option<InboxEntry>>;
    /// Takes an entry off this partition's inbox that was processed in another one.
    async fn dismiss(&self, entry: &str) -> Result<()>;
}
