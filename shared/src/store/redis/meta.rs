//! The description of a namespace: the hash `<namespace>:meta`. It has no hash tag, and is where the slot of its key is.

use super::Topology;
use super::link::Link;
use crate::core::decode::{self, FORMAT};
use crate::error::{Error, Result};

fn key(name: &str) -> String {
    format!("{name}:meta")
}

/// How many partitions the namespace has; None if it does not exist yet.
pub(crate) async fn partitions(topology: &Topology, name: &str) -> Result<Option<u16>> {
    let key = key(name);
    let mut pipeline = redis::pipe();
    pipeline.hget(&key, "format").hget(&key, "partitions");
    decode::meta(name, &Link::new(topology, &key).send_all(&pipeline).await?)
}

/// Creates a namespace with this many partitions, if it is new. Fails if it has another number of them.
pub(crate) async fn make(link: &Link, name: &str, partitions: u16) -> Result<()> {
    let key = key(name);
    let mut pipeline = redis::pipe();
    pipeline.hset_nx(&key, "format", FORMAT).ignore();
    pipeline.hset_nx(&key, "partitions", partitions).ignore();
    pipeline.hget(&key, "format").hget(&key, "partitions");
    match decode::meta(name, &link.to(&key).send_all(&pipeline).await?)? {
        Some(found) if found == partitions => Ok(()),
        found => Err(another_number(name, found.unwrap_or_default(), partitions)),
    }
}

pub(crate) fn another_number(name: &str, found: u16, wanted: u16) -> Error {
    Error::invalid(format!(
        "the namespace {name} was created with {found} partitions, not with {wanted}: the number is fixed when a \
         namespace is created. Leave it out (--partitions, STEPFLEET_PARTITIONS), set it to {found}, or use another \
         namespace"
    ))
}
