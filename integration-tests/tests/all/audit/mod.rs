//! Each kind of key of a live run is deleted: the audit makes it again if the run's state says what it was, and otherwise fails
//! the run with a reason.

mod at_work;
mod of_fleets;
mod of_runs;
mod of_sessions;

use std::time::Duration;

use stepfleet_integration_tests::double::{self, call, join_fleet, refill, route, slots, start};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::step::{CallId, Claimed, Commit, CommitStatus, Failure, Route};
use stepfleet_shared::store::{Audit, Breach, Store};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const HOUR: Duration = Duration::from_secs(3600);

fn emits(count: usize) -> Vec<(Route, Vec<u8>)> {
    (0..count).map(|_| (route("next"), vec![1, 0xc0])).collect()
}

/// A run with something of each kind, and the means to continue it.
struct Stage {
    fleet: Fleet,
    calls: u64,
}

impl Stage {
    async fn new() -> Self {
        let stage = Self { fleet: Fleet::new().await, calls: 0 };
        join_fleet(stage.store(), "a", HOUR).await;
        stage.store().start(&start("r")).await.unwrap();
        stage
    }

    fn store(&self) -> &dyn Store {
        &*self.fleet.store
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        call("a", self.calls, false)
    }

    async fn claim(&mut self, most: usize) -> Vec<Claimed> {
        let call = self.call();
        self.store().claim(&call, &slots(&call, most)).await.unwrap().unwrap_or_default().steps
    }

    async fn complete(&mut self, step: &Claimed, commit: Commit) -> CommitStatus {
        let (call, commit) = (self.call(), Commit { retention: HOUR, ..commit });
        double::complete(self.store(), &call, step, &commit, 0).await.0
    }

    async fn retry(&mut self, step: &Claimed, delay: Duration) {
        let (call, failure) = (self.call(), Failure::Retry { delay, error: "e".into() });
        self.store().fail(&call, step, &failure, &refill(0)).await.unwrap();
    }

    async fn fire(&self) {
        self.store().fire(&double::fire()).await.unwrap();
    }

    /// A whole audit: looks first, which must change nothing, then repairs, then looks again.
    async fn audit(&self) -> Vec<String> {
        let told = self.slices(false).await;
        assert_eq!(told, self.slices(false).await, "a look has changed something");
        let mended = self.slices(true).await;
        // One repair may mend several breaches.
        assert!(!mended.is_empty() || told.is_empty());
        assert!(mended.iter().all(|breach| told.contains(breach)), "{mended:?} was not told of in {told:?}");
        assert_eq!(self.slices(false).await, [] as [Breach; 0], "nothing is left to mend");
        told.into_iter().map(|breach| format!("{}: {}", breach.of, breach.what)).collect()
    }

    async fn slices(&self, repair: bool) -> Vec<Breach> {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let slice = Audit { repair, from: at, max_losses: 3, retention: HOUR };
            let audited = self.store().audit(&slice).await.unwrap();
            found.extend(audited.breaches);
            from = audited.next;
        }
        // SCAN lists keys in no order.
        found.sort_by(|a, b| (&a.of, &a.what).cmp(&(&b.of, &b.what)));
        found
    }

    async fn delete(&self, key: &str) {
        let mut redis = self.fleet.redis.connection().await;
        let key = format!("sf:{{0}}:{key}");
        let deleted: u64 = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
        assert_eq!(deleted, 1, "{key} was not there");
    }

    async fn run(&self) -> Run {
        self.store().run("r").await.unwrap().unwrap()
    }

    /// Claims the next step.
    async fn end(&mut self) {
        let step = self.claim(1).await.pop().expect("something to begin");
        assert_eq!(
            self.complete(&step, Commit { result: Some(b"1".to_vec()), ..Commit::default() }).await,
            CommitStatus::Committed
        );
        assert_eq!(self.run().await.status, Status::Completed);
        assert_eq!(self.audit().await, [] as [&str; 0]);
    }
}
