//! Listens to Sentinels: a master that is replaced while it is alive keeps answering for about ten seconds, and what it
//! reported in that time is lost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;

use super::Inner;
use super::url::Places;
use crate::backoff::{Backoff, LISTENING};

/// A subscription is renewed after this long without a message: its Sentinel may be gone without a word.
const SILENCE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

impl Inner {
    /// Starts to listen, if there are Sentinels and no task listens yet. It ends with the topology, or with the
    /// runtime that it is on; then the next call starts it again.
    pub(super) fn watch(self: &Arc<Self>) {
        if let Places::Sentinel { master, .. } = &self.places
            && !self.watched.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(listen(Watch(Arc::downgrade(self)), self.guides.clone(), master.clone()));
        }
    }
}

/// Who listens.
struct Watch(Weak<Inner>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.watched.store(false, Ordering::Release);
        }
    }
}

async fn listen(watch: Watch, sentinels: Vec<Client>, master: String) {
    let first = rand::random_range(0..sentinels.len());
    let mut backoff = Backoff::new(LISTENING);
    for sentinel in sentinels.iter().cycle().skip(first) {
        // The error of a Sentinel that is away is reported when somebody needs an answer from one.
        if hear(&watch, sentinel, &master).await.is_some() {
            backoff.succeeds();
        }
        if watch.0.strong_count() == 0 {
            return;
        }
        backoff.wait().await;
    }
}

/// None if it could not be subscribed.
async fn hear(watch: &Watch, sentinel: &Client, master: &str) -> Option<()> {
    let subscribe = async {
        let mut pubsub = sentinel.get_async_pubsub().await?;
        pubsub.subscribe("+switch-master").await?;
        redis::RedisResult::Ok(pubsub)
    };
    let pubsub = tokio::time::timeout(PATIENCE, subscribe).await.ok()?.ok()?;
    // Earlier messages were not heard.
    watch.0.upgrade()?.lock().wrong = true;
    let mut messages = pubsub.into_on_message();
    while let Ok(Some(message)) = tokio::time::timeout(SILENCE, messages.next()).await {
        if concerns(master, message.get_payload_bytes()) {
            watch.0.upgrade()?.lock().wrong = true;
        }
    }
    Some(())
}

/// `<master> <old host> <old port> <new host> <new port>`
fn concerns(master: &str, message: &[u8]) -> bool {
    message.strip_prefix(master.as_bytes()).is_some_and(|rest| rest.first() == Some(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_master_of_that_name_concerns() {
        assert!(concerns("main", b"main 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!concerns("main", b"main-2 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!concerns("main", b"other 10.0.0.1 6379 10.0.0.2 6379"));
    }
}
