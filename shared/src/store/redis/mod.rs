//! The store on Redis 7.0 or later, or Valkey: each transition is one Redis Function, one `FCALL`.
//!
//! The functions are in `lua/`, by the way of a run: `start`, `claim`, `commit`, `fleet` (leases, recovery, timers).

mod across;
mod audit;
mod fleet_readers;
mod functions;
mod link;
pub(crate) mod meta;
mod readers;
mod reads;
mod short;
pub(crate) mod topology;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use self::link::Link;
use self::short::Short;
pub use self::topology::Topology;
pub(crate) use self::topology::Trouble;
use super::{
    AlarmReader, Audit, Audited, Deferral, Deferred, EventReader, InboxEntry, InboxReader, Introduction, Lease,
    Registration, Rejection, Start, Started, Store, Tick, Ticked, WakeReader, Worker, journal_is_full, millis,
};
use crate::attributes;
use crate::core::args::{Transition, Word, ms};
use crate::core::generated::{args, words};
use crate::core::outcome::{self, numbered, refused};
use crate::core::reply::{self, Reply};
use crate::core::short::{self as short_ways, Shortly, handed_over, slot_after};
use crate::core::{build, decode};
use crate::error::{Error, Result};
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::Namespace;
use crate::published::{Position, Publication, Published};
use crate::request::StartRequest;
use crate::run::Run;
use crate::server::Info;
use crate::step::{
    Call, Cancelled, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, Failure, Fence, Joined, Next, OpenWait,
    Outcome, Refill, Route, Sent, Signalled, Wait,
};

/// At most this many requests wait for a worker that serves their workflow.
const MAX_DEFERRED: usize = 10_000;
/// About this many rejected requests are kept.
const MAX_REJECTED: usize = 10_000;
/// At most this many fields of a rejected request are kept.
const MAX_REJECTED_FIELDS: usize = 32;
/// How long a rejected request is shown as a run.
const REJECTED_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The store of one partition on Redis. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct RedisStore {
    link: Link,
    namespace: Namespace,
    short: Short,
    partitions: u16,
}

impl RedisStore {
    /// Prepares a store; connects at the first call.
    ///
    /// The URL is one that [`Topology::new`] takes. Fails only when it cannot be used.
    pub fn new(url: &str, namespace: Namespace) -> Result<Self> {
        Ok(Self::on(&Topology::new(url)?, namespace))
    }

    /// As [`RedisStore::new`], for one of several partitions: stores on one topology share connections.
    pub fn on(topology: &Topology, namespace: Namespace) -> Self {
        let link = Link::new(topology, namespace.prefix());
        Self { short: Short::new(&link, namespace.prefix()), link, namespace, partitions: 1 }
    }

    /// The namespace has so many partitions; one by default.
    #[must_use]
    pub fn of(self, partitions: u16) -> Self {
        Self { partitions, ..self }
    }

    /// The address of the server that has the partition, as far as is known: for diagnosis.
    pub fn address(&self) -> Option<String> {
        self.link.topology().address_of(self.namespace.prefix())
    }

    /// The server's answer to any command: for diagnosis and tests.
    pub async fn command(&self, command: &Cmd) -> Result<redis::Value> {
        self.link.send_as(command).await
    }

    /// Calls a transition.
    async fn call<T: Transition>(&self, given: &T) -> Result<Reply> {
        let command = wire::transition(self.namespace.prefix(), given);
        Reply::new(self.link.call(&command).await?)
    }

    /// Calls a transition whose reply begins with a word: that, and the rest of the reply.
    async fn ask<T: Transition<Word: Word>>(&self, given: &T) -> Result<(T::Word, Reply)> {
        let mut reply = self.call(given).await?;
        Ok((reply.word(T::NAME)?, reply))
    }

    /// The short ways of a commit.
    async fn complete_shortly(&self, call: &Call, step: &Claimed, commit: &Commit, refill: &Refill) -> Result<Shortly> {
        let is_theirs = step.fence.line.as_str().split(' ').nth(4) == Some(&*call.worker);
        if call.again || refill.next != Next::Following || !is_theirs || !commit.is_plain(step) {
            return Ok(Shortly::LongWay);
        }
        if let Some(result) = &commit.result {
            if step.scope != 0 {
                return Ok(Shortly::LongWay);
            }
            let given = short_ways::end_run(call, step, commit, refill, result);
            return slot_after(self.short.go(&given).await?, call.number);
        }
        if let Some(successor) = commit.only_successor() {
            let reply = self.short.go(&short_ways::hand_over(call, step, commit, successor)).await?;
            return Ok(Shortly::handed_over(handed_over(reply, call, step, commit)?));
        }
        if !commit.ends_branch(step) {
            return Ok(Shortly::LongWay);
        }
        slot_after(self.short.go(&short_ways::end_branch(call, step, commit, refill)).await?, call.number)
    }

