//! The first commands of README.md, word for word, with nothing installed: the command is installed, a project is made, the program
//! of the page is built and works. Its run survives the kill of a worker.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::until;

const README: &str = include_str!("../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The commands and the program of the page's first steps.
fn of_the_page() -> (Vec<String>, &'static str) {
    let part = README.split("## Try it").nth(1).expect("the part");
    let block = |language: &str| part.split(&format!("```{language}\n")).nth(1)?.split("```").next();
    let typed = block("console").expect("commands").lines().filter_map(|line| line.strip_prefix("$ "));
    (typed.map(str::to_owned).collect(), block("rust,no_run").expect("a program"))
}

/// The target folder of this test, so that nothing is built twice.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").to_owned()
}

fn typed(script: &str, folder: &Path) -> Output {
    // A release build takes minutes, and makes no difference here.
    let script = format!("set -e\n{}", script.replace("--locked ", "--locked --debug "));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(folder);
    shell.env("CARGO_TARGET_DIR", target()).env("CARGO_INSTALL_ROOT", folder.join("installed"));
    shell.env("CARGO_NET_OFFLINE", "true").env_remove("RUSTFLAGS");
    shell.output().expect("sh starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_installs_works_and_survives_the_kill_of_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(Path::new(ROOT).canonicalize().unwrap(), folder.path().join("stepfleet")).unwrap();
    let (commands, program) = of_the_page();
    assert!(commands[0].starts_with("cargo install ") && commands.len() == 3, "{commands:?}");
    let done = typed(&commands.join("\n"), folder.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let project = folder.path().join("letters");
    std::fs::write(project.join("src/main.rs"), program).unwrap();
    // The versions that are downloaded already.
    std::fs::copy(Path::new(ROOT).join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let built = typed("cargo build", &project);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let fleet = Fleet::new().await;
    let (url, stepfleet) = (&*fleet.redis.url, folder.path().join("installed/bin/stepfleet"));
    let settings = [("STEPFLEET_REDIS", url), ("STEPFLEET_CONCURRENCY", "2")];
    let _coordinator = Process::start(&stepfleet, &["coordinator"], &settings);
    let worker = || Process::start(&target().join("debug/letters"), &[], &settings);
    let mut workers = [worker(), worker()];
    fleet.workers_ready(2).await;
    let input = r#"{"words": ["to", "be", "or", "not"]}"#;
    let mut start = Command::new(&stepfleet);
    start.args(["start", "letters", "--input", input, "--id", "r", "--wait"]).env("STEPFLEET_REDIS", url);
    let waiting = tokio::task::spawn_blocking(move || start.output().expect("it starts"));
    until(async || fleet.store.workers().await.unwrap().iter().all(|worker| worker.held > 0)).await;
    workers[0].kill();
    let ended = waiting.await.unwrap();
    let result: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    assert_eq!(result, json!({ "letters": 9 }));
    let history = fleet.store.history("r", 0, 1000).await.unwrap();
    assert!(history.iter().any(|record| record.kind == stepfleet_shared::history::Kind::Lost), "{history:?}");
}
