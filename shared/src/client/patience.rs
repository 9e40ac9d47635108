//! Calls that may be repeated are, while Redis is away for a moment.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::error::Result;

/// How long a call is repeated in all. A server that is started again is back by then; waiting for a whole failover is up to the caller.
const PATIENCE: Duration = Duration::from_secs(2);

/// Repeats a call that failed because Redis is away or cannot take it now. Only for what may take effect twice without harm: reads,
/// and requests that have an id.
pub(crate) async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_millis(500))
        .with_total_delay(Some(PATIENCE))
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        match call().await {
            Err(error) if error.is_unavailable() => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn a_call_is_repeated_while_redis_is_away_and_not_when_it_is_wrong() {
        let mut calls = 0;
        let answer = patiently(async || {
            calls += 1;
            if calls < 4 { Err(Error::unavailable("broken pipe")) } else { Ok(calls) }
        });
        assert_eq!(answer.await.unwrap(), 4);
        let mut calls = 0;
        let answer = patiently(async || {
            calls += 1;
            Err::<(), _>(Error::invalid("wrong"))
        });
        assert!(answer.await.unwrap_err().is_invalid());
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn patience_has_an_end() {
        let mut calls = 0;
        let answer = patiently(async || {
            calls += 1;
            Err::<(), _>(Error::unavailable("away"))
        });
        assert!(answer.await.unwrap_err().is_unavailable());
        assert!(calls > 3, "{calls}");
    }
}
