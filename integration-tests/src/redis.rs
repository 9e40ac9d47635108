//! A real Redis for one test: a container if Docker runs, otherwise a local server process.
//!
//! `STEPFLEET_TEST_REDIS` chooses: `docker`, `process`, or `auto` (the default); `STEPFLEET_TEST_IMAGE` names the image.

use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use crate::authority::Protection;
use crate::{LONGEST, Patience};

/// The kernel gives none of these to connections and listeners that ask for any (on Linux they begin at 32,768, on macOS at 49,152), so that
/// a server that was killed finds its port free. A cluster's bus is 10,000 above.
const PORTS: Range<u16> = 10_000..20_000;
const CONNECTED_WITHIN: Duration = Duration::from_secs(20);

/// Of a setting that is given twice the last counts. A master that gets a replica waits by default for others to come, for five seconds.
const SETTINGS: [&str; 8] =
    ["--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", "", "--repl-diskless-sync-delay", "0"];

/// A Redis server for one test; it ends with the value.
pub struct TestRedis {
    /// Where it listens.
    pub url: String,
    server: Server,
    /// None for one without TLS.
    tls: Option<Arc<Protection>>,
}

enum Server {
    Process { child: Child, port: u16, folder: tempfile::TempDir, settings: &'static [&'static str] },
    Container { _container: Box<ContainerAsync<GenericImage>> },
}

