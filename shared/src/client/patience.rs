//! Repeats calls that may be repeated, while Redis is away for a moment.

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, CALLING};
use crate::error::Result;

/// How long a call is repeated in all. A server that restarts is back by then; waiting for a whole failover is up to
/// the caller.
const PATIENCE: Duration = Duration::from_secs(2);

/// Repeats a call that failed because Redis is away or cannot accept it now. Only for calls that are harmless to
/// repeat: reads, and requests that have an id.
///
/// It takes no `AsyncFnMut`, whose future could not be sent to another thread.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(mut call: impl FnMut() -> F) -> Result<T> {
    let (until, mut backoff) = (Instant::now() + PATIENCE, Backoff::new(CALLING));
    loop {
        // Boxed, so that the futures of repeated calls do not make this one larger.
        match Box::pin(call()).await {
            Err(error) if error.is_unavailable() && Instant::now() < until => backoff.wait().await,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Ready;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    fn fails_until(calls: &AtomicU32, last: u32, error: Error) -> Ready<Result<u32>> {
        let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
        std::future::ready(if call < last { Err(error) } else { Ok(call) })
    }

    #[tokio::test]
    async fn a_call_is_repeated_while_redis_is_away_and_not_when_it_is_wrong() {
        let calls = AtomicU32::new(0);
        assert_eq!(patiently(|| fails_until(&calls, 4, Error::unavailable("broken pipe"))).await.unwrap(), 4);
        let calls = AtomicU32::new(0);
        let answer = patiently(|| fails_until(&calls, 4, Error::invalid("wrong"))).await;
        assert!(answer.unwrap_err().is_invalid());
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn patience_has_an_end() {
        let calls = AtomicU32::new(0);
        let answer = patiently(|| fails_until(&calls, u32::MAX, Error::unavailable("away"))).await;
        assert!(answer.unwrap_err().is_unavailable());
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls > 3, "{calls}");
    }
}
