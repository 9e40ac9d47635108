//! What the functions in Redis, the Rust around them and the documents must agree on, as data.
//!
//! Nothing here runs when a fleet is at work. The constants, keys and readers of the Lua ([`lua`]), the builders of arguments and
//! the words of replies in Rust ([`rust`]), and the tables in `docs/` ([`TABLES`]) are made from it. `shared/contract/tests/` fails
//! if one of them is stale, and checks the rest of the sources against it. Who changes a key, a field, a limit or the arguments
//! of a transition changes it here, and has all of that made anew:
//!
//! ```text
//! STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract
//! ```
//!
//! It depends on neither a runtime nor a Redis client.

pub mod answers;
mod args;
mod duties;
mod fields;
mod formats;
mod keys;
mod limits;
mod loops;
pub mod lua;
mod render;
mod requests;
pub mod rust;
mod short;
mod states;
mod transitions;

pub use self::args::{Arg, Form, Group};
pub use self::duties::{DUTIES, Duty};
pub use self::fields::{Field, RUN_FIELDS, STEPS_FIELDS, WORKER_FIELDS};
pub use self::formats::{FORMATS, Format, JOURNAL, TIMERS};
pub use self::keys::{KEYS, Key, Type};
pub use self::limits::{LIMITS, Limit, Unit};
pub use self::loops::{LOOPS, Loop};
pub use self::render::{TABLES, Table};
pub use self::short::{SHORT, SHORT_WAYS, ShortWay};
pub use self::states::{FLAGS, Letter, SLOT_LETTERS, STATES};
pub use self::transitions::{LOOKS, Reply, TRANSITIONS, Transition};
