//! The memory store in each of its roles.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryStore;
use super::data::Data;
use crate::durability::{Durability, Epoch};
use crate::error::Result;
use crate::export::Journaled;
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::Namespace;
use crate::published::{Piece, Position, Publication, Published};
use crate::question::OpenQuestion;
use crate::request::{ChildEndedRequest, SendRequest, StartRequest};
use crate::run::Run;
use crate::step::{
    Answered, Body, CallId, Cancelled, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, CommitStatus,
    Failure, Fence, Forked, JoinBuffer, OpenWait, Paused, Refill, Resumed, Retried, Route, SendDeferral, Sent,
    Signalled, Taken, Upon, Wait,
};
use crate::store::{
    AlarmReader, AnswerTo, Audit, Audited, CallerStore, ChildTold, CoordinatorStore, Deferral, Deferred, EntityChange,
    EntityChanged, EntityStore, EntityValue, EventReader, Fire, Fired, Fork, ForkPoint, InboxEntry, InboxReader,
    Introduction, Lease, LiveStep, Origin, ReaderStore, Reap, Reaped, Registration, RejectedRequest, Rejection,
    RequestFate, SessionInfo, Start, Started, WakeReader, WorkerInfo, WorkerStore, millis, too_many_streams,
};

#[async_trait]
impl ReaderStore for MemoryStore {
    fn namespace(&self) -> &Namespace {
        &self.shared.namespace
    }

    async fn run(&self, id: &str) -> Result<Option<Run>> {
        Ok(self.change(|data, now| data.run(now, id)))
    }

    async fn leads_to(&self, run: &str) -> Result<Option<String>> {
        let known =
            |data: &mut Data, now| data.aliases.get(run).filter(|lead| lead.is_good(now)).map(|lead| lead.run.clone());
        Ok(self.change(known))
    }

    async fn key(&self, workflow: &str, key: &str) -> Result<Option<String>> {
        let of = (workflow.to_owned(), key.to_owned());
        let known =
            |data: &mut Data, now| data.keys.get(&of).filter(|lead| lead.is_good(now)).map(|lead| lead.run.clone());
        Ok(self.change(known))
    }

    async fn is_deferred(&self, run: &str) -> Result<bool> {
        Ok(self.change(|data, _| data.deferred.contains_key(run)))
    }

    async fn request_fate(&self, run: &str, request: &str) -> Result<Option<RequestFate>> {
        Ok(self.change(|data, now| data.request_fate(now, run, request)))
    }

    async fn receipts(&self, list: &str) -> Result<Vec<String>> {
        Ok(self.change(|data, now| data.receipts(now, list)))
    }

    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.change(|data, _| data.context(run)))
    }

    async fn session(&self, name: &str) -> Result<Option<SessionInfo>> {
        Ok(self.change(|data, _| data.session(name)))
    }

    async fn journals(&self, run: &str) -> Result<Vec<Journaled>> {
        Ok(self.change(|data, _| data.journals(run)))
    }

    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>> {
        Ok(self.change(|data, _| data.newest(offset, count)))
    }

    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>> {
        Ok(self.change(|data, _| data.history(run, from, count)))
    }

    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>> {
        Ok(self.change(|data, _| data.published(run, after, count)))
    }

    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>> {
        Ok(self.open_event_reader(run, after))
    }

    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>> {
        Ok(self.change(|data, _| data.open_waits(run)))
    }

    async fn questions(&self, run: Option<&str>, from: u64, count: u64) -> Result<Vec<OpenQuestion>> {
        Ok(self.change(|data, _| data.open_questions(run, from, count)))
    }

    async fn live_steps(&self, run: &str) -> Result<Vec<LiveStep>> {
        Ok(self.change(|data, _| data.live_steps(run)))
    }

    async fn rejected(&self, since_ms: u64, before_ms: u64, count: usize) -> Result<Vec<RejectedRequest>> {
        let found = |data: &mut Data, _| {
            let within = data.rejected.iter().rev().filter(|(at, _)| (since_ms..before_ms).contains(at));
            within.take(count).map(|(at, fields)| RejectedRequest::of(*at, fields)).collect()
        };
        Ok(self.change(found))
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        Ok(self.change(|data, now| data.workers(now)))
    }

    async fn registrations(&self) -> Result<Vec<Registration>> {
        Ok(self.change(|data, _| data.registrations.values().cloned().collect()))
    }

    async fn queues(&self) -> Result<Vec<Queue>> {
        Ok(self.change(|data, _| data.queues()))
    }

    async fn deferred(&self) -> Result<Vec<Deferred>> {
        Ok(self.change(|data, _| data.deferred()))
    }

    async fn waiting_requests(&self) -> Result<u64> {
        Ok(self.change(|data, _| data.inbox.len() as u64))
    }

    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        self.await_end(run, limit).await;
        Ok(())
    }

    async fn now_ms(&self) -> Result<u64> {
        Ok(self.shared.clock.now_ms())
    }
}

