//! The connection is cut after the command was sent: each transition, when repeated, gives the lost answer and has
//! no second effect.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::Worker;
use stepfleet_integration_tests::double::{call, fire, introduction, reap, refill, route, slots, start, stop};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::proxy::Proxy;
use stepfleet_integration_tests::workflows::Squares;
use stepfleet_shared::codec::Content;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::journal::Entry;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::published::{Piece, Position, Publication, Streams};
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{
    Body, CallId, Cancelled, Checkpoint, Claimed, Commit, CommitStatus, Failure, Fan, Join, Next, Refill, Retried,
    Signalled, Wait,
};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Audit, Deferral, Origin, RedisStore, Rejection, Start, Started};
use tokio_util::task::AbortOnDropHandle;

const HOUR: Duration = Duration::from_secs(3600);

/// A store whose replies can be lost, and the Redis behind it.
struct Shaky {
    fleet: Fleet,
    proxy: Proxy,
    store: RedisStore,
    calls: u64,
}

impl Shaky {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let proxy = Proxy::to(&fleet.redis.url).await;
        let store = RedisStore::new(&proxy.url, Namespace::default()).expect("the test's own URL");
        store.register(&introduction("a"), HOUR).await.unwrap();
        Self { fleet, proxy, store, calls: 0 }
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        call("a", self.calls, false)
    }

    /// Loses the reply of one call, and checks that it was lost.
    async fn lose<T: std::fmt::Debug>(&self, call: impl Future<Output = stepfleet_shared::Result<T>>) {
        let before = self.proxy.lost();
        self.proxy.lose_next_reply();
        let error = call.await.expect_err("the reply was to be lost");
        assert!(error.is_unavailable(), "{error}");
        assert_eq!(self.proxy.lost(), before + 1);
    }

    async fn claim(&mut self, most: usize) -> Vec<Claimed> {
        let mut call = self.call();
        let slots = slots(&call, most);
        self.lose(self.store.claim(&call, &slots)).await;
        call.again = true;
        self.store.claim(&call, &slots).await.unwrap().unwrap().steps
    }

    /// Claims up to this many in all: one slot with the call, the rest with a claim.
    async fn complete(&mut self, step: &Claimed, commit: &Commit, most: usize) -> Vec<Claimed> {
        let mut claimed = self.complete_with(step, commit, &refill(most)).await;
        if claimed.len() < most {
            claimed.extend(self.claim(most - claimed.len()).await);
        }
        claimed
    }

    async fn complete_with(&mut self, step: &Claimed, commit: &Commit, refill: &Refill) -> Vec<Claimed> {
        let mut call = self.call();
        self.lose(self.store.complete(&call, step, commit, refill)).await;
        call.again = true;
        let (outcome, claimed) = self.store.complete(&call, step, commit, refill).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
        claimed
    }

    async fn fail(&mut self, step: &Claimed, failure: &Failure) {
        let mut call = self.call();
        self.lose(self.store.fail(&call, step, failure, &refill(0))).await;
        call.again = true;
        let (outcome, _) = self.store.fail(&call, step, failure, &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
    }

    async fn history(&self, run: &str) -> Vec<Record> {
        self.fleet.store.history(run, 0, 1000).await.unwrap()
    }

    async fn kinds(&self, run: &str) -> Vec<Kind> {
        self.history(run).await.into_iter().map(|r| r.kind).collect()
    }
}

#[tokio::test]
async fn start_defer_and_reject() {
    let shaky = Shaky::new().await;
    shaky.lose(shaky.store.start(&start("r"))).await;
    assert_eq!(shaky.store.start(&start("r")).await.unwrap(), Started::Known("r".into()));
    assert_eq!(shaky.kinds("r").await, [Kind::Start]);

    shaky.lose(shaky.store.defer(&start("d"))).await;
    assert_eq!(shaky.store.defer(&start("d")).await.unwrap(), Deferral::Kept);
    assert_eq!(shaky.fleet.store.deferred().await.unwrap().len(), 1);

    let late =
        Rejection { deferred: Some("d".into()), run: Some("d".into()), reason: "late".into(), ..Rejection::default() };
    shaky.lose(shaky.store.reject(&late)).await;
    shaky.store.reject(&late).await.unwrap();
    let mut redis = shaky.fleet.redis.connection().await;
    let rejected: u64 = redis::cmd("XLEN").arg("sf:{0}:rejected").query_async(&mut redis).await.unwrap();
    assert_eq!(rejected, 1);
}

