//! A worker's store with a bug: it panics in a chosen call, or never answers it, a given number of times; otherwise it is a real
//! store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use stepfleet_shared::Result;
use stepfleet_shared::durability::{Durability, Epoch};
use stepfleet_shared::export::Journaled;
use stepfleet_shared::fleet::Queue;
use stepfleet_shared::history::Record;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::published::{Piece, Position, Publication, Published};
use stepfleet_shared::question::OpenQuestion;
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::run::Run;
use stepfleet_shared::server::Info;
use stepfleet_shared::step::{
    Body, CallId, Checkpoint, Checkpointed, Claim, Claimed, Collect, Commit, CommitStatus, Failure, Fence, JoinBuffer,
    OpenWait, Refill, Route, Taken, Upon, Wait,
};
use stepfleet_shared::store::{
    Deferred, EntityChange, EntityChanged, EntityStore, EntityValue, EventReader, Heartbeat, Introduction, Lease,
    LiveStep, ReaderStore, Registration, RejectedRequest, RequestFate, SessionInfo, Store, WakeReader, WorkerInfo,
    WorkerStore,
};

/// What it does to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It panics before the call, which then has no effect.
    Before,
    /// It panics after the call, whose answer is lost; after a claim that got something.
    After,
    /// It never answers the call, which takes effect. Not for claims.
    Never,
}

/// A store with a bug.
#[derive(Clone)]
pub struct Buggy {
    store: Arc<dyn Store>,
    bug: Arc<Bug>,
    lives: Arc<AtomicU32>,
}

struct Bug {
    call: &'static str,
    when: When,
    left: AtomicU32,
}

impl Bug {
    fn at(&self, call: &str, when: When) {
        assert!(!self.strikes(call, when), "a bug in {call}");
    }

    fn strikes(&self, call: &str, when: When) -> bool {
        let one_less = |left: u32| (call == self.call && when == self.when).then(|| left.checked_sub(1)).flatten();
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }
}

impl Buggy {
    /// The bug is in this method of [`WorkerStore`], this many times; `heartbeat` and `wake` belong to the readers that it opens, and
    /// panic before the call.
    pub fn new(store: Arc<dyn Store>, call: &'static str, when: When, times: u32) -> Self {
        Self { store, bug: Arc::new(Bug { call, when, left: AtomicU32::new(times) }), lives: Arc::default() }
    }

    /// How many times are left.
    pub fn left(&self) -> u32 {
        self.bug.left.load(Ordering::SeqCst)
    }

    /// How often the worker has registered, each time under a new id.
    pub fn lives(&self) -> u32 {
        self.lives.load(Ordering::SeqCst)
    }

    async fn around<T>(&self, name: &str, call: impl Future<Output = T>) -> T {
        self.bug.at(name, When::Before);
        let answer = call.await;
        self.bug.at(name, When::After);
        if self.bug.strikes(name, When::Never) {
            std::future::pending::<()>().await;
        }
        answer
    }
}

struct Reading<T: ?Sized>(Box<T>, Arc<Bug>);

#[async_trait]
impl Lease for Reading<dyn Lease> {
    async fn heartbeat(&mut self) -> Result<Heartbeat> {
        self.1.at("heartbeat", When::Before);
        self.0.heartbeat().await
    }
    async fn heartbeat_idle(&mut self) -> Result<bool> {
        self.1.at("heartbeat", When::Before);
        self.0.heartbeat_idle().await
    }
    async fn closed(&mut self) {
        self.0.closed().await;
    }
}

#[async_trait]
impl WakeReader for Reading<dyn WakeReader> {
    async fn next(&mut self) -> Result<bool> {
        self.1.at("wake", When::Before);
        self.0.next().await
    }
}

#[async_trait]
impl ReaderStore for Buggy {
    fn namespace(&self) -> &Namespace {
        self.store.namespace()
    }
    async fn open(&self) -> Result<()> {
        self.store.open().await
    }
    async fn server(&self) -> Result<Option<Info>> {
        self.store.server().await
    }
    async fn run(&self, id: &str) -> Result<Option<Run>> {
        self.store.run(id).await
    }
    async fn leads_to(&self, run: &str) -> Result<Option<String>> {
        self.store.leads_to(run).await
    }
    async fn key(&self, workflow: &str, key: &str) -> Result<Option<String>> {
        self.store.key(workflow, key).await
    }
    async fn is_deferred(&self, run: &str) -> Result<bool> {
        self.store.is_deferred(run).await
    }
    async fn request_fate(&self, run: &str, request: &str) -> Result<Option<RequestFate>> {
        self.store.request_fate(run, request).await
    }
    async fn receipts(&self, list: &str) -> Result<Vec<String>> {
        self.store.receipts(list).await
    }
    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.store.context(run).await
    }
    async fn session(&self, name: &str) -> Result<Option<SessionInfo>> {
        self.store.session(name).await
    }
    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>> {
        self.store.runs(offset, count).await
    }
    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>> {
        self.store.history(run, from, count).await
    }
    async fn journals(&self, run: &str) -> Result<Vec<Journaled>> {
        self.store.journals(run).await
    }
    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>> {
        self.store.published(run, after, count).await
    }
    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>> {
        self.store.event_reader(run, after).await
    }
    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>> {
        self.store.waits(run).await
    }
    async fn questions(&self, run: Option<&str>, from: u64, count: u64) -> Result<Vec<OpenQuestion>> {
        self.store.questions(run, from, count).await
    }
    async fn live_steps(&self, run: &str) -> Result<Vec<LiveStep>> {
        self.store.live_steps(run).await
    }
    async fn rejected(&self, since_ms: u64, before_ms: u64, count: usize) -> Result<Vec<RejectedRequest>> {
        self.store.rejected(since_ms, before_ms, count).await
    }
    async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        self.store.workers().await
    }
    async fn registrations(&self) -> Result<Vec<Registration>> {
        self.store.registrations().await
    }
    async fn queues(&self) -> Result<Vec<Queue>> {
        self.store.queues().await
    }
    async fn deferred(&self) -> Result<Vec<Deferred>> {
        self.store.deferred().await
    }
    async fn waiting_requests(&self) -> Result<u64> {
        self.store.waiting_requests().await
    }
    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        self.store.wait_ended(run, limit).await
    }
    async fn now_ms(&self) -> Result<u64> {
        self.store.now_ms().await
    }
}

