//! What README.md has a newcomer type before anything is there, word for word, in three terminals: the command is installed, a project is
//! made, the program of the page is built, a run gets its result, and another survives the kill of a worker.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stepfleet_integration_tests::pages::{Shown, blocks, commands};
use stepfleet_integration_tests::redis::free_port;
use stepfleet_integration_tests::terminal::Terminal;
use stepfleet_integration_tests::until;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::{RedisStore, prelude::*};

const README: &str = include_str!("../../../README.md");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The part of the page that this test follows.
fn part() -> &'static str {
    let part = README.split("## Try it").nth(1).expect("the part");
    part.split("\n## ").next().unwrap_or_default()
}

/// Where this test was built: what is there already is not built again.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").to_owned()
}

/// `pkill` of the page kills the newest process of a name on the whole machine; here only one that was started in this terminal.
fn pkill_only_within(group: u32, programs: &Path) {
    let shim = programs.join("pkill");
    std::fs::write(&shim, format!("#!/bin/sh\nPATH=${{PATH#*:}}\nexec pkill --pgroup {group} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_works_and_its_run_survives_the_kill_of_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().join("installed/bin");
    std::fs::create_dir_all(&installed).unwrap();
    std::os::unix::fs::symlink(Path::new(ROOT).canonicalize().unwrap(), folder.path().join("stepfleet")).unwrap();
    let port = free_port().to_string();
    let url = format!("redis://127.0.0.1:{port}");
    let path = format!("{}:{}", installed.display(), std::env::var("PATH").unwrap_or_default());
    let settings = [
        ("PATH", &*path),
        // Instead of the port of the page, which may be taken.
        ("STEPFLEET_REDIS", &url),
        ("CARGO_TARGET_DIR", target().to_str().unwrap()),
        ("CARGO_INSTALL_ROOT", folder.path().join("installed").to_str().unwrap()),
        ("CARGO_NET_OFFLINE", "true"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    let mut typed = commands(part()).into_iter();
    let mut next = |beginning: &str| -> Shown {
        let shown = typed.next().unwrap_or_else(|| panic!("the page ends before {beginning}"));
        assert!(shown.line.starts_with(beginning), "{}, where {beginning} was expected", shown.line);
        shown
    };

    let mut first = Terminal::open(folder.path(), &settings);
    // A release build takes minutes, and differs in nothing that is seen here.
    first.type_in(&next("cargo install ").line.replace("--locked", "--locked --debug")).await;
    first.type_in(&next("cargo new letters").line).await;
    first.type_in(&next("cargo add ").line).await;
    let project = folder.path().join("letters");
    std::fs::write(project.join("src/main.rs"), blocks(part(), "rust,no_run")[0]).unwrap();
    // The versions that are downloaded already.
    std::fs::copy(Path::new(ROOT).join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let dev = next("stepfleet dev");
    first.begin(&format!("{} --port {port}", dev.line));
    let ready = dev.output.replace("6390", &port).replace("/home/ann", folder.path().to_str().unwrap());
    until(async || first.log().contains(&ready)).await;

    let mut second = Terminal::open(&project, &settings);
    second.type_in(&next("export ").line).await;
    let two = next("cargo build ");
    second.type_in(&two.line).await;
    let store = RedisStore::new(&url, Namespace::default()).unwrap();
    until(async || second.log().matches("INFO ready, serves letters:1, redis://").count() == 2).await;
    assert_eq!(two.output.matches("INFO ready, serves letters:1, redis://").count(), 2, "{}", two.output);

    pkill_only_within(second.group(), &installed);
    let mut third = Terminal::open(&project, &settings);
    let waited = next("stepfleet start letters ");
    let printed = third.type_in(&waited.line).await;
    let lines =
        |text: &str| text.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    // The run's id is another each time.
    assert_eq!(lines(&printed), lines(&waited.output), "{printed}");
    let started = next("stepfleet start letters --id mine ");
    assert_eq!(third.type_in(&started.line).await.trim_end(), started.output);
    until(async || {
        let workers = store.workers().await.unwrap();
        workers.len() == 2 && workers.iter().all(|worker| worker.held > 0)
    })
    .await;
    third.type_in(&next("pkill ").line).await;
    let followed = next("stepfleet follow ");
    let history = third.type_in(&followed.line).await;
    for story in [&followed.output, &history] {
        assert!(story.contains("lost       #") && story.contains("attempt 2"), "{story}");
        assert_eq!(story.matches("  done       #").count(), 6, "a step was committed twice, or was not: {story}");
        assert!(story.lines().last().is_some_and(|line| line.contains("completed  #6 total")), "{story}");
    }
    assert_eq!(typed.next(), None, "no test types this");
}