#[tokio::test]
async fn claim_complete_and_the_claims_that_came_with_them() {
    let mut shaky = Shaky::new().await;
    for run in ["r", "s", "t"] {
        shaky.store.start(&start(run)).await.unwrap();
    }
    let first = shaky.claim(2).await;
    assert_eq!(first.len(), 2, "the claims of the lost reply");
    let commit = Commit { emits: vec![(route("next"), vec![1, 1])], retention: HOUR, ..Commit::default() };
    let more = shaky.complete(&first[0], &commit, 2).await;
    assert_eq!(more.iter().map(|c| c.fence.run.as_str()).collect::<Vec<_>>(), ["t", "r"]);
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Done]);

    shaky.complete(&more[1], &stop(), 0).await;
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Done, Kind::Done, Kind::Completed]);
    let held = shaky.fleet.store.workers().await.unwrap()[0].held;
    assert_eq!(held, 2, "the other two are held once each");
}

#[tokio::test]
async fn fan_outs_joins_and_staging() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let first = shaky.claim(1).await.remove(0);
    let branches: Vec<_> = (0..100u8).map(|n| (route("branch"), vec![1, n])).collect();
    for (at, chunk) in branches.chunks(50).enumerate() {
        let offset = at as u64 * 50;
        shaky.lose(shaky.store.stage("a", &first.fence, offset, chunk)).await;
        let staged = shaky.store.stage("a", &first.fence, offset, chunk).await.unwrap();
        assert_eq!(staged, Some(offset + 50), "a chunk was staged twice");
    }
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 100 });
    let open = Commit { fan, retention: HOUR, ..Commit::default() };
    let mut held = shaky.complete(&first, &open, 30).await;
    let mut branches = 0;
    let join = loop {
        let step = held.remove(0);
        if step.joined.is_some() {
            break step;
        }
        branches += 1;
        let commit =
            Commit { joins: vec![("join".into(), step.payload.clone())], retention: HOUR, ..Commit::default() };
        held.extend(shaky.complete(&step, &commit, 1).await);
        if held.is_empty() {
            held = shaky.claim(30).await;
        }
    };
    assert_eq!((branches, join.joined.as_ref().map(|j| j.count)), (100, Some(100)));
}

#[tokio::test]
async fn publish() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let step = shaky.claim(1).await.remove(0);
    let event = |number: u64| Publication {
        call: 0,
        number,
        step: "first".into(),
        event: "Progress".into(),
        content: Content::Json,
        data: number.to_string().into_bytes(),
    };
    for number in 1..=3 {
        shaky.lose(shaky.store.publish("a", &step.fence, &event(number))).await;
        let again = shaky.store.publish("a", &step.fence, &event(number)).await.unwrap();
        assert_eq!(again, CommitStatus::Committed);
    }
    let published = shaky.fleet.store.published("r", Position::BEGINNING, 100).await.unwrap();
    let read: Vec<u64> = published.iter().map(|entry| entry.read().unwrap().unwrap()).collect();
    assert_eq!(read, [1, 2, 3], "an event was published twice");
}

#[tokio::test]
async fn stream() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let step = shaky.claim(1).await.remove(0);
    let piece = |at: u64| Piece { number: 1, stream: "answer".into(), at, text: "ab".into(), ..Piece::default() };
    for at in [0, 2, 4] {
        shaky.lose(shaky.store.stream("a", &step.fence, &piece(at))).await;
        let again = shaky.store.stream("a", &step.fence, &piece(at)).await.unwrap();
        assert_eq!(again, CommitStatus::Committed);
    }
    let published = shaky.fleet.store.published("r", Position::BEGINNING, 100).await.unwrap();
    let mut streams = Streams::default();
    for entry in &published {
        streams.add(entry);
    }
    assert_eq!((published.len(), &*streams.named("answer").unwrap().text), (3, "ababab"), "a piece was told twice");
}

