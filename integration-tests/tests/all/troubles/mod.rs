//! Trouble of the server is never the step's fault: each answer that Redis and Valkey can give, in the loops of each role.

mod brief;
mod idle;
mod stop;
mod wrong_server;

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::refusing::Refusing;
use stepfleet_integration_tests::sentinel::Sentinels;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::{seen, until};
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::{CallerStore as _, RedisStore};
use stepfleet_shared::{Client, Error};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

/// Word for word, as 7.0 to 9.0 answer.
const ANSWERS: [&str; 19] = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM this user has no permissions to run the 'fcall' command",
    "MOVED 5 127.0.0.1:1",
    "ASK 5 127.0.0.1:1",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "EXECABORT Transaction discarded because of previous errors.",
    "ERR max number of clients reached",
    "DOWNSTREAM a code that nobody knows yet",
];

/// Redis behind a double that refuses, with a worker and a coordinator that know only the double.
struct Cast {
    fleet: Fleet,
    server: Refusing,
    worker: Process,
    coordinator: Process,
    levers: MultiplexedConnection,
}

impl Cast {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let server = Refusing::before(&fleet.redis.url).await;
        let levers = ("TEST_LEVERS", fleet.redis.url.as_str());
        let worker = fleet.worker(WORKER, &[("STEPFLEET_REDIS", &server.url), levers]);
        let settings = [("STEPFLEET_REDIS", server.url.as_str()), ("RUST_LOG", "info")];
        let coordinator = Process::start(STEPFLEET.as_ref(), &["coordinator"], &settings);
        fleet.workers_ready(1).await;
        let levers = fleet.redis.connection().await;
        Self { fleet, server, worker, coordinator, levers }
    }

    /// A run whose step is about to record something.
    async fn about_to_record(&mut self, id: &str) -> RunHandle {
        let run = self.fleet.client.start("gated_record", &json!({})).id(id).enqueue().await.unwrap();
        wait_for_arrival(&mut self.levers, id).await;
        run
    }

    /// Waits until its step has done what it is to record.
    async fn has_done(&mut self, id: &str) {
        until(async || self.levers.get::<_, Option<u64>>(format!("reserved:{id}")).await.unwrap() == Some(1)).await;
    }

    async fn refuses(&self, more: u64) {
        let before = self.server.refused();
        until(async || self.server.refused() >= before + more).await;
    }
}

async fn did_it_once(run: &RunHandle) {
    let end: Value = run.result(LIMIT).await.unwrap_or_else(|e| panic!("{}: {e}", run.id()));
    assert_eq!(end["answer"], "reserved 1 times in attempt 1", "{}", run.id());
}

async fn looped(run: &RunHandle, turns: u64) {
    let end: Value = run.result(LIMIT).await.unwrap_or_else(|e| panic!("{}: {e}", run.id()));
    assert_eq!(end["answer"], (turns + 1).to_string());
}

/// How often a process complains, and whether it has said this.
fn complaints(process: &Process) -> Vec<String> {
    let is_one = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    process.log().lines().filter(is_one).map(str::to_owned).collect()
}

#[tokio::test]
async fn each_answer_of_a_server_is_waited_out_by_all_and_told_once() {
    let mut cast = Cast::new().await;
    // A client would repeat it for a while.
    let caller = RedisStore::new(&cast.server.url, Namespace::default()).unwrap();
    for (n, answer) in ANSWERS.into_iter().enumerate() {
        let recording = cast.about_to_record(&format!("record-{n}")).await;
        let committing = cast.fleet.client.start("loop", &json!({ "n": 2000 })).enqueue().await.unwrap();
        let connections = cast.server.connections();
        cast.server.refuse(answer);
        let_go(&mut cast.levers, recording.id(), 1).await;
        cast.has_done(recording.id()).await;
        // The lease, the wait to be woken, the commits and the record of the worker, and seven duties of the coordinator.
        cast.refuses(15).await;
        let told = caller.enqueue(&[(b"op".to_vec(), b"start".to_vec())]).await;
        assert_is_told(answer, &told.unwrap_err());
        cast.server.accept();
        did_it_once(&recording).await;
        looped(&committing, 2000).await;
        let made = cast.server.connections() - connections;
        assert!(made < 60, "{answer}: {made} connections");
    }
    for process in [&cast.worker, &cast.coordinator] {
        let complaints = complaints(process);
        for answer in ANSWERS {
            let code = answer.split(' ').next().unwrap();
            assert!(complaints.iter().any(|line| line.contains(code)), "{code} was not told: {complaints:#?}");
        }
        assert!(complaints.len() < 3 * ANSWERS.len(), "{complaints:#?}");
    }
}

fn assert_is_told(answer: &str, error: &Error) {
    let text = error.to_string();
    assert!(error.is_passing() && text.contains(answer), "{answer} was told as {text}");
    assert!(!text.contains(['{', '[']) && !text.contains("Pipeline"), "a form for programmers: {text}");
}