#[async_trait]
impl EntityStore for MemoryStore {
    async fn entity(&self, kind: &str, key: &str) -> Result<EntityValue> {
        Ok(self.change(|data, now| data.entity(now, kind, key)))
    }

    async fn change_entity(&self, change: &EntityChange<'_>) -> Result<EntityChanged> {
        Ok(self.change(|data, now| data.change_entity(now, change)))
    }
}

#[async_trait]
impl CallerStore for MemoryStore {
    async fn submit(&self, request: &StartRequest) -> Result<String> {
        Ok(self.change(|data, now| data.submit(now, request)))
    }

    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String> {
        Ok(self.change(|data, now| data.enqueue(now, fields.to_vec())))
    }
}

#[async_trait]
impl WorkerStore for MemoryStore {
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        worker.serves.iter().try_for_each(|served| served.to_json().map(drop))?;
        self.change(|data, now| data.register(now, worker, millis(lease)));
        Ok(())
    }

    async fn deregister(&self, worker: &str) -> Result<bool> {
        Ok(self.change(|data, now| data.deregister(now, worker)))
    }

    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        Ok(self.open_lease(worker, lease))
    }

    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        Ok(self.open_wake_reader(worker))
    }

    async fn claim(&self, call: &CallId, claim: &Claim) -> Result<Option<Taken>> {
        Ok(self.change(|data, now| data.claim(now, call, claim)))
    }

    async fn joined(&self, step: &Claimed, joined: &JoinBuffer, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        Ok(self.change(|data, _| data.joined(&step.fence.run, &step.step, joined, from, count)))
    }

    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        Ok(self.change(|data, _| data.stage(worker, fence, offset, chunk)))
    }

    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        let transition = |data: &mut Data, now| data.checkpoint(now, worker, fence, checkpoint);
        // A checkpoint that changes nothing is no commit: how many of them a body makes depends on timing.
        if self.change(|data, _| data.only_asks(fence, checkpoint)) {
            return self.change(transition);
        }
        self.commit(worker, fence, transition).await
    }

    async fn start_run(&self, request: &StartRequest) -> Result<()> {
        self.submit(request).await.map(drop)
    }

    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<CommitStatus> {
        Ok(self.change(|data, now| data.publish(now, worker, fence, event)))
    }

    async fn stream(&self, worker: &str, fence: &Fence, piece: &Piece) -> Result<CommitStatus> {
        self.change(|data, now| data.stream(now, worker, fence, piece)).ok_or_else(too_many_streams)
    }

    async fn collect(&self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        self.change(|data, now| data.collect(now, worker, fence, collect))
    }

    async fn complete(
        &self,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        self.commit(&call.worker, &step.fence, |data, now| data.complete(now, call, step, commit, refill)).await
    }

    async fn fail(
        &self,
        call: &CallId,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        Ok(self.commit(&call.worker, &step.fence, |data, now| data.fail(now, call, step, failure, refill)).await)
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
        self.commit(&call.worker, &step.fence, |data, now| data.suspend(now, call, step, (waits, body, upon), refill))
            .await
    }

    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        Ok(self.change(|data, _| data.holds(worker)))
    }

    async fn confirm(&self, _: Durability, _: &Fence) -> Result<Option<Epoch>> {
        Ok(Some(Epoch::default()))
    }

    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        Ok(self.change(|data, now| data.release(now, worker, fences)))
    }
}

