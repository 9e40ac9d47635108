//! All partitions of a namespace.
//!
//! Each partition is a separate store. [`Partitions`] finds the one that a run belongs to, and reads what is spread
//! over all of them. Partitions that share a server are read over one connection: see [`Partitions::colocated`]. The
//! type says what its holder may do with them: `Partitions<dyn CallerStore>` is a caller's, `Partitions` alone can do
//! everything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::sync::OnceCell;

use crate::encryption;
use crate::error::{Error, Result};
use crate::fleet::Queue;
use crate::names::Namespace;
use crate::partition::{MAX_PARTITIONS, partition_of};
use crate::run::Run;
use crate::server::without_secrets;
use crate::store::redis::meta;
use crate::store::{
    CallerStore, CoordinatorStore, Deferred, InboxReader, RedisStore, Registration, Role, Store, Topology, WorkerInfo,
    WorkerStore,
};

/// How many partitions a new namespace in a cluster gets.
pub const IN_A_CLUSTER: u16 = 16;

/// The partitions of a namespace. Cheap to clone; clones share stores and connections.
///
/// ```no_run
/// # extern crate stepfleet_shared as stepfleet;
/// # async fn example() -> stepfleet::Result<()> {
/// let topology = stepfleet::store::Topology::new("redis://127.0.0.1")?;
/// let partitions = stepfleet::Partitions::open(&topology, "sf", None).await?;
/// let run = partitions.run("order-7").await?;
/// # Ok(()) }
/// ```
pub struct Partitions<R: Role + ?Sized = dyn Store> {
    stores: Arc<[Arc<R>]>,
    /// The same as stores on Redis; empty if they are not on Redis.
    on_redis: Arc<[RedisStore]>,
    /// Whether all are certain to be on one server.
    is_one_server: bool,
}

impl<R: Role + ?Sized> Clone for Partitions<R> {
    fn clone(&self) -> Self {
        Self { stores: self.stores.clone(), on_redis: self.on_redis.clone(), is_one_server: self.is_one_server }
    }
}

impl Partitions {
    /// Opens a namespace, and creates it if it is new: with `count` partitions, or 16 in a cluster and 1 elsewhere.
    ///
    /// Fails with [`Error::is_invalid`] if it has another number of partitions than `count`, or was created by a newer
    /// version.
    pub async fn open(topology: &Topology, name: &str, count: Option<u16>) -> Result<Self> {
        let namespace = Namespace::new(name, 0)?;
        if let Some(count) = count.filter(|count| !(1..=MAX_PARTITIONS).contains(count)) {
            return Err(Error::invalid(format!("a namespace has 1 to {MAX_PARTITIONS} partitions, not {count}")));
        }
        let found = match meta::partitions(topology, name).await? {
            Some(found) => found,
            None => count.unwrap_or(if topology.is_cluster() { IN_A_CLUSTER } else { 1 }),
        };
        if let Some(count) = count.filter(|count| *count != found) {
            return Err(meta::another_number(name, found, count));
        }
        let partitions = Self::on(topology, &namespace, found);
        partitions.first().open().await?;
        Ok(partitions)
    }

    /// Opens an existing namespace; None if it does not exist yet.
    pub async fn find(topology: &Topology, name: &str) -> Result<Option<Self>> {
        let namespace = Namespace::new(name, 0)?;
        Ok(meta::partitions(topology, name).await?.map(|count| Self::on(topology, &namespace, count)))
    }

    fn on(topology: &Topology, namespace: &Namespace, count: u16) -> Self {
        let store = |partition| RedisStore::on(topology, namespace.other(partition)).of(count);
        let on_redis: Arc<[RedisStore]> = (0..count).map(store).collect();
        let stores = on_redis.iter().map(|store| Arc::new(store.clone()) as Arc<dyn Store>).collect();
        Self { stores, on_redis, is_one_server: !topology.is_cluster() }
    }

    /// The same partitions, limited to what this role may do.
    pub fn as_role<R: Role + ?Sized>(&self) -> Partitions<R> {
        let stores = self.stores.iter().map(|store| R::of(store.clone())).collect();
        Partitions { stores, on_redis: self.on_redis.clone(), is_one_server: self.is_one_server }
    }
}

