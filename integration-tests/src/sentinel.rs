//! A master, its replica and three Sentinels for one test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::cmd;

use crate::redis::{TestRedis, free_port};

const MASTER: &str = "main";
const LIMIT: Duration = Duration::from_secs(60);

/// Local processes; they end with the value.
pub struct Sentinels {
    /// The servers. The first one begins as the master, the other is its replica.
    pub servers: [TestRedis; 2],
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Sentinels {
    /// Starts them and waits until all know each other.
    pub async fn start() -> Self {
        let servers = [TestRedis::process().await, TestRedis::process().await];
        let this = Self { sentinels: (0..3).map(|_| Sentinel::watch(&servers[0])).collect(), servers };
        let mut replica = this.servers[1].connection().await;
        let (host, port) = host_and_port(&this.servers[0]);
        let () = cmd("REPLICAOF").arg(host).arg(port).query_async(&mut replica).await.expect("it becomes a replica");
        this.wait_until_ready().await;
        this
    }

    /// They look and decide several times as fast as by default: a test with many failovers has no time for the default.
    pub async fn hurry(&self) {
        for sentinel in &self.sentinels {
            let mut connection =
                open(&format!("redis://127.0.0.1:{}", sentinel.port)).await.expect("the Sentinel answers");
            let mut debug = cmd("SENTINEL");
            debug.arg("DEBUG");
            for period in ["info-period", "publish-period", "ask-period"] {
                debug.arg(period).arg(300);
            }
            let () = debug.query_async(&mut connection).await.expect("it takes periods");
            let mut set = cmd("SENTINEL");
            set.arg("SET").arg(MASTER).arg("failover-timeout").arg(1000);
            let () = set.query_async(&mut connection).await.expect("it takes a timeout");
        }
    }

    /// The URL for a fleet: `redis+sentinel://...`
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", addresses.join(","))
    }

    /// One of the Sentinels, as if it were a Redis.
    pub fn url_of_one(&self) -> String {
        format!("redis://127.0.0.1:{}", self.sentinels[0].port)
    }

    /// Which server is the master, as all Sentinels say; None while they do not agree.
    pub async fn master(&self) -> Option<usize> {
        let mut found = Vec::new();
        for sentinel in &self.sentinels {
            let about = sentinel.about_master().await?;
            let port = value(&about, "port")?;
            found.push(self.servers.iter().position(|server| host_and_port(server).1 == port)?);
        }
        found.iter().all(|master| *master == found[0]).then_some(found[0])
    }

    /// Makes the Sentinels promote the replica; the old master lives on and becomes the replica.
    pub async fn fail_over(&self) {
        assert!(self.begin_failover().await, "it begins a failover");
    }

    /// As [`Sentinels::fail_over`]; returns whether the Sentinel began it. It refuses without a good replica, or right after another.
    pub async fn begin_failover(&self) -> bool {
        let Some(mut connection) = open(&self.url_of_one()).await else { return false };
        let mut begin = cmd("SENTINEL");
        begin.arg("FAILOVER").arg(MASTER).query_async::<()>(&mut connection).await.is_ok()
    }

    /// Waits until all Sentinels say that this server is the master, and it agrees.
    pub async fn wait_for_master(&self, server: usize) {
        let until = Instant::now() + LIMIT;
        loop {
            if self.master().await == Some(server) && self.role(server).await == "master" {
                return;
            }
            assert!(Instant::now() < until, "server {server} did not become the master");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until this server is a replica that has caught up with its master.
    pub async fn wait_for_replica(&self, server: usize) {
        let until = Instant::now() + LIMIT;
        while self.role(server).await != "slave" || !self.replication(server).await.contains("master_link_status:up") {
            assert!(Instant::now() < until, "server {server} did not become a replica");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a run of partition 0 has completed, as this server sees it.
    pub async fn has_ended(&self, server: usize, run: &str) -> bool {
        let mut connection = self.servers[server].connection().await;
        let mut status = cmd("HGET");
        let status = status.arg(format!("sf:{{0}}:run:{run}")).arg("status");
        status.query_async::<Option<String>>(&mut connection).await.is_ok_and(|s| s.as_deref() == Some("completed"))
    }

    async fn role(&self, server: usize) -> String {
        let replication = self.replication(server).await;
        let role = replication.lines().find_map(|line| line.strip_prefix("role:"));
        role.unwrap_or_default().trim().to_owned()
    }

    async fn replication(&self, server: usize) -> String {
        let Some(mut connection) = open(&self.servers[server].url).await else { return String::new() };
        cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap_or_default()
    }

    async fn wait_until_ready(&self) {
        self.wait_for_replica(1).await;
        let until = Instant::now() + LIMIT;
        for sentinel in &self.sentinels {
            loop {
                let about = sentinel.about_master().await.unwrap_or_default();
                let (replicas, others) = (value(&about, "num-slaves"), value(&about, "num-other-sentinels"));
                if (replicas.as_deref(), others.as_deref()) == (Some("1"), Some("2")) {
                    break;
                }
                assert!(Instant::now() < until, "Sentinel {} did not get ready: {about:?}", sentinel.port);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Sentinel {
    fn watch(master: &TestRedis) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (host, server) = host_and_port(master);
        // The kernel gives a free port; if another process takes it first, we try another.
        for _ in 0..5 {
            let port = free_port();
            let file = folder.path().join("sentinel.conf");
            let settings = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} {host} {server} 2\n\
                 sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 3000\n",
                folder.path().display()
            );
            std::fs::write(&file, settings).expect("the Sentinel's file");
            let mut child = Command::new("redis-server")
                .arg(&file)
                .arg("--sentinel")
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is on the PATH");
            std::thread::sleep(Duration::from_millis(50));
            if child.try_wait().expect("the Sentinel's state").is_none() {
                return Self { port, child, _folder: folder };
            }
        }
        panic!("no Sentinel could be started");
    }

    async fn about_master(&self) -> Option<Vec<String>> {
        let mut connection = open(&format!("redis://127.0.0.1:{}", self.port)).await?;
        cmd("SENTINEL").arg("MASTER").arg(MASTER).query_async(&mut connection).await.ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn open(url: &str) -> Option<redis::aio::MultiplexedConnection> {
    redis::Client::open(url).expect("the test's own URL").get_multiplexed_async_connection().await.ok()
}

fn host_and_port(server: &TestRedis) -> (String, String) {
    let address = server.url.trim_start_matches("redis://");
    let (host, port) = address.rsplit_once(':').expect("a port");
    (host.to_owned(), port.to_owned())
}

fn value(pairs: &[String], name: &str) -> Option<String> {
    pairs.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1)).cloned()
}
