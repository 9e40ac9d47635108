//! What a worker may do: a transition each, and its connections.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::readers::{IDLE_BLOCK, RedisLease, RedisWakeReader};
use crate::core::args::ms;
use crate::core::build;
use crate::core::decode::held;
use crate::core::generated::{args, words};
use crate::core::outcome::{numbered, refused};
use crate::core::reply::Reply;
use crate::core::short::{self as short_ways, Shortly, handed_over, slot_after};
use crate::durability::{Durability, Epoch};
use crate::error::Result;
use crate::published::{Piece, Publication};
use crate::request::StartRequest;
use crate::step::{
    Body, CallId, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, CommitStatus, Failure, Fence, JoinBuffer,
    Next, Refill, Route, Taken, Upon, Wait,
};
use crate::store::{CallerStore, Introduction, Lease, WakeReader, WorkerStore, journal_is_full, too_many_streams};

/// The most that one joined slice reads.
const MAX_SLICE: u64 = 1000;

#[async_trait]
impl WorkerStore for RedisStore {
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        match self.ask(&build::register(worker, lease)?).await?.0 {
            words::Register::Ok => Ok(()),
        }
    }

    async fn deregister(&self, worker: &str) -> Result<bool> {
        let (word, _) = self.ask(&args::Deregister { worker, limit: 200 }).await?;
        Ok(word == words::Deregister::Ok)
    }

    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        let mut connection = self.link.named(lease, &format!("stepfleet-lease-{worker}")).await?;
        let client: u64 = connection.query(redis::cmd("CLIENT").arg("ID")).await?;
        let (prefix, worker) = (self.namespace.prefix().to_owned(), worker.to_owned());
        Ok(Box::new(RedisLease { connection, prefix, worker, lease: ms(lease), client, made: 0, told: 0 }))
    }

    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        let connection = self.link.dedicated(IDLE_BLOCK, &format!("stepfleet-idle-{worker}")).await?;
        let mut wait = redis::cmd("BLPOP");
        wait.arg(self.namespace.key_of("wake", worker)).arg(IDLE_BLOCK.as_secs());
        Ok(Box::new(RedisWakeReader { connection, wait }))
    }

    async fn claim(&self, call: &CallId, claim: &Claim) -> Result<Option<Taken>> {
        let (word, mut reply) = self.ask(&build::claim(call, claim)).await?;
        if word == words::Claim::Lost {
            return Ok(None);
        }
        let mut steps = reply.array()?.claims(call.number)?;
        let alone = reply.number::<i64>()? == 1;
        for step in &mut steps {
            step.alone = alone;
        }
        let vacated = if reply.is_over() { Vec::new() } else { reply.array()?.texts()? };
        Ok(Some(Taken { steps, vacated }))
    }

    async fn joined(&self, step: &Claimed, joined: &JoinBuffer, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        let list = format!("{}:{}:{}", self.namespace.key_of("joined", &step.fence.run), joined.group, step.step);
        let last = from + count.clamp(1, MAX_SLICE) - 1;
        self.link.read(redis::cmd("LRANGE").arg(list).arg(from).arg(last)).await
    }

    async fn stage(&self, _: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        let (word, mut reply) = self.ask(&build::stage(fence, offset, chunk)).await?;
        match word {
            words::Stage::Ok => reply.number().map(Some),
            words::Stage::Fenced => Ok(None),
        }
    }

    async fn checkpoint(&self, _: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        if self.record(fence, checkpoint).await? {
            return Ok(Checkpointed { outcome: CommitStatus::Committed, answers: Vec::new() });
        }
        let (word, mut reply) = self.ask(&build::checkpoint(fence, checkpoint)).await?;
        match word {
            words::Checkpoint::Ok => {
                Ok(Checkpointed { outcome: CommitStatus::Committed, answers: numbered(reply.array()?)? })
            }
            words::Checkpoint::Fenced => Ok(CommitStatus::Fenced.into()),
            words::Checkpoint::Conflict => Ok(CommitStatus::Conflict.into()),
            words::Checkpoint::Full => Err(journal_is_full()),
            words::Checkpoint::Refused => Err(refused(reply)?),
        }
    }

    async fn start_run(&self, request: &StartRequest) -> Result<()> {
        self.submit(request).await.map(drop)
    }

    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<CommitStatus> {
        let (word, _) = self.ask(&build::publish(worker, fence, event)).await?;
        Ok(word.into())
    }

    async fn stream(&self, worker: &str, fence: &Fence, piece: &Piece) -> Result<CommitStatus> {
        match self.ask(&build::stream(worker, fence, piece)).await?.0 {
            words::Stream::Ok => Ok(CommitStatus::Committed),
            words::Stream::Fenced => Ok(CommitStatus::Fenced),
            words::Stream::Full => Err(too_many_streams()),
        }
    }

    async fn collect(&self, _: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        let (word, mut reply) = self.ask(&build::collect(fence, collect)).await?;
        match word {
            words::Collect::Ok => reply.bytes().map(Some),
            words::Collect::Full => Err(journal_is_full()),
            words::Collect::Fenced => Ok(None),
        }
    }

    async fn complete(
        &self,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        if let Shortly::Committed(next) = self.complete_shortly(call, step, commit, refill).await? {
            return Ok((CommitStatus::Committed, next.into_iter().map(|next| *next).collect()));
        }
        let (word, mut reply) = self.ask(&build::complete(call, step, commit, refill)).await?;
        let claims = reply.array()?;
        let outcome = match word {
            words::Complete::Ok => CommitStatus::Committed,
            words::Complete::Fenced => CommitStatus::Fenced,
            words::Complete::Forgotten => CommitStatus::Forgotten,
            words::Complete::Unstaged => CommitStatus::Unstaged,
            words::Complete::Conflict => CommitStatus::Conflict,
            words::Complete::Refused => return Err(refused(reply)?),
        };
        Ok((outcome, claims.claims(call.number)?))
    }

    async fn fail(
        &self,
        call: &CallId,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        let (word, mut reply) = self.ask(&build::fail(call, step, failure, refill)).await?;
        Ok((word.into(), reply.array()?.claims(call.number)?))
    }

    async fn suspend(
        &self,
        call: &CallId,
        step: &Claimed,
        waits: &[Wait],
        body: Body,
        upon: Option<Upon>,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        let (word, mut reply) = self.ask(&build::suspend(call, step, (waits, body, upon), refill)).await?;
        let outcome = match word {
            words::Suspend::Ok => CommitStatus::Committed,
            words::Suspend::Fenced => CommitStatus::Fenced,
            words::Suspend::Forgotten => CommitStatus::Forgotten,
            words::Suspend::Full => return Err(journal_is_full()),
        };
        Ok((outcome, reply.array()?.claims(call.number)?))
    }

    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.namespace.key_of("held", worker));
        let pairs = Reply::new(self.link.send(&all).await?)?.pairs()?;
        Ok(pairs.iter().filter_map(|(execution, hold)| held(execution, hold)).collect())
    }

    async fn confirm(&self, durability: Durability, fence: &Fence) -> Result<Option<Epoch>> {
        let epoch = self.barriers.of(durability).pass(&self.link, &self.namespace).await?;
        let mut get = redis::cmd("HGET");
        get.arg(self.namespace.key_of("steps", &fence.run)).arg(fence.seq);
        let line: Option<String> = self.link.send_as(&get).await?;
        Ok((line.as_deref() == Some(fence.line.as_str())).then_some(epoch))
    }

    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        self.call(&build::release(worker, fences)).await?.number()
    }
}

impl RedisStore {
    /// The short ways of a commit.
    async fn complete_shortly(
        &self,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<Shortly> {
        let is_theirs = step.fence.line.as_str().split(' ').nth(4) == Some(&*call.worker);
        if call.again || refill.next != Next::Following || !is_theirs || !commit.is_plain(step) {
            return Ok(Shortly::LongWay);
        }
        if let Some(result) = &commit.result {
            if step.group != 0 {
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

    /// The short way of a checkpoint: false if it must go the long way.
    async fn record(&self, fence: &Fence, checkpoint: &Checkpoint) -> Result<bool> {
        let Some(given) = short_ways::record(fence, checkpoint) else { return Ok(false) };
        short_ways::was_gone(&self.short.go(&given).await?)
    }
}