#[tokio::test]
async fn fail_and_the_timer_of_its_retry() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let first = shaky.claim(1).await.remove(0);
    shaky.fail(&first, &Failure::Retry { delay: Duration::ZERO, error: "e".into() }).await;
    shaky.lose(shaky.store.fire(&fire())).await;
    shaky.store.fire(&fire()).await.unwrap();
    let second = shaky.claim(5).await;
    assert_eq!(second.len(), 1, "the timer fired twice");
    assert_eq!((second[0].fence.attempt, second[0].failures), (2, 1));
    shaky.fail(&second[0], &Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None }).await;
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Retry, Kind::Failed]);
}

#[tokio::test]
async fn register_heartbeat_deregister_and_recovery() {
    let mut shaky = Shaky::new().await;
    shaky.lose(shaky.store.register(&introduction("a"), HOUR)).await;
    shaky.store.register(&introduction("a"), HOUR).await.unwrap();
    shaky.store.start(&start("r")).await.unwrap();
    assert_eq!(shaky.claim(1).await.len(), 1);
    let mut lease = shaky.store.lease("a", HOUR).await.unwrap();
    shaky.lose(lease.heartbeat()).await;
    let mut lease = shaky.store.lease("a", HOUR).await.unwrap();
    assert!(matches!(lease.heartbeat().await.unwrap(), stepfleet_shared::store::Heartbeat::Renewed { .. }));
    drop(lease);

    shaky.lose(shaky.store.deregister("a")).await;
    assert!(shaky.store.deregister("a").await.unwrap());
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Released], "handed back once");
    shaky.store.register(&introduction("a"), HOUR).await.unwrap();
    assert_eq!(shaky.claim(5).await.len(), 1, "queued once");

    let lost = reap(&["a"]);
    shaky.lose(shaky.store.reap(&lost)).await;
    shaky.store.reap(&lost).await.unwrap();
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Released, Kind::Lost]);
    shaky.store.register(&introduction("a"), HOUR).await.unwrap();
    assert_eq!(shaky.claim(5).await.len(), 1, "queued once");
}

fn wait(number: u64) -> Wait {
    Wait { number, name: "approval".into(), ..Wait::default() }
}

#[tokio::test]
async fn checkpoint_suspend_and_signal() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let first = shaky.claim(1).await.remove(0);
    let (set, entries) = (vec![("x".to_owned(), vec![1, 1])], vec![(1, vec![1, 7])]);
    let checkpoint = Checkpoint { set, entries, waits: vec![wait(2)], ..Checkpoint::default() };
    shaky.lose(shaky.store.checkpoint("a", &first.fence, &checkpoint)).await;
    let again = shaky.store.checkpoint("a", &first.fence, &checkpoint).await.unwrap();
    assert_eq!(again, CommitStatus::Committed.into());

    let mut call = shaky.call();
    shaky.lose(shaky.store.suspend(&call, &first, &[wait(2)], Body::Dropped, None, &refill(0))).await;
    call.again = true;
    let (outcome, _) = shaky.store.suspend(&call, &first, &[wait(2)], Body::Dropped, None, &refill(0)).await.unwrap();
    assert_eq!(outcome, CommitStatus::Committed);
    assert!(shaky.claim(1).await.is_empty());

    let entry = shaky.store.enqueue(&[(b"op".to_vec(), b"signal".to_vec())]).await.unwrap();
    let entry = Origin::entry(entry);
    shaky.lose(shaky.store.signal("r", "approval", &[1, 9], Some(&entry))).await;
    let again = shaky.store.signal("r", "approval", &[1, 9], Some(&entry)).await.unwrap();
    assert_eq!(again, Signalled::Gone, "it would have ended another wait");
    let second = shaky.claim(5).await;
    assert_eq!(second.len(), 1, "woken once");
    assert_eq!((second[0].fence.attempt, second[0].failures), (2, 0));
    let mut journal = second[0].journal.clone();
    journal.sort();
    let signal = Entry::Signal { name: "approval", attributes: "", due_ms: None, payload: &[1, 9] }.write();
    assert_eq!(journal, [(1, vec![1, 7]), (2, signal)]);
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Suspended, Kind::Signal]);
}

