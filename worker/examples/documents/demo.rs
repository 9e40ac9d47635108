//! The demo: real processes, a real kill -9, and the history as the witness.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use stepfleet::Client;
use stepfleet::client::RunHandle;
use stepfleet::history::{Kind, Record};
use stepfleet::run::Status;

use crate::DemoArguments;
use crate::listing::{self, MOST_DOCUMENTS};
use crate::proof::Proof;
use crate::workflow::{Reported, Requested};

type Failure = Box<dyn std::error::Error>;

const WORKERS: usize = 3;
const SLOTS: &str = "4";
const LIMIT: Duration = Duration::from_secs(1800);

/// A child process that ends with the demo, however that ends.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coordinator is asked to end: `stepfleet dev` then takes its Redis along.
struct Asked(Child);

impl Drop for Asked {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

pub(crate) async fn run(arguments: DemoArguments) -> Result<(), Failure> {
    let folder = match arguments.docs {
        Some(folder) => folder,
        None => listing::default_folder()?,
    };
    let folder = std::path::absolute(folder)?;
    let found = listing::survey(&folder, MOST_DOCUMENTS)?;
    println!("{} documents in {}", found.documents.len(), folder.display());
    if found.left_out > 0 {
        println!("  ({} more are left out: one run takes {MOST_DOCUMENTS})", found.left_out);
    }
    for place in &found.unreadable {
        println!("  {} cannot be read and is left out", place.display());
    }
    let out = writable(&arguments.out)?;
    let data = tempfile::tempdir()?;
    let (_coordinator, url) = match arguments.redis {
        Some(url) => (start_coordinator(&arguments.stepfleet, &url, data.path())?, url),
        None => start_dev(&arguments.stepfleet, arguments.port, data.path())?,
    };
    println!("Redis and a coordinator run at {url}");
    let workers = (1..=WORKERS).map(|n| start_worker(&url, n, data.path())).collect::<Result<Vec<_>, _>>()?;
    let client = Client::connect(&url)?;
    wait_for_workers(&client).await?;
    println!("{WORKERS} workers are ready, {SLOTS} steps at a time each");

    let id = format!("documents-{}", client.partitions().await?.first().now_ms().await?);
    let run = client.start("documents", &Requested { folder, out }).id(id).enqueue().await?;
    tokio::select! {
        done = watch(&client, &run, workers, found.documents.len()) => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted; the processes of the demo have been ended".into()),
    }
}

/// Makes the folder and tries to write there now, rather than after all the work.
fn writable(out: &Path) -> Result<PathBuf, Failure> {
    let out = std::path::absolute(out)?;
    let tried = std::fs::create_dir_all(&out).and_then(|()| tempfile::NamedTempFile::new_in(&out));
    tried.map_err(|e| {
        format!("the report cannot be written to {}: {e}; choose another folder with OUT=", out.display())
    })?;
    Ok(out)
}

fn start_dev(program: &Path, port: u16, data: &Path) -> Result<(Asked, String), Failure> {
    let mut child = Command::new(program)
        .args(["dev", "--json", "--port", &port.to_string(), "--dir"])
        .arg(data.join("redis"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(data.join("coordinator.log"))?)
        .spawn()
        .map_err(|e| not_started(program, &e))?;
    let output = child.stdout.take().ok_or("the coordinator has no output")?;
    let dev = Asked(child);
    let mut line = String::new();
    std::io::BufReader::new(output).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    if let Some(url) = ready["redis"].as_str() {
        return Ok((dev, url.to_owned()));
    }
    let log = std::fs::read_to_string(data.join("coordinator.log")).unwrap_or_default();
    let why = log.lines().last().unwrap_or("it said nothing");
    Err(format!("Redis and the coordinator did not start: {why}").into())
}

fn start_coordinator(program: &Path, url: &str, data: &Path) -> Result<Asked, Failure> {
    let child = Command::new(program)
        .arg("coordinator")
        .env("STEPFLEET_REDIS", url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(data.join("coordinator.log"))?)
        .spawn()
        .map_err(|e| not_started(program, &e))?;
    Ok(Asked(child))
}

fn not_started(program: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be started: {error}; build it with `cargo build --release`", program.display())
}

fn start_worker(url: &str, number: usize, data: &Path) -> Result<Kept, Failure> {
    let name = format!("worker-{number}");
    let child = Command::new(std::env::current_exe()?)
        .arg("worker")
        .env("STEPFLEET_REDIS", url)
        .env("STEPFLEET_WORKER_NAME", &name)
        .env("STEPFLEET_CONCURRENCY", SLOTS)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(data.join(format!("{name}.log")))?)
        .spawn()?;
    Ok(Kept(child))
}

async fn wait_for_workers(client: &Client) -> Result<(), Failure> {
    for _ in 0..500 {
        if client.partitions().await?.workers().await?.len() == WORKERS {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the workers did not get ready within 10 seconds".into())
}

/// Follows the run to its end; kills a worker when a third of the documents are done.
async fn watch(client: &Client, run: &RunHandle, mut workers: Vec<Kept>, documents: usize) -> Result<(), Failure> {
    let bar = ProgressBar::new(documents as u64)
        .with_style(ProgressStyle::with_template("{bar:40.cyan} {pos}/{len} documents  {elapsed}  {msg}")?);
    let (mut history, mut killed, mut missed) = (Vec::new(), None, 0);
    loop {
        let more = client.partitions().await?.of(run.id()).history(run.id(), history.len() as u64, 1000).await?;
        let still = more.is_empty();
        history.extend(more);
        let done = history.iter().filter(|r: &&Record| r.kind == Kind::Done && r.step == "digest").count();
        bar.set_position(done as u64);
        if killed.is_none() && done * 3 >= documents && done < documents {
            killed = kill_one(client, &mut workers).await?;
            missed += usize::from(killed.is_none());
            if let Some(kill) = &killed {
                bar.set_message(format!("killed {}", kill.worker));
            }
        }
        if still && history.last().is_some_and(|r| matches!(r.kind, Kind::Completed | Kind::Failed)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bar.finish_and_clear();
    if killed.is_none() {
        println!("no worker was killed: none held a step when it was looked at ({missed} looks)");
    }
    finish(run, &history, killed.as_ref(), documents).await
}

/// The worker that was killed, and when by Redis' clock.
pub(crate) struct Kill {
    pub(crate) worker: String,
    pub(crate) at_ms: u64,
}

/// SIGKILL for the worker that holds the most; None where none holds anything at this moment.
async fn kill_one(client: &Client, workers: &mut Vec<Kept>) -> Result<Option<Kill>, Failure> {
    let known = client.partitions().await?.workers().await?;
    let Some(victim) = known.into_iter().filter(|w| w.held > 0).max_by_key(|w| w.held) else { return Ok(None) };
    let Some(at) = workers.iter().position(|w| w.0.id() == victim.pid) else { return Ok(None) };
    let mut process = workers.swap_remove(at);
    let at_ms = client.partitions().await?.first().now_ms().await?;
    process.0.kill()?;
    process.0.wait()?;
    Ok(Some(Kill { worker: victim.id, at_ms }))
}

async fn finish(run: &RunHandle, history: &[Record], kill: Option<&Kill>, documents: usize) -> Result<(), Failure> {
    let ended = run.wait(LIMIT).await?;
    if ended.status != Status::Completed {
        return Err(format!("the run {}: {}", ended.status, ended.error.unwrap_or_default()).into());
    }
    let reported: Reported = run.result(LIMIT).await?;
    let took = ended.finished_ms.unwrap_or_default().saturating_sub(ended.created_ms);
    println!(
        "{} documents digested in {:.1} s, {} unreadable, {} groups of near-duplicates",
        reported.documents,
        Duration::from_millis(took).as_secs_f64(),
        reported.unreadable,
        reported.groups
    );
    println!("  {}\n  {}", reported.report.display(), reported.index.display());
    let proof = Proof::from_history(history, kill.map(|k| (k.worker.as_str(), k.at_ms)));
    println!("{proof}");
    proof.check(documents)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_used_is_said_in_one_sentence_before_anything_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("empty")).unwrap();
        std::fs::create_dir(path("full")).unwrap();
        std::fs::write(path("full/a.md"), "# Otters\n\nOtters sleep holding hands.").unwrap();
        let cases = [
            (path("missing"), path("out"), "there is no folder"),
            (path("empty"), path("out"), "holds no documents"),
            (path("full/a.md"), path("out"), "is not a folder"),
            (path("full"), "/proc/report".into(), "the report cannot be written to /proc/report"),
            (path("full"), path("out"), "/nonexistent/stepfleet cannot be started"),
        ];
        for (docs, out, sentence) in cases {
            let stepfleet = "/nonexistent/stepfleet".into();
            let error = run(DemoArguments { docs: Some(docs), out, stepfleet, redis: None, port: 0 })
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(sentence) && error.lines().count() == 1, "{sentence}: {error}");
        }
    }
}
