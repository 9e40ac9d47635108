//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

mod groups;
mod anyone;
mod coordinator;
mod worker;
mod short;
pub(crate) mod loops;
pub(crate) mod words;

/// What transitions and short ways are given.
pub(crate) mod args {
    pub(crate) use super::groups::*;
    pub(crate) use super::anyone::*;
    pub(crate) use super::coordinator::*;
    pub(crate) use super::worker::*;
    pub(crate) use super::short::*;
}

/// The function that has the short ways.
pub(crate) const SHORT: &str = "short";
