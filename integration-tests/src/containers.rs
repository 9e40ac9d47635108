//! A fleet in containers: deploy/compose.yaml, with images of the programs that are compiled for the tests.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::redis::test_image;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const NO_ENGINE: &str = "`docker info` fails: no Docker engine answers";

/// Several fleets of one process differ by their number.
static FLEETS: AtomicU32 = AtomicU32::new(0);

/// What only the test needs: a port of the fleet's Redis, and a separate Redis for its signals to steps.
const MORE: &str = r#"
services:
  redis:
    ports: ["127.0.0.1::6379"]
  worker:
    environment:
      TEST_LEVERS: redis://levers:6379
  levers:
    image: ${STEPFLEET_REDIS_IMAGE}
    command: ["redis-server", "--save", "", "--appendonly", "no"]
    ports: ["127.0.0.1::6379"]
"#;

/// Where the images of a fleet come from.
#[derive(Clone, Copy)]
pub enum Programs<'a> {
    /// From programs that are compiled already: `stepfleet`, and a worker.
    Compiled(&'a str, &'a str),
    /// Compiled in a container, which takes minutes; the worker is that of the demo.
    FromSource,
    /// Images that are there: of the coordinator, and of a worker.
    Built(&'a Image, &'a Image),
}

/// The services of deploy/compose.yaml. They end with the value, and their volumes with them.
pub struct Composed {
    project: String,
    folder: tempfile::TempDir,
    compose: &'static [&'static str],
    environment: Vec<(&'static str, String)>,
}

impl Composed {
    /// Makes the images and starts a coordinator and this many workers. None, with the reason on standard error, if no
    /// containers can be run.
    ///
    /// # Panics
    /// If Docker runs and they do not start.
    pub fn up(programs: Programs, workers: u32, settings: &[(&'static str, &str)]) -> Option<Self> {
        let this = Self::prepare(programs, settings)?;
        this.scale(workers);
        Some(this)
    }

    /// As [`Composed::up`], without starting anything.
    ///
    /// # Panics
    /// If Docker runs and the images cannot be built.
    pub fn prepare(programs: Programs, settings: &[(&'static str, &str)]) -> Option<Self> {
        let compose = can_compose().map_err(|why| not_run(&why)).ok()?;
        let project = format!("stepfleet-test-{}-{}", std::process::id(), FLEETS.fetch_add(1, Ordering::Relaxed));
        script("docker-image.sh", &[&test_image()], &[]);
        let tag = [("STEPFLEET_TAG", &*project)];
        let mut images = ["coordinator", "demo-worker"].map(|name| format!("stepfleet/{name}:{project}"));
        match programs {
            Programs::Built(coordinator, worker) => images = [coordinator, worker].map(|image| image.name.clone()),
            Programs::FromSource => script("images.sh", &[], &tag),
            Programs::Compiled(stepfleet, worker) => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                for (name, program) in [("stepfleet", stepfleet), ("demo-worker", worker)] {
                    std::os::unix::fs::symlink(program, folder.path().join(name)).expect("a link");
                }
                script("images.sh", &["--programs", text(folder.path())], &tag);
            }
        }
        let [coordinator, worker] = images;
        let mut environment = vec![
            ("STEPFLEET_COORDINATOR_IMAGE", coordinator),
            ("STEPFLEET_WORKER_IMAGE", worker),
            ("STEPFLEET_REDIS_IMAGE", test_image()),
        ];
        environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("more.yaml"), MORE).expect("a file");
        let this = Self { project, folder, compose, environment };
        if let Err(why) = this.programs_run() {
            not_run(&why);
            return None;
        }
        Some(this)
    }

    /// Programs that were compiled on a newer system do not start in the images.
    fn programs_run(&self) -> Result<(), String> {
        let image = &self.environment[0].1;
        let output = Command::new("docker").args(["run", "--rm", image, "--version"]).output().expect("docker");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("GLIBC") {
            return Err(format!("the programs compiled here need a newer system than Debian 12: {}", said.trim()));
        }
        assert!(output.status.success(), "{output:?}");
        Ok(())
    }

    /// Scales the workers to this number.
    pub fn scale(&self, workers: u32) {
        self.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", &format!("worker={workers}")]);
    }

    /// Runs a command of Compose; returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn compose(&self, args: &[&str]) -> String {
        success(self.try_compose(args))
    }

    /// Runs a line of a document in the root of the checkout; returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn type_in(&self, line: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(ROOT).stdin(Stdio::null()).env("COMPOSE_PROJECT_NAME", &self.project);
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        success(shell.output().expect("the shell starts"))
    }