async fn config(fleet: &Fleet, name: &str, value: &str) {
    let mut redis = fleet.redis.connection().await;
    let () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async(&mut redis).await.unwrap();
}

/// On a real server: loops that commit all the time, in the trouble that `begin` causes. Returns the complaints of both processes.
async fn is_waited_out(
    redis: TestRedis,
    code: &str,
    begin: impl AsyncFn(&Fleet),
    end: impl AsyncFn(&Fleet),
) -> [Vec<String>; 2] {
    let fleet = Fleet::on(redis);
    let worker = fleet.worker(WORKER, &[]);
    let coordinator = fleet.coordinator_process(STEPFLEET);
    fleet.workers_ready(1).await;
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(fleet.client.start("loop", &json!({ "n": 3000 })).enqueue().await.unwrap());
    }
    let store = fleet.another_store();
    until(async || store.history(runs[7].id(), 0, 20).await.unwrap().len() >= 20).await;
    begin(&fleet).await;
    for process in [&worker, &coordinator] {
        until(async || process.log().contains(code)).await;
    }
    end(&fleet).await;
    for run in &runs {
        looped(run, 3000).await;
        let history = store.history(run.id(), 0, 10_000).await.unwrap();
        assert_eq!(history.len(), 3003, "start, each step once, completed");
    }
    for process in [&worker, &coordinator] {
        assert!(complaints(process).len() < 10, "{}", process.log());
    }
    [complaints(&worker), complaints(&coordinator)]
}

#[tokio::test]
async fn too_few_replicas_are_waited_out() {
    let set = async |fleet: &Fleet, value| config(fleet, "min-replicas-to-write", value).await;
    let redis = TestRedis::start().await;
    is_waited_out(redis, "NOREPLICAS", async |fleet| set(fleet, "1").await, async |fleet| set(fleet, "0").await).await;
}

#[tokio::test]
async fn files_that_cannot_be_written_are_waited_out() {
    // Snapshots are on, and the first one fails at once: a folder has the name of its file.
    const SETTINGS: &[&str] = &["--enable-protected-configs", "yes", "--save", "3600 100000000"];
    let begin = async |fleet: &Fleet| {
        let mut redis = fleet.redis.connection().await;
        config(fleet, "dbfilename", "appendonlydir").await;
        let _: redis::RedisResult<String> = redis::cmd("BGSAVE").query_async(&mut redis).await;
    };
    let end = async |fleet: &Fleet| {
        let mut redis = fleet.redis.connection().await;
        config(fleet, "dbfilename", "dump.rdb").await;
        let () = redis::cmd("SAVE").query_async(&mut redis).await.unwrap();
    };
    is_waited_out(TestRedis::process_with(SETTINGS).await, "MISCONF", begin, end).await;
}

/// The server notices when it writes, and refuses from then on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_waited_out_and_told_once() {
    let begin = async |fleet: &Fleet| fleet.redis.may_write(false);
    let end = async |fleet: &Fleet| fleet.redis.may_write(true);
    for complaints in is_waited_out(TestRedis::process().await, "MISCONF", begin, end).await {
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        assert!(complaints[0].contains("MISCONF Errors writing to the AOF file"), "{complaints:#?}");
    }
}

#[tokio::test]
async fn a_script_of_somebody_else_that_runs_for_long_is_waited_out() {
    let begin = async |fleet: &Fleet| {
        config(fleet, "busy-reply-threshold", "10").await;
        let mut redis = fleet.redis.connection().await;
        tokio::spawn(async move {
            let _: redis::RedisResult<()> =
                redis::cmd("EVAL").arg("while true do end").arg(0).query_async(&mut redis).await;
        });
    };
    let end = async |fleet: &Fleet| {
        let mut redis = fleet.redis.connection().await;
        let () = redis::cmd("SCRIPT").arg("KILL").query_async(&mut redis).await.unwrap();
    };
    is_waited_out(TestRedis::start().await, "BUSY", begin, end).await;
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_for_a_while_is_waited_out() {
    let of = async |fleet: &Fleet, host: &str, port: &str| {
        let mut redis = fleet.redis.connection().await;
        let () = redis::cmd("REPLICAOF").arg(host).arg(port).query_async(&mut redis).await.unwrap();
    };
    let begin = async |fleet: &Fleet| of(fleet, "127.0.0.1", "1").await;
    let end = async |fleet: &Fleet| of(fleet, "no", "one").await;
    is_waited_out(TestRedis::start().await, "READONLY", begin, end).await;
}

#[tokio::test]
async fn rules_of_a_user_that_forbid_everything_for_a_while_are_waited_out() {
    let rule = async |fleet: &Fleet, rules: &[&str]| {
        let mut redis = fleet.redis.connection().await;
        let () = redis::cmd("ACL").arg("SETUSER").arg("default").arg(rules).query_async(&mut redis).await.unwrap();
    };
    let begin = async |fleet: &Fleet| rule(fleet, &["-fcall", "-blpop", "-hset", "-xreadgroup"]).await;
    let end = async |fleet: &Fleet| rule(fleet, &["+@all"]).await;
    is_waited_out(TestRedis::start().await, "NOPERM", begin, end).await;
}

/// The wrong kind of server, each by its address instead of that of a Redis.
#[tokio::test]
async fn whoever_is_asked_in_error_the_message_says_what_to_do() {
    let redis = TestRedis::start().await;
    let server = Refusing::before(&redis.url).await;
    for (answer, advice) in [
        ("MOVED 5 10.0.0.1:6379", "redis+cluster://"),
        ("READONLY You can't write against a read only replica.", "this is a replica"),
    ] {
        server.refuse(answer);
        let client = Client::connect(&server.url).unwrap();
        for error in [
            client.start("loop", &json!({})).enqueue().await.map(drop).unwrap_err(),
            client.run("r").status().await.map(drop).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains(advice) && !text.contains('['), "{answer}: {text}");
        }
    }
}

