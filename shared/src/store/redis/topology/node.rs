//! The connections to one server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use deadpool_redis::{Hook, HookError, Manager, Pool, PoolError, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, RedisError, Value};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::tls::Tls;
use super::trouble::Trouble;
use crate::error::{Error, Result};

/// A command that takes longer has failed. Long enough for a Redis that is slow for seconds.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connecting takes several replies: with a Redis that is slow for seconds, several times as long as a command.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The shorter limit if another server may have taken over.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(8);
const REPLICA: &str = "the server is a replica, not a master";

/// One server, for all partitions that it owns. All commands of a process that do not block share one connection, so
/// that what is sent at the same time travels together. Bulk reads use others, of the pool.
pub(crate) struct Node {
    client: Client,
    /// None for plain connections.
    tls: Option<Tls>,
    pool: Pool,
    connect_timeout: Duration,
    /// Whether it can be a replica, and is asked for its role at each connection.
    may_be_replica: bool,
    shared: Mutex<Option<Shared>>,
    connecting: tokio::sync::Mutex<Option<Error>>,
    /// How many attempts to make the shared connection have ended.
    attempts: AtomicU64,
    /// Those that several partitions use, by name.
    named: tokio::sync::Mutex<HashMap<String, Weak<Named>>>,
}

/// A connection of this name, for as long as somebody has it.
pub(crate) struct Named {
    pub(crate) connection: MultiplexedConnection,
    broken: AtomicBool,
    closed: watch::Receiver<()>,
}

impl Named {
    /// The next request for the name opens another one.
    pub(crate) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Returns when the connection was closed, by either side. May be dropped.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        while closed.changed().await.is_ok() {}
    }

    fn is_good(&self) -> bool {
        !self.broken.load(Ordering::Acquire) && self.closed.has_changed().is_ok()
    }
}

/// The shared connection, and the number that it is known by later.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) number: u64,
    pub(crate) connection: MultiplexedConnection,
}

