//! A master, its replica and three Sentinels for one test.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::future::join_all;
use redis::cmd;

use crate::authority::Protection;
use crate::redis::{TestRedis, client_of, on_a_free_port, scheme, server_program};
use crate::{seen, until};

const MASTER: &str = "main";
/// A server that is silent for so long is down. On a machine that is busy with other tests, one that lives may be silent for a second.
const DOWN_AFTER_MS: u32 = 3000;

/// Local processes; they end with the value.
pub struct Sentinels {
    /// The servers. The first one begins as the master, the other is its replica.
    pub servers: [TestRedis; 2],
    guides: Vec<Sentinel>,
    tls: Option<Arc<Protection>>,
}

struct Sentinel {
    port: u16,
    client: redis::Client,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Sentinels {
    /// Starts them and waits until all know each other.
    pub async fn start() -> Self {
        Self::make(None).await
    }

    /// As [`Sentinels::start`], of servers and Sentinels that speak nothing but TLS.
    pub async fn over_tls(tls: Arc<Protection>) -> Self {
        Self::make(Some(tls)).await
    }

    async fn make(tls: Option<Arc<Protection>>) -> Self {
        let server = || TestRedis::process_like(&[], tls.as_ref());
        let servers = [server().await, server().await];
        let mut this = Self { servers, guides: Vec::new(), tls };
        let mut replica = this.servers[1].connection().await;
        let (host, port) = host_and_port(&this.servers[0]);
        let () = cmd("REPLICAOF").arg(host).arg(port).query_async(&mut replica).await.expect("it becomes a replica");
        // A Sentinel asks a master for its replicas at its start, and then every ten seconds.
        this.wait_for_replica(1).await;
        this.guides = join_all((0..3).map(|_| Sentinel::watch(&this.servers[0], this.tls.as_deref()))).await;
        this.wait_until_ready().await;
        this
    }

    /// They look and decide several times as fast as by default: a test with many failovers has no time for the default.
    pub async fn hurry(&self) {
        for sentinel in &self.guides {
            let mut connection = open(&sentinel.client).await.expect("the Sentinel answers");
            let mut debug = cmd("SENTINEL");
            debug.arg("DEBUG");
            for period in ["info-period", "publish-period", "ask-period"] {
                debug.arg(period).arg(300);
            }
            let () = debug.query_async(&mut connection).await.expect("it takes periods");
            let mut set = cmd("SENTINEL");
            set.arg("SET").arg(MASTER).arg("failover-timeout").arg(1000).arg("down-after-milliseconds").arg(1000);
            let () = set.query_async(&mut connection).await.expect("it takes a timeout");
        }
    }

    /// What a fleet is told: `redis+sentinel://...`, without options.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.guides.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("{}+sentinel://{}/{MASTER}", scheme(self.tls.as_deref()), addresses.join(","))
    }

    /// One of the Sentinels, as if it were a Redis.
    pub fn url_of_one(&self) -> String {
        format!("{}://127.0.0.1:{}", scheme(self.tls.as_deref()), self.guides[0].port)
    }

    /// Which server is the master, as all Sentinels say; None while they do not agree.
    pub async fn master(&self) -> Option<usize> {
        let mut found = Vec::new();
        for sentinel in &self.guides {
            let about = sentinel.about_master().await?;
            let port = value(&about, "port")?;
            found.push(self.servers.iter().position(|server| host_and_port(server).1 == port)?);
        }
        found.iter().all(|master| *master == found[0]).then_some(found[0])
    }

    /// Makes the Sentinels promote the replica at once; the old master lives on and becomes the replica.
    pub async fn fail_over(&self) {
        until(async || self.begin_failover().await).await;
    }

    /// As [`Sentinels::fail_over`]; returns whether the Sentinel began it. It refuses without a good replica, or right after another.
    pub async fn begin_failover(&self) -> bool {
        let Some(mut connection) = open(&self.guides[0].client).await else { return false };
        let mut begin = cmd("SENTINEL");
        begin.arg("FAILOVER").arg(MASTER).query_async::<()>(&mut connection).await.is_ok()
    }