#[async_trait]
impl CoordinatorStore for MemoryStore {
    async fn start(&self, start: &Start) -> Result<Started> {
        Ok(self.change(|data, now| data.start(now, start)))
    }

    async fn defer(&self, start: &Start) -> Result<Deferral> {
        Ok(self.change(|data, now| data.defer(now, start)))
    }

    async fn reject(&self, rejection: &Rejection) -> Result<()> {
        self.change(|data, now| data.reject(now, rejection));
        Ok(())
    }

    async fn signal(&self, run: &str, name: &str, payload: &[u8], origin: Option<&Origin>) -> Result<Signalled> {
        Ok(self.change(|data, now| data.signal(now, run, name, payload, origin)))
    }

    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], origin: Option<&Origin>) -> Result<Sent> {
        Ok(self.change(|data, now| data.send(now, run, events, origin)))
    }

    async fn defer_send(&self, send: &SendRequest, origin: Option<&Origin>) -> Result<SendDeferral> {
        Ok(self.change(|data, now| data.defer_send(now, send, origin)))
    }

    async fn cancel(&self, run: &str, origin: Option<&Origin>, retention: Duration) -> Result<Cancelled> {
        Ok(self.change(|data, now| data.cancel(now, run, origin, millis(retention))))
    }

    async fn retry(&self, run: &str, event: Option<&[u8]>, origin: Option<&Origin>) -> Result<Retried> {
        Ok(self.change(|data, now| data.retry(now, run, event, origin)))
    }

    async fn answer(&self, run: &str, answer: &AnswerTo<'_>, origin: Option<&Origin>) -> Result<Answered> {
        Ok(self.change(|data, now| data.answer(now, run, answer, origin)))
    }

    async fn pause(&self, run: &str, origin: Option<&Origin>) -> Result<Paused> {
        Ok(self.change(|data, now| data.pause(now, run, origin)))
    }

    async fn resume(&self, run: &str, origin: Option<&Origin>) -> Result<Resumed> {
        Ok(self.change(|data, now| data.resume(now, run, origin)))
    }

    async fn forkable(&self, run: &str, seq: Option<u64>) -> Result<ForkPoint> {
        Ok(self.change(|data, now| data.forkable(now, run, seq)))
    }

    async fn fork(&self, fork: &Fork, origin: Option<&Origin>) -> Result<Forked> {
        Ok(self.change(|data, now| data.fork(now, fork, origin)))
    }

    async fn child_ended(&self, ended: &ChildEndedRequest, entry: &str) -> Result<ChildTold> {
        Ok(self.change(|data, now| data.child_ended(now, ended, entry)))
    }

    async fn reap(&self, reap: &Reap) -> Result<Reaped> {
        Ok(self.change(|data, now| data.reap(now, reap)))
    }

    async fn fire(&self, fire: &Fire) -> Result<Fired> {
        Ok(self.change(|data, now| data.fire(now, fire)))
    }

    async fn audit(&self, audit: &Audit) -> Result<Audited> {
        Ok(self.change(|data, now| data.audit(now, audit)))
    }

    async fn disconnected(&self) -> Result<Vec<(String, u64)>> {
        Ok(self.change(|data, _| data.disconnected()))
    }

    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>> {
        Ok(self.open_alarm_reader())
    }

    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>> {
        Ok(self.open_inbox_reader(coordinator))
    }

    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>> {
        let entries = self.change(|data, now| data.reclaim_inbox(now, coordinator, millis(idle)));
        Ok(self.of_inbox(entries))
    }
}
