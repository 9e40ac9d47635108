//! Entities: values that outlive runs.

use std::time::Duration;

use async_trait::async_trait;

use super::ReaderStore;
use crate::error::Result;

/// What callers and workers may do with entities, in the partition of each: see [`crate::entity`].
#[async_trait]
pub trait EntityStore: ReaderStore {
    /// The current entity with this kind and key.
    async fn entity(&self, kind: &str, key: &str) -> Result<EntityValue>;
    /// Makes a change, unless the entity has changed since it was read, or the call was made before. May be repeated.
    async fn change_entity(&self, change: &EntityChange<'_>) -> Result<EntityChanged>;
}

/// The current entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityValue {
    /// Raised by each change; 0 if no change is known.
    pub version: u64,
    /// A payload of [`crate::codec`]; None if it has no value.
    pub value: Option<Vec<u8>>,
}

/// A change of an entity.
#[derive(Clone, Copy, Debug, Default)]
pub struct EntityChange<'a> {
    /// The entity's kind.
    pub kind: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Identifies this call among all others.
    pub call: &'a str,
    /// The version that was read.
    pub expected: u64,
    /// The new value; None if it stays as it is.
    pub value: Option<&'a [u8]>,
    /// It has no value from now on.
    pub clears: bool,
    /// The result of the call, which its repetitions get too.
    pub result: &'a [u8],
    /// Forget it if it is not changed for this long; None for never.
    pub expires_after: Option<Duration>,
}

/// The outcome of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityChanged {
    /// It was made; this is the version.
    Made(u64),
    /// The call was made before, with this result.
    Known(Vec<u8>),
    /// Somebody else was faster: this is the current entity.
    Changed(EntityValue),
}
