//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use crate::backoff::Loop;

/// a worker or coordinator that starts, until the server can be judged, and a worker until its namespace is made.
pub const OPENING: Loop = Loop::new(50, 1000);

/// a worker's claim, commit, failure or suspension.
pub const TRANSITION: Loop = Loop::new(10, 1000);

/// a call that the body of a step makes: what it records, reads and publishes.
pub const BODY: Loop = Loop::new(10, 1000);

/// a body that waits while other calls of it are active: it looks whether what it waits for has come.
pub const BESIDE: Loop = Loop::new(50, 2000);

/// a call of an entity that somebody else has changed since it was read: it is read again, and the method runs on that.
pub const ENTITY: Loop = Loop::new(1, 100);

/// a worker whose claim, failure or read of a context is refused for a reason that is not the server's.
pub const REFUSED: Loop = Loop::new(200, 5000);

/// an idle worker's connection on which it is woken; it also claims after each failure.
pub const WAKING: Loop = Loop::new(50, 1000);

/// a worker's lease connection: short, since a worker without one counts as dead.
pub const LEASE: Loop = Loop::new(20, 250);

/// the last hand-back of a worker.
pub const PARTING: Loop = Loop::new(20, 200);

/// each duty of a coordinator, for each of its servers.
pub const DUTY: Loop = Loop::new(20, 1000);

/// a client that reads, or sends a request that has an id.
pub const CALLING: Loop = Loop::new(10, 1000);

/// a client or CLI that follows a run, or waits for its end.
pub const FOLLOWING: Loop = Loop::new(10, 1000);

/// a process that learns of a new master: how often it looks up where the masters are.
pub const LOOKING: Loop = Loop::new(12, 1500);

/// the subscription to a Sentinel: the next one is tried.
pub const LISTENING: Loop = Loop::new(500, 2000);
