//! The server of `stepfleet dev`, and the process that keeps it no longer than `dev` itself.
//!
//! `dev` starts this program again as `dev-server`, with a pipe as its standard input. However `dev` ends, and be it
//! by SIGKILL, the pipe closes, and `dev-server` ends the Redis server that it started.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use fs4::FileExt;
use tokio::process::{Child, Command};

use super::error::{CliError, CliResult};

/// How long the server may take to write what it has and end.
const PARTING: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Options {
    /// The server's program
    #[arg(long)]
    program: PathBuf,
    /// Where it keeps its data
    #[arg(long)]
    dir: PathBuf,
    /// The port
    #[arg(long)]
    port: u16,
}

pub(super) async fn run(options: &Options) -> CliResult {
    let _lock = lock(&options.dir, options.port)?;
    let mut server = spawn(options)?;
    tokio::select! {
        status = server.wait() => {
            let status = status?;
            return Err(CliError::new(format!("{} exited unexpectedly ({status})", options.program.display())));
        }
        _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])) => {}
    }
    stop(&mut server, options.port).await;
    Ok(ExitCode::SUCCESS)
}

/// Two servers on the same files would spoil them. The lock tells a second `dev` where the first one is.
fn lock(dir: &Path, port: u16) -> Result<File, CliError> {
    let mut lock = open_lock(dir)?;
    lock.set_len(0)?;
    write!(lock, "redis://127.0.0.1:{port}")?;
    Ok(lock)
}

fn open_lock(dir: &Path) -> Result<File, CliError> {
    let path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
    if FileExt::try_lock(&lock).is_ok() {
        return Ok(lock);
    }
    let url = fs::read_to_string(path).ok().filter(|url| !url.is_empty()).map(|url| format!(" at {url}"));
    Err(CliError::new(format!(
        "a `stepfleet dev` is already running in {}{}: use it, stop it, or give this one its own folder with --dir",
        dir.display(),
        url.unwrap_or_default()
    )))
}

/// That no other `dev` uses this folder.
pub(super) fn is_free(dir: &Path) -> Result<(), CliError> {
    open_lock(dir).map(drop)
}

fn spawn(options: &Options) -> Result<Child, CliError> {
    let mut command = Command::new(&options.program);
    command.arg("--port").arg(options.port.to_string()).arg("--bind").arg("127.0.0.1").arg("--dir").arg(&options.dir);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    command.args(["--maxmemory-policy", "noeviction", "--logfile", "redis.log", "--daemonize", "no"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().map_err(|error| CliError::new(format!("{} cannot be started: {error}", options.program.display())))
}

async fn stop(server: &mut Child, port: u16) {
    tokio::select! {
        _ = server.wait() => return,
        never = shut_down(port) => match never {},
        () = tokio::time::sleep(PARTING) => {}
    }
    let _ = server.kill().await;
}

/// Asks until the server is gone: one that has just been started does not listen yet.
async fn shut_down(port: u16) -> std::convert::Infallible {
    loop {
        if let Ok(client) = redis::Client::open(("127.0.0.1", port))
            && let Ok(mut connection) = client.get_multiplexed_async_connection().await
        {
            let _ = redis::cmd("SHUTDOWN").query_async::<()>(&mut connection).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The server on the path, whichever kind is there.
pub(super) fn find() -> Result<PathBuf, CliError> {
    which::which("redis-server").or_else(|_| which::which("valkey-server")).map_err(|_| {
        CliError::new(
            "neither redis-server nor valkey-server is on the PATH; install Redis 7.0 or later (apt install \
             redis-server, brew install redis) or Valkey 8, or point the other commands with --redis at one that is \
             running",
        )
    })
}

/// The given port if it is free, or any free one for 0.
pub(super) fn free_port(wanted: u16) -> Result<u16, CliError> {
    let taken = |error: std::io::Error| {
        CliError::new(format!(
            "port {wanted} of 127.0.0.1 cannot be used ({error}): another program has it, perhaps a `stepfleet dev` in \
             another folder. Stop that, or use --port 0 (any free port) and set STEPFLEET_REDIS to the address it \
             prints"
        ))
    };
    let listener = TcpListener::bind(("127.0.0.1", wanted)).map_err(taken)?;
    Ok(listener.local_addr()?.port())
}

/// Makes the folder, invisible to git.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf, CliError> {
    let make = || -> std::io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join(".gitignore"), "*\n")?;
        dir.canonicalize()
    };
    make().map_err(|error| CliError::new(format!("the folder {} cannot be created: {error}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named() {
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        let refusal = free_port(port).unwrap_err().sentence("");
        assert!(refusal.contains(&port.to_string()) && refusal.contains("--port"), "{refusal}");
        assert_ne!(free_port(0).unwrap(), port);
    }
}
