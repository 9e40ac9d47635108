//! A way to Redis that can be cut: after a command was sent and before its reply comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes everything on, until told to lose a reply.
pub struct Proxy {
    /// Where it listens, as a Redis URL.
    pub url: String,
    /// How many replies to pass on before one is lost; below 0 for all.
    lose: Arc<AtomicI64>,
    lost: Arc<AtomicU64>,
    delay_ms: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port, on the way to this Redis.
    pub async fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("its address"));
        let (lose, lost) = (Arc::new(AtomicI64::new(-1)), Arc::new(AtomicU64::new(0)));
        let delay_ms = Arc::new(AtomicU64::new(0));
        let listening = tokio::spawn({
            let (lose, lost, delay_ms) = (lose.clone(), lost.clone(), delay_ms.clone());
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if let Ok(server) = TcpStream::connect(&target).await {
                        tokio::spawn(pass_on(client, server, lose.clone(), lost.clone(), delay_ms.clone()));
                    }
                }
            }
        });
        Self { url, lose, lost, delay_ms, listening }
    }

    /// The next reply is lost: its connection is closed when it comes, after Redis has done what it was told.
    pub fn lose_next_reply(&self) {
        self.lose_reply_after(0);
    }

    /// As [`Proxy::lose_next_reply`], after so many replies that are passed on.
    pub fn lose_reply_after(&self, replies: i64) {
        self.lose.store(replies, Ordering::SeqCst);
    }

    /// Keeps each reply back for this long.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// How many replies were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn pass_on(
    client: TcpStream,
    server: TcpStream,
    lose: Arc<AtomicI64>,
    lost: Arc<AtomicU64>,
    delay_ms: Arc<AtomicU64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from_server.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        // It goes on counting down, below 0, where it means nothing.
        if lose.fetch_sub(1, Ordering::SeqCst) == 0 {
            lost.fetch_add(1, Ordering::SeqCst);
            break;
        }
        let delay = delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if to_client.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    requests.abort();
}
