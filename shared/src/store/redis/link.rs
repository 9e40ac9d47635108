//! Connections: one shared connection for short commands, and dedicated ones for whoever blocks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Value};

use super::functions::LIBRARY;
use crate::error::{Error, Result};

/// A command that takes longer has failed. Long enough for a Redis that is slow for seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connecting takes several replies: with a Redis that is slow for seconds, several times as long as a command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How much later than its block a blocking command may answer before its connection counts as dead.
const BLOCK_SLACK: Duration = Duration::from_secs(5);

/// All commands of a process that do not block share one connection, so that what is sent at the same time travels
/// together. It is taken from the pool, and replaced from there when it breaks; bulk reads use others of the pool.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    pool: Pool,
    shared: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Link {
    pub(crate) fn open(url: &str) -> Result<Self> {
        let client = Client::open(url).map_err(|e| Error::invalid(format!("the Redis URL cannot be used: {e}")))?;
        let manager = Manager::new_with_config(client.get_connection_info().clone(), config(RESPONSE_TIMEOUT))?;
        let pool = Pool::builder(manager)
            .max_size(8)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(|e| Error::invalid(format!("the connection pool cannot be built: {e}")))?;
        Ok(Self { client, pool, shared: Arc::default() })
    }

    /// A connection of its own for a caller that blocks for up to `block` at a time.
    pub(crate) async fn dedicated(&self, block: Duration, name: &str) -> Result<MultiplexedConnection> {
        let config = config(block + BLOCK_SLACK);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let named = redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(&mut connection).await;
        match named.map_err(Error::from) {
            // The name is for people; a caller's ACL need not allow it.
            Err(error) if !error.is_denied() => Err(error),
            _ => Ok(connection),
        }
    }

    /// A connection from the pool, for bulk reads that should not hold others up.
    pub(crate) async fn pooled(&self) -> Result<deadpool_redis::Connection> {
        self.pool.get().await.map_err(|e| match e {
            deadpool_redis::PoolError::Backend(e) => e.into(),
            other => Error::unavailable(other.to_string()),
        })
    }

    /// A connection that listens for messages.
    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        Ok(self.client.get_async_pubsub().await?)
    }

    async fn shared(&self) -> Result<MultiplexedConnection> {
        if let Some(connection) = self.lock().as_ref() {
            return Ok(connection.clone());
        }
        let fresh = deadpool_redis::Connection::take(self.pooled().await?);
        Ok(self.lock().get_or_insert(fresh).clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one command. After a failure of the connection the next call opens another.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value> {
        let mut connection = self.shared().await?;
        command.query_async(&mut connection).await.map_err(|e| self.failed(e))
    }

    /// Sends several commands at once.
    pub(crate) async fn send_all(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>> {
        let mut connection = self.shared().await?;
        pipeline.query_async(&mut connection).await.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: redis::RedisError) -> Error {
        let error = Error::from(error);
        if error.is_unavailable() {
            *self.lock() = None;
        }
        error
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

fn config(response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(Some(response))
}
