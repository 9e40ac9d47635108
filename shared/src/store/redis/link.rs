//! The way to the server of one partition: one shared connection for short commands, and dedicated ones for whoever
//! blocks.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline};

use super::functions::LIBRARY;
use super::topology::{Named, Node, Topology, slot_of};
use crate::core::value::Value;
use crate::error::{Error, Result};

/// How much later than its block a blocking command may answer before its connection counts as dead.
const BLOCK_SLACK: Duration = Duration::from_secs(5);

/// What is sent goes to the server that owns the slot now. An error that says that this is another one is heeded: the
/// next call goes there.
#[derive(Clone)]
pub(crate) struct Link {
    topology: Topology,
    slot: u16,
}

impl Link {
    /// The way to whoever has this key, and all keys of the same hash tag.
    pub(crate) fn new(topology: &Topology, key: &str) -> Self {
        Self { topology: topology.clone(), slot: slot_of(key) }
    }

    /// The way to another key, which another server may have.
    pub(crate) fn to(&self, key: &str) -> Self {
        Self::new(&self.topology, key)
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A connection of its own for a caller that blocks for up to `block` at a time.
    pub(crate) async fn dedicated(&self, block: Duration, name: &str) -> Result<Dedicated> {
        let node = self.topology.node(self.slot).await?;
        match node.dedicated(block + BLOCK_SLACK, name).await {
            Ok(connection) => Ok(Dedicated { link: self.clone(), node, connection }),
            Err(error) => Err(self.heed(&node, None, error)),
        }
    }

    /// As [`Link::dedicated`], shared by all partitions of the server whose callers give the same name. For commands that never
    /// block.
    pub(crate) async fn named(&self, response: Duration, name: &str) -> Result<SharedByName> {
        let node = self.topology.node(self.slot).await?;
        match node.named(response + BLOCK_SLACK, name).await {
            Ok(named) => Ok(SharedByName { link: self.clone(), node, named }),
            Err(error) => Err(self.heed(&node, None, error)),
        }
    }

    /// A connection that listens for messages.
    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        let node = self.topology.node(self.slot).await?;
        node.pubsub().await.map_err(|error| self.heed(&node, None, error))
    }

    /// Sends one command.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value> {
        self.send_as(command).await
    }

    /// As [`Link::send`], with the answer in another form.
    pub(crate) async fn send_as<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        match self.send_once(command).await {
            Err(error) if error.trouble().is_moved() => self.send_once(command).await,
            answer => answer,
        }
    }

    /// Sends several commands at once.
    pub(crate) async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        match self.send_all_once(pipeline).await {
            Err(error) if error.trouble().is_moved() => self.send_all_once(pipeline).await,
            answer => answer,
        }
    }

    /// As [`Link::send`], for a bulk read that should not hold others up.
    pub(crate) async fn read<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let node = self.topology.node(self.slot).await?;
        let answer = async { Ok(command.query_async(&mut node.pooled().await?).await?) };
        answer.await.map_err(|error| self.heed(&node, None, error))
    }

    /// As [`Link::read`], for several commands at once.
    pub(crate) async fn read_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        let node = self.topology.node(self.slot).await?;
        let answer = async { Ok(pipeline.query_async(&mut node.pooled().await?).await?) };
        answer.await.map_err(|error| self.heed(&node, None, error))
    }

    async fn send_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let node = self.topology.node(self.slot).await?;
        let mut shared = node.shared().await.map_err(|error| self.heed(&node, None, error))?;
        let answer = command.query_async(&mut shared.connection).await;
        answer.map_err(|error: redis::RedisError| self.heed(&node, Some(shared.number), error.into()))
    }

    async fn send_all_once(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let node = self.topology.node(self.slot).await?;
        let mut shared = node.shared().await.map_err(|error| self.heed(&node, None, error))?;
        let answer = pipeline.query_async(&mut shared.connection).await;
        answer.map_err(|error| self.heed(&node, Some(shared.number), error.into()))
    }

    fn heed(&self, node: &Arc<Node>, shared: Option<u64>, error: Error) -> Error {
        self.topology.heed(self.slot, node, shared, error)
    }

    /// Calls a transition; loads the library where the server does not have it.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value> {
        match self.send(command).await {
            Err(error) if is_missing_function(&error) => {
                self.load().await?;
                self.send(command).await
            }
            other => other,
        }
    }

    async fn load(&self) -> Result<()> {
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg(&LIBRARY.source);
        match self.send(&load).await {
            Ok(_) => tracing::debug!(library = LIBRARY.prefix, "loaded the function library"),
            Err(error) if error.to_string().contains("already exists") => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

pub(crate) fn is_missing_function(error: &Error) -> bool {
    error.to_string().contains("Function not found")
}

/// A connection of its own, to whoever owned the slot when it was made. After an error it is given up and another made.
pub(crate) struct Dedicated {
    link: Link,
    node: Arc<Node>,
    connection: MultiplexedConnection,
}

impl Dedicated {
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        self.link.topology.check(self.link.slot, &self.node).await?;
        let answer = command.query_async(&mut self.connection).await;
        answer.map_err(|error: redis::RedisError| self.link.heed(&self.node, None, error.into()))
    }
}

/// A connection that partitions of one server share. After an error it is given up, by all of them.
pub(crate) struct SharedByName {
    link: Link,
    node: Arc<Node>,
    named: Arc<Named>,
}

impl SharedByName {
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        self.link.topology.check(self.link.slot, &self.node).await?;
        let answer = command.query_async(&mut self.named.connection.clone()).await;
        answer.map_err(|error: redis::RedisError| {
            self.named.give_up();
            self.link.heed(&self.node, None, error.into())
        })
    }
}
