//! deploy/compose.yaml: a fleet in containers, with the users of deploy/redis/users.acl.
//!
//! Needs a Docker engine and Compose; elsewhere the tests say that they did not run. `make test-containers` runs those that compile in a
//! container, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stepfleet_integration_tests::containers::{Composed, Image, Programs, docker};
use stepfleet_integration_tests::fleet::Fleet as ProcessFleet;
use stepfleet_integration_tests::found;
use stepfleet_integration_tests::pages::{blocks, commands};
use stepfleet_integration_tests::redis::connect;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::Client;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::{RedisStore, WorkerInfo, prelude::*};

use crate::crashes::assert_committed_once;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DEPLOY: &str = include_str!("../../../docs/deploy.md");
const LIMIT: Duration = Duration::from_secs(90);

struct Fleet {
    containers: Composed,
    store: RedisStore,
    client: Client,
    levers: redis::aio::MultiplexedConnection,
}

impl Fleet {
    async fn on(containers: Composed) -> Self {
        let url = containers.url("redis", Some("observer"));
        let levers = redis::Client::open(containers.url("levers", None)).unwrap();
        Self {
            store: RedisStore::new(&url, Namespace::default()).unwrap(),
            client: Client::connect(&url).unwrap(),
            levers: connect(&levers).await.unwrap(),
            containers,
        }
    }

    async fn workers(&self) -> Vec<WorkerInfo> {
        self.store.workers().await.unwrap_or_default().into_iter().filter(|worker| worker.lease_ms > 0).collect()
    }

    async fn workers_ready(&self, count: usize) {
        until(async || self.workers().await.len() == count).await;
    }

