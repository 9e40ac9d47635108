//! A worker process, seen by the tool.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Fallible;
use crate::serve::Serve;
use crate::wire::{Said, Taken, Told};

/// Longer than any scenario: a process that says nothing for this long never will.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker process; killed with the value.
pub(crate) struct Crew {
    child: Child,
    told: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Crew {
    /// Starts this program again, as a worker process.
    pub(crate) fn start(serve: &Serve) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--url", &serve.url, "--workflows", &serve.workflows.join(",")])
            .args(["--workers", &serve.workers.to_string(), "--concurrency", &serve.concurrency.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let told = child.stdin.take().ok_or("a worker process has no input")?;
        let said = child.stdout.take().ok_or("a worker process has no output")?;
        Ok(Self { child, told, said: BufReader::new(said).lines() })
    }

    async fn tell(&mut self, told: &Told) -> Fallible<()> {
        let mut line = serde_json::to_string(told)?;
        line.push('\n');
        self.told.write_all(line.as_bytes()).await?;
        Ok(self.told.flush().await?)
    }

    async fn hear(&mut self) -> Fallible<Said> {
        let line = tokio::time::timeout(PATIENCE, self.said.next_line())
            .await
            .map_err(|_| format!("a worker process has said nothing for {PATIENCE:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("a worker process has ended")?)?)
    }

    /// Makes it count from 0.
    pub(crate) async fn expect(&mut self, bodies: u64) -> Fallible<()> {
        self.tell(&Told::Expect { bodies }).await?;
        match self.hear().await? {
            Said::Expecting => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the expected number of bodies has begun; returns how long after the first the last one began.
    pub(crate) async fn reached(&mut self) -> Fallible<Duration> {
        match self.hear().await? {
            Said::Reached { took } => Ok(took),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until it has begun a run that holds it; returns the run's id.
    pub(crate) async fn began(&mut self) -> Fallible<String> {
        match self.hear().await? {
            Said::Began { run } => Ok(run),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes it release what it holds.
    pub(crate) async fn release(&mut self) -> Fallible<()> {
        self.tell(&Told::Release).await
    }

    /// What it has counted.
    pub(crate) async fn take(&mut self) -> Fallible<Taken> {
        self.tell(&Told::Take).await?;
        match self.hear().await? {
            Said::Took(taken) => Ok(taken),
            other => Err(unexpected(&other)),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Fallible<()> {
        Ok(self.child.start_kill()?)
    }

    /// Freezes the process.
    pub(crate) fn freeze(&self) -> Fallible<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(kill_process(id.ok_or("a worker process has ended")?, Signal::STOP)?)
    }
}

fn unexpected(said: &Said) -> Box<dyn std::error::Error + Send + Sync> {
    format!("a worker process said {said:?}, and nobody asked").into()
}
