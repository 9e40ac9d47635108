//! The store: one method for each transition, and reads of the current state, grouped by role.
//!
//! | role | trait | what it may do |
//! |---|---|---|
//! | anybody | [`ReaderStore`] | read runs, the fleet, and what runs publish |
//! | caller | [`CallerStore`], [`EntityStore`] | write requests into an inbox; read and change entities |
//! | worker | [`WorkerStore`], [`EntityStore`], [`Lease`] | claim step executions and commit their results |
//! | coordinator | [`CoordinatorStore`], [`Across`] | take requests in, reap, fire, audit |
//!
//! A [`Store`] has all roles at once: [`RedisStore`] does, and so does `MemoryStore` (with the feature `memory`). Code
//! for one role gets the trait of that role (`Partitions<dyn CallerStore>`), and cannot call what belongs to another.
//!
//! A transition happens whole or not at all, on the keys of one partition and on the store's own clock. All methods are
//! async and wait for Redis; an [`Error`] for which [`is_unavailable`](Error::is_unavailable) is true leaves open
//! whether the call took effect, and the call may be repeated: [`CallId::again`](crate::step::CallId::again) makes the
//! repetition harmless if the transition itself does not.

pub mod across;
mod caller;
mod coordinator;
mod entity;
mod fork;
#[cfg(feature = "memory")]
pub mod memory;
mod reader;
pub mod redis;
mod registration;
mod role;
mod shown;
mod worker;

use std::time::Duration;

use crate::error::Error;
use crate::published::MAX_REMEMBERED;
use crate::step::OpenWait;

pub use self::across::{Across, Reservation, Voided};
pub use self::caller::CallerStore;
pub use self::coordinator::{
    AlarmReader, AnswerTo, Audit, Audited, Breach, ChildTold, CoordinatorStore, Deferral, Ended, Fire, Fired,
    InboxEntry, InboxReader, Origin, Reap, Reaped, Rejection, Start, Started,
};
pub use self::entity::{EntityChange, EntityChanged, EntityStore, EntityValue};
pub use self::fork::{Fork, ForkPoint, ForkSource};
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
pub use self::reader::{Deferred, EventReader, ReaderStore, RequestFate, SessionInfo, WorkerInfo};
pub use self::redis::{Load, QueueLoad, RedisStore, Topology};
pub use self::registration::Registration;
pub use self::role::Role;
pub use self::shown::{LiveStep, RejectedRequest, StepStanding};
pub use self::worker::{Heartbeat, Introduction, Lease, WakeReader, WorkerStore};

/// The traits with the methods of all roles: `use stepfleet_shared::store::prelude::*`.
pub mod prelude {
    pub use super::{
        Across as _, CallerStore as _, CoordinatorStore as _, EntityStore as _, Lease as _, ReaderStore as _,
        WorkerStore as _,
    };
}

/// All roles at once, as each store implements them.
pub trait Store: CallerStore + WorkerStore + CoordinatorStore {}

impl<S: CallerStore + WorkerStore + CoordinatorStore> Store for S {}

/// At most this many entries and waits are recorded for a step execution.
pub(crate) const MAX_ENTRIES: usize = 100_000;
/// At most this many entries that a run has published are read at once.
const MAX_PUBLISHED_READ: u64 = 1000;
/// At most this many waits of a run are open for one name.
const MAX_WAITS: usize = 1000;

/// At most this many waits are shown.
const SHOWN_WAITS: usize = 1000;

fn in_order(mut waits: Vec<OpenWait>) -> Vec<OpenWait> {
    waits.sort_by_key(|wait| (wait.seq, wait.number));
    // Redis may list a part twice.
    waits.dedup_by_key(|wait| (wait.seq, wait.number));
    waits.truncate(SHOWN_WAITS);
    waits
}

fn journal_is_full() -> Error {
    Error::too_large(format!(
        "a step may record at most {MAX_ENTRIES} entries, and have {MAX_WAITS} waits of one name open: \
         let several steps, or branches of a fan-out, do the work"
    ))
}

fn too_many_streams() -> Error {
    Error::too_large(format!(
        "a step may stream and publish about {MAX_REMEMBERED} times outside of recorded calls: stream within ctx.step, or let several \
         steps do it"
    ))
}

/// In ms, and three centuries at most: Lua writes a time of more than 14 digits in another notation.
pub(crate) fn millis(duration: Duration) -> u64 {
    const MOST: u64 = 10_000_000_000_000;
    u64::try_from(duration.as_millis()).map_or(MOST, |ms| ms.min(MOST))
}
