//! A proxy to Redis that can be cut: before a request arrives, after a command was sent but before its reply, or for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Passes everything on, until told to lose something.
pub struct Proxy {
    /// Where it listens, as a Redis URL.
    pub url: String,
    faults: Arc<Faults>,
    listening: JoinHandle<()>,
}

struct Faults {
    /// How many replies to pass on before one is lost; below 0 for all.
    lose: AtomicI64,
    lost: AtomicU64,
    lose_request: AtomicBool,
    delay_ms: AtomicU64,
    cut: Notify,
    is_parted: watch::Sender<bool>,
}

impl Proxy {
    /// Listens on a free port, and passes on to this Redis.
    pub async fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("its address"));
        let faults = Arc::new(Faults {
            lose: AtomicI64::new(-1),
            lost: AtomicU64::new(0),
            lose_request: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            cut: Notify::new(),
            is_parted: watch::Sender::new(false),
        });
        let listening = tokio::spawn({
            let faults = faults.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if let Ok(server) = TcpStream::connect(&target).await {
                        tokio::spawn(pass_on(client, server, faults.clone()));
                    }
                }
            }
        });
        Self { url, faults, listening }
    }

    /// The next reply is lost: its connection is closed when it comes, after Redis has executed the command.
    pub fn lose_next_reply(&self) {
        self.lose_reply_after(0);
    }

    /// As [`Proxy::lose_next_reply`], after this many replies that are passed on.
    pub fn lose_reply_after(&self, replies: i64) {
        self.faults.lose.store(replies, Ordering::SeqCst);
    }

    /// The next request is lost: its connection is closed before Redis hears of it.
    pub fn lose_next_request(&self) {
        self.faults.lose_request.store(true, Ordering::SeqCst);
    }

    /// Closes all connections that are open.
    pub fn cut(&self) {
        self.faults.cut.notify_waiters();
    }

    /// While it is parted, nothing passes, and no connection is closed. Everything that was sent meanwhile arrives afterwards.
    pub fn part(&self, is_parted: bool) {
        self.faults.is_parted.send_replace(is_parted);
    }

    /// Delays each reply this long.
    pub fn delay(&self, delay: Duration) {
        self.faults.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// How many replies were lost.
    pub fn lost(&self) -> u64 {
        self.faults.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever direction ends first closes both.
    tokio::select! {
        () = requests(from_client, to_server, &faults) => {}
        () = replies(from_server, to_client, &faults) => {}
        () = faults.cut.notified() => {}
    }
}

async fn requests(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, faults: &Faults) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        faults.while_parted().await;
        let is_lost = faults.lose_request.swap(false, Ordering::SeqCst);
        if is_lost || server.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn replies(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, faults: &Faults) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = server.read(&mut buffer).await {
        faults.while_parted().await;
        // It keeps counting down; below 0 it means nothing.
        if faults.lose.fetch_sub(1, Ordering::SeqCst) == 0 {
            faults.lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let delay = faults.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if client.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

impl Faults {
    async fn while_parted(&self) {
        // We hold the sender, so it cannot be closed.
        let _ = self.is_parted.subscribe().wait_for(|is_parted| !is_parted).await;
    }
}