    /// Starts a run as a caller does; waits until a worker executes it, and returns which.
    async fn begin(&mut self, workflow: &str, id: &str) -> WorkerInfo {
        let started = self.containers.stepfleet("caller", &["start", workflow, "--id", id, "--input", r#"{"n":7}"#]);
        assert_eq!(started, id);
        wait_for_arrival(&mut self.levers, id).await;
        found(async || self.workers().await.into_iter().find(|worker| worker.held > 0)).await
    }

    /// Lets the run's step go on, on whichever worker has it now.
    async fn finish(&mut self, id: &str) -> (Value, Vec<Record>) {
        wait_for_arrival(&mut self.levers, id).await;
        let_go(&mut self.levers, id, 1).await;
        let end = self.client.run(id).result(LIMIT).await.unwrap();
        let history = self.store.history(id, 0, 1000).await.unwrap();
        assert_committed_once(&history);
        (end, history)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_in_containers_outlives_workers_that_are_killed_and_stopped() {
    let settings = [("STEPFLEET_DRAIN_SECONDS", "1"), ("STEPFLEET_CONCURRENCY", "1")];
    let programs = Programs::Compiled(STEPFLEET, WORKER);
    let Some(containers) = Composed::up(programs, 2, &settings) else { return };
    let mut fleet = Fleet::on(containers).await;
    fleet.workers_ready(2).await;
    nobody_is_root_or_writes_or_shows_a_password(&fleet.containers);
    let start = ["start", "squares", "--input", r#"{"count":5}"#, "--wait"];
    let squares: Value = serde_json::from_str(&fleet.containers.stepfleet("caller", &start)).unwrap();
    assert_eq!(squares["sum"], 55);

    killed(&mut fleet).await;
    stopped(&mut fleet).await;
    scaled(&mut fleet).await;
    restarted(&mut fleet).await;
    let runs = fleet.containers.stepfleet("observer", &["runs", "--status", "completed", "--json"]);
    for id in ["killed", "stopped", "scaled", "restarted"] {
        assert!(runs.contains(&format!("\"{id}\"")), "{id}: {runs}");
    }
}

fn nobody_is_root_or_writes_or_shows_a_password(containers: &Composed) {
    let secrets = ["caller", "worker", "coordinator", "observer"].map(|user| containers.password(user));
    for service in ["redis", "coordinator", "worker"] {
        for container in containers.containers(service) {
            let sh = |line: &str| docker(&["exec", &container, "sh", "-c", line]);
            assert_ne!(sh("id -u"), "0", "{service}");
            let written = sh("touch /written /usr/written /tmp/written 2>&1 || true");
            assert_eq!(written.matches("Read-only file system").count(), 3, "{service}: {written}");
            let readable = sh("cat /passwords/caller 2>&1 || true");
            assert!(readable.contains("Permission denied"), "{service} reads the password of the callers");
            let seen = sh("cat /proc/1/environ /proc/1/cmdline") + &docker(&["inspect", &container]);
            assert!(secrets.iter().all(|secret| secret.len() > 30 && !seen.contains(secret)), "{service}");
        }
    }
    for service in ["coordinator", "worker"] {
        let container = &containers.containers(service)[0];
        let command = docker(&["inspect", "-f", "{{json .Config.Healthcheck.Test}}", container]);
        let command: Vec<String> = serde_json::from_str(&command).unwrap();
        let probe = |command: &str| docker(&["exec", container, "bash", "-c", &format!("{command} && echo alive")]);
        assert_eq!(probe(command.last().unwrap()), "alive", "{service}");
        assert_eq!(probe(&command.last().unwrap().replace("/livez", "/readyz")), "alive", "{service}");
    }
}

/// `docker kill`: another worker continues, long before the lease of the dead one ends.
async fn killed(fleet: &mut Fleet) {
    let victim = fleet.begin("gated_chain", "killed").await;
    docker(&["kill", &fleet.containers.worker_on(&victim.host)]);
    let (now, left) = (fleet.store.now_ms().await.unwrap(), fleet.workers().await);
    let left = left.into_iter().find(|worker| worker.id == victim.id).map(|worker| worker.lease_ms);
    let (end, history) = fleet.finish("killed").await;
    assert_eq!(end["answer"], "first ran 1 times before, n was 7");
    let lost: Vec<_> = history.iter().filter(|record| record.kind == Kind::Lost).collect();
    assert_eq!(lost.len(), 1, "{history:?}");
    if let Some(left) = left {
        let noticed = i64::try_from(lost[0].at_ms).unwrap() - i64::try_from(now).unwrap();
        assert!(noticed < left, "the lease's end was waited for: {history:?}");
    }
    fleet.containers.scale(2);
    fleet.workers_ready(2).await;
}

/// `docker stop`: the worker hands back what it cannot end in time, and nobody waits for a lease.
async fn stopped(fleet: &mut Fleet) {
    let leaver = fleet.begin("gated", "stopped").await;
    let container = fleet.containers.worker_on(&leaver.host);
    docker(&["stop", &container]);
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}}", &container]), "0", "it ended by itself");
    let (end, history) = fleet.finish("stopped").await;
    assert_eq!(end["answer"], "attempt 2 after None");
    let kinds: Vec<_> = history.iter().map(|record| record.kind).collect();
    assert!(kinds.contains(&Kind::Released) && !kinds.contains(&Kind::Lost), "{history:?}");
    assert!(fleet.workers().await.iter().all(|worker| worker.id != leaver.id), "it is still listed");
}

/// New workers take work at once: five branches wait for the test, each on a different worker.
async fn scaled(fleet: &mut Fleet) {
    fleet.containers.scale(5);
    let start = ["start", "gated_branches", "--id", "scaled", "--input", r#"{"count":50}"#];
    fleet.containers.stepfleet("caller", &start);
    for _ in 0..5 {
        wait_for_arrival(&mut fleet.levers, "scaled").await;
    }
    let busy = fleet.workers().await.into_iter().filter(|worker| worker.held > 0);
    assert_eq!(busy.map(|worker| worker.host).collect::<BTreeSet<_>>().len(), 5);
    let_go(&mut fleet.levers, "scaled", 5).await;
    let sum: Value = fleet.client.run("scaled").result(LIMIT).await.unwrap();
    assert_eq!(sum["sum"], 50 * 51 / 2);
    assert_committed_once(&fleet.store.history("scaled", 0, 1000).await.unwrap());
}

/// Redis is killed and started again: its append-only file has everything that it acknowledged.
async fn restarted(fleet: &mut Fleet) {
    fleet.begin("gated_chain", "restarted").await;
    docker(&["kill", &fleet.containers.containers("redis")[0]]);
    fleet.containers.scale(5);
    // It may be published at another port now.
    let url = fleet.containers.url("redis", Some("observer"));
    fleet.store = RedisStore::new(&url, Namespace::default()).unwrap();
    fleet.client = Client::connect(&url).unwrap();
    let_go(&mut fleet.levers, "restarted", 2).await;
    let end: Value = fleet.client.run("restarted").result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "first ran 1 times before, n was 7");
    assert_committed_once(&fleet.store.history("restarted", 0, 1000).await.unwrap());
}

/// The images of docs/deploy.md, built as it says, of programs that are compiled already.
fn images_of_the_page() -> Option<[Image; 2]> {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for made in ["deploy", "prebuilt"] {
        std::fs::create_dir(at(made)).unwrap();
    }
    std::fs::copy(Path::new(ROOT).join("deploy/Dockerfile"), at("deploy/Dockerfile")).unwrap();
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", at("prebuilt/ca-certificates.crt")).unwrap();
    for (program, name) in [(STEPFLEET.into(), "stepfleet"), (demo_worker(), "demo-worker")] {
        let stripped = Command::new("strip").arg("-o").arg(at("prebuilt").join(name)).arg(program).status().unwrap();
        assert!(stripped.success());
    }
    let lines = commands(DEPLOY).into_iter().map(|shown| shown.line).filter(|line| line.contains("deploy/Dockerfile"));
    let images: Option<Vec<_>> = lines.map(|line| Image::build(&line, folder.path())).collect();
    Some(images?.try_into().unwrap_or_else(|_| panic!("the page builds two images")))
}

/// The program of `make demo`, as it was compiled with these tests, or now.
fn demo_worker() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "--workspace", "--example", "documents"]).current_dir(ROOT);
    let built = cargo.env("CARGO_TARGET_DIR", target).env_remove("CARGO_ENCODED_RUSTFLAGS").status().unwrap();
    assert!(built.success());
    target.join("debug/examples/documents")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_run_the_demo() {
    let Some([coordinator, worker]) = images_of_the_page() else { return };
    let Some(containers) = Composed::prepare(Programs::Built(&coordinator, &worker), &[]) else { return };
    runs_the_demo(&containers);
}

/// As above, with images that `make images` compiles in a container.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "compiles in a container"]
async fn images_from_source_run_the_demo() {
    let Some(containers) = Composed::prepare(Programs::FromSource, &[]) else { return };
    runs_the_demo(&containers);
}

/// Types the first commands of docs/deploy.md, in their order, once there are images.
fn runs_the_demo(containers: &Composed) {
    let lines: Vec<_> = blocks(DEPLOY, "sh")[0].lines().filter(|line| !line.starts_with("make images")).collect();
    let told: Vec<_> = lines.iter().map(|line| (line, containers.type_in(line))).collect();
    let of = |part: &str| &told.iter().find(|(line, _)| line.contains(part)).unwrap().1;
    let reported: Value = serde_json::from_str(of(" start documents ")).unwrap();
    let pages = std::fs::read_dir(format!("{ROOT}/docs")).unwrap();
    let pages = pages.filter(|page| page.as_ref().unwrap().path().extension().is_some_and(|end| end == "md")).count();
    assert!(reported["documents"].as_u64().unwrap() >= pages as u64 && reported["unreadable"] == 0, "{reported}");
    assert!(of("observer runs").contains("documents"), "{told:?}");
    assert!(of("observer workers").contains("documents"), "{told:?}");
    assert!(of("logs coordinator").contains("ready"), "{told:?}");
}

/// The Dockerfile that `stepfleet new` writes is deploy/worker.Dockerfile, which knows its package.
#[test]
fn the_dockerfile_of_a_new_project_is_that_of_any_worker() {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap();
    let steps = |text: String| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let known = steps(read("coordinator/templates/Dockerfile")).replace("ARG PACKAGE={{name}}", "ARG PACKAGE");
    assert_eq!(known, steps(read("deploy/worker.Dockerfile")));
}

/// What docs/deploy.md says of an author's own worker, and the README.md of a new project: its image is built, and its worker works.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_new_project_serves_its_workflow() {
    let folder = tempfile::tempdir().unwrap();
    let project = new_project(folder.path());
    let lines: Vec<_> =
        commands(DEPLOY).into_iter().map(|shown| shown.line).filter(|line| line.contains("letters")).collect();
    let [built, run] = &*lines else { panic!("the page says something else now: {lines:?}") };
    let own = "docker build -t letters .";
    assert!(std::fs::read_to_string(project.join("README.md")).unwrap().contains(own));
    for line in [own, built] {
        let Some(image) = Image::build(line, &project) else { return };
        serves(&image, run).await;
    }
}