#[tokio::test]
async fn a_repeated_checkpoint_does_not_undo_what_another_branch_wrote_since() {
    let mut shaky = Shaky::new().await;
    let two = Start { routes: vec![route("first"), route("other")], ..start("r") };
    shaky.store.start(&two).await.unwrap();
    let held = shaky.claim(2).await;
    for (field, entries, mark) in [("x", vec![(1, vec![1, 0])], None), ("y", vec![], Some(1))] {
        let checkpoint = |value: u8| Checkpoint {
            set: vec![(field.to_owned(), vec![1, value])],
            entries: entries.clone(),
            mark,
            ..Checkpoint::default()
        };
        shaky.lose(shaky.store.checkpoint("a", &held[0].fence, &checkpoint(1))).await;
        shaky.store.checkpoint("a", &held[1].fence, &checkpoint(2)).await.unwrap();
        shaky.store.checkpoint("a", &held[0].fence, &checkpoint(1)).await.unwrap();
    }
    shaky.fail(&held[0], &Failure::Retry { delay: Duration::ZERO, error: "e".into() }).await;
    shaky.store.fire(&fire()).await.unwrap();
    let mut context = shaky.claim(1).await[0].context.clone();
    context.sort();
    assert_eq!(context, [("x".to_owned(), vec![1, 2].into()), ("y".to_owned(), vec![1, 2].into())]);
}

#[tokio::test]
async fn cancel_release_and_audit() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let first = shaky.claim(1).await.remove(0);
    shaky.lose(shaky.store.release("a", std::slice::from_ref(&first.fence))).await;
    assert_eq!(shaky.store.release("a", std::slice::from_ref(&first.fence)).await.unwrap(), 0);
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Released]);

    let mut redis = shaky.fleet.redis.connection().await;
    let _: u64 = redis::cmd("DEL").arg("sf:{0}:requeued:w:1").query_async(&mut redis).await.unwrap();
    let audit = Audit { repair: true, from: 0, max_losses: 3, retention: HOUR };
    // The first call of an audit lists keys, the next ones check them: one of those repairs.
    for replies in 0..8 {
        shaky.proxy.lose_reply_after(replies);
        let _ = shaky.store.audit(&audit).await;
    }
    while shaky.store.audit(&audit).await.is_err() {}
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Released, Kind::Repaired], "queued again once");
    let second = shaky.claim(5).await;
    assert_eq!(second.len(), 1);

    shaky.lose(shaky.store.cancel("r", None, HOUR)).await;
    assert_eq!(shaky.store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Over);
    assert_eq!(shaky.store.run("r").await.unwrap().unwrap().status, Status::Cancelled);
    let call = shaky.call();
    let (outcome, _) = shaky.store.complete(&call, &second[0], &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, CommitStatus::Fenced);
    let kinds = shaky.kinds("r").await;
    assert_eq!(kinds, [Kind::Start, Kind::Released, Kind::Repaired, Kind::Cancelled]);
}

#[tokio::test]
async fn retry() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let step = shaky.claim(1).await.remove(0);
    shaky.fail(&step, &Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None }).await;
    let origin = Origin::request("q");
    shaky.lose(shaky.store.retry("r", None, Some(&origin))).await;
    assert_eq!(shaky.store.retry("r", None, Some(&origin)).await.unwrap(), Retried::Repeated);
    assert_eq!(shaky.store.retry("r", None, None).await.unwrap(), Retried::Live);
    assert_eq!(shaky.claim(5).await.len(), 1, "it begins once");
    // A repetition of the call that failed the run gives the same answer, and fails nothing more.
    let call = CallId { again: true, ..shaky.call() };
    shaky
        .store
        .fail(
            &call,
            &step,
            &Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None },
            &refill(0),
        )
        .await
        .unwrap();
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Failed, Kind::Retried]);
}

