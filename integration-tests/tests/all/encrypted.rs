//! Payloads are encrypted if the processes have keys: the test reads the raw files of Redis.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::pages::commands;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::terminal::Terminal;
use stepfleet_shared::run::Status;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "the otters sleep in the reeds";
const OTHER: &str = "the herons know of the otters";

/// A Redis, a coordinator that has no keys, and files with keys.
struct Stage {
    fleet: Fleet,
    folder: tempfile::TempDir,
    _coordinator: Process,
}

impl Stage {
    async fn new() -> Self {
        let fleet = Fleet::on(TestRedis::process().await);
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = ("0f".repeat(32), "1e".repeat(32));
        std::fs::write(folder.path().join("old"), format!("key-of-october {old}\n")).unwrap();
        std::fs::write(folder.path().join("both"), format!("key-of-november {new}\nkey-of-october {old}\n")).unwrap();
        std::fs::write(folder.path().join("new"), format!("key-of-november {new}\n")).unwrap();
        let coordinator = fleet.coordinator_process(STEPFLEET);
        Self { fleet, folder, _coordinator: coordinator }
    }

    fn keys(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn worker(&self, keys: Option<&str>) -> Process {
        let file = keys.map(|keys| self.keys(keys)).unwrap_or_default();
        // A body that waits is replayed from its journal.
        let worker = self.fleet.worker(WORKER, &[("STEPFLEET_KEYS_FILE", &file), ("STEPFLEET_KEEPS", "0")]);
        self.fleet.workers_ready(1).await;
        worker
    }

    fn stepfleet(&self, keys: Option<&str>, args: &[&str]) -> Output {
        let mut command = Command::new(STEPFLEET);
        command.args(args).env("STEPFLEET_REDIS", &self.fleet.redis.url);
        if let Some(keys) = keys {
            command.env("STEPFLEET_KEYS_FILE", self.keys(keys));
        }
        command.output().expect("it starts")
    }

    fn confide(&self, keys: Option<&str>, id: &str, secret: &str) -> Value {
        let (input, context) = (json!(secret).to_string(), json!({ "given": secret }).to_string());
        let mut start = vec!["start", "confide", "--id", id, "--session", "s", "--input", &input, "--wait"];
        if id == "first" {
            start.extend(["--context", &context]);
        }
        let ended = self.stepfleet(keys, &start);
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
    }

    /// Whether the files of Redis have this text.
    async fn is_in_redis(&self, text: &str) -> bool {
        let files = self.fleet.redis.copy_answered_files().await;
        has(files.path(), text.as_bytes())
    }
}

fn has(folder: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return has(&path, text);
        }
        std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_redis_can_be_read_with_the_keys_and_only_with_them() {
    let stage = Stage::new().await;
    let mut worker = stage.worker(Some("old")).await;
    assert_eq!(stage.confide(Some("old"), "first", SECRET), json!([SECRET]));
    assert!(!stage.is_in_redis(SECRET).await && stage.is_in_redis("key-of-october").await);

    let shown = stage.stepfleet(None, &["show", "first", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert!(shown["result"]["$encrypted"].is_string() && shown["input"]["$encrypted"].is_string(), "{shown}");
    let shown = stage.stepfleet(Some("old"), &["show", "first", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["input"], &shown["result"]), (&json!(SECRET), &json!([SECRET])));
    let taken = stage.stepfleet(Some("old"), &["snapshot", "first"]);
    let taken: Value = serde_json::from_slice(&taken.stdout).unwrap_or_else(|_| panic!("{taken:?}"));
    let context = &taken["context"];
    assert_eq!(
        (&context["given"], &context["secrets"], &context["count"]),
        (&json!(SECRET), &json!([SECRET]), &json!(1))
    );
    let refused = stage.stepfleet(None, &["snapshot", "first"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("is encrypted with the key key-of-october") && said.contains("STEPFLEET_KEYS_FILE"),
        "{said}"
    );
    let published = stage.stepfleet(Some("old"), &["follow", "first", "--events", "--json"]);
    assert!(String::from_utf8_lossy(&published.stdout).contains(SECRET), "{published:?}");

    // A new key beside the old one: old values can be read, and the new key encrypts.
    worker.kill();
    let mut worker = stage.worker(Some("both")).await;
    assert_eq!(stage.confide(Some("both"), "second", OTHER), json!([SECRET, OTHER]));
    assert!(!stage.is_in_redis(OTHER).await && stage.is_in_redis("key-of-november").await);

    // The old key is removed too early, and the run says so.
    worker.kill();
    let _worker = stage.worker(Some("new")).await;
    let started =
        stage.stepfleet(Some("new"), &["start", "confide", "--id", "third", "--session", "s", "--input", "\"x\""]);
    assert!(started.status.success(), "{started:?}");
    let run = stage.fleet.client.run("third").wait(LIMIT).await.unwrap();
    assert_eq!(run.status, Status::Failed);
    let error = run.error.unwrap();
    assert!(error.contains("encrypted with the key key-of-october, which this process does not have"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_anybody_reads_what_is_in_redis() {
    let stage = Stage::new().await;
    let _worker = stage.worker(None).await;
    assert_eq!(stage.confide(None, "first", SECRET), json!([SECRET]));
    assert!(stage.is_in_redis(SECRET).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_used_end_a_process_with_a_sentence() {
    let stage = Stage::new().await;
    std::fs::write(stage.keys("broken"), "key-of-october 0f0f\n").unwrap();
    let told = stage.stepfleet(Some("broken"), &["runs"]);
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && said.contains("line 1 of the keys has a key of another length"), "{said}");
    assert!(!said.contains("0f0f"), "{said}");
    let missing = stage.keys("missing");
    let mut worker = stage.fleet.worker(WORKER, &[("STEPFLEET_KEYS_FILE", &missing)]);
    assert!(!worker.ended().await.success());
    assert!(worker.log().contains("missing, which cannot be read"), "{}", worker.log());
}

/// The commands of docs/encryption.md, in their order; the worker of the page is that of these tests.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_encrypts_a_run() {
    let stage = Stage::new().await;
    let folder = stage.folder.path();
    std::fs::create_dir(folder.join("bin")).unwrap();
    for (name, program) in [("stepfleet", STEPFLEET), ("cargo", WORKER)] {
        std::os::unix::fs::symlink(program, folder.join("bin").join(name)).unwrap();
    }
    let path = format!("{}/bin:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let settings = [("PATH", &*path), ("STEPFLEET_REDIS", &stage.fleet.redis.url)];
    let (mut terminal, mut workers) = (Terminal::open(folder, &settings), Terminal::open(folder, &settings));
    let mut printed = Vec::new();
    for shown in commands(include_str!("../../../docs/encryption.md")) {
        if shown.line.contains("cargo run") {
            workers.begin(&shown.line);
            stage.fleet.workers_ready(1).await;
        } else {
            printed.push(terminal.type_in(&shown.line).await);
        }
    }
    let [_, _, result, snapshot] = &*printed else { panic!("the page has other commands now: {printed:?}") };
    assert!(result.contains(r#"{"letters":4}"#) && !snapshot.contains("$encrypted"), "{result}\n{snapshot}");
    assert!(stage.is_in_redis("2026-11").await && !stage.is_in_redis(r#"{"letters":4}"#).await);
}
