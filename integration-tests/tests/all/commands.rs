//! Each command in a document is valid: the shell accepts it, `stepfleet` knows its flags, and a coordinator can read its request.
//! `readme` and `python` check the output of the commands of README.md, the first pages and docs/protocol.md.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::until;
use stepfleet_shared::request;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// A command that waits for ever is stopped: its flags were accepted.
const LONGEST: Duration = Duration::from_secs(2);

/// The commands of the documents, each with its page, except for pages that other tests follow word for word.
fn commands() -> Vec<(String, String)> {
    let mut pages: Vec<_> =
        std::fs::read_dir(format!("{ROOT}/docs")).unwrap().map(|page| page.unwrap().path()).collect();
    pages.push(Path::new(ROOT).join("CONTRIBUTING.md"));
    pages.sort();
    let mut found = Vec::new();
    for page in pages.iter().filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = std::fs::read_to_string(page).unwrap();
        let name = page.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "protocol.md" {
            continue;
        }
        for language in ["console", "sh", "bash"] {
            for block in text.split(&format!("```{language}\n")).skip(1) {
                let lines = block.split("```").next().unwrap_or_default().lines();
                let typed =
                    lines.filter_map(|line| if language == "console" { line.strip_prefix("$ ") } else { Some(line) });
                found.extend(typed.filter(|line| !line.is_empty()).map(|line| (name.clone(), line.to_owned())));
            }
        }
    }
    found
}

/// A folder whose `stepfleet` and `redis-cli` are those of this test.
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
    for (page, line) in commands() {
        // The program behind a pipe need not be installed here, and the port is that of `stepfleet dev`.
        let line = line.replace("-p 6390 ", "").replace("<id>", "an-id");
        let line = line.split(" | ").next().unwrap_or_default();
        if !line.starts_with("stepfleet ") && !line.starts_with("redis-cli ") || line.starts_with("stepfleet dev") {
            continue;
        }
        tried += 1;
        let Some(output) = typed(line, folder.path(), redis).await else { continue };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let is_taken = if line.starts_with("redis-cli") {
            output.status.success() && !said.starts_with("ERR") && !said.contains("WRONGTYPE")
        } else {
            // It does not matter whether the run exists.
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
        // Here too, the run need not exist.
        let field = |(name, value): (&String, &redis::Value)| {
            let redis::Value::BulkString(bytes) = value else { panic!("a field of a stream is text") };
            (name.as_bytes().to_vec(), bytes.clone())
        };
        let ours = ["reason", "entry"];
        let fields: Vec<_> = entry.map.iter().filter(|(name, _)| !ours.contains(&name.as_str())).map(field).collect();
        assert!(request::parse(&fields).is_ok(), "{entry:?}");
    }
}
