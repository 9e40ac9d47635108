//! Each command that a document shows is one: the shell takes it, `stepfleet` knows its flags, and a coordinator can read its request.
//! A command that is not typed here belongs to another test, which types it and looks at what comes of it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::pages::{commands, pages};
use stepfleet_integration_tests::until;
use stepfleet_shared::request;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What waits for something that never comes is cut off: it was taken.
const LONGEST: Duration = Duration::from_secs(2);

/// Commands that other tests type: the page, the beginning of the command (all of the page where it is empty), and who types it: a file
/// of these tests, or a script that CI runs.
const ELSEWHERE: [(&str, &str, &str); 15] = [
    ("README.md", "cargo ", "integration-tests/tests/all/installing.rs"),
    ("README.md", "stepfleet dev", "integration-tests/tests/all/installing.rs"),
    ("README.md", "export ", "integration-tests/tests/all/installing.rs"),
    ("README.md", "pkill ", "integration-tests/tests/all/installing.rs"),
    ("coordinator/templates/README.md", "stepfleet dev", "integration-tests/tests/all/installing.rs"),
    ("coordinator/templates/README.md", "cargo run", "integration-tests/tests/all/installing.rs"),
    ("docs/workflows.md", "stepfleet dev", "integration-tests/tests/all/installing.rs"),
    ("docs/workflows.md", "cargo run", "integration-tests/tests/all/installing.rs"),
    ("docs/protocol.md", "", "integration-tests/tests/all/protocol.rs"),
    ("docs/encryption.md", "", "integration-tests/tests/all/encrypted.rs"),
    ("docs/deploy.md", "", "integration-tests/tests/all/containers.rs"),
    ("CONTRIBUTING.md", "cargo test ", "deploy/scripts/test.sh"),
    ("CONTRIBUTING.md", "STEPFLEET_TEST_REDIS=process cargo test ", "deploy/scripts/test.sh"),
    ("CONTRIBUTING.md", "cargo package ", "deploy/scripts/package.sh"),
    ("CONTRIBUTING.md", "bash .ci/run", ".ci/run"),
];

/// The page and the text of each command that is typed here. All others are known to be typed elsewhere.
fn typed_here() -> Vec<(String, String)> {
    let (mut here, mut owned, mut unknown) = (Vec::new(), [false; ELSEWHERE.len()], Vec::new());
    for (page, text) in pages() {
        for line in commands(&text).into_iter().map(|shown| shown.line) {
            let owner =
                ELSEWHERE.iter().position(|(owned, beginning, _)| *owned == page && line.starts_with(beginning));
            if let Some(owner) = owner {
                owned[owner] = true;
            } else if line.contains(" make ")
                || ["stepfleet ", "redis-cli ", "make "].iter().any(|known| line.starts_with(known))
            {
                here.push((page.clone(), line));
            } else {
                unknown.push(format!("{page}: {line}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no test types these commands:\n{}", unknown.join("\n"));
    for ((page, beginning, by), owned) in ELSEWHERE.iter().zip(owned) {
        assert!(owned, "{page} has no command {beginning:?} any more");
        assert!(Path::new(ROOT).join(by).is_file(), "{by} is not there");
    }
    here
}

/// A folder where `stepfleet` and `redis-cli` mean those of this test.
fn programs(redis: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, runs) in
        [("stepfleet", format!("'{STEPFLEET}'")), ("redis-cli", format!("{} -u '{redis}'", redis_cli()))]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\nexec {runs} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(folder.path().join("context.json"), "{}").unwrap();
    std::fs::create_dir_all(folder.path().join("tests/runs")).unwrap();
    folder
}

fn redis_cli() -> String {
    let at = |name: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.is_file());
        found.map(|file| file.display().to_string())
    };
    at("redis-cli").or_else(|| at("valkey-cli")).expect("redis-cli or valkey-cli is installed")
}

/// Why make cannot do this, as far as it says without doing it.
fn not_made(line: &str) -> Option<String> {
    let dry = line.replace("make ", "make --dry-run --no-print-directory ");
    // As for somebody at a terminal, also where make runs these tests.
    let mut shell = Command::new("sh");
    shell.args(["-c", &dry]).current_dir(ROOT).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let said = shell.output().expect("sh starts");
    if !said.status.success() {
        return Some(String::from_utf8_lossy(&said.stderr).into_owned());
    }
    let script = String::from_utf8_lossy(&said.stdout).split_whitespace().next().unwrap_or_default().to_owned();
    (!Path::new(ROOT).join(&script).is_file()).then(|| format!("there is no {script}"))
}

async fn typed(line: &str, folder: &Path, redis: &str) -> Option<Output> {
    let mut command = tokio::process::Command::from(Command::new("sh"));
    command.args(["-c", line]).current_dir(folder).env("STEPFLEET_REDIS", redis).kill_on_drop(true);
    command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default()));
    tokio::time::timeout(LONGEST, command.output()).await.ok().map(|output| output.expect("it starts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_the_documents_is_one() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let (redis, folder) = (&*fleet.redis.url, programs(&fleet.redis.url));
    let (mut tried, mut wrong) = (0, Vec::new());
    for (page, line) in typed_here() {
        // What comes behind a pipe need not be installed here, and the port is that of `stepfleet dev`.
        let line = line.replace("-p 6390 ", "").replace("<id>", "an-id");
        let line = line.split(" | ").next().unwrap_or_default();
        tried += 1;
        if line.contains("make ") {
            // The long ones, and what CI runs by itself: there is such a target, and its script.
            wrong.extend(not_made(line).map(|why| format!("{page}: {line}\n{why}")));
            continue;
        }
        let Some(output) = typed(line, folder.path(), redis).await else { continue };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let is_taken = if line.starts_with("redis-cli") {
            output.status.success() && !said.starts_with("ERR") && !said.contains("WRONGTYPE")
        } else {
            // Which runs there are is another matter.
            output.status.code() != Some(2)
        };
        if !is_taken {
            wrong.push(format!("{page}: {line}\n{said}"));
        }
    }
    assert!(tried > 40, "only {tried} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut connection = fleet.redis.connection().await;
    until(async || {
        let left: u64 = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut connection).await.unwrap();
        left == 0
    })
    .await;
    let rejected: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg("sf:{0}:rejected").arg("-").arg("+").query_async(&mut connection).await.unwrap();
    for entry in rejected.ids {
        // A run that is not there is another matter, too.
        let field = |(name, value): (&String, &redis::Value)| {
            let redis::Value::BulkString(bytes) = value else { panic!("a field of a stream is text") };
            (name.as_bytes().to_vec(), bytes.clone())
        };
        let ours = ["reason", "entry"];
        let fields: Vec<_> = entry.map.iter().filter(|(name, _)| !ours.contains(&name.as_str())).map(field).collect();
        assert!(request::parse(&fields).is_ok(), "{entry:?}");
    }
}