    /// The short way of a checkpoint: false where the long one has to be gone.
    async fn record(&self, fence: &Fence, checkpoint: &Checkpoint) -> Result<bool> {
        let Some(given) = short_ways::record(fence, checkpoint) else { return Ok(false) };
        short_ways::is_recorded(&self.short.go(&given).await?)
    }
}

#[async_trait]
impl Store for RedisStore {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    async fn open(&self) -> Result<()> {
        meta::make(&self.link, self.namespace.name(), self.partitions).await
    }

    async fn server(&self) -> Result<Option<Info>> {
        self.read_info().await.map(Some)
    }

    async fn start(&self, start: &Start) -> Result<Started> {
        let (word, reply) = self.ask(&build::start(start)).await?;
        outcome::started(word, reply)
    }

    async fn defer(&self, start: &Start) -> Result<Deferral> {
        let request = rmp_serde::to_vec_named(&start.request).map_err(|e| Error::invalid(e.to_string()))?;
        let (word, _) = self.ask(&build::defer(start, &request, MAX_DEFERRED)).await?;
        Ok(word.into())
    }

    async fn reject(&self, rejection: &Rejection) -> Result<()> {
        let given = build::reject(rejection, MAX_REJECTED, MAX_REJECTED_FIELDS, REJECTED_RETENTION);
        match self.ask(&given).await?.0 {
            words::Reject::Rejected | words::Reject::Gone => Ok(()),
        }
    }

    async fn claim(&self, call: &Call, claim: &Claim) -> Result<Option<Vec<Claimed>>> {
        let (word, mut reply) = self.ask(&build::claim(call, claim)).await?;
        if word == words::Claim::Lost {
            return Ok(None);
        }
        let mut claims = reply.array()?.claims(call.number)?;
        let alone = reply.number::<i64>()? == 1;
        for step in &mut claims {
            step.alone = alone;
        }
        Ok(Some(claims))
    }

    async fn stage(&self, _: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        let (word, mut reply) = self.ask(&build::stage(fence, offset, chunk)).await?;
        match word {
            words::Stage::Ok => reply.number().map(Some),
            words::Stage::Fenced => Ok(None),
        }
    }

    async fn complete(
        &self,
        call: &Call,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        if let Shortly::Committed(next) = self.complete_shortly(call, step, commit, refill).await? {
            return Ok((Outcome::Committed, next.into_iter().map(|next| *next).collect()));
        }
        let (word, mut reply) = self.ask(&build::complete(call, step, commit, refill)).await?;
        let claims = reply.array()?;
        let outcome = match word {
            words::Complete::Ok => Outcome::Committed,
            words::Complete::Fenced => Outcome::Fenced,
            words::Complete::Unstaged => Outcome::Unstaged,
            words::Complete::Conflict => Outcome::Conflict,
            words::Complete::Refused => return Err(refused(reply)?),
        };
        Ok((outcome, claims.claims(call.number)?))
    }

    async fn fail(
        &self,
        call: &Call,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        let (word, mut reply) = self.ask(&build::fail(call, step, failure, refill)).await?;
        Ok((word.into(), reply.array()?.claims(call.number)?))
    }

    async fn checkpoint(&self, _: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        if self.record(fence, checkpoint).await? {
            return Ok(Checkpointed { outcome: Outcome::Committed, answers: Vec::new() });
        }
        let (word, mut reply) = self.ask(&build::checkpoint(fence, checkpoint)).await?;
        match word {
            words::Checkpoint::Ok => {
                Ok(Checkpointed { outcome: Outcome::Committed, answers: numbered(reply.array()?)? })
            }
            words::Checkpoint::Fenced => Ok(Outcome::Fenced.into()),
            words::Checkpoint::Conflict => Ok(Outcome::Conflict.into()),
            words::Checkpoint::Full => Err(journal_is_full()),
            words::Checkpoint::Refused => Err(refused(reply)?),
        }
    }

    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<Outcome> {
        let (word, _) = self.ask(&build::publish(worker, fence, event)).await?;
        Ok(word.into())
    }

