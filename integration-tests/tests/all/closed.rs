//! Fan-outs that a join with `First` has closed, and steps with a limit: the transitions, driven by hand on both
//! stores.

use std::time::Duration;

use stepfleet_integration_tests::double::{self, call, join_fleet, refill, route, start};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::codec::Content;
use stepfleet_shared::history::Kind;
use stepfleet_shared::published::{Position, Publication};
use stepfleet_shared::step::{
    Body, CallId, Checkpoint, Claimed, Collect, Commit, CommitStatus, Failure, Fan, Join, Route, Sent, Signalled, Wait,
};
use stepfleet_shared::store::{Audit, Store};

const HOUR: Duration = Duration::from_secs(3600);

/// One worker, driven by hand.
struct Hand<'a> {
    store: &'a dyn Store,
    calls: u64,
}

impl<'a> Hand<'a> {
    /// Begins a run.
    async fn new(store: &'a dyn Store) -> (Self, Claimed) {
        join_fleet(store, "a", HOUR).await;
        store.start(&start("r")).await.unwrap();
        let mut hand = Self { store, calls: 0 };
        let first = hand.claim(1).await.remove(0);
        (hand, first)
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        call("a", self.calls, false)
    }

    async fn claim(&mut self, most: usize) -> Vec<Claimed> {
        let number = self.call().number;
        double::claim(self.store, "a", number, most).await
    }

    async fn complete(&mut self, step: &Claimed, commit: Commit) -> CommitStatus {
        let (call, commit) = (self.call(), Commit { retention: HOUR, ..commit });
        double::complete(self.store, &call, step, &commit, 0).await.0
    }

    async fn fire(&self) -> u64 {
        self.store.fire(&double::fire()).await.unwrap().fired
    }
}

fn branches(route: &Route, count: u8, first: u32) -> Commit {
    let joins = vec![Join { route: double::route("join"), first: Some(first) }];
    let emits = (0..count).map(|n| (route.clone(), vec![1, n])).collect();
    Commit { emits, fan: Some(Fan { joins, staged: 0 }), ..Commit::default() }
}

fn join() -> Commit {
    Commit { joins: vec![("join".into(), vec![1, 7])], ..Commit::default() }
}

fn steps(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|step| step.step.as_str()).collect()
}

#[tokio::test]
async fn what_belongs_to_a_closed_fan_out_can_do_nothing_more() {
    on_both(async |scene| {
        let store = scene.store();
        let (mut hand, first) = Hand::new(store).await;
        assert_eq!(hand.complete(&first, branches(&route("branch"), 5, 1)).await, CommitStatus::Committed);
        let held = hand.claim(4).await;
        // One of them opens an inner fan-out; its branch is in the closed one too.
        let inner = branches(&route("inner"), 1, 1);
        assert_eq!(hand.complete(&held[2], inner).await, CommitStatus::Committed);
        let waits = vec![Wait { number: 1, name: "paid".into(), ..Wait::default() }];
        let suspended = store.suspend(&hand.call(), &held[3], &waits, Body::Dropped, None, &refill(0)).await.unwrap().0;
        assert_eq!(suspended, CommitStatus::Committed);
        assert_eq!(hand.complete(&held[0], join()).await, CommitStatus::Committed);
        // Before anything was reaped.
        let late = &held[1];
        let (worker, fence) = ("a", &late.fence);
        let checkpoint = Checkpoint { entries: vec![(1, vec![1])], ..Checkpoint::default() };
        assert_eq!(store.checkpoint(worker, fence, &checkpoint).await.unwrap(), CommitStatus::Fenced.into());
        let (step, group, buffer) = (late.step.clone(), late.group, "b".to_owned());
        let collect = Collect { number: 2, step, group, buffer, count: 1, payload: vec![1], upon: None };
        assert_eq!(store.collect(worker, fence, &collect).await.unwrap(), None);
        let publication = Publication {
            call: 0,
            number: 1,
            event: "E".into(),
            step: late.step.clone(),
            content: Content::Json,
            data: b"1".to_vec(),
        };
        assert_eq!(store.publish(worker, fence, &publication).await.unwrap(), CommitStatus::Fenced);
        assert!(store.published("r", Position::BEGINNING, 10).await.unwrap().is_empty());
        let set = Commit { set: vec![("late".into(), vec![1, 1])], ..join() };
        assert_eq!(hand.complete(late, set).await, CommitStatus::Fenced);
        assert_eq!(store.signal("r", "paid", &[1, 9], None).await.unwrap(), Signalled::Kept);
        // Of all queued step executions, only the join is still valid.
        let claimed = hand.claim(10).await;
        assert_eq!(steps(&claimed), ["join"]);
        assert_eq!(hand.fire().await, 1);
        let held: Vec<_> = store.holds("a").await.unwrap();
        assert_eq!(held, [claimed[0].fence.clone()]);
        assert!(store.context("r").await.unwrap().is_empty());
        assert_eq!(
            hand.complete(&claimed[0], Commit { result: Some(b"1".to_vec()), ..Commit::default() }).await,
            CommitStatus::Committed
        );
        let history = store.history("r", 0, 100).await.unwrap();
        let dropped = history.iter().filter(|record| record.kind == Kind::Dropped).count();
        assert_eq!(dropped, 2, "the late one and the one that waited: {history:?}");
    })
    .await;
}

