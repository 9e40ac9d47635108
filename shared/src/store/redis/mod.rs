//! The store on Redis 7.0 or later, or Valkey: each transition is one Redis Function, one `FCALL`.
//!
//! The functions are in `lua/`, by the way of a run: `start`, `claim`, `commit`, `fleet` (leases, recovery, timers).

mod across;
mod args;
mod audit;
pub(crate) mod decode;
mod fleet_readers;
mod functions;
mod link;
pub(crate) mod meta;
mod readers;
mod reads;
pub(crate) mod reply;
mod short;
pub(crate) mod topology;

use std::time::Duration;

use async_trait::async_trait;
use redis::Cmd;

use self::args::{
    call_args, checkpoint_args, claim_args, commit_args, emit_args, end_branch_args, end_run_args, fence_args,
    hand_over_args, refill_args, waits_args,
};
use self::functions::LIBRARY;
use self::link::Link;
use self::reply::{Reply, Shortly, handed_over, slot_after};
use self::short::{Short, Way};
pub use self::topology::Topology;
pub(crate) use self::topology::Trouble;
use super::{
    AlarmReader, Audit, Audited, CallerStore, CoordinatorStore, Deferral, Deferred, EventReader, InboxEntry,
    InboxReader, Introduction, Lease, ReaderStore, Registration, Rejection, Start, Started, Tick, Ticked, WakeReader,
    Worker, WorkerStore, journal_is_full, millis,
};
use crate::attributes;
use crate::error::{Error, Result};
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::{Namespace, QueueName};
use crate::published::{Position, Publication, Published};
use crate::request::StartRequest;
use crate::run::Run;
use crate::server::Info;
use crate::step::{
    Call, Cancelled, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, Failure, Fence, Joined, Next, OpenWait,
    Outcome, Refill, Route, Sent, Signalled, Wait,
};
use crate::values::Refusal;

/// At most this many requests wait for a worker that serves their workflow.
const MAX_DEFERRED: usize = 10_000;
/// About this many rejected requests are kept.
const MAX_REJECTED: usize = 10_000;
/// At most this many fields of a rejected request are kept.
const MAX_REJECTED_FIELDS: usize = 32;
/// How long a rejected request is shown as a run.
const REJECTED_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The layout of the keys. A namespace of a newer one is refused.
const FORMAT: u64 = 1;

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
        self.link.send(command).await
    }

    /// Its one key is never there. So a cluster that is moving the slot refuses each call until all of it has moved:
    /// none sees a part of the partition.
    fn transition(&self, name: &str) -> Cmd {
        let mut command = redis::cmd("FCALL");
        command.arg(LIBRARY.function(name)).arg(1).arg(self.namespace.prefix());
        command
    }

    async fn call(&self, command: &Cmd) -> Result<Reply> {
        Reply::new(self.link.call(command).await?)
    }

    /// The long way.
    async fn commit(&self, command: &Cmd, call: &Call) -> Result<(Outcome, Vec<Claimed>)> {
        let mut reply = self.call(command).await?;
        let (answer, claims) = (reply.text()?, reply.array()?);
        if answer == "refused" {
            return Err(refused(reply)?);
        }
        if answer == "full" {
            return Err(journal_is_full());
        }
        Ok((outcome(&answer)?, claims.claims(call.number)?))
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
            let args = end_run_args(call, step, commit, refill, result);
            return slot_after(self.short.go(Way::EndRun, args).await?, call.number);
        }
        if let Some(successor) = commit.only_successor() {
            let args = hand_over_args(call, step, commit, successor);
            let reply = self.short.go(Way::HandOver, args).await?;
            return Ok(Shortly::handed_over(handed_over(reply, call, step, commit)?));
        }
        if !commit.ends_branch(step) {
            return Ok(Shortly::LongWay);
        }
        let args = end_branch_args(call, step, commit, refill);
        slot_after(self.short.go(Way::EndBranch, args).await?, call.number)
    }

    /// The short way of a start: false where the long one has to be gone.
    async fn start_shortly(&self, start: &Start) -> Result<bool> {
        let Some((entry, route)) = start.is_plain() else { return Ok(false) };
        let request = &start.request;
        let mut args = Cmd::new();
        args.arg(&start.run).arg(&request.workflow).arg(start.version).arg(request.content().as_str());
        args.arg(&request.input).arg(entry).arg(route.record(0, Some('i'), &[]));
        Ok(reply::number::<i64>(&self.short.go(Way::Start, args).await?)? == 1)
    }

    /// The short way of a checkpoint: false where the long one has to be gone.
    async fn record(&self, fence: &Fence, checkpoint: &Checkpoint) -> Result<bool> {
        let Some((number, entry)) = checkpoint.only_entry() else { return Ok(false) };
        let mut args = Cmd::new();
        fence_args(&mut args, fence);
        args.arg(number).arg(entry);
        Ok(reply::number::<i64>(&self.short.go(Way::Record, args).await?)? == 1)
    }

    fn under_fence(&self, name: &str, call: &Call, step: &Claimed, refill: &Refill) -> Cmd {
        let mut command = self.transition(name);
        call_args(&mut command, call);
        refill_args(&mut command, &step.fence, refill);
        fence_args(&mut command, &step.fence);
        let name = if step.step.is_empty() { "-" } else { &step.step };
        command.arg(step.scope).arg(name);
        command
    }
}

