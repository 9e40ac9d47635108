//! A proxy on which the functions of Redis have other names, like those of another build of Stepfleet: both builds then serve one
//! namespace, each with its own library.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the names begin; the digest of the library follows.
const BEGIN: &[u8] = b"stepfleet_";
/// As long as a digest.
const OTHER: &[u8] = b"0ld0ld00";

/// Passes everything on, with other names.
pub struct Renaming {
    /// Where it listens, as a Redis URL.
    pub url: String,
    listening: JoinHandle<()>,
}

impl Renaming {
    /// The name of the library that is loaded through the proxy.
    pub fn library() -> String {
        String::from_utf8_lossy(&[BEGIN, OTHER].concat()).into_owned()
    }

    /// Listens on a free port, and passes on to this Redis.
    pub async fn to(redis: &str) -> Self {
        let target = redis.trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("its address"));
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&target).await {
                    tokio::spawn(pass_on(client, server));
                }
            }
        });
        Self { url, listening }
    }
}

impl Drop for Renaming {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let replies = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let (mut pending, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
        pending.extend_from_slice(&buffer[..count]);
        let rest = rename(&mut pending);
        if to_server.write_all(&pending[..rest]).await.is_err() {
            break;
        }
        pending.drain(..rest);
    }
    replies.abort();
}

/// Gives all names other digests. Returns where an incomplete one begins.
fn rename(bytes: &mut [u8]) -> usize {
    let whole = BEGIN.len() + OTHER.len();
    let mut at = 0;
    while at < bytes.len() {
        let here = &bytes[at..];
        let known = here.len().min(BEGIN.len());
        if here[..known] != BEGIN[..known] {
            at += 1;
            continue;
        }
        let digest = &here[known..here.len().min(whole)];
        if !digest.iter().all(u8::is_ascii_hexdigit) {
            at += known;
            continue;
        }
        if here.len() < whole {
            return at;
        }
        bytes[at + BEGIN.len()..at + whole].copy_from_slice(OTHER);
        at += whole;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_renamed_however_they_come() {
        let sent = b"FCALL stepfleet_0123abcd_claim stepfleet_like stepfleet_89abcdef stepf";
        let mut pending = Vec::new();
        let mut passed = Vec::new();
        for byte in sent.iter().chain(b"\r\n") {
            pending.push(*byte);
            let rest = rename(&mut pending);
            passed.extend(pending.drain(..rest));
        }
        assert_eq!(passed, b"FCALL stepfleet_0ld0ld00_claim stepfleet_like stepfleet_0ld0ld00 stepf\r\n");
    }
}
