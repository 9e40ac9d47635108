//! The wrong kind of server instead of a Redis: a process that gets its address says which address to use, and shows no Rust
//! debug output.

use std::path::Path;

use redis::cmd;
use serde_json::json;
use stepfleet_integration_tests::cluster::Cluster;
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::sentinel::Sentinels;
use stepfleet_shared::Client;

use super::{STEPFLEET, WORKER, complaints, until};

/// Commands that write. A replica answers those that read.
const WRITING: [&[&str]; 2] = [&["start", "loop", "--input", "{\"n\":1}"], &["doctor"]];
const READING: [&[&str]; 5] =
    [&["runs"], &["show", "r"], &["signal", "r", "word"], &["workers"], &["doctor", "--runs"]];

fn assert_is_for_people(text: &str, advice: &str) {
    assert!(text.contains(advice), "{text:?} does not say {advice:?}");
    for form in ["{", "[", "Some(", "Err(", "Server(", "Unavailable(", "Extension", "RedisError", "\\\""] {
        assert!(!text.contains(form), "a form for programmers, {form:?}: {text}");
    }
}

/// Asserts that each role says this about the address.
async fn all_say(url: &str, commands: &[&[&str]], advice: &str) {
    let client = Client::connect(url).unwrap();
    let error = client.start("loop", &json!({ "n": 1 })).enqueue().await.map(drop).unwrap_err();
    assert_is_for_people(&error.to_string(), advice);
    for arguments in commands {
        let all = [&["--redis", url], *arguments].concat();
        let output = std::process::Command::new(STEPFLEET).args(&all).env("NO_COLOR", "1").output().unwrap();
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        let told = [output.stdout, output.stderr].concat();
        assert_is_for_people(&String::from_utf8(told).unwrap(), advice);
    }
    let settings = [("STEPFLEET_REDIS", url), ("RUST_LOG", "warn"), ("STEPFLEET_PARTITIONS", "1")];
    for (program, arguments) in [(WORKER, &[][..]), (STEPFLEET, &["coordinator"])] {
        let process = Process::start(Path::new(program), arguments, &settings);
        until(async || process.log().contains(advice)).await;
        for line in process.log().lines() {
            assert_is_for_people(line, advice);
        }
        assert!(complaints(&process).len() <= 1, "{}", process.log());
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_that_does_not_have_the_partition() {
    let cluster = Cluster::start().await;
    // The third one has it.
    for node in &cluster.nodes[..2] {
        all_say(&node.url, &[&WRITING[..], &READING].concat(), "write redis+cluster:// in place of redis://").await;
    }
}

#[tokio::test]
async fn a_replica() {
    let (master, replica) = (TestRedis::process().await, TestRedis::process().await);
    let address = master.url.trim_start_matches("redis://").rsplit_once(':').unwrap();
    let mut connection = replica.connection().await;
    let () = cmd("REPLICAOF").arg(address.0).arg(address.1).query_async(&mut connection).await.unwrap();
    let is_in_step = async || {
        let info: String = cmd("INFO").arg("replication").query_async(&mut replica.connection().await).await.unwrap();
        info.contains("master_link_status:up")
    };
    until(is_in_step).await;
    all_say(&replica.url, &WRITING, "this is a replica: give the address of its master").await;
}

#[tokio::test]
async fn a_sentinel() {
    let sentinels = Sentinels::start().await;
    let advice = "write redis+sentinel://host:port/name-of-the-master";
    all_say(&sentinels.url_of_one(), &[&WRITING[..], &READING].concat(), advice).await;
}