/// Why a merge was refused: the field, and what is wrong with it.
fn refused(mut reply: Reply) -> Result<Error> {
    let field = reply.text()?;
    Ok(Refusal::parse(&reply.text()?)?.error(&field))
}

/// Stands for all workers that serve the same queues.
fn class_of(queues: &[QueueName]) -> String {
    let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
    format!("{:08x}", crc32fast::hash(names.join(" ").as_bytes()))
}

/// Entries of a journal.
fn numbered(entries: Reply) -> Result<Vec<(u64, Vec<u8>)>> {
    let number = |(number, entry): (String, Vec<u8>)| {
        Ok((number.parse().map_err(|_| Error::reply("a wait has no number"))?, entry))
    };
    entries.pairs()?.into_iter().map(number).collect()
}

fn outcome(answer: &str) -> Result<Outcome> {
    match answer {
        "ok" => Ok(Outcome::Committed),
        "fenced" => Ok(Outcome::Fenced),
        "unstaged" => Ok(Outcome::Unstaged),
        "conflict" => Ok(Outcome::Conflict),
        other => Err(Error::reply(format!("the outcome {other:?} is not known"))),
    }
}

#[async_trait]
impl ReaderStore for RedisStore {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    async fn open(&self) -> Result<()> {
        meta::make(&self.link, self.namespace.name(), self.partitions).await
    }

    async fn server(&self) -> Result<Option<Info>> {
        self.read_info().await.map(Some)
    }

    async fn run(&self, id: &str) -> Result<Option<Run>> {
        self.read_run(id).await
    }

    async fn leads_to(&self, run: &str) -> Result<Option<String>> {
        let mut get = redis::cmd("GET");
        get.arg(self.namespace.key_of("alias", run));
        match self.link.send(&get).await? {
            redis::Value::Nil => Ok(None),
            known => reply::text(known).map(Some),
        }
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

    async fn waiting_requests(&self) -> Result<u64> {
        let mut length = redis::cmd("XLEN");
        length.arg(self.namespace.key("inbox"));
        reply::number(&self.link.send(&length).await?)
    }

    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        self.await_end(run, limit).await
    }

    async fn now_ms(&self) -> Result<u64> {
        let now = decode::clock_ms(self.link.send(&redis::cmd("TIME")).await?)?;
        u64::try_from(now).map_err(|_| Error::reply("the time is before 1970"))
    }
}

#[async_trait]
impl CallerStore for RedisStore {
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
}