    /// As [`Composed::compose`], whether it fails or not.
    pub fn try_compose(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.compose[0]);
        command.args(&self.compose[1..]).args(["-p", &self.project, "-f", "deploy/compose.yaml", "-f"]);
        command.arg(self.folder.path().join("more.yaml")).args(args).current_dir(ROOT);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("Compose starts")
    }

    /// Runs the command line in a container, logged in as this user; returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn stepfleet(&self, user: &str, args: &[&str]) -> String {
        self.compose(&[&["run", "--rm", "-T", user][..], args].concat())
    }

    /// The ids of the running containers of a service.
    pub fn containers(&self, service: &str) -> Vec<String> {
        self.compose(&["ps", "-q", service]).lines().filter(|id| is_running(id)).map(str::to_owned).collect()
    }

    /// The container with this host name.
    ///
    /// # Panics
    /// If there is none.
    pub fn worker_on(&self, host: &str) -> String {
        let found = self.containers("worker").into_iter().find(|id| id.starts_with(host));
        found.unwrap_or_else(|| panic!("no container of a worker is named {host}"))
    }

    /// The URL of a service's Redis for this user, from outside.
    pub fn url(&self, service: &str, user: Option<&str>) -> String {
        let address = self.compose(&["port", service, "6379"]);
        let login = user.map_or_else(String::new, |user| format!("{user}:{}@", self.password(user)));
        format!("redis://{login}{address}")
    }

    /// The password of a user.
    pub fn password(&self, user: &str) -> String {
        let cat = format!("cat /passwords/{user}");
        self.compose(&["run", "--rm", "-T", "--entrypoint", "sh", "passwords", "-c", &cat])
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.try_compose(&["logs", "--no-color", "--tail", "50"]);
            eprintln!("--- logs of the containers ---\n{}", String::from_utf8_lossy(&logs.stdout));
        }
        self.try_compose(&["down", "--volumes", "--timeout", "0"]);
        let images = self.environment[..2].iter().map(|(_, image)| image);
        let _ = Command::new("docker").args(["rmi", "--no-prune"]).args(images).output();
    }
}

/// An image of a worker's project, compiled in a container; it is removed with the value.
pub struct Image {
    /// Its name.
    pub name: String,
}

impl Image {
    /// Types a `docker build` of a document in this folder, with a name of its own for its image. None, with the reason on standard
    /// error, where no Docker engine answers.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn build(line: &str, folder: &Path) -> Option<Self> {
        if !works(&["docker", "info"]) {
            not_run(NO_ENGINE);
            return None;
        }
        script("docker-image.sh", &["debian:bookworm-slim", "rust:1-slim-bookworm"], &[]);
        let tag = line.split_once(" -t ").and_then(|(_, rest)| rest.split(' ').next()).expect("it names the image");
        let name = format!("stepfleet-test/{tag}:{}", std::process::id());
        // The host's network: a proxy on the host's loopback is then reachable as well.
        let build = "docker build --network host --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy ";
        let line = line.replace("docker build ", build).replace(&format!("-t {tag}"), &format!("-t {name}"));
        success(Command::new("sh").args(["-c", &line]).current_dir(folder).output().expect("the shell starts"));
        Some(Self { name })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--no-prune", &self.name]).output();
    }
}

/// Runs a command of Docker; returns what it prints.
///
/// # Panics
/// If it fails.
pub fn docker(args: &[&str]) -> String {
    success(Command::new("docker").args(args).output().expect("docker is there"))
}

/// The command of Compose on this machine, or why there is none.
fn can_compose() -> Result<&'static [&'static str], String> {
    if !works(&["docker", "info"]) {
        return Err(NO_ENGINE.to_owned());
    }
    let ways: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    let found = ways.into_iter().find(|way| works(&[way, &["version"][..]].concat()));
    found.ok_or_else(|| "neither `docker compose` nor docker-compose is installed; `make test` installs one".to_owned())
}

fn works(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|output| output.status.success())
}

/// Says that a test does not run, even if the output of tests is captured.
fn not_run(why: &str) {
    let _ = writeln!(std::io::stderr(), "containers: NOT RUN: {why}");
}

fn script(name: &str, args: &[&str], settings: &[(&str, &str)]) {
    let mut command = Command::new(format!("{ROOT}/deploy/scripts/{name}"));
    success(command.args(args).envs(settings.iter().copied()).output().expect("the script starts"));
}

fn is_running(container: &str) -> bool {
    docker(&["inspect", "-f", "{{.State.Running}}", container]) == "true"
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn success(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}