impl Node {
    pub(super) fn new(info: &ConnectionInfo, tls: Option<Tls>, may_be_replica: bool) -> Result<Self> {
        let connect_timeout = if may_be_replica { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
        let manager = Manager::new_with_config(info.clone(), config(connect_timeout, RESPONSE_TIMEOUT))?;
        let mut pool = Pool::builder(manager).max_size(8).runtime(Runtime::Tokio1).wait_timeout(Some(connect_timeout));
        if may_be_replica {
            pool = pool.post_create(refuse_replicas());
        }
        let pool = pool.build().map_err(|e| Error::invalid(format!("the connection pool cannot be built: {e}")))?;
        Ok(Self {
            client: Client::open(info.clone())?,
            tls,
            pool,
            connect_timeout,
            may_be_replica,
            shared: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            named: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    pub(super) fn host(&self) -> &str {
        host(&self.client)
    }

    /// A separate connection for a caller whose commands may take this long.
    pub(crate) async fn dedicated(&self, response: Duration, name: &str) -> Result<MultiplexedConnection> {
        let config = config(self.connect_timeout, response);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.check_role(&mut connection).await?;
        give_name(&mut connection, name).await?;
        Ok(connection)
    }

    /// As [`Node::dedicated`], for all who ask for this name. Their commands never block.
    pub(crate) async fn named(&self, response: Duration, name: &str) -> Result<Arc<Named>> {
        let mut named = self.named.lock().await;
        let known = named.get(name).and_then(Weak::upgrade).filter(|known| known.is_good());
        if let Some(known) = known {
            return Ok(known);
        }
        named.retain(|_, known| known.strong_count() > 0);
        let (mut connection, closed) = self.watched(response).await?;
        self.check_role(&mut connection).await?;
        give_name(&mut connection, name).await?;
        let made = Arc::new(Named { connection, broken: AtomicBool::new(false), closed });
        named.insert(name.to_owned(), Arc::downgrade(&made));
        Ok(made)
    }

    /// A connection whose receiver ends when it is closed. By itself, the library reports that only at the next call.
    async fn watched(&self, response: Duration) -> Result<(MultiplexedConnection, watch::Receiver<()>)> {
        let about = self.client.get_connection_info();
        let config = config(self.connect_timeout, response);
        let login = about.redis_settings();
        let opening = async {
            match (about.addr(), &self.tls) {
                (ConnectionAddr::Tcp(host, port), _) => {
                    let stream = TcpStream::connect((&**host, *port)).await?;
                    Ok(driven(MultiplexedConnection::new_with_config(login, stream, config).await?))
                }
                (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => {
                    let stream = tls.connect(host, *port).await?;
                    Ok(driven(MultiplexedConnection::new_with_config(login, stream, config).await?))
                }
                #[cfg(unix)]
                (ConnectionAddr::Unix(path), _) => {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok(driven(MultiplexedConnection::new_with_config(login, stream, config).await?))
                }
                _ => {
                    let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
                    Ok(driven((connection, std::future::pending())))
                }
            }
        };
        let opened: Result<_, RedisError> = tokio::time::timeout(self.connect_timeout, opening)
            .await
            .map_err(|_| Error::unavailable("no connection was made in time"))?;
        Ok(opened?)
    }

    /// A connection from the pool, for bulk reads that should not hold others up.
    pub(crate) async fn pooled(&self) -> Result<deadpool_redis::Connection> {
        self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(e) | PoolError::PostCreateHook(HookError::Backend(e)) => e.into(),
            PoolError::PostCreateHook(HookError::Message(why)) => Error::unavailable(why.into_owned()),
            other => Error::unavailable(other.to_string()),
        })
    }

    /// A connection that listens for messages.
    pub(crate) async fn pubsub(&self) -> Result<redis::aio::PubSub> {
        let opening = tokio::time::timeout(self.connect_timeout, self.client.get_async_pubsub());
        Ok(opening.await.map_err(|_| Error::unavailable("no connection for messages was made in time"))??)
    }

    /// The shared connection. If there is none, one caller opens it; the outcome, good or bad, is the
    /// answer for all callers that wait meanwhile.
    pub(crate) async fn shared(&self) -> Result<Shared> {
        if let Some(shared) = self.lock().as_ref() {
            return Ok(shared.clone());
        }
        let before = self.attempts.load(Ordering::Acquire);
        let mut failure = self.connecting.lock().await;
        if let Some(shared) = self.lock().as_ref() {
            return Ok(shared.clone());
        }
        if let Some(error) = failure.as_ref().filter(|_| self.attempts.load(Ordering::Acquire) != before) {
            return Err(error.clone());
        }
        let made = self.pooled().await.map(deadpool_redis::Connection::take);
        let number = self.attempts.fetch_add(1, Ordering::AcqRel);
        *failure = made.as_ref().err().cloned();
        let shared = Shared { number, connection: made? };
        *self.lock() = Some(shared.clone());
        Ok(shared)
    }

    /// Gives up the shared connection of this number. One that was made since stays.
    pub(super) fn drop_shared(&self, number: u64) {
        let mut shared = self.lock();
        if shared.as_ref().is_some_and(|shared| shared.number == number) {
            *shared = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server that was the master may have become a replica: it takes connections and answers reads as before.
    async fn check_role(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        if self.may_be_replica && is_replica(connection).await? { Err(Error::unavailable(REPLICA)) } else { Ok(()) }
    }
}

/// The name is for people; a caller's ACL need not allow it.
async fn give_name(connection: &mut MultiplexedConnection, name: &str) -> Result<()> {
    let named = redis::cmd("CLIENT").arg("SETNAME").arg(name).query_async::<()>(connection).await;
    match named.map_err(Error::from) {
        Err(error) if !error.is_denied() => Err(error),
        _ => Ok(()),
    }
}

/// Has the connection driven by a task, which ends with it.
fn driven(
    (connection, driver): (MultiplexedConnection, impl Future<Output = ()> + Send + 'static),
) -> (MultiplexedConnection, watch::Receiver<()>) {
    let (open, closed) = watch::channel(());
    tokio::spawn(async move {
        driver.await;
        drop(open);
    });
    (connection, closed)
}

fn refuse_replicas() -> Hook {
    Hook::async_fn(|connection, _| {
        Box::pin(async move {
            match is_replica(connection).await {
                Ok(true) => Err(HookError::message(REPLICA)),
                Ok(false) => Ok(()),
                Err(error) => Err(HookError::Backend(error)),
            }
        })
    })
}

/// `ROLE` is for administrators; `HELLO` tells the role to everyone. If it is denied or unknown, what the server
/// answers to a write tells.
async fn is_replica(connection: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    match redis::cmd("HELLO").query_async::<Value>(connection).await {
        Ok(about) => Ok(tells_of_replica(&about)),
        Err(error) if Trouble::of(&error).means_wait() => Err(error),
        Err(_) => Ok(false),
    }
}

pub(super) fn host(client: &Client) -> &str {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
        _ => "",
    }
}

fn tells_of_replica(about: &Value) -> bool {
    let Value::Array(parts) = about else { return false };
    let text = |value: &Value| matches!(value, Value::BulkString(bytes) if bytes == b"role");
    parts.iter().skip_while(|part| !text(part)).nth(1) == Some(&Value::BulkString(b"replica".to_vec()))
}

pub(super) fn config(connect: Duration, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(connect)).set_response_timeout(Some(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_read_from_hello() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let hello =
            |role| Value::Array(vec![bulk("server"), bulk("redis"), bulk("proto"), Value::Int(2), bulk("role"), role]);
        assert!(tells_of_replica(&hello(bulk("replica"))));
        assert!(!tells_of_replica(&hello(bulk("master"))));
        assert!(!tells_of_replica(&Value::Okay));
        assert!(!tells_of_replica(&Value::Array(vec![bulk("role")])));
    }
}