#[tokio::test]
async fn a_successor_that_is_handed_over() {
    let mut shaky = Shaky::new().await;
    shaky.store.start(&start("r")).await.unwrap();
    let mut step = shaky.claim(1).await.remove(0);
    let following = Refill { next: Next::Following, after: None };
    // The short way; the short way with context; the long way, because of a second event.
    for (value, emitted) in [(0u8, 1), (1, 1), (2, 2)] {
        let emits = (0..emitted).map(|n| (route("next"), vec![1, n])).collect();
        let set = if value > 0 { vec![("x".to_owned(), vec![1, value])] } else { vec![] };
        let commit = Commit { emits, set, retention: HOUR, ..Commit::default() };
        let next = shaky.complete_with(&step, &commit, &following).await;
        assert_eq!(next.iter().map(|next| next.payload.clone()).collect::<Vec<_>>(), [vec![1, 0]]);
        step = next.into_iter().next().unwrap();
        let written = commit.set.iter().map(|(field, value)| (field, &value[..]));
        assert!(
            step.context.iter().map(|(field, value)| (field, &value[..])).eq(written),
            "what was written once is what it is given"
        );
        assert_eq!(step.context_version, u64::from(value));
    }
    assert_eq!(shaky.claim(5).await.len(), 1, "the second event is queued once");
    assert_eq!(shaky.kinds("r").await, [Kind::Start, Kind::Done, Kind::Done, Kind::Done]);
}

#[tokio::test]
async fn a_wake_up_that_goes_to_a_connection_that_is_gone() {
    let mut shaky = Shaky::new().await;
    assert!(shaky.claim(1).await.is_empty(), "it is idle from now on");
    let mut reader = shaky.store.wake_reader("a").await.unwrap();
    shaky.store.start(&start("r")).await.unwrap();
    // The wake-up leaves the list, but the reader's connection is cut before the reader gets it.
    shaky.lose(reader.next()).await;
    drop(reader);
    // An error is no wake-up, but the worker claims after it too.
    assert_eq!(shaky.claim(5).await.len(), 1, "it is still there, once");
    assert!(shaky.claim(5).await.is_empty(), "idle again");

    shaky.store.start(&start("s")).await.unwrap();
    let mut reader = shaky.store.wake_reader("a").await.unwrap();
    assert!(reader.next().await.unwrap(), "it waited while nobody read");
    let claimed = shaky.claim(5).await;
    assert_eq!(claimed.iter().map(|step| step.fence.run.as_str()).collect::<Vec<_>>(), ["s"]);
}

/// The events of a join are read separately from the claim. A lost reply there is not the step's fault either.
#[tokio::test]
async fn whatever_a_worker_is_told_may_be_lost_and_no_step_is_blamed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let proxy = Proxy::to(&fleet.redis.url).await;
    let store = Arc::new(RedisStore::new(&proxy.url, Namespace::default()).unwrap());
    let worker = Worker::new(store, <_>::default()).serve(Squares).unwrap();
    let _at_work = AbortOnDropHandle::new(tokio::spawn(worker.run_until(std::future::pending())));
    fleet.workers_ready(1).await;
    for reply in 0..25 {
        let run = fleet.client.start("squares", &json!({ "count": 2 })).enqueue().await.unwrap();
        proxy.lose_reply_after(reply);
        assert_eq!(run.result::<Value>(HOUR).await.unwrap()["sum"], 5);
        let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
        assert!(history.iter().all(|record| record.kind != Kind::Retry), "reply {reply}: {history:?}");
    }
    // How many calls a run takes depends on how many come together.
    assert!(proxy.lost() > 3, "{} replies were lost", proxy.lost());
}