#[async_trait]
impl WorkerStore for RedisStore {
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        let mut queues: Vec<_> =
            worker.serves.iter().map(|served| QueueName::new(&served.workflow, served.version)).collect();
        queues.sort_unstable();
        let mut command = self.transition("register");
        command.arg(&worker.id).arg(millis(lease)).arg(class_of(&queues));
        command.arg(6).arg("host").arg(&worker.host).arg("pid").arg(worker.pid);
        command.arg("concurrency").arg(worker.concurrency).arg(queues.len());
        for queue in &queues {
            command.arg(queue.as_str());
        }
        command.arg(worker.serves.len() * 2);
        for served in &worker.serves {
            command.arg(QueueName::new(&served.workflow, served.version).as_str()).arg(served.to_json()?);
        }
        self.call(&command).await.map(drop)
    }

    async fn deregister(&self, worker: &str) -> Result<bool> {
        let mut command = self.transition("deregister");
        command.arg(worker).arg(200);
        Ok(self.call(&command).await?.text()? == "ok")
    }

    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        self.open_lease(worker, lease).await
    }

    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        self.open_wake_reader(worker).await
    }

    async fn claim(&self, call: &Call, claim: &Claim) -> Result<Option<Vec<Claimed>>> {
        let mut command = self.transition("claim");
        call_args(&mut command, call);
        claim_args(&mut command, claim);
        let mut reply = self.call(&command).await?;
        if reply.text()? == "lost" {
            return Ok(None);
        }
        let mut claims = reply.array()?.claims(call.number)?;
        let alone = reply.number::<i64>()? == 1;
        for step in &mut claims {
            step.alone = alone;
        }
        Ok(Some(claims))
    }

    async fn joined(&self, step: &Claimed, joined: &Joined, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        self.read_joined(step, joined, from, count).await
    }

    async fn stage(&self, _: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        let mut command = self.transition("stage");
        fence_args(&mut command, fence);
        command.arg(offset);
        emit_args(&mut command, fence.seq, chunk);
        let mut reply = self.call(&command).await?;
        Ok(if reply.text()? == "ok" { Some(reply.number()?) } else { None })
    }

    async fn checkpoint(&self, _: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        if self.record(fence, checkpoint).await? {
            return Ok(Checkpointed { outcome: Outcome::Committed, answers: Vec::new() });
        }
        let mut command = self.transition("checkpoint");
        fence_args(&mut command, fence);
        command.arg(checkpoint.mark.map_or_else(String::new, |mark| mark.to_string()));
        checkpoint_args(&mut command, checkpoint);
        let mut reply = self.call(&command).await?;
        match reply.text()?.as_str() {
            "full" => Err(journal_is_full()),
            "refused" => Err(refused(reply)?),
            "ok" => Ok(Checkpointed { outcome: Outcome::Committed, answers: numbered(reply.array()?)? }),
            known => Ok(outcome(known)?.into()),
        }
    }

    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<Outcome> {
        let mut command = self.transition("publish");
        command.arg(worker).arg(&fence.run).arg(fence.seq).arg(fence.attempt).arg(fence.line.as_str());
        command.arg(event.place()).arg(&event.step).arg(&event.event).arg(event.content.as_str()).arg(&event.data);
        command.arg(event.digest());
        outcome(&self.call(&command).await?.text()?)
    }

    async fn collect(&self, _: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        let mut command = self.transition("collect");
        fence_args(&mut command, fence);
        command.arg(collect.scope).arg(&collect.step).arg(collect.number).arg(&collect.buffer).arg(collect.count);
        command.arg(&collect.payload);
        let mut reply = self.call(&command).await?;
        match reply.text()?.as_str() {
            "ok" => reply.bytes().map(Some),
            "full" => Err(journal_is_full()),
            _ => Ok(None),
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
        let mut command = self.under_fence("complete", call, step, refill);
        commit_args(&mut command, step, commit);
        self.commit(&command, call).await
    }

    async fn fail(
        &self,
        call: &Call,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        let mut command = self.under_fence("fail", call, step, refill);
        match failure {
            Failure::Retry { delay, error } => command.arg("retry").arg(millis(*delay)).arg(error).arg(0),
            Failure::Fail { error, retention } => command.arg("fail").arg(0).arg(error).arg(millis(*retention)),
        };
        self.commit(&command, call).await
    }

    async fn suspend(
        &self,
        call: &Call,
        step: &Claimed,
        waits: &[Wait],
        refill: &Refill,
    ) -> Result<(Outcome, Vec<Claimed>)> {
        let mut command = self.under_fence("suspend", call, step, refill);
        waits_args(&mut command, waits);
        self.commit(&command, call).await
    }

    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        self.read_holds(worker).await
    }

    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        let mut command = self.transition("release");
        command.arg(worker).arg(fences.len() * 5);
        for fence in fences {
            command.arg(fence.slot).arg(&fence.run).arg(fence.seq).arg(fence.attempt).arg(fence.claim);
        }
        self.call(&command).await?.number()
    }
}

#[async_trait]
impl CoordinatorStore for RedisStore {
    async fn start(&self, start: &Start) -> Result<Started> {
        if self.start_shortly(start).await? {
            return Ok(Started::New(start.run.clone()));
        }
        let mut command = self.transition("start");
        let request = &start.request;
        command.arg(&start.run).arg(&request.workflow).arg(start.version).arg(request.content().as_str());
        let key = request.key.as_deref().filter(|_| start.ticket.is_none()).unwrap_or_default();
        command.arg(&request.input).arg(key);
        command.arg(millis(start.key_ttl)).arg(request.delay_ms).arg(start.entry.as_deref().unwrap_or_default());
        command.arg(start.timeout.map_or(-1, |timeout| i64::try_from(millis(timeout)).unwrap_or(i64::MAX)));
        command.arg(start.routes.len());
        for route in &start.routes {
            command.arg(route.record(0, Some('i'), &[]));
        }
        command.arg(u8::from(request.follow_steps));
        command.arg(request.context_from.as_deref().unwrap_or_default()).arg(start.context.len() * 2);
        for (field, value) in &start.context {
            command.arg(field).arg(value);
        }
        command.arg(start.ticket.as_deref().unwrap_or_default());
        let mut reply = self.call(&command).await?;
        match reply.text()?.as_str() {
            "started" => Ok(Started::New(reply.text()?)),
            "void" => Ok(Started::Void),
            "no source" => Ok(Started::NoSource(reply.text()?)),
            _ => Ok(Started::Known(reply.text()?)),
        }
    }

