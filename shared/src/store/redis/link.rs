//! The link to the server of one partition: one shared connection for short commands, and dedicated ones for callers
//! that block.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult};

use super::functions::LIBRARY;
use super::topology::{Named, Node, SENTINEL, Topology, Trouble, slot_of};
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::log;

/// How much later than its block a blocking command may answer before its connection counts as dead.
const BLOCK_SLACK: Duration = Duration::from_secs(5);
/// A call that blocks is given up so soon after another server has taken over: a master that is replaced while it lives lets it wait for
/// about ten seconds more, in vain.
const RECHECK: Duration = Duration::from_secs(1);

/// What is sent at once.
#[derive(Clone, Copy)]
enum Sending<'a> {
    One(&'a Cmd),
    Several(&'a Pipeline),
}

impl Sending<'_> {
    async fn over<T: FromRedisValue>(self, mut connection: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Self::One(command) => command.query_async(&mut connection).await,
            Self::Several(pipeline) => pipeline.query_async(&mut connection).await,
        }
    }
}

/// Commands go to the server that owns the slot now. An error that names another owner is obeyed: the
/// next call goes there.
#[derive(Clone)]
pub(crate) struct Link {
    topology: Topology,
    slot: u16,
}

impl Link {
    /// The link to the owner of this key, and of all keys with the same hash tag.
    pub(crate) fn new(topology: &Topology, key: &str) -> Self {
        Self { topology: topology.clone(), slot: slot_of(key) }
    }

    /// The link to the owner of another key, which may be another server.
    pub(crate) fn to(&self, key: &str) -> Self {
        Self::new(&self.topology, key)
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A separate connection for a caller that blocks for up to `block` at a time.
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

    /// Like [`Link::send`], with the answer in another form.
    pub(crate) async fn send_as<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.over_shared(Sending::One(command)).await
    }

    /// Sends several commands at once.
    pub(crate) async fn send_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        self.over_shared(Sending::Several(pipeline)).await
    }

    /// Sends over the shared connection. Repeats it once if it was not executed: the slot has moved, or the connection
    /// was closed before anything was sent, as a server does with idle ones.
    async fn over_shared<T: FromRedisValue>(&self, what: Sending<'_>) -> Result<T> {
        let (mut answer, sent) = self.over_shared_once(what).await;
        if answer.as_ref().is_err_and(|error| !sent || error.trouble().is_moved()) {
            answer = Box::pin(self.over_shared_once(what)).await.0;
        }
        match answer {
            Err(error) => Err(Box::pin(self.explained(error)).await),
            answer => answer,
        }
    }

    /// The answer, and whether anything was sent.
    async fn over_shared_once<T: FromRedisValue>(&self, what: Sending<'_>) -> (Result<T>, bool) {
        let shared = async {
            let node = self.topology.node(self.slot).await?;
            let shared = node.shared().await.map_err(|error| self.heed(&node, None, error))?;
            Ok((node, shared))
        };
        let (node, shared) = match shared.await {
            Ok(shared) => shared,
            // It has been tried just now.
            Err(error) => return (Err(error), true),
        };
        let mut sending = std::pin::pin!(what.over(shared.connection));
        // A connection that is known to be closed takes nothing, and says so at once.
        let (answer, sent) = match std::future::poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
            Poll::Ready(answer) => {
                let was_closed = answer.as_ref().is_err_and(|error| Trouble::of(error) == Trouble::ConnectionLost);
                (answer, !was_closed)
            }
            Poll::Pending => (sending.await, true),
        };
        (answer.map_err(|error| self.heed(&node, Some(shared.number), error.into())), sent)
    }

    /// A Sentinel knows none of our commands; giving its address instead of a server's is an easy mistake.
    /// Redis calls the line that tells them apart `redis_mode`, and Valkey `server_mode`.
    async fn explained(&self, error: Error) -> Error {
        if !self.topology.is_one_server() || !error.to_string().contains("unknown command") {
            return error;
        }
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let told: Result<String> = self.over_shared_once(Sending::One(&info)).await.0;
        if told.is_ok_and(|told| told.contains("_mode:sentinel")) { error.advising(SENTINEL) } else { error }
    }

    /// Like [`Link::send`], for a bulk read that should not delay others.
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

    fn heed(&self, node: &Arc<Node>, shared: Option<u64>, error: Error) -> Error {
        self.topology.heed(self.slot, node, shared, error)
    }

    /// Calls a transition; loads the library if the server does not have it.
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
            Ok(_) => log::debug!(library = LIBRARY.prefix, "loaded the function library"),
            Err(error) if error.to_string().contains("already exists") => {}
            // With least privilege only coordinators may.
            Err(error) if error.is_denied() => {
                return Err(Error::unavailable(format!(
                    "the functions of this version ({}) are not loaded yet, and this user may not load them: start a \
                     coordinator of the same version, which loads them",
                    LIBRARY.prefix.trim_end_matches('_')
                )));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

pub(crate) fn is_missing_function(error: &Error) -> bool {
    error.to_string().contains("Function not found")
}

/// A separate connection to the current owner of the slot. After an error, it is replaced.
pub(crate) struct Dedicated {
    link: Link,
    node: Arc<Node>,
    connection: MultiplexedConnection,
}

impl Dedicated {
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        let Self { link, node, connection } = self;
        link.topology.check(link.slot, node).await?;
        let mut answer = std::pin::pin!(command.query_async(connection));
        loop {
            match tokio::time::timeout(RECHECK, &mut answer).await {
                Ok(answer) => return answer.map_err(|error: redis::RedisError| link.heed(node, None, error.into())),
                Err(_) => link.topology.check(link.slot, node).await?,
            }
        }
    }
}

/// A connection that partitions of one server share. After an error that ends it, all of them give it up.
pub(crate) struct SharedByName {
    link: Link,
    node: Arc<Node>,
    named: Arc<Named>,
}

impl SharedByName {
    /// Returns when the connection has been closed. May be dropped.
    pub(crate) async fn closed(&self) {
        self.named.closed().await;
    }

    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T> {
        self.link.topology.check(self.link.slot, &self.node).await?;
        let answer = command.query_async(&mut self.named.connection.clone()).await;
        answer.map_err(|error: redis::RedisError| {
            if Trouble::of(&error).ends_connection() {
                self.named.give_up();
            }
            self.link.heed(&self.node, None, error.into())
        })
    }
}