    async fn suspend(
        &self,
        call: &Call,
        step: &Claimed,
        waits: &[Wait],
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        let (word, mut reply) = self.ask(&build::suspend(call, step, waits, refill)).await?;
        let outcome = match word {
            words::Suspend::Ok => Outcome::Committed,
            words::Suspend::Fenced => Outcome::Fenced,
            words::Suspend::Full => return Err(journal_is_full()),
        };
        Ok((outcome, reply.array()?.claims(call.number)?))
    }

    async fn signal(&self, run: &str, name: &str, payload: &[u8], entry: Option<&str>) -> Result<Signalled> {
        let attributes = attributes::joined(&attributes::of(payload));
        let given = args::Signal { asked: run, name, attributes, payload, entry: entry.unwrap_or_default() };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn cancel(&self, run: &str, entry: Option<&str>, retention: Duration) -> Result<Cancelled> {
        let given = args::Cancel { asked: run, entry: entry.unwrap_or_default(), retention: ms(retention) };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn collect(&self, _: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        let (word, mut reply) = self.ask(&build::collect(fence, collect)).await?;
        match word {
            words::Collect::Ok => reply.bytes().map(Some),
            words::Collect::Full => Err(journal_is_full()),
            words::Collect::Fenced => Ok(None),
        }
    }

    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], entry: Option<&str>) -> Result<Sent> {
        let given = args::Send { asked: run, entry: entry.unwrap_or_default(), list: build::sent(events) };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn joined(&self, step: &Claimed, joined: &Joined, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        self.read_joined(step, joined, from, count).await
    }

    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        match self.ask(&build::register(worker, lease)?).await?.0 {
            words::Register::Ok => Ok(()),
        }
    }

    async fn deregister(&self, worker: &str) -> Result<bool> {
        let (word, _) = self.ask(&args::Deregister { worker, limit: 200 }).await?;
        Ok(word == words::Deregister::Ok)
    }

    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        self.read_holds(worker).await
    }

    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        self.call(&build::release(worker, fences)).await?.number()
    }

    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        self.open_lease(worker, lease).await
    }

    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        self.open_wake_reader(worker).await
    }

    async fn tick(&self, tick: &Tick) -> Result<Ticked> {
        outcome::ticked(self.call(&build::tick(tick)).await?)
    }

    async fn audit(&self, audit: &Audit) -> Result<Audited> {
        self.audit_slice(audit).await
    }

    async fn disconnected(&self) -> Result<Vec<(String, u64)>> {
        self.read_disconnected().await
    }

    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>> {
        self.open_alarm_reader().await
    }

    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>> {
        self.open_inbox_reader(coordinator).await
    }

    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>> {
        self.claim_orphans(coordinator, idle).await
    }

    async fn submit(&self, request: &StartRequest) -> Result<String> {
        self.write_request(request).await
    }

    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String> {
        let mut add = redis::cmd("XADD");
        add.arg(self.namespace.key("inbox")).arg("*");
        for (name, value) in fields {
            add.arg(name).arg(value);
        }
        reply::text(self.link.send(&add).await?)
    }

    async fn run(&self, id: &str) -> Result<Option<Run>> {
        self.read_run(id).await
    }

    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.read_context(run).await
    }

    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>> {
        self.read_newest(offset, count).await
    }

    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>> {
        self.read_history(run, from, count).await
    }

    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>> {
        self.read_published(run, after, count).await
    }

    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>> {
        self.open_event_reader(run, after).await
    }

    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>> {
        self.read_waits(run).await
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        self.read_workers().await
    }

    async fn registrations(&self) -> Result<Vec<Registration>> {
        self.read_registrations().await
    }

    async fn queues(&self) -> Result<Vec<Queue>> {
        self.read_queues().await
    }

    async fn deferred(&self) -> Result<Vec<Deferred>> {
        self.read_deferred().await
    }

    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        self.await_end(run, limit).await
    }

    async fn now_ms(&self) -> Result<u64> {
        let now = decode::clock_ms(self.link.send(&redis::cmd("TIME")).await?)?;
        u64::try_from(now).map_err(|_| Error::reply("the time is before 1970"))
    }
}