    async fn defer(&self, start: &Start) -> Result<Deferral> {
        let mut command = self.transition("defer");
        let request = &start.request;
        let packed = rmp_serde::to_vec_named(request).map_err(|e| Error::invalid(e.to_string()))?;
        command.arg(&start.run).arg(packed).arg(start.entry.as_deref().unwrap_or_default()).arg(MAX_DEFERRED);
        let key = request.key.as_deref().filter(|_| start.ticket.is_none()).unwrap_or_default();
        command.arg(&request.workflow).arg(key).arg(millis(start.key_ttl));
        match self.call(&command).await?.text()?.as_str() {
            "deferred" => Ok(Deferral::Kept),
            "exists" => Ok(Deferral::Known),
            _ => Ok(Deferral::Full),
        }
    }

    async fn reject(&self, rejection: &Rejection) -> Result<()> {
        let mut command = self.transition("reject");
        command.arg(&rejection.entry).arg(rejection.deferred.as_deref().unwrap_or_default());
        command.arg(rejection.run.as_deref().unwrap_or_default()).arg(&rejection.reason);
        let fields = &rejection.fields[..rejection.fields.len().min(MAX_REJECTED_FIELDS)];
        let kept = if rejection.only_shown { 0 } else { MAX_REJECTED };
        command.arg(kept).arg(millis(REJECTED_RETENTION)).arg(fields.len() * 2);
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        self.call(&command).await.map(drop)
    }

    async fn signal(&self, run: &str, name: &str, payload: &[u8], entry: Option<&str>) -> Result<Signalled> {
        let mut command = self.transition("signal");
        let attributes = attributes::joined(&attributes::of(payload));
        command.arg(run).arg(name).arg(attributes).arg(payload).arg(entry.unwrap_or_default());
        match self.call(&command).await?.text()?.as_str() {
            "delivered" => Ok(Signalled::Delivered),
            "kept" => Ok(Signalled::Kept),
            "gone" => Ok(Signalled::Gone),
            "full" => Ok(Signalled::Full),
            "over" => Ok(Signalled::Over),
            "unknown" => Ok(Signalled::Unknown),
            other => Err(Error::reply(format!("what became of a signal, {other:?}, is not known"))),
        }
    }

    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], entry: Option<&str>) -> Result<Sent> {
        let mut command = self.transition("send");
        command.arg(run).arg(entry.unwrap_or_default());
        emit_args(&mut command, 0, events);
        match self.call(&command).await?.text()?.as_str() {
            "delivered" => Ok(Sent::Delivered),
            "gone" => Ok(Sent::Gone),
            "full" => Ok(Sent::Full),
            "over" => Ok(Sent::Over),
            "unknown" => Ok(Sent::Unknown),
            other => Err(Error::reply(format!("what became of an event, {other:?}, is not known"))),
        }
    }

    async fn cancel(&self, run: &str, entry: Option<&str>, retention: Duration) -> Result<Cancelled> {
        let mut command = self.transition("cancel");
        command.arg(run).arg(entry.unwrap_or_default()).arg(millis(retention));
        match self.call(&command).await?.text()?.as_str() {
            "cancelled" => Ok(Cancelled::Stopped),
            "over" => Ok(Cancelled::Over),
            "gone" => Ok(Cancelled::Gone),
            "unknown" => Ok(Cancelled::Unknown),
            other => Err(Error::reply(format!("what became of a request to cancel, {other:?}, is not known"))),
        }
    }

    async fn tick(&self, tick: &Tick) -> Result<Ticked> {
        let mut command = self.transition("tick");
        command.arg(tick.limit).arg(tick.max_losses).arg(millis(tick.retention)).arg(tick.suspects.len() * 2);
        for (worker, client) in &tick.suspects {
            command.arg(worker).arg(client);
        }
        let mut reply = self.call(&command).await?;
        let _now: u64 = reply.number()?;
        let (requeued, fired, more, wait) =
            (reply.number()?, reply.number()?, reply.number::<i64>()?, reply.number::<i64>()?);
        let mut reaped = reply.array()?;
        let mut ticked = Ticked {
            requeued,
            fired,
            more: more == 1,
            next_due: u64::try_from(wait).ok().map(Duration::from_millis),
            reaped: vec![],
            workers: 0,
        };
        while !reaped.is_over() {
            ticked.reaped.push(reaped.text()?);
        }
        ticked.workers = reply.number()?;
        Ok(ticked)
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
}