impl<R: Role + ?Sized> Partitions<R> {
    /// The partitions with these stores, in the order of their numbers. For tests and custom stores.
    ///
    /// # Panics
    /// If `stores` is empty.
    pub fn of_stores(stores: Vec<Arc<R>>) -> Self {
        assert!(!stores.is_empty(), "a namespace has at least one partition");
        Self { stores: stores.into(), on_redis: Arc::new([]), is_one_server: false }
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        u16::try_from(self.stores.len()).unwrap_or(u16::MAX)
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        self.first().namespace().name()
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> &[Arc<R>] {
        &self.stores
    }

    /// All of them as stores on Redis; empty if they are not on Redis.
    pub fn on_redis(&self) -> &[RedisStore] {
        &self.on_redis
    }

    /// Partition 0, for reads of what is the same in all of them.
    pub fn first(&self) -> &Arc<R> {
        &self.stores[0]
    }

    /// The partition with this number; partition 0 if there is none.
    pub fn get(&self, partition: u16) -> &Arc<R> {
        self.stores.get(usize::from(partition)).unwrap_or(self.first())
    }

    /// The partition that a run with this id belongs to.
    pub fn of(&self, run: &str) -> &Arc<R> {
        self.get(partition_of(run, self.count()))
    }

    /// The partition that keeps an idempotency key of a workflow.
    pub fn of_key(&self, workflow: &str, key: &str) -> &Arc<R> {
        self.of(&format!("{workflow}:{key}"))
    }

    /// Groups the partitions that are certain to share a server, however the deployment changes.
    pub fn colocated(&self) -> Vec<Colocated<R>> {
        match self.on_redis.first().filter(|_| self.is_one_server) {
            Some(store) => vec![Colocated { stores: self.stores.to_vec(), common: Some(store.clone()) }],
            None => self.stores.iter().map(|store| Colocated { stores: vec![store.clone()], common: None }).collect(),
        }
    }

    /// A run; None if there is none with that id. The id of a request that turned out to repeat another run (same
    /// idempotency key) leads to that run, whatever partition it is in.
    pub async fn run(&self, id: &str) -> Result<Option<Run>> {
        let store = self.of(id);
        if let Some(run) = store.run(id).await? {
            return Ok(Some(run));
        }
        match self.led_elsewhere(id).await? {
            Some(known) => self.of(&known).run(&known).await,
            None => Ok(None),
        }
    }

    /// The run in another partition that this id leads to.
    pub async fn led_elsewhere(&self, id: &str) -> Result<Option<String>> {
        if self.count() == 1 {
            return Ok(None);
        }
        let known = self.of(id).leads_to(id).await?;
        Ok(known.filter(|known| partition_of(known, self.count()) != partition_of(id, self.count())))
    }

    /// The workers whose lease has not been swept. A worker that serves several partitions is listed once, with all
    /// that it holds.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        let mut merged: Vec<WorkerInfo> = Vec::new();
        for worker in try_join_all(self.all().iter().map(|store| store.workers())).await?.into_iter().flatten() {
            match merged.iter_mut().find(|known| known.id == worker.id) {
                Some(known) => {
                    known.held += worker.held;
                    known.lease_ms = known.lease_ms.min(worker.lease_ms);
                    known.since_ms = known.since_ms.min(worker.since_ms);
                }
                None => merged.push(worker),
            }
        }
        Ok(merged)
    }

    /// Every workflow version that was ever registered, by name and version.
    pub async fn registrations(&self) -> Result<Vec<Registration>> {
        let all = try_join_all(self.all().iter().map(|store| store.registrations())).await?;
        let mut merged: Vec<Registration> = all.into_iter().flatten().collect();
        merged.sort_by(|a, b| (&a.workflow, a.version).cmp(&(&b.workflow, b.version)));
        merged.dedup_by(|a, b| (&a.workflow, a.version) == (&b.workflow, b.version));
        Ok(merged)
    }

    /// The queue of every workflow version that was ever registered, with the entries of all partitions counted.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        let mut merged: Vec<Queue> = Vec::new();
        for queue in try_join_all(self.all().iter().map(|store| store.queues())).await?.into_iter().flatten() {
            match merged.iter_mut().find(|known| (&known.workflow, known.version) == (&queue.workflow, queue.version)) {
                Some(known) => {
                    known.waiting += queue.waiting;
                    known.departed_ms = known.departed_ms.max(queue.departed_ms);
                }
                None => merged.push(queue),
            }
        }
        Ok(merged)
    }

    /// Requests that wait for a worker to serve them.
    pub async fn deferred(&self) -> Result<Vec<Deferred>> {
        let all = try_join_all(self.all().iter().map(|store| store.deferred())).await?;
        Ok(all.into_iter().flatten().collect())
    }
}

