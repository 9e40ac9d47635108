//! The coordinator, and each of its duties one pass at a time.

use std::sync::{Mutex as StdMutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use stepfleet_shared::log;
use stepfleet_shared::metrics::{Process, Registry};
use stepfleet_shared::outage::Outages;
use stepfleet_shared::partitions::{Colocated, ColocatedReader};
use stepfleet_shared::store::{Audited, CoordinatorStore, Fired, InboxEntry, InboxReader, Reaped};
use stepfleet_shared::{Error, Result};
use tokio::sync::{Mutex, Notify};

use crate::Partitions;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::intake::{Early, Intake};
use crate::metrics::Metrics;
use crate::partition::{Due, Partition};
use crate::steadiness::Steadiness;
use crate::taken::Taken;

/// A coordinator of all partitions of a namespace. [`Coordinator::run`] performs all duties until told to stop; the
/// passes perform one duty once, for tests and tools that must not wait.
///
/// Any number of coordinators may make the same pass at the same time, and repeat it after an error.
pub struct Coordinator {
    pub(crate) partitions: Partitions,
    pub(crate) config: Config,
    pub(crate) outages: Outages,
    /// `CLIENT LIST` was denied, and that was logged.
    pub(crate) denied: Once,
    intake: Intake,
    pub(crate) posts: Vec<Post>,
}

/// Partitions that share a server, and the connections on which a coordinator waits for what happens in them.
pub(crate) struct Post {
    colocated: Colocated<dyn CoordinatorStore>,
    pub(crate) partitions: Vec<Partition>,
    inbox: Mutex<Option<Box<dyn InboxReader>>>,
    /// Requests that were read and could not be taken yet.
    left: Mutex<Vec<InboxEntry>>,
    alarms: Mutex<Option<Box<dyn ColocatedReader>>>,
    /// There are suspects to reap.
    suspected: Notify,
    /// Whether the server has accepted its recent writes.
    steadiness: StdMutex<Steadiness>,
}

impl Coordinator {
    /// A coordinator of these partitions, or of a namespace with one store. Does nothing yet.
    pub fn new(partitions: impl Into<stepfleet_shared::Partitions<dyn CoordinatorStore>>, config: Config) -> Self {
        let partitions = partitions.into();
        let fleet = Fleet::new(partitions.clone(), config.fleet_age);
        let (key_ttl, retention) = (config.key_ttl, config.retention);
        let metrics = Metrics::new(&Registry::new(Process::Coordinator, &Outages::default()), &partitions);
        let intake = Intake { partitions: partitions.clone(), fleet, key_ttl, retention, metrics };
        let posts = partitions.colocated().into_iter().map(|colocated| Post::new(colocated, &config)).collect();
        Self { partitions, config, outages: Outages::default(), denied: Once::new(), intake, posts }
    }

    /// Reports its outages to these, instead of its own.
    #[must_use]
    pub fn with_outages(mut self, outages: &Outages) -> Self {
        self.outages = outages.clone();
        self
    }

    /// Counts in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, registry: &Registry) -> Self {
        self.intake.metrics = Metrics::new(registry, &self.partitions);
        self
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.intake.metrics
    }

    fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.posts.iter().flat_map(|post| &post.partitions)
    }

    /// Takes the next requests of the inboxes. Waits up to about two seconds if there are none.
    ///
    /// If partitions are on several servers, the one that has requests first is served; requests that another one has
    /// delivered at the same time are found by [`Coordinator::reclaim_pass`].
    pub async fn intake_pass(&self) -> Result<Taken> {
        let reads = self.posts.iter().map(|post| Box::pin(self.read_inbox(post)));
        let (entries, ..) = select_all(reads).await;
        self.take_in(entries?).await
    }

    /// Takes the requests that are there now; does not wait for more.
    pub(crate) async fn take_in(&self, entries: Vec<InboxEntry>) -> Result<Taken> {
        self.intake.take_all(entries, Early::Keep).await
    }

    /// Waits for requests of a post, if none are left. May be dropped, like [`Coordinator::read_inbox`].
    pub(crate) async fn read_next(&self, post: &Post) -> Result<()> {
        if post.left.lock().await.is_empty() {
            let read = self.read_inbox(post).await?;
            *post.left.lock().await = read;
        }
        Ok(())
    }

    /// Takes the requests that were read. Those that a server in trouble refuses are left for the next try.
    pub(crate) async fn take_read(&self, post: &Post) -> Result<()> {
        let mut left = post.left.lock().await;
        match self.take_in(left.clone()).await {
            Err(error) if error.is_passing() => Err(error),
            // After any other error it is found again as an orphan, and does not block others.
            taken => {
                left.clear();
                taken.map(drop)
            }
        }
    }

    /// May be dropped while it waits: the next call opens another reader, as it does after an error.
    pub(crate) async fn read_inbox(&self, post: &Post) -> Result<Vec<InboxEntry>> {
        let mut slot = post.inbox.lock().await;
        let mut reader = if let Some(reader) = slot.take() {
            reader
        } else {
            // It may have gone with everything else.
            self.partitions.first().open().await?;
            post.colocated.inbox_reader(&self.config.id).await?
        };
        match reader.next().await {
            Ok(entries) => {
                *slot = Some(reader);
                Ok(entries)
            }
            Err(error) if lost_group(&error) => {
                log::info!("the inbox is gone (was Redis emptied?); creating it again");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up workers whose lease has run out or whose connection is known to be closed, in all partitions. If the
    /// answer says `more`, another pass is due at once.
    pub async fn reap_pass(&self) -> Result<Reaped> {
        let mut all = Reaped::default();
        for partition in self.partitions() {
            let reaped = partition.reap(&self.config, self.metrics()).await?;
            all.requeued += reaped.requeued;
            all.more |= reaped.more;
            all.workers = all.workers.max(reaped.workers);
            all.reaped.extend(reaped.reaped);
        }
        all.reaped.sort_unstable();
        all.reaped.dedup();
        Ok(all)
    }

    /// Fires due timers, in all partitions. If the answer says `more`, another pass is due at once.
    pub async fn fire_pass(&self) -> Result<Fired> {
        let mut all = Fired::default();
        for partition in self.partitions() {
            let fired = partition.fire(&self.config, self.metrics()).await?;
            all.fired += fired.fired;
            all.more |= fired.more;
            all.next_due = all.next_due.into_iter().chain(fired.next_due).min();
        }
        Ok(all)
    }

    /// Reaps in the partitions of a post in which this is due; returns how long until it is due in the next one.
    pub(crate) async fn reap_due(&self, post: &Post) -> Result<Duration> {
        if !post.steadiness().missing(Instant::now()).is_zero() {
            // Whether the server takes writes: this one does no harm.
            post.heed(
                join_all(post.partitions.iter().map(|partition| partition.fire(&self.config, self.metrics()))).await,
            )?;
            let missing = post.steadiness().missing(Instant::now());
            if !missing.is_zero() {
                return Ok(missing.min(LOOK));
            }
        }
        let due = post.partitions.iter().filter(|partition| partition.next_reap.has_come());
        post.heed(join_all(due.map(|partition| partition.reap(&self.config, self.metrics()))).await)?;
        Ok(Due::first(post.partitions.iter().map(|partition| &partition.next_reap)))
    }

    /// Fires in the partitions of a post in which this is due; returns how long until it is due in the next one.
    pub(crate) async fn fire_due(&self, post: &Post) -> Result<Duration> {
        let due = post.partitions.iter().filter(|partition| partition.next_fire.has_come());
        post.heed(join_all(due.map(|partition| partition.fire(&self.config, self.metrics()))).await)?;
        Ok(Due::first(post.partitions.iter().map(|partition| &partition.next_fire)))
    }

    /// Looks for workers whose connection is closed; returns those that the next reap will give up, once for each
    /// partition. It takes two passes, [`Config::suspicion`] apart, to suspect one.
    ///
    /// Fails with [`Error::is_denied`] if `CLIENT LIST` is not allowed: then only leases tell which workers are dead.
    pub async fn liveness_pass(&self) -> Result<Vec<(String, u64)>> {
        let mut suspects = Vec::new();
        for post in &self.posts {
            suspects.extend(post.look_for_lost(true).await?);
        }
        Ok(suspects)
    }

    /// Takes the requests that were delivered to a coordinator that never took them. Returns how many there were.
    pub async fn reclaim_pass(&self) -> Result<u64> {
        let mut count = 0;
        for post in &self.posts {
            count += self.reclaim(post).await?;
        }
        Ok(count)
    }

    pub(crate) async fn reclaim(&self, post: &Post) -> Result<u64> {
        let mut count = 0;
        for partition in &post.partitions {
            let requests = match partition.store.reclaim_inbox(&self.config.id, self.config.reclaim_idle).await {
                Err(error) if lost_group(&error) => Vec::new(),
                other => other?,
            };
            count += self.intake.take_all(requests, Early::Reject).await?.total();
        }
        Ok(count)
    }

    /// Audits the next slice of each partition, and repairs breaches; starts over after the last one.
    pub async fn audit_pass(&self) -> Result<Audited> {
        let mut all = Audited::default();
        for post in &self.posts {
            let audited = self.audit(post).await?;
            all.examined += audited.examined;
            all.breaches.extend(audited.breaches);
            all.next = all.next.or(audited.next);
        }
        Ok(all)
    }

    /// Audits a slice of each partition that is not finished; the last answer says when all are.
    pub(crate) async fn audit(&self, post: &Post) -> Result<Audited> {
        let mut all = Audited::default();
        let begins = post.partitions.iter().all(|partition| !partition.is_within_audit());
        for partition in post.partitions.iter().filter(|partition| begins || partition.is_within_audit()) {
            let audited = partition.audit(&self.config, self.metrics()).await?;
            all.examined += audited.examined;
            all.breaches.extend(audited.breaches);
            all.next = all.next.or(audited.next);
        }
        Ok(all)
    }

    /// Starts the held requests whose workflow is served now, and rejects those that waited longer than
    /// [`Config::grace`].
    pub async fn deferred_pass(&self) -> Result<Taken> {
        let mut all = Taken::default();
        for post in &self.posts {
            all.add(self.take_deferred(post).await?);
        }
        Ok(all)
    }

    pub(crate) async fn take_deferred(&self, post: &Post) -> Result<Taken> {
        let mut all = Taken::default();
        for partition in &post.partitions {
            all.add(self.intake.take_deferred(&*partition.store, self.config.grace).await?);
        }
        Ok(all)
    }
}

impl Post {
    fn new(colocated: Colocated<dyn CoordinatorStore>, config: &Config) -> Self {
        let partitions = colocated.stores().iter().map(|store| Partition::new(store.clone(), config)).collect();
        Self {
            colocated,
            partitions,
            inbox: Mutex::default(),
            left: Mutex::default(),
            alarms: Mutex::default(),
            suspected: Notify::new(),
            steadiness: StdMutex::default(),
        }
    }

    /// Notes whether the server takes writes.
    fn heed<T>(&self, answers: Vec<Result<T>>) -> Result<()> {
        let (any, answers) = (!answers.is_empty(), answers.into_iter().collect::<Result<Vec<T>>>());
        match &answers {
            Ok(_) if any => self.steadiness().took(Instant::now()),
            Err(error) if error.is_passing() => self.steadiness().refused(),
            _ => {}
        }
        answers.map(drop)
    }

    fn steadiness(&self) -> MutexGuard<'_, Steadiness> {
        self.steadiness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a suspect, or the end of `limit`. May be dropped while it waits.
    pub(crate) async fn wait_for_suspects(&self, limit: Duration) {
        // Whether one came: what is due says so.
        let _ = tokio::time::timeout(limit, self.suspected.notified()).await;
    }

    /// Waits for an alarm, or the end of `limit`. May be dropped while it waits.
    pub(crate) async fn wait_for_alarm(&self, limit: Duration) -> Result<()> {
        let mut slot = self.alarms.lock().await;
        let mut reader = match slot.take() {
            Some(reader) => reader,
            None => self.colocated.alarm_reader().await?,
        };
        let heard = reader.next(limit).await?;
        *slot = Some(reader);
        for partition in
            self.partitions.iter().filter(|partition| heard.contains(&partition.store.namespace().partition()))
        {
            partition.hear_alarm();
        }
        Ok(())
    }

    /// In each partition, or each that has workers.
    pub(crate) async fn look_for_lost(&self, all: bool) -> Result<Vec<(String, u64)>> {
        let mut suspects = Vec::new();
        for partition in self.partitions.iter().filter(|partition| all || partition.has_workers()) {
            suspects.extend(partition.look_for_lost().await?);
        }
        if !suspects.is_empty() {
            self.suspected.notify_one();
        }
        Ok(suspects)
    }
}

/// How often a server that is not known to be steady gets a write.
const LOOK: Duration = Duration::from_millis(50);

/// The stream or its consumer group was deleted, as by `FLUSHALL`.
fn lost_group(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("NOGROUP") || text.contains("UNBLOCKED")
}