    /// Waits until all Sentinels say that this server is the master, and it agrees.
    pub async fn wait_for_master(&self, server: usize) {
        until(async || self.master().await == Some(server) && self.role(server).await == "master").await;
    }

    /// Waits until this server is a replica that has caught up with its master.
    pub async fn wait_for_replica(&self, server: usize) {
        seen(async || self.replication(server).await, |replication| follows(replication)).await;
    }

    /// Waits until one server is the master, as all Sentinels say, and the other its replica. Where they hurry on a busy machine, they
    /// may have replaced a master once more than they were asked to.
    pub async fn wait_until_whole(&self) {
        until(async || {
            let Some(master) = self.master().await else { return false };
            self.role(master).await == "master" && follows(&self.replication(1 - master).await)
        })
        .await;
    }

    /// Whether a run of partition 0 has completed, as this server sees it.
    pub async fn has_ended(&self, server: usize, run: &str) -> bool {
        let mut connection = self.servers[server].connection().await;
        let mut status = cmd("HGET");
        let status = status.arg(format!("sf:{{0}}:run:{run}")).arg("status");
        status.query_async::<Option<String>>(&mut connection).await.is_ok_and(|s| s.as_deref() == Some("completed"))
    }

    async fn role(&self, server: usize) -> String {
        role(&self.replication(server).await).to_owned()
    }

    async fn replication(&self, server: usize) -> String {
        let Some(mut connection) = open(&self.servers[server].client()).await else { return String::new() };
        cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap_or_default()
    }

    async fn wait_until_ready(&self) {
        for sentinel in &self.guides {
            let counts = async || {
                let about = sentinel.about_master().await.unwrap_or_default();
                [value(&about, "num-slaves"), value(&about, "num-other-sentinels")].map(Option::unwrap_or_default)
            };
            seen(counts, |counts| *counts == ["1", "2"]).await;
        }
    }
}

/// Whether a server is a replica that has caught up, as its `INFO replication` says.
fn follows(replication: &str) -> bool {
    role(replication) == "slave" && replication.contains("master_link_status:up")
}

/// What a server's `INFO replication` calls it: `master` or `slave`.
fn role(replication: &str) -> &str {
    replication.lines().find_map(|line| line.strip_prefix("role:")).unwrap_or_default().trim()
}

impl Sentinel {
    async fn watch(master: &TestRedis, tls: Option<&Protection>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (host, server) = host_and_port(master);
        let launch = |port: u16| {
            let file = folder.path().join("sentinel.conf");
            let listens = tls.map_or_else(|| vec![("port", port.to_string())], |tls| tls.settings(port));
            let mut settings = format!(
                "bind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} {host} {server} 2\n\
                 sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\nsentinel failover-timeout {MASTER} 3000\n",
                folder.path().display()
            );
            settings.extend(listens.into_iter().map(|(name, value)| format!("{name} {value}\n")));
            std::fs::write(&file, settings).expect("the Sentinel's file");
            let mut sentinel = Command::new(server_program());
            sentinel.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().expect("the Sentinel starts")
        };
        let (port, child) = on_a_free_port(launch).await;
        let client = client_of(&format!("{}://127.0.0.1:{port}", scheme(tls)), tls);
        Self { port, client, child, _folder: folder }
    }

    async fn about_master(&self) -> Option<Vec<String>> {
        let mut connection = open(&self.client).await?;
        cmd("SENTINEL").arg("MASTER").arg(MASTER).query_async(&mut connection).await.ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn open(client: &redis::Client) -> Option<redis::aio::MultiplexedConnection> {
    client.get_multiplexed_async_connection().await.ok()
}

fn host_and_port(server: &TestRedis) -> (String, String) {
    let (host, port) = server.address().rsplit_once(':').expect("a port");
    (host.to_owned(), port.to_owned())
}

fn value(pairs: &[String], name: &str) -> Option<String> {
    pairs.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1)).cloned()
}
