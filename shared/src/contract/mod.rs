//! What the functions in Redis, the Rust around them and the documents must agree on, as data.
//!
//! Nothing here runs when a fleet is at work. `shared/tests/contract.rs` holds it against the sources of both sides, and against
//! the tables in `docs/`, which are rendered from it. Who changes a key, a field, a limit or the arguments of a transition changes
//! it here too, and renders the tables anew:
//!
//! ```text
//! STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet --test contract
//! ```
//!
//! It depends on neither a runtime nor a Redis client.

mod duties;
mod fields;
mod formats;
mod keys;
mod limits;
mod render;
mod states;
mod transitions;

pub use self::duties::{DUTIES, Duty};
pub use self::fields::{Field, RUN_FIELDS, STEPS_FIELDS, WORKER_FIELDS};
pub use self::formats::{FORMATS, Format, JOURNAL, TIMERS};
pub use self::keys::{KEYS, Key, Type};
pub use self::limits::{LIMITS, Limit, Unit};
pub use self::render::{TABLES, Table};
pub use self::states::{FLAGS, Letter, SLOT_LETTERS, STATES};
pub use self::transitions::{Arg, Form, SHORT_WAYS, ShortWay, TRANSITIONS, Transition};