impl TestRedis {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`TestRedis::start`], with these settings: `["--appendonly", "no"]`.
    pub async fn start_with(settings: &'static [&'static str]) -> Self {
        let redis = if wants_docker() { in_docker(settings).await } else { as_process(settings, None).await };
        redis.wait_until_ready().await;
        redis
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// If it does not within two minutes.
    pub async fn wait_until_ready(&self) {
        let patience = Patience::new(LONGEST);
        while let Err(error) = self.ping().await {
            patience.pause(|| format!(" for {}: {error}", self.url)).await;
        }
    }

    async fn ping(&self) -> ::redis::RedisResult<()> {
        let mut connection = self.client().get_multiplexed_async_connection().await?;
        ::redis::cmd("PING").query_async(&mut connection).await
    }

    /// A local server process, for tests that end it and start it again.
    pub async fn process() -> Self {
        Self::process_with(&[]).await
    }

    /// As [`TestRedis::process`], with these settings.
    pub async fn process_with(settings: &'static [&'static str]) -> Self {
        Self::process_like(settings, None).await
    }

    /// As [`TestRedis::process_with`], over TLS where it is protected.
    pub async fn process_like(settings: &'static [&'static str], tls: Option<&Arc<Protection>>) -> Self {
        let redis = as_process(settings, tls.cloned()).await;
        redis.wait_until_ready().await;
        redis
    }

    /// A local server process in cluster mode that has all slots itself. It refuses calls that touch keys of two slots, or
    /// keys of another slot than those that the call names.
    pub async fn cluster_of_one() -> Self {
        let redis = Self::process_with(&["--cluster-enabled", "yes"]).await;
        let mut connection = redis.connection().await;
        let mut slots = ::redis::cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16383);
        let () = slots.query_async(&mut connection).await.expect("it takes the slots");
        let patience = Patience::new(LONGEST);
        loop {
            let mut info = ::redis::cmd("CLUSTER");
            let info: String = info.arg("INFO").query_async(&mut connection).await.expect("it tells of its cluster");
            if info.contains("cluster_state:ok") {
                return redis;
            }
            patience.pause(|| format!(" for the cluster: {info}")).await;
        }
    }

    /// `kill -9` for the server. Its files stay.
    ///
    /// # Panics
    /// If it runs in a container.
    pub fn kill(&mut self) {
        let Server::Process { child, .. } = &mut self.server else { panic!("not a process of this machine") };
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
    }

    /// Tells the server to end, and waits until it has. Its files stay.
    ///
    /// # Panics
    /// If it runs in a container.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        let Server::Process { child, .. } = &mut self.server else { panic!("not a process of this machine") };
        child.wait().expect("it has ended");
    }

    /// Starts the server again, on its port and with its files, and waits until it answers.
    ///
    /// # Panics
    /// If it runs in a container.
    pub async fn start_again(&mut self) {
        let Server::Process { child, port, folder, settings } = &mut self.server else {
            panic!("not a process of this machine")
        };
        *child = launch(*port, folder.path(), settings, self.tls.as_deref());
        self.wait_until_ready().await;
    }

    /// As [`TestRedis::start_again`], with more settings, and without waiting.
    ///
    /// # Panics
    /// If it runs in a container.
    pub fn begin_again(&mut self, more: &[&str]) {
        let Server::Process { child, port, folder, settings } = &mut self.server else {
            panic!("not a process of this machine")
        };
        *child = launch(*port, folder.path(), &[settings, more].concat(), self.tls.as_deref());
    }

    /// Sends the server a signal.
    ///
    /// # Panics
    /// If it runs in a container.
    pub fn signal(&self, signal: Signal) {
        let Server::Process { child, .. } = &self.server else { panic!("not a process of this machine") };
        kill_process(Pid::from_child(child), signal).expect("it can be signalled");
    }

    /// Whether the server's files may grow. If not, its writes fail as on a full disk.
    ///
    /// # Panics
    /// If it runs in a container.
    #[cfg(target_os = "linux")]
    pub fn may_write(&self, may: bool) {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let Server::Process { child, .. } = &self.server else { panic!("not a process of this machine") };
        let Rlimit { current, maximum } = getrlimit(Resource::Fsize);
        let limit = Rlimit { current: if may { current } else { Some(1) }, maximum };
        prlimit(Some(Pid::from_child(child)), Resource::Fsize, limit).expect("the limit can be set");
    }

    /// Copies its files as they are now.
    ///
    /// # Panics
    /// If it runs in a container.
    pub fn copy_files(&self) -> tempfile::TempDir {
        let Server::Process { folder, .. } = &self.server else { panic!("not a process of this machine") };
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(folder.path(), copy.path());
        copy
    }

    /// As [`TestRedis::copy_files`], with everything that it has answered: with `everysec` it may hold a write back for two seconds
    /// while its disk is busy.
    ///
    /// # Panics
    /// If it runs in a container.
    pub async fn copy_answered_files(&self) -> tempfile::TempDir {
        let mut connection = self.connection().await;
        let mut get = ::redis::cmd("CONFIG");
        let policy: Vec<String> =
            get.arg("GET").arg("appendfsync").query_async(&mut connection).await.expect("an answer");
        for policy in ["always", &policy[1]] {
            let mut set = ::redis::cmd("CONFIG");
            let () =
                set.arg("SET").arg("appendfsync").arg(policy).query_async(&mut connection).await.expect("an answer");
        }
        self.copy_files()
    }

    /// Starts the server again with the copied files: everything later is forgotten.
    ///
    /// # Panics
    /// If it runs in a container, or was not killed.
    pub async fn start_again_from(&mut self, files: tempfile::TempDir) {
        let Server::Process { folder, .. } = &mut self.server else { panic!("not a process of this machine") };
        *folder = files;
        self.start_again().await;
    }

    /// Waits until a replica has everything that was written before. `key` is one that this server accepts.
    ///
    /// # Panics
    /// If none has within a minute.
    pub async fn wait_for_a_replica(&self, key: &str) {
        let mut connection = self.connection().await;
        let mut write = ::redis::pipe();
        write.cmd("SET").arg(key).arg(1).ignore().cmd("WAIT").arg(1).arg(60_000);
        let (replicas,): (u64,) = write.query_async(&mut connection).await.expect("it takes the key");
        assert!(replicas > 0, "no replica of {} has what was written", self.url);
    }

    /// A connection for the test itself.
    pub async fn connection(&self) -> ::redis::aio::MultiplexedConnection {
        connect(&self.client()).await.expect("Redis is there")
    }

    /// As [`TestRedis::connection`], not yet connected.
    pub fn client(&self) -> ::redis::Client {
        client_of(&self.url, self.tls.as_deref())
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        self.url.rsplit(['/', '@']).next().expect("an address")
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        match &mut self.server {
            Server::Process { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Server::Container { .. } => {}
        }
    }
}

/// A connection for a test or for the steps that it drives. They block on lists until something happens, so there is no limit to
/// answers; and on a machine that is busy with other tests, connecting takes more than the second that the library allows.
///
/// # Errors
/// If nothing can be connected to within 20 s.
pub async fn connect(client: &::redis::Client) -> ::redis::RedisResult<::redis::aio::MultiplexedConnection> {
    let config =
        ::redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(CONNECTED_WITHIN));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the server's folder") {
        let entry = entry.expect("the server's folder");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&target).expect("a folder");
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