#[tokio::test]
async fn a_sentinel_in_the_place_of_a_redis_is_recognized() {
    let sentinels = Sentinels::start().await;
    let client = Client::connect(&sentinels.url_of_one()).unwrap();
    let error = client.start("loop", &json!({})).enqueue().await.map(drop).unwrap_err();
    assert!(error.to_string().contains("this is a Sentinel"), "{error}");
}

/// Meanwhile, `doctor` shows the trouble and what to do.
#[tokio::test]
async fn doctor_shows_a_server_that_takes_no_writes() {
    let fleet = Fleet::new().await;
    let doctor = || {
        let command = std::process::Command::new(STEPFLEET).args(["--redis", &fleet.redis.url, "doctor"]).output();
        let output = command.unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert!(doctor().0, "{}", doctor().1);
    config(&fleet, "min-replicas-to-write", "1").await;
    let (is_fine, text) = doctor();
    assert!(!is_fine && text.contains("NOREPLICAS") && text.contains("min-replicas-to-write requires"), "{text}");
    config(&fleet, "min-replicas-to-write", "0").await;
    assert!(doctor().0);
}

#[tokio::test]
async fn a_worker_whose_log_cannot_be_written_goes_on() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let settings = [("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("RUST_LOG", "info"), ("STEPFLEET_PARTITIONS", "1")];
    let mut worker = Process::start("/bin/sh".as_ref(), &["-c", &format!("exec {WORKER} >/dev/full 2>&1")], &settings);
    fleet.workers_ready(1).await;
    let mut runs = Vec::new();
    for n in 0..8 {
        runs.push((n, fleet.client.start("flaky", &json!({ "n": n % 4 })).enqueue().await.unwrap()));
    }
    for (n, run) in &runs {
        let end: Value = run.result(LIMIT).await.unwrap();
        assert_eq!(end["answer"], format!("attempt {} saw 0", n % 4 + 1));
    }
    let broken = fleet.client.start("broken", &json!({ "n": 0 })).enqueue().await.unwrap();
    assert!(broken.wait(LIMIT).await.unwrap().error.unwrap().contains("no such customer"));
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.success());
}

/// Before it has read its files, a server reports wrong values about itself.
#[tokio::test]
async fn a_process_that_starts_while_redis_reads_its_files_waits_and_checks_it_then() {
    let mut redis = TestRedis::process_with(&["--enable-debug-command", "yes", "--aof-use-rdb-preamble", "yes"]).await;
    let mut levers = redis.connection().await;
    let () = redis::cmd("DEBUG").arg("POPULATE").arg(20_000).query_async(&mut levers).await.unwrap();
    let () = redis::cmd("BGREWRITEAOF").query_async(&mut levers).await.unwrap();
    let mut info = redis::cmd("INFO");
    info.arg("persistence");
    let info = async || info.query_async::<String>(&mut levers).await.unwrap();
    let is_rewritten = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
    seen(info, |info| is_rewritten.iter().all(|line| info.contains(line))).await;
    redis.kill();
    let mut fleet = Fleet::on(redis);
    // Later messages about an outage have this level.
    let worker = fleet.worker(WORKER, &[("RUST_LOG", "debug")]);
    let settings = [("STEPFLEET_REDIS", fleet.redis.url.as_str()), ("RUST_LOG", "debug")];
    let coordinator = Process::start(STEPFLEET.as_ref(), &["coordinator"], &settings);
    // Twenty thousand keys at 100 us each.
    fleet.redis.begin_again(&["--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024"]);
    for process in [&worker, &coordinator] {
        until(async || process.log().contains("LOADING") || process.log().contains("loading its files")).await;
    }
    fleet.redis.wait_until_ready().await;
    looped(&fleet.client.start("loop", &json!({ "n": 3 })).enqueue().await.unwrap(), 3).await;
}