#[tokio::test]
async fn turns_go_on_from_commit_to_commit_and_out_of_closed_fan_outs() {
    on_both(async |scene| {
        let store = scene.store();
        let (mut hand, first) = Hand::new(store).await;
        let limited = Route { limit: Some(2), ..route("limited") };
        hand.complete(&first, branches(&limited, 6, 2)).await;
        let held = hand.claim(10).await;
        assert_eq!(held.len(), 2, "two have a turn");
        // A retry keeps its turn.
        let failure = Failure::Retry { delay: Duration::ZERO, error: "e".into() };
        store.fail(&hand.call(), &held[1], &failure, &refill(0)).await.unwrap();
        assert!(hand.claim(10).await.is_empty());
        assert_eq!(hand.fire().await, 1);
        let again = hand.claim(10).await;
        assert_eq!(again[0].fence.seq, held[1].fence.seq);
        assert_eq!(hand.complete(&held[0], join()).await, CommitStatus::Committed);
        let third = hand.claim(10).await;
        assert_eq!((third.len(), third[0].fence.seq), (1, held[1].fence.seq + 1), "in order");
        // The second join event closes the fan-out; step executions that held or awaited a turn are void.
        assert_eq!(hand.complete(&again[0], join()).await, CommitStatus::Committed);
        hand.fire().await;
        assert_eq!(hand.complete(&third[0], Commit::default()).await, CommitStatus::Fenced);
        // So others can use the whole limit.
        let joined = hand.claim(10).await;
        assert_eq!(steps(&joined), ["join"]);
        let emits = (0..3).map(|n| (limited.clone(), vec![1, n])).collect();
        hand.complete(&joined[0], Commit { emits, ..Commit::default() }).await;
        assert_eq!(hand.claim(10).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_collected_or_sent_twice_counts_once() {
    on_both(async |scene| {
        let store = scene.store();
        let (mut hand, first) = Hand::new(store).await;
        let collect = |number| Collect {
            number,
            step: "first".into(),
            group: 0,
            buffer: "b".into(),
            count: 2,
            payload: vec![1, 8],
            upon: None,
        };
        for _ in 0..2 {
            assert_eq!(store.collect("a", &first.fence, &collect(1)).await.unwrap(), Some(b"c".to_vec()));
        }
        for _ in 0..2 {
            let entry = store.collect("a", &first.fence, &collect(2)).await.unwrap().unwrap();
            let events = stepfleet_shared::step::collected(&entry).unwrap().unwrap();
            assert_eq!(events, [[1, 8], [1, 8]]);
        }
        let entry = store.enqueue(&[(b"op".to_vec(), b"send".to_vec())]).await.unwrap();
        let entry = stepfleet_shared::store::Origin::entry(entry);
        let events = [(route("sent"), vec![1, 5])];
        assert_eq!(store.send("r", &events, Some(&entry)).await.unwrap(), Sent::Delivered);
        assert_eq!(store.send("r", &events, Some(&entry)).await.unwrap(), Sent::Gone);
        assert_eq!(steps(&hand.claim(10).await), ["sent"]);
        // The run rests if it may, and otherwise ends.
        assert_eq!(hand.complete(&first, Commit::default()).await, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn branches_that_were_staged_in_a_closed_fan_out_are_not_missed() {
    on_both(async |scene| {
        let store = scene.store();
        let (mut hand, first) = Hand::new(store).await;
        hand.complete(&first, branches(&route("branch"), 2, 1)).await;
        let held = hand.claim(2).await;
        let staged: Vec<_> = (0..3).map(|n| (route("inner"), vec![1, n])).collect();
        assert_eq!(store.stage("a", &held[0].fence, 0, &staged).await.unwrap(), Some(3));
        let fan = Some(Fan { joins: vec![Join::all(route("inner_join"))], staged: 3 });
        assert_eq!(hand.complete(&held[0], Commit { fan, ..Commit::default() }).await, CommitStatus::Committed);
        assert_eq!(hand.complete(&held[1], join()).await, CommitStatus::Committed);
        // The entry that would have created them is claimed without effect. Nothing was discarded yet.
        assert_eq!(steps(&hand.claim(10).await), ["join"]);
        let audit = Audit { repair: false, from: 0, max_losses: 3, retention: HOUR };
        let mut from = Some(0);
        while let Some(at) = from {
            let audited = store.audit(&Audit { from: at, ..audit.clone() }).await.unwrap();
            assert_eq!(audited.breaches, []);
            from = audited.next;
        }
    })
    .await;
}
