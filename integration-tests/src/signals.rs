//! How tests and the steps under test wait for each other: through lists in the same Redis, without sleeping.

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;

/// A step's side: says that it has begun, by the process that runs it, and waits until it may go on.
pub async fn arrive_and_wait(connection: &mut MultiplexedConnection, name: &str) -> redis::RedisResult<()> {
    let () = connection.rpush(format!("arrived:{name}"), std::process::id()).await?;
    let _: (String, String) = connection.blpop(format!("go:{name}"), 0.0).await?;
    Ok(())
}

/// The test's side: waits until a step has begun, and returns the process that runs it.
pub async fn wait_for_arrival(connection: &mut MultiplexedConnection, name: &str) -> u32 {
    let (_, pid): (String, u32) = connection
        .blpop(format!("arrived:{name}"), 60.0)
        .await
        .unwrap_or_else(|e| panic!("no step arrived at {name} within a minute: {e}"));
    pid
}

/// The test's side: lets `count` waiting steps go on.
pub async fn let_go(connection: &mut MultiplexedConnection, name: &str, count: usize) {
    let tokens = vec!["go"; count];
    let _: i64 = connection.rpush(format!("go:{name}"), tokens).await.expect("Redis is there");
}