impl<R: Role + ?Sized, S: Store> From<Arc<S>> for Partitions<R> {
    fn from(store: Arc<S>) -> Self {
        Partitions::of_stores(vec![store as Arc<dyn Store>]).as_role()
    }
}

impl<R: Role + ?Sized> From<Arc<dyn Store>> for Partitions<R> {
    fn from(store: Arc<dyn Store>) -> Self {
        Partitions::of_stores(vec![store]).as_role()
    }
}

macro_rules! from_all {
    ($($role:ident)*) => {$(
        impl From<Partitions> for Partitions<dyn $role> {
            fn from(all: Partitions) -> Self {
                all.as_role()
            }
        }
    )*};
}

from_all!(CallerStore WorkerStore CoordinatorStore);

impl<R: Role + ?Sized> fmt::Debug for Partitions<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("name", &self.name()).field("count", &self.count()).finish()
    }
}

/// Partitions that share a server.
pub struct Colocated<R: Role + ?Sized = dyn Store> {
    stores: Vec<Arc<R>>,
    /// The links over which readers of all of them can be opened.
    common: Option<RedisStore>,
}

impl<R: Role + ?Sized> Clone for Colocated<R> {
    fn clone(&self) -> Self {
        Self { stores: self.stores.clone(), common: self.common.clone() }
    }
}

/// Waits until something happens in one of several partitions.
#[async_trait]
pub trait ColocatedReader: Send {
    /// Waits a few seconds, or up to `limit` if the caller gives one; returns the numbers of the partitions where
    /// something may have happened. May be dropped at any time; the reader is then unusable, like after an error, and
    /// must be opened again.
    async fn next(&mut self, limit: Duration) -> Result<Vec<u16>>;
}

impl<R: Role + ?Sized> Colocated<R> {
    /// Their stores; at least one.
    pub fn stores(&self) -> &[Arc<R>] {
        &self.stores
    }

    fn several(&self) -> Option<(&RedisStore, Vec<Namespace>)> {
        let common = self.common.as_ref().filter(|_| self.stores.len() > 1)?;
        Some((common, self.stores.iter().map(|store| store.namespace().clone()).collect()))
    }
}

impl Colocated<dyn CoordinatorStore> {
    /// Opens a blocking reader on the inboxes, for one coordinator.
    pub async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>> {
        match self.several() {
            Some((common, partitions)) => common.inbox_reader_of(&partitions, coordinator).await,
            None => self.stores[0].inbox_reader(coordinator).await,
        }
    }

    /// Opens the connection on which a coordinator hears of timers that are due before all others.
    pub async fn alarm_reader(&self) -> Result<Box<dyn ColocatedReader>> {
        if let Some((common, partitions)) = self.several() {
            return common.alarm_reader_of(&partitions).await;
        }
        let reader = self.stores[0].alarm_reader().await?;
        Ok(Box::new(OneAlarm { partition: self.stores[0].namespace().partition(), reader }))
    }
}

impl Colocated<dyn WorkerStore> {
    /// Opens the connection on which an idle worker of this id waits for step events.
    pub async fn wake_reader(&self, worker: &str) -> Result<Box<dyn ColocatedReader>> {
        if let Some((common, partitions)) = self.several() {
            return common.wake_reader_of(&partitions, worker).await;
        }
        let reader = self.stores[0].wake_reader(worker).await?;
        Ok(Box::new(OneWake { partition: self.stores[0].namespace().partition(), reader }))
    }
}

struct OneWake {
    partition: u16,
    reader: Box<dyn crate::store::WakeReader>,
}

#[async_trait]
impl ColocatedReader for OneWake {
    async fn next(&mut self, _: Duration) -> Result<Vec<u16>> {
        Ok(if self.reader.next().await? { vec![self.partition] } else { Vec::new() })
    }
}

struct OneAlarm {
    partition: u16,
    reader: Box<dyn crate::store::AlarmReader>,
}