/// Runs a worker as the page says, and a run on it.
async fn serves(image: &Image, line: &str) {
    let fleet = ProcessFleet::new().await;
    let _coordinator = fleet.coordinator();
    let health = stepfleet_integration_tests::redis::free_port();
    let more = format!("docker run -d --rm --cap-drop ALL --network host -e STEPFLEET_HEALTH=127.0.0.1:{health} ");
    let line = line.replace("docker run ", &more).replace("redis://redis.internal:6379", &fleet.redis.url);
    let line = line.replace(" letters", &format!(" {}", image.name));
    let arguments: Vec<_> = line.split(' ').skip(1).collect();
    let worker = docker(&arguments);
    let run = fleet.client.start("hello", &"Ann").enqueue().await.unwrap();
    let greeting: String = run.result(LIMIT).await.unwrap();
    assert_eq!(greeting, "Hello, Ann! Have a good day.");
    assert_eq!(docker(&["exec", &worker, "id", "-u"]), "65532");
    until(async || docker(&["inspect", "-f", "{{.State.Health.Status}}", &worker]) == "healthy").await;
    docker(&["stop", &worker]);
    assert!(fleet.store.workers().await.unwrap().is_empty(), "it is still listed: it did not end by itself");
}

/// A project of `stepfleet new` with the library of this checkout inside, since a build in a container sees nothing outside.
fn new_project(folder: &Path) -> PathBuf {
    std::os::unix::fs::symlink(Path::new(ROOT).canonicalize().unwrap(), folder.join("stepfleet")).unwrap();
    let project = folder.join("letters");
    let made = Command::new(STEPFLEET).args(["new", "--path", ROOT]).arg(&project).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let library = project.join("stepfleet");
    std::fs::create_dir(&library).unwrap();
    let copy = "tar --exclude=target --exclude=shared/fuzz -c Cargo.toml README.md coordinator integration-tests shared worker | tar -x -C";
    let copied = Command::new("sh").args(["-c", &format!("{copy} \"$0\"")]).arg(&library).current_dir(ROOT).status();
    assert!(copied.unwrap().success());
    let manifest = project.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let outside = Path::new(ROOT).join("worker").canonicalize().unwrap();
    let inside = text.replace(outside.to_str().unwrap(), "stepfleet/worker");
    assert_ne!(inside, text);
    // A folder within a workspace would be part of it.
    std::fs::write(&manifest, inside.replace("[workspace]", "[workspace]\nexclude = [\"stepfleet\"]")).unwrap();
    std::fs::copy(format!("{ROOT}/Cargo.lock"), project.join("Cargo.lock")).unwrap();
    // An optimised build takes minutes, and differs in nothing that is seen here.
    std::fs::create_dir(project.join(".cargo")).unwrap();
    std::fs::write(project.join(".cargo/config.toml"), "[profile.release]\nopt-level = 0\n").unwrap();
    // As `cargo build` would do: only what the project needs stays.
    let locked =
        Command::new(env!("CARGO")).args(["update", "--workspace", "--offline"]).current_dir(&project).output();
    assert!(locked.as_ref().unwrap().status.success(), "{locked:?}");
    project
}
