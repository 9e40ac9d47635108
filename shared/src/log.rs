//! Log macros that cannot panic.
//!
//! A subscriber that cannot write may panic: the usual one does when its error stream is on a full disk. Workers and coordinators
//! write through these macros, which take what those of `tracing` take, so that no step is lost with a log line.

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

/// Writes, and ignores a panic in the subscriber.
pub fn write(line: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(line)));
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($line:tt)*) => { $crate::log::write(|| ::tracing::debug!($($line)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($line:tt)*) => { $crate::log::write(|| ::tracing::info!($($line)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($line:tt)*) => { $crate::log::write(|| ::tracing::warn!($($line)*)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($line:tt)*) => { $crate::log::write(|| ::tracing::error!($($line)*)) };
}
