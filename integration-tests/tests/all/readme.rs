//! The first commands of a newcomer do what the pages say: the commands and programs of README.md, and the first ones of
//! docs/workflows.md.
//!
//! Python needs redis-py, as in `python.rs`. Node needs ioredis, which npm installs; without, that test says that it did not run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime;
use stepfleet_integration_tests::fleet::{Fleet, InProcess};
use stepfleet_integration_tests::letters::Letters;
use stepfleet_integration_tests::pages::{self, Shown, blocks};
use tokio::task::JoinHandle;

use super::python::PYTHON;

const README: &str = include_str!("../../../README.md");
const PATH: &str = include_str!("../../../docs/workflows.md");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const ENTRY: &str = r#"\"entry\":\""#;
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Event, Serialize, Deserialize)]
struct Order {
    number: u64,
    goods: Vec<String>,
}

#[derive(Event, Serialize, Deserialize)]
struct Shipped {
    label: String,
}

/// As in the first stage of docs/workflows.md.
struct Shop;

#[workflow(start = Order, stop = Shipped)]
impl Shop {
    #[step]
    async fn ship(&self, order: Order) -> Outcome<Shipped> {
        Ok(Shipped { label: format!("Rome-{}", order.number) })
    }
}

/// A fleet that serves both workflows.
struct Served {
    fleet: Fleet,
    _coordinator: InProcess,
    worker: JoinHandle<()>,
}

impl Served {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let coordinator = fleet.coordinator();
        let worker = Worker::new(fleet.another_store(), runtime::Config::default());
        let worker = worker.serve(Letters).and_then(|worker| worker.serve(Shop)).expect("they can work");
        let worker = tokio::spawn(async move { worker.run_until(std::future::pending()).await.expect("it works") });
        fleet.workers_ready(1).await;
        Self { fleet, _coordinator: coordinator, worker }
    }

    fn port(&self) -> &str {
        self.fleet.redis.url.rsplit(':').next().expect("it ends in a port")
    }

    /// A program of the page, which names the port of `stepfleet dev`.
    fn with_port(&self, text: &str) -> String {
        assert!(text.contains("6390"), "{text}");
        text.replace("6390", self.port())
    }

    /// Runs a line in the shell; returns what it prints.
    async fn typed(&self, line: &str) -> String {
        let line = match line.strip_prefix("stepfleet ") {
            Some(arguments) => format!("'{STEPFLEET}' {arguments}"),
            None => self.with_port(line).replace("redis-cli", "redis-cli --no-raw"),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &line]).env("STEPFLEET_REDIS", &self.fleet.redis.url);
        printed(ran(command).await)
    }

    /// Does what a page says, in order, and compares what it shows below each command.
    async fn follows(&self, commands: &[Shown]) {
        for Shown { line, output } in commands {
            let printed = self.typed(line).await;
            // The id of the run is on standard error.
            let result =
                output.strip_prefix("run ").and_then(|rest| rest.split_once('\n')).map_or(&**output, |(_, rest)| rest);
            match line.split_once(" id ").filter(|_| line.contains("XADD")) {
                // The next line reads the end of the run.
                Some((_, rest)) => {
                    let run = rest.split(' ').next().unwrap_or_default();
                    self.fleet.client.run(run).result::<Value>(LIMIT).await.unwrap();
                }
                None => assert_eq!(without_entries(&printed), without_entries(result), "{line}"),
            }
        }
    }
}

/// Ids of inbox entries differ each time.
fn without_entries(text: &str) -> String {
    let mut parts = text.split(ENTRY);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + ENTRY + part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-'))
}

impl Drop for Served {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

async fn ran(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.unwrap()
}

fn printed(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// The commands of a page that begin like this, each with what the page shows below it.
fn commands(page: &str, beginning: &str) -> Vec<Shown> {
    pages::commands(page).into_iter().filter(|shown| shown.line.starts_with(beginning)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_starts_runs_from_the_shell() {
    let served = Served::new().await;
    let waited = commands(README, "stepfleet start letters --input");
    let plain = commands(README, "redis-cli");
    assert_eq!((waited.len(), plain.len()), (1, 4));
    served.follows(&waited).await;
    served.follows(&plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_stage_of_the_path_starts_runs_from_the_shell() {
    let served = Served::new().await;
    let waited = commands(PATH, "stepfleet start shop");
    let plain: Vec<_> =
        commands(PATH, "redis-cli").into_iter().filter(|shown| shown.line.contains("order-8")).collect();
    assert_eq!((waited.len(), plain.len()), (1, 2));
    served.follows(&waited).await;
    served.follows(&plain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_starts_and_awaits_a_run_in_python() {
    let Some(python) = &*PYTHON else { return };
    let served = Served::new().await;
    let program = served.with_port(blocks(README, "python").first().expect("it is there"));
    let shown = printed(ran(python.command(&["-c", &program])).await);
    assert_eq!(shown, "completed {'letters': 9}");
    assert_eq!(result(&served.fleet, "from-python").await, json!({ "letters": 9 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_starts_and_awaits_a_run_in_node() {
    let Some(folder) = with_ioredis() else {
        eprintln!("NOT RUN: there is no Node with npm, or npm cannot install ioredis");
        return;
    };
    let served = Served::new().await;
    let program = folder.join("caller.mjs");
    std::fs::write(&program, served.with_port(blocks(README, "js").first().expect("it is there"))).unwrap();
    let mut command = Command::new("node");
    command.arg(program);
    assert_eq!(printed(ran(command).await), "completed { letters: 9 }");
    assert_eq!(result(&served.fleet, "from-node").await, json!({ "letters": 9 }));
}

async fn result(fleet: &Fleet, run: &str) -> Value {
    fleet.client.run(run).result(LIMIT).await.unwrap()
}

/// A folder in which programs for Node find ioredis.
fn with_ioredis() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
    if folder.join("node_modules/ioredis").exists() {
        return Some(folder);
    }
    std::fs::create_dir_all(&folder).ok()?;
    let npm = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
    let installed = Command::new("npm").args(npm).arg(&folder).arg("ioredis@5").status();
    installed.is_ok_and(|status| status.success()).then_some(folder)
}
