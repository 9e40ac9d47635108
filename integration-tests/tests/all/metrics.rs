//! Metrics of workers and coordinators, compared with the histories; and the documents and rules that name them.
//!
//! `STEPFLEET_WRITE_DOCS=1` writes the table of `docs/metrics.md` anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::{TestRedis, free_port};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::history::Kind as Recorded;
use stepfleet_shared::metrics::catalogue::{ALL, Kind, Shown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(90);
const PAGE: &str = "docs/metrics.md";
const BEGIN: &str = "<!-- metrics: begin -->\n";
const END: &str = "<!-- metrics: end -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Status and body; None where nobody listens.
async fn ask(port: u16, path: &str, header: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{header}\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A process that shows metrics, and where.
struct Shows {
    process: Process,
    port: u16,
}

impl Shows {
    fn worker(url: &str, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut all = vec![("STEPFLEET_REDIS", url), ("STEPFLEET_HEALTH", &address), ("RUST_LOG", "info")];
        all.extend_from_slice(settings);
        Self { process: Process::start(Path::new(WORKER), &[], &all), port }
    }

    fn coordinator(url: &str) -> Self {
        let port = free_port();
        let arguments = ["coordinator", "--health", &format!("127.0.0.1:{port}")];
        let settings = [("STEPFLEET_REDIS", url), ("RUST_LOG", "info")];
        Self { process: Process::start(Path::new(STEPFLEET), &arguments, &settings), port }
    }

    async fn ready(self) -> Self {
        until(async || ask(self.port, "/readyz", "").await.is_some_and(|(status, _)| status == 200)).await;
        self
    }

    async fn scrape(&self) -> String {
        let (status, text) = ask(self.port, "/metrics", "").await.expect("it answers");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Until this series has this value.
    async fn shows(&self, series: &str, value: f64) {
        until(async || self.value(series).await == Some(value)).await;
    }

    async fn value(&self, series: &str) -> Option<f64> {
        let text = self.scrape().await;
        let (_, value) = text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(name, _)| *name == series)?;
        value.parse().ok()
    }
}

/// How many records of this kind the histories of these runs have.
async fn recorded(fleet: &Fleet, runs: &[&str], kind: Recorded) -> f64 {
    let mut count = 0_u32;
    for run in runs {
        let history = fleet.store.history(run, 0, 1000).await.unwrap();
        count += u32::try_from(history.iter().filter(|record| record.kind == kind).count()).unwrap();
    }
    f64::from(count)
}

#[tokio::test]
async fn counts_are_what_the_histories_say() {
    let fleet = Fleet::new().await;
    let coordinator = Shows::coordinator(&fleet.redis.url).ready().await;
    let mut first = Shows::worker(&fleet.redis.url, &[("STEPFLEET_CONCURRENCY", "7")]).ready().await;
    let start = async |workflow: &str, id: &str, n: u64| {
        fleet.client.start(workflow, &json!({ "n": n })).id(id).enqueue().await.unwrap()
    };
    start("flaky", "f1", 1).await.result::<Value>(LIMIT).await.unwrap();
    start("flaky", "f2", 0).await.result::<Value>(LIMIT).await.unwrap();
    start("broken", "b", 0).await.result::<Value>(LIMIT).await.unwrap_err();
    let attempts = |step: &str, outcome: &str| {
        let workflow = if step == "fail" { "broken" } else { "flaky" };
        format!("stepfleet_attempts_total{{workflow=\"{workflow}\",step=\"{step}\",outcome=\"{outcome}\"}}")
    };
    let flaky = ["f1", "f2"];
    first.shows(&attempts("attempt", "committed"), recorded(&fleet, &flaky, Recorded::Done).await).await;
    first.shows(&attempts("attempt", "retried"), recorded(&fleet, &flaky, Recorded::Retry).await).await;
    first.shows(&attempts("fail", "failed"), recorded(&fleet, &["b"], Recorded::Failed).await).await;
    for (series, value) in [
        (r#"stepfleet_claims_total{workflow="flaky",step="attempt"}"#, 3.0),
        (r#"stepfleet_step_duration_seconds_count{workflow="flaky",step="attempt"}"#, 3.0),
        (r#"stepfleet_step_queue_seconds_count{workflow="flaky",step="attempt"}"#, 3.0),
        (r#"stepfleet_runs_ended_total{workflow="flaky",status="completed"}"#, 2.0),
        (r#"stepfleet_runs_ended_total{workflow="broken",status="failed"}"#, 1.0),
        ("stepfleet_slots", 7.0),
        ("stepfleet_slots_busy", 0.0),
    ] {
        first.shows(series, value).await;
    }
    coordinator.shows(r#"stepfleet_runs_started_total{workflow="flaky"}"#, 2.0).await;

    // A run whose worker dies, one that is cancelled, and requests that are rejected.
    let held = start("gated", "held", 0).await;
    let mut redis = fleet.redis.connection().await;
    wait_for_arrival(&mut redis, "held").await;
    first.shows("stepfleet_slots_busy", 1.0).await;
    coordinator.shows(r#"stepfleet_workers{state="busy"}"#, 1.0).await;
    first.process.kill();
    coordinator.shows(r#"stepfleet_queue_depth{workflow="gated",version="1"}"#, 1.0).await;
    coordinator.shows(r#"stepfleet_queue_workers{workflow="gated",version="1"}"#, 0.0).await;
    until(async || {
        coordinator.value(r#"stepfleet_queue_oldest_seconds{workflow="gated",version="1"}"#).await > Some(0.0)
    })
    .await;
    let second = Shows::worker(&fleet.redis.url, &[]).ready().await;
    wait_for_arrival(&mut redis, "held").await;
    let_go(&mut redis, "held", 1).await;
    held.result::<Value>(LIMIT).await.unwrap();
    let lost = recorded(&fleet, &["held"], Recorded::Lost).await;
    assert!(lost > 0.0, "its worker was lost");
    let stopped = start("gated", "stopped", 0).await;
    wait_for_arrival(&mut redis, "stopped").await;
    stopped.cancel().await.unwrap();
    for operation in ["dance", "swim"] {
        let mut add = redis::cmd("XADD");
        let () = add.arg("sf:{0}:inbox").arg("*").arg("op").arg(operation).query_async(&mut redis).await.unwrap();
    }
    for (series, value) in [
        (r#"stepfleet_workers_lost_total{partition="0"}"#, 1.0),
        (r#"stepfleet_steps_requeued_total{partition="0"}"#, lost),
        ("stepfleet_recovery_seconds_count", 1.0),
        (r#"stepfleet_runs_ended_total{workflow="gated",status="cancelled"}"#, 1.0),
        (r#"stepfleet_requests_rejected_total{reason="malformed"}"#, 2.0),
        (r#"stepfleet_requests_total{outcome="rejected"}"#, 2.0),
        (r#"stepfleet_requests_total{outcome="started"}"#, 5.0),
        (r#"stepfleet_requests_total{outcome="steered"}"#, 1.0),
        (r#"stepfleet_workers{state="idle"}"#, 1.0),
        ("stepfleet_inbox_requests", 0.0),
        ("stepfleet_runs_kept", 5.0),
    ] {
        coordinator.shows(series, value).await;
    }
    second.shows(r#"stepfleet_attempts_total{workflow="gated",step="hold",outcome="committed"}"#, 1.0).await;
    second.shows(r#"stepfleet_attempts_total{workflow="gated",step="hold",outcome="dropped"}"#, 1.0).await;
    // The retry of `flaky` was a timer.
    assert!(coordinator.value(r#"stepfleet_timers_fired_total{partition="0"}"#).await >= Some(1.0));
    assert!(coordinator.value("stepfleet_timer_lateness_seconds_count").await >= Some(1.0));
    every_name_is_shown(&(coordinator.scrape().await + &second.scrape().await));
}

/// A worker with one slot whose Redis goes back in time, and the way to its steps.
struct SetBack {
    fleet: Fleet,
    levers: TestRedis,
    worker: Shows,
}

impl SetBack {
    const COUNTED: &str = "stepfleet_steps_rolled_back_total";
    const COMMITTED: &str = r#"stepfleet_attempts_total{workflow="gated",step="hold",outcome="committed"}"#;

    async fn new() -> Self {
        let (fleet, levers) = (Fleet::on(TestRedis::process().await), TestRedis::process().await);
        let settings = [("TEST_LEVERS", &*levers.url), ("STEPFLEET_CONCURRENCY", "1"), ("STEPFLEET_PARTITIONS", "1")];
        // Whoever comes first makes the namespace.
        fleet.store.open().await.unwrap();
        let worker = Shows::worker(&fleet.redis.url, &settings).ready().await;
        worker.shows(Self::COUNTED, 0.0).await;
        Self { fleet, levers, worker }
    }

    /// A run whose step has begun. Its coordinator is gone: it would take the worker for lost when Redis is back.
    async fn held(&self, id: &str) -> RunHandle {
        let _coordinator = self.fleet.coordinator();
        let run = self.fleet.client.start("gated", &json!({ "n": 0 })).id(id).enqueue().await.unwrap();
        wait_for_arrival(&mut self.levers.connection().await, id).await;
        run
    }

    async fn let_go(&self, run: &RunHandle) {
        let_go(&mut self.levers.connection().await, run.id(), 1).await;
        run.result::<Value>(LIMIT).await.unwrap();
    }

    /// Its step, which had been committed, is executed again.
    async fn once_more(&self, run: &RunHandle) {
        wait_for_arrival(&mut self.levers.connection().await, run.id()).await;
        self.let_go(run).await;
        assert_eq!(self.worker.value(Self::COUNTED).await, Some(1.0));
        let log = self.worker.process.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("Redis came back without its latest")).collect();
        assert!(told.len() == 1 && told[0].contains(run.id()), "{told:?}");
    }
}

#[tokio::test]
async fn a_step_that_redis_expects_again_is_counted_when_its_slot_is_filled() {
    let mut stage = SetBack::new().await;
    let run = stage.held("taken-back").await;
    let files = stage.fleet.redis.copy_answered_files().await;
    stage.let_go(&run).await;
    // A worker that has no answer yet sends its commit again, and nothing is executed once more.
    stage.worker.shows(SetBack::COMMITTED, 1.0).await;
    stage.fleet.redis.kill();
    stage.fleet.redis.start_again_from(files).await;
    stage.worker.shows(SetBack::COUNTED, 1.0).await;
    stage.once_more(&run).await;
}

#[tokio::test]
async fn a_step_that_redis_expects_again_is_counted_while_its_slot_is_in_use() {
    let mut stage = SetBack::new().await;
    let run = stage.held("taken-back").await;
    let files = stage.fleet.redis.copy_answered_files().await;
    stage.let_go(&run).await;
    let other = stage.held("unheard-of").await;
    stage.fleet.redis.kill();
    stage.fleet.redis.start_again_from(files).await;
    // It is handed back, and stays queued: the slot is in use.
    stage.worker.shows(SetBack::COUNTED, 1.0).await;
    let_go(&mut stage.levers.connection().await, other.id(), 1).await;
    stage.once_more(&run).await;
    assert_eq!(other.status().await.unwrap().map(|run| run.status), None, "Redis has never heard of it");
}

/// What the catalogue has, and whatever rules, dashboards and documents name.
fn every_name_is_shown(text: &str) {
    let shown: BTreeSet<&str> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect();
    for metric in ALL {
        let name = if metric.kind == Kind::Times { format!("{}_count", metric.name) } else { metric.name.to_owned() };
        assert!(shown.contains(name.as_str()), "{name} is not shown:\n{text}");
    }
    let mut named = 0;
    for file in [
        PAGE,
        "docs/kubernetes.md",
        "deploy/prometheus/rules.yaml",
        "deploy/prometheus/rules_test.yaml",
        "deploy/grafana/stepfleet.json",
        "deploy/chart/templates/workers.yaml",
    ] {
        let names = names(&read(file));
        assert!(!names.is_empty(), "{file} names metrics");
        for name in names {
            named += 1;
            let is_family = ALL.iter().any(|metric| metric.name == name && metric.kind == Kind::Times);
            assert!(is_family || shown.contains(name.as_str()), "{file} names {name}, which nothing shows");
        }
    }
    assert!(named > 40, "they name metrics, not {named}");
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let whole = text.match_indices("stepfleet_").map(|(at, _)| text[at..].split(|c| !is_part(c)).next().unwrap_or(""));
    whole.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_outage_is_shown_while_it_lasts_and_nothing_old_is_shown_for_new() {
    let mut redis = TestRedis::process().await;
    let coordinator = Shows::coordinator(&redis.url).ready().await;
    let worker = Shows::worker(&redis.url, &[]).ready().await;
    coordinator.shows(r#"stepfleet_queue_depth{workflow="flaky",version="1"}"#, 0.0).await;
    redis.kill();
    for process in [&coordinator, &worker] {
        process.shows(r#"stepfleet_redis_outage{kind="unreachable"}"#, 1.0).await;
        let errors = r#"stepfleet_redis_errors_total{kind="unreachable"}"#;
        until(async || process.value(errors).await > Some(0.0)).await;
        until(async || process.value("stepfleet_redis_outage_seconds").await > Some(0.0)).await;
    }
    until(async || !coordinator.scrape().await.contains("stepfleet_queue_depth{")).await;
    redis.start_again().await;
    for process in [&coordinator, &worker] {
        process.shows(r#"stepfleet_redis_outage{kind="unreachable"}"#, 0.0).await;
        process.shows("stepfleet_redis_outage_seconds", 0.0).await;
    }
    until(async || coordinator.scrape().await.contains("stepfleet_queue_depth{")).await;
}

#[tokio::test]
async fn where_there_is_a_token_only_who_has_it_is_told_more_than_whether_it_is_ready() {
    let fleet = Fleet::on(TestRedis::process().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let file = file.to_str().unwrap();
    let port = free_port();
    let arguments = ["coordinator", "--health", &format!("127.0.0.1:{port}"), "--metrics-token-file", file];
    let process = Process::start(Path::new(STEPFLEET), &arguments, &[("STEPFLEET_REDIS", &fleet.redis.url)]);
    let coordinator = Shows { process, port }.ready().await;
    let worker = Shows::worker(&fleet.redis.url, &[("STEPFLEET_METRICS_TOKEN", "open-sesame")]).ready().await;
    let mut redis = fleet.redis.connection().await;
    let mut refuse = redis::cmd("CONFIG");
    let () = refuse.arg("SET").arg("min-replicas-to-write").arg(1).query_async(&mut redis).await.unwrap();
    let token = "authorization: Bearer open-sesame\r\n";
    for process in [&coordinator, &worker] {
        until(async || ask(process.port, "/readyz", "").await == Some((503, "not ready\n".to_owned()))).await;
        let told = ask(process.port, "/readyz", token).await.unwrap();
        assert!(told.0 == 503 && told.1.contains("NOREPLICAS"), "{told:?}");
        for wrong in ["", "authorization: Bearer open-sesame2\r\n", "authorization: Basic open-sesame\r\n"] {
            let (status, body) = ask(process.port, "/metrics", wrong).await.unwrap();
            assert!(status == 401 && !body.contains("stepfleet_"), "{wrong}: {body}");
        }
        assert_eq!(ask(process.port, "/metrics", token).await.unwrap().0, 200);
        assert!(!process.process.log().contains("open-sesame"));
    }
    for (settings, told) in [
        (vec![("STEPFLEET_METRICS_TOKEN", "a"), ("STEPFLEET_METRICS_TOKEN_FILE", file)], "are both set"),
        (vec![("STEPFLEET_METRICS_TOKEN_FILE", "/no/such/file")], "/no/such/file"),
    ] {
        let mut refused = Shows::worker(&fleet.redis.url, &settings);
        assert!(!refused.process.ended().await.success());
        assert!(refused.process.log().contains(told), "{}", refused.process.log());
    }
}

fn row(metric: &stepfleet_shared::metrics::Metric) -> String {
    let kind = match metric.kind {
        Kind::Count => "counter",
        Kind::Gauge => "gauge",
        Kind::Times => "histogram",
    };
    let shown = match metric.shown {
        Shown::ByEach => "each process its own",
        Shown::ByWorkers => "workers, each its own",
        Shown::ByCoordinators => "coordinators, each its own",
        Shown::ByWhoEndsIt => "workers and coordinators, each its own",
        Shown::FromRedis => "coordinators, all the same",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {kind} | {} | {shown} | {} |\n", metric.name, labels.join(", "), metric.help)
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let mut table = "| metric | type | labels | shown by | |\n|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let _ = write!(table, "{}", row(metric));
    }
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (written, after) = rest.split_once(END).expect("the page says where the table ends");
    if std::env::var_os("STEPFLEET_WRITE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("the page can be written");
        return;
    }
    assert_eq!(
        written, table,
        "write it anew: STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-integration-tests --test all -- metrics::the_page"
    );
}
