//! A Redis that refuses: it passes commands on until it is told to answer each with an error. For troubles that are hard to
//! produce with a real server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// A proxy before a Redis.
pub struct Refusing {
    /// Where it listens, as a Redis URL.
    pub url: String,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// The answer to each command; None to pass it on.
    error: Mutex<Option<String>>,
    refused: AtomicU64,
    connections: AtomicU64,
}

/// How the next command is answered.
enum Answer {
    Error(String),
    /// With the server's answer.
    Servers,
    /// Passed through from now on.
    Messages,
}

impl Refusing {
    /// Listens on a free port, before this Redis.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn before(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("its address"));
        let state = Arc::<State>::default();
        let listening = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    if let Ok(server) = TcpStream::connect(&target).await {
                        tokio::spawn(serve(client, server, state.clone()));
                    }
                }
            }
        });
        Self { url, state, listening }
    }

    /// From now on it answers each command with this error, and passes none on.
    ///
    /// # Panics
    /// If another task of the test has panicked.
    pub fn refuse(&self, error: &str) {
        *self.state.error.lock().expect("nobody panics with it") = Some(error.to_owned());
    }

    /// Passes everything on again.
    ///
    /// # Panics
    /// If another task of the test has panicked.
    pub fn accept(&self) {
        *self.state.error.lock().expect("nobody panics with it") = None;
    }

    /// How many commands were refused.
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// How many connections were opened.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (answers, told) = unbounded_channel();
    let commands = tokio::spawn(take(from_client, to_server, answers, state));
    answer(from_server, to_client, told).await;
    commands.abort();
}

async fn take(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    answers: UnboundedSender<Answer>,
    state: Arc<State>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let command = next_frame(&mut client, &mut buffer).await?;
        let error = state.error.lock().ok()?.clone();
        if let Some(error) = error {
            state.refused.fetch_add(1, Ordering::SeqCst);
            answers.send(Answer::Error(error)).ok()?;
            continue;
        }
        let subscribes = command.windows(9).any(|word| word.eq_ignore_ascii_case(b"SUBSCRIBE"));
        answers.send(if subscribes { Answer::Messages } else { Answer::Servers }).ok()?;
        server.write_all(&command).await.ok()?;
    }
}

async fn answer(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut answers: UnboundedReceiver<Answer>,
) -> Option<()> {
    let mut buffer = Vec::new();
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Error(error) => client.write_all(format!("-{error}\r\n").as_bytes()).await.ok()?,
            Answer::Servers => client.write_all(&next_frame(&mut server, &mut buffer).await?).await.ok()?,
            Answer::Messages => {
                client.write_all(&buffer).await.ok()?;
                tokio::io::copy(&mut server, &mut client).await.ok()?;
            }
        }
    }
    Some(())
}

/// The next complete command or reply. None if the connection has ended.
async fn next_frame(from: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = frame(buffer) {
            return Some(buffer.drain(..length).collect());
        }
        if from.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The length of the first command or reply (RESP2) in these bytes; None if it is incomplete.
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[1..line]).ok()?.parse::<i64>().ok();
    let mut length = line + 2;
    match bytes[0] {
        b'$' => {
            if let Ok(size) = usize::try_from(number()?) {
                length += size + 2;
            }
        }
        b'*' => {
            for _ in 0..number()?.max(0) {
                length += frame(bytes.get(length..)?)?;
            }
        }
        _ => {}
    }
    (length <= bytes.len()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_they_end() {
        for (bytes, length) in [
            (&b"+OK\r\n+OK\r\n"[..], Some(5)),
            (b"$3\r\nabc\r\n", Some(9)),
            (b"$3\r\nab", None),
            (b"$-1\r\n", Some(5)),
            (b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n:7\r\n", Some(18)),
            (b"*2\r\n:1\r\n", None),
            (b"*-1\r\n", Some(5)),
            (b"", None),
        ] {
            assert_eq!(frame(bytes), length, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
