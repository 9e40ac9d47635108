//! The store on Redis 7.0 or later, or Valkey: each transition is one Redis Function, one `FCALL`.
//!
//! The functions are in `lua/`, in the order of a run: `start`, `claim`, `commit`, `fleet` (leases, recovery, timers).
//! Each role has a file: `caller`, `worker`, `coordinator`, `reader`. Arguments are made and
//! replies are read in `crate::core`; `wire` stands between that and the client of Redis, `link` is the way to the
//! server.

mod across;
mod audit;
mod barrier;
mod caller;
mod coordinator;
mod entity;
mod fleet_readers;
mod functions;
mod journals;
mod link;
mod load;
pub(crate) mod meta;
mod reader;
mod readers;
mod short;
pub(crate) mod topology;
mod wire;
mod worker;

use redis::Cmd;

use self::barrier::Barriers;
use self::link::Link;
pub use self::load::{Load, QueueLoad};
use self::short::Short;
pub use self::topology::Topology;
pub(crate) use self::topology::Trouble;
use super::millis;
use crate::core::args::{Transition, Word};
use crate::core::reply::Reply;
use crate::error::Result;
use crate::names::Namespace;

/// The store of one partition on Redis. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    namespace: Namespace,
    short: Short,
    barriers: Barriers,
    partitions: u16,
}

impl RedisStore {
    /// Prepares a store; connects at the first call.
    ///
    /// The URL is one that [`Topology::new`] accepts. Fails only if it cannot be used.
    pub fn new(url: &str, namespace: Namespace) -> Result<Self> {
        Ok(Self::on(&Topology::new(url)?, namespace))
    }

    /// Like [`RedisStore::new`], for one of several partitions: stores on one topology share connections.
    pub fn on(topology: &Topology, namespace: Namespace) -> Self {
        let link = Link::new(topology, namespace.prefix());
        Self {
            short: Short::new(&link, namespace.prefix()),
            link,
            namespace,
            barriers: Barriers::default(),
            partitions: 1,
        }
    }

    /// Sets how many partitions the namespace has; one by default.
    #[must_use]
    pub fn of(self, partitions: u16) -> Self {
        Self { partitions, ..self }
    }

    /// The address of the server that has the partition, as far as is known: for diagnosis.
    pub fn address(&self) -> Option<String> {
        self.link.topology().address_of(self.namespace.prefix())
    }

    /// The server's answer to any command: for diagnosis and tests.
    pub async fn command(&self, command: &Cmd) -> Result<redis::Value> {
        self.link.send_as(command).await
    }

    /// Calls a transition.
    async fn call<T: Transition>(&self, given: &T) -> Result<Reply> {
        let command = wire::transition(self.namespace.prefix(), given);
        Reply::new(self.link.call(&command).await?)
    }

    /// Calls a transition whose reply begins with a word: that, and the rest of the reply.
    async fn ask<T: Transition<Word: Word>>(&self, given: &T) -> Result<(T::Word, Reply)> {
        let mut reply = self.call(given).await?;
        Ok((reply.word(T::NAME)?, reply))
    }
}
