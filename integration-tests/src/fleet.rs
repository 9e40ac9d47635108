//! Real processes: workers that can be killed, stopped and continued, and coordinators.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, kill_process, kill_process_group};
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_shared::Client;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::{RedisStore, Store};
use tokio::task::JoinHandle;

use crate::redis::TestRedis;
use crate::{LONGEST, Patience, seen};

pub use rustix::process::Signal;

const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// A process of the fleet; killed when the value is dropped.
pub struct Process {
    child: Child,
    /// It has a separate process group, which ends with it.
    leads_group: bool,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its log in a file.
    pub fn start(program: &Path, args: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::spawn(Command::new(program).args(args), settings, false)
    }

    /// As [`Process::start`], for a program that starts another and waits for it: both end with the value.
    pub fn wrapped(program: &Path, args: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::leading(Command::new(program).args(args), settings)
    }

    pub(crate) fn leading(command: &mut Command, settings: &[(&str, &str)]) -> Self {
        Self::spawn(command.process_group(0), settings, true)
    }

    fn spawn(command: &mut Command, settings: &[(&str, &str)], leads_group: bool) -> Self {
        let (file, log) = tempfile::NamedTempFile::new().expect("a log file").keep().expect("a log file");
        let errors = file.try_clone().expect("a log file");
        let child = command
            .envs(settings.iter().copied())
            .env("NO_COLOR", "1")
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(errors))
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        Self { child, leads_group, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it can be signalled");
    }

    /// How it has ended, if it has.
    pub fn has_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("its state")
    }

    /// Waits until it has ended by itself, for at most a minute.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let patience = Patience::new(ENDED_WITHIN);
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            patience.pause(|| format!(" for the end of process {}; its log:\n{}", self.id(), self.log())).await;
        }
    }

    /// Waits until it has ended by itself, before the other one.
    ///
    /// # Panics
    /// If the other one ends first.
    pub async fn ended_before(&mut self, other: &mut Self) -> std::process::ExitStatus {
        loop {
            let is_late = other.child.try_wait().expect("its state").is_some();
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status;
            }
            assert!(!is_late, "process {} is still there; its log:\n{}", self.id(), self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Writes to its standard input, where that is a pipe.
    pub(crate) fn write(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("its input is a pipe");
        input.write_all(text.as_bytes()).expect("it reads its input");
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.leads_group {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of process {} ---\n{}", self.child.id(), self.log());
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// A Redis, and what runs against it.
pub struct Fleet {
    /// The Redis.
    pub redis: TestRedis,
    /// A client.
    pub client: Client,
    /// The store.
    pub store: Arc<dyn Store>,
}

impl Fleet {
    /// A new Redis, without any process yet.
    pub async fn new() -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        Self::on(TestRedis::start().await)
    }

    /// As [`Fleet::new`], on this Redis.
    pub fn on(redis: TestRedis) -> Self {
        let store: Arc<dyn Store> =
            Arc::new(RedisStore::new(&redis.url, Namespace::default()).expect("the test's own URL"));
        Self { client: Client::with_store(store.clone()), store, redis }
    }

    /// A store with separate connections.
    pub fn another_store(&self) -> Arc<dyn Store> {
        Arc::new(RedisStore::new(&self.redis.url, Namespace::default()).expect("the test's own URL"))
    }

    /// A coordinator within the test's process; it ends with the handle.
    pub fn coordinator(&self) -> InProcess {
        self.coordinator_with(Config::default())
    }

    /// A coordinator with this configuration.
    pub fn coordinator_with(&self, config: Config) -> InProcess {
        let coordinator = Coordinator::new(self.another_store(), config);
        InProcess(tokio::spawn(async move {
            coordinator.run(std::future::pending()).await;
        }))
    }

    /// A coordinator process. `program` is `env!("CARGO_BIN_EXE_test-stepfleet")`.
    pub fn coordinator_process(&self, program: &str) -> Process {
        let settings = [("STEPFLEET_REDIS", self.redis.url.as_str()), ("RUST_LOG", "info")];
        Process::start(Path::new(program), &["coordinator"], &settings)
    }

    /// A worker process that serves the test workflows. `program` is `env!("CARGO_BIN_EXE_test-worker")`.
    pub fn worker(&self, program: &str, settings: &[(&str, &str)]) -> Process {
        // Without this, a worker waits for a coordinator to make the namespace, and a test may have none.
        let mut all =
            vec![("STEPFLEET_REDIS", self.redis.url.as_str()), ("RUST_LOG", "info"), ("STEPFLEET_PARTITIONS", "1")];
        all.extend_from_slice(settings);
        Process::start(Path::new(program), &[], &all)
    }

    /// Waits until this many workers are registered.
    pub async fn workers_ready(&self, count: usize) {
        let patience = Patience::new(LONGEST);
        loop {
            let workers = self.store.workers().await.expect("Redis is there");
            if workers.len() == count {
                return;
            }
            patience.pause(|| format!(" for {count} workers; there were {workers:?}")).await;
        }
    }
}

/// Waits until no worker holds anything.
pub async fn nothing_is_held(store: &dyn Store) {
    let workers = async || store.workers().await.expect("the store answers");
    seen(workers, |workers| workers.iter().all(|worker| worker.held == 0)).await;
}

/// A task that ends with its handle.
pub struct InProcess(JoinHandle<()>);

impl Drop for InProcess {
    fn drop(&mut self) {
        self.0.abort();
    }
}