fn wants_docker() -> bool {
    match std::env::var("STEPFLEET_TEST_REDIS").as_deref() {
        Ok("docker") => true,
        Ok("process") => false,
        Ok("auto" | "") | Err(_) => {
            let info = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
            info.is_ok_and(|status| status.success())
        }
        Ok(other) => panic!("STEPFLEET_TEST_REDIS is {other:?}; use docker, process or auto"),
    }
}

/// A client of a server that may be protected.
pub(crate) fn client_of(url: &str, tls: Option<&Protection>) -> ::redis::Client {
    tls.map_or_else(|| ::redis::Client::open(url).expect("the test's own URL"), |tls| tls.client(url))
}

/// How the URL of a server begins.
pub(crate) fn scheme(tls: Option<&Protection>) -> &'static str {
    if tls.is_some() { "rediss" } else { "redis" }
}

async fn as_process(settings: &'static [&'static str], tls: Option<Arc<Protection>>) -> TestRedis {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, child) = on_a_free_port(|port| launch(port, folder.path(), settings, tls.as_deref())).await;
    let password = settings.iter().skip_while(|setting| **setting != "--requirepass").nth(1);
    let login = password.map_or_else(String::new, |password| format!(":{password}@"));
    let url = format!("{}://{login}127.0.0.1:{port}", scheme(tls.as_deref()));
    TestRedis { url, server: Server::Process { child, port, folder, settings }, tls }
}

/// Launches a server that listens on a port, and waits until it does. If it ends instead, another program has just taken the port, and
/// it gets the next one.
pub(crate) async fn on_a_free_port(mut launch: impl FnMut(u16) -> Child) -> (u16, Child) {
    for _ in 0..5 {
        let port = free_port();
        let (mut child, patience) = (launch(port), Patience::new(LONGEST));
        while child.try_wait().expect("the server's state").is_none() {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return (port, child);
            }
            patience.pause(|| " for the server to listen".to_owned()).await;
        }
    }
    panic!("no server could be started");
}

/// The program of the server that is installed here.
pub(crate) fn server_program() -> &'static str {
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok())
        .expect("neither redis-server nor valkey-server is on the PATH; `make test` installs one")
}

fn launch(port: u16, folder: &Path, settings: &[&str], tls: Option<&Protection>) -> Child {
    let protected = tls.map(|tls| tls.settings(port)).unwrap_or_default();
    // A file that may not grow is an error for the server, and not its end.
    Command::new("/bin/sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, server_program()])
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args(SETTINGS)
        .args(protected.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]))
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .expect("the server starts")
}

/// A port that nothing listens on, and that no other test of this process is given.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(0..PORTS.end)));
    let given = PORTS.map(|_| PORTS.start + GIVEN.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start));
    let mut free = given.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

/// The image of the servers in containers.
pub fn test_image() -> String {
    std::env::var("STEPFLEET_TEST_IMAGE").unwrap_or_else(|_| "redis:7.0-bookworm".to_owned())
}

async fn in_docker(settings: &[&'static str]) -> TestRedis {
    let image = test_image();
    let (name, tag) = image.rsplit_once(':').expect("STEPFLEET_TEST_IMAGE is name:tag");
    let container = GenericImage::new(name, tag)
        .with_exposed_port(6379.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_cmd(std::iter::once("redis-server").chain(SETTINGS).chain(settings.iter().copied()))
        .start()
        .await
        .expect("a Redis container; deploy/scripts/docker-image.sh makes the image where it cannot be pulled");
    let port = container.get_host_port_ipv4(6379).await.expect("its port");
    TestRedis {
        url: format!("redis://127.0.0.1:{port}"),
        server: Server::Container { _container: Box::new(container) },
        tls: None,
    }
}

/// Runs `redis-cli` with these arguments; returns what it prints.
///
/// # Panics
/// If neither `redis-cli` nor `valkey-cli` is installed, or it fails.
pub fn redis_cli(url: &str, args: &[&str]) -> String {
    let run = |program| Command::new(program).args(["-u", url]).args(args).output();
    let output = run("redis-cli").or_else(|_| run("valkey-cli")).expect("redis-cli or valkey-cli is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}