#[async_trait]
impl ColocatedReader for OneAlarm {
    async fn next(&mut self, limit: Duration) -> Result<Vec<u16>> {
        self.reader.next(limit).await?;
        Ok(vec![self.partition])
    }
}

/// A namespace that is opened at its first use.
pub struct Home<R: Role + ?Sized = dyn Store>(Place<R>);

enum Place<R: Role + ?Sized> {
    Open(Partitions<R>),
    At { topology: Topology, address: Arc<str>, name: String, found: Arc<OnceCell<Partitions<R>>> },
}

impl<R: Role + ?Sized> Clone for Home<R> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Place::Open(partitions) => Place::Open(partitions.clone()),
            Place::At { topology, address, name, found } => {
                let (topology, address) = (topology.clone(), address.clone());
                Place::At { topology, address, name: name.clone(), found: found.clone() }
            }
        })
    }
}

impl<R: Role + ?Sized> Home<R> {
    /// The namespace with this name at a URL that [`Topology::new`] accepts. Connects later.
    pub fn at(url: &str, name: &str) -> Result<Self> {
        encryption::check()?;
        let namespace = Namespace::new(name, 0)?;
        let (topology, name) = (Topology::new(url)?, namespace.name().to_owned());
        Ok(Self(Place::At { topology, address: without_secrets(url).into(), name, found: Arc::default() }))
    }

    /// Its address, without user and password; None if it was made from partitions.
    pub fn address(&self) -> Option<&str> {
        match &self.0 {
            Place::Open(_) => None,
            Place::At { address, .. } => Some(address),
        }
    }

    /// Its partitions; None if the namespace does not exist yet.
    pub async fn find(&self) -> Result<Option<Partitions<R>>> {
        match &self.0 {
            Place::Open(partitions) => Ok(Some(partitions.clone())),
            Place::At { topology, name, found, .. } => {
                if let Some(partitions) = found.get() {
                    return Ok(Some(partitions.clone()));
                }
                let Some(partitions) = Partitions::find(topology, name).await? else { return Ok(None) };
                Ok(Some(found.get_or_init(|| async { partitions.as_role() }).await.clone()))
            }
        }
    }

    /// Like [`Partitions::open`]: creates the namespace if it is new.
    pub async fn open(&self, count: Option<u16>) -> Result<Partitions<R>> {
        match &self.0 {
            Place::Open(partitions) => Ok(partitions.clone()),
            Place::At { topology, name, found, .. } => {
                let open =
                    async || Partitions::open(topology, name, count).await.map(|partitions| partitions.as_role());
                let partitions = found.get_or_try_init(open).await?;
                match count {
                    Some(count) if count != partitions.count() => {
                        Err(meta::another_number(name, partitions.count(), count))
                    }
                    _ => Ok(partitions.clone()),
                }
            }
        }
    }

    /// Like [`Home::find`]. Of a namespace that does not exist yet, only partition 0 is known: it is empty, and its inbox
    /// takes every request.
    pub async fn known(&self) -> Result<Partitions<R>> {
        let found = self.find().await?;
        match (found, &self.0) {
            (Some(partitions), _) => Ok(partitions),
            (None, Place::Open(partitions)) => Ok(partitions.clone()),
            (None, Place::At { topology, name, .. }) => {
                Ok(Partitions::on(topology, &Namespace::new(name, 0)?, 1).as_role())
            }
        }
    }
}

impl<R: Role + ?Sized, P: Into<Partitions<R>>> From<P> for Home<R> {
    fn from(partitions: P) -> Self {
        Self(Place::Open(partitions.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn a_run_is_found_where_the_rule_says() {
        let store = |partition| Arc::new(MemoryStore::new(Namespace::new("sf", partition).unwrap())) as Arc<dyn Store>;
        let partitions = Partitions::of_stores((0..16).map(store).collect());
        assert_eq!(partitions.count(), 16);
        assert_eq!(partitions.of("order-1").namespace().prefix(), "sf:{15}:");
        assert_eq!(partitions.of_key("ship", "k").namespace(), partitions.of("ship:k").namespace());
        assert_eq!(partitions.colocated().len(), 16);
        partitions.of("order-1").alias("order-1", "a", None, Duration::from_secs(60)).await.unwrap();
        assert_eq!(partitions.led_elsewhere("order-1").await.unwrap().as_deref(), Some("a"));
        assert!(partitions.run("order-1").await.unwrap().is_none());
    }
}