#[async_trait]
impl EntityStore for Buggy {
    async fn entity(&self, kind: &str, key: &str) -> Result<EntityValue> {
        self.store.entity(kind, key).await
    }
    async fn change_entity(&self, change: &EntityChange<'_>) -> Result<EntityChanged> {
        self.store.change_entity(change).await
    }
}

#[async_trait]
impl WorkerStore for Buggy {
    async fn register(&self, worker: &Introduction, lease: Duration) -> Result<()> {
        self.lives.fetch_add(1, Ordering::SeqCst);
        self.store.register(worker, lease).await
    }
    async fn deregister(&self, worker: &str) -> Result<bool> {
        self.store.deregister(worker).await
    }
    async fn lease(&self, worker: &str, lease: Duration) -> Result<Box<dyn Lease>> {
        Ok(Box::new(Reading(self.store.lease(worker, lease).await?, self.bug.clone())))
    }
    async fn wake_reader(&self, worker: &str) -> Result<Box<dyn WakeReader>> {
        Ok(Box::new(Reading(self.store.wake_reader(worker).await?, self.bug.clone())))
    }
    async fn claim(&self, call: &CallId, claim: &Claim) -> Result<Option<Taken>> {
        self.bug.at("claim", When::Before);
        let claimed = self.store.claim(call, claim).await;
        if claimed.as_ref().is_ok_and(|claimed| claimed.as_ref().is_some_and(|taken| !taken.steps.is_empty())) {
            self.bug.at("claim", When::After);
        }
        claimed
    }
    async fn joined(&self, step: &Claimed, joined: &JoinBuffer, from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
        self.around("joined", self.store.joined(step, joined, from, count)).await
    }
    async fn stage(&self, worker: &str, fence: &Fence, offset: u64, chunk: &[(Route, Vec<u8>)]) -> Result<Option<u64>> {
        self.around("stage", self.store.stage(worker, fence, offset, chunk)).await
    }
    async fn checkpoint(&self, worker: &str, fence: &Fence, checkpoint: &Checkpoint) -> Result<Checkpointed> {
        self.around("checkpoint", self.store.checkpoint(worker, fence, checkpoint)).await
    }
    async fn start_run(&self, request: &StartRequest) -> Result<()> {
        self.around("start_run", self.store.start_run(request)).await
    }
    async fn publish(&self, worker: &str, fence: &Fence, event: &Publication) -> Result<CommitStatus> {
        self.around("publish", self.store.publish(worker, fence, event)).await
    }
    async fn stream(&self, worker: &str, fence: &Fence, piece: &Piece) -> Result<CommitStatus> {
        self.around("stream", self.store.stream(worker, fence, piece)).await
    }
    async fn collect(&self, worker: &str, fence: &Fence, collect: &Collect) -> Result<Option<Vec<u8>>> {
        self.around("collect", self.store.collect(worker, fence, collect)).await
    }
    async fn complete(
        &self,
        call: &CallId,
        step: &Claimed,
        commit: &Commit,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        self.around("complete", self.store.complete(call, step, commit, refill)).await
    }
    async fn fail(
        &self,
        call: &CallId,
        step: &Claimed,
        failure: &Failure,
        refill: &Refill,
    ) -> Result<(CommitStatus, Vec<Claimed>)> {
        self.around("fail", self.store.fail(call, step, failure, refill)).await
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
        self.around("suspend", self.store.suspend(call, step, waits, body, upon, refill)).await
    }
    async fn holds(&self, worker: &str) -> Result<Vec<Fence>> {
        self.around("holds", self.store.holds(worker)).await
    }
    async fn confirm(&self, durability: Durability, fence: &Fence) -> Result<Option<Epoch>> {
        self.around("confirm", self.store.confirm(durability, fence)).await
    }
    async fn release(&self, worker: &str, fences: &[Fence]) -> Result<u64> {
        self.around("release", self.store.release(worker, fences)).await
    }
}
