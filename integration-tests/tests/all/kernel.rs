//! The transitions themselves, driven by hand on a real Redis: fences, repeated calls, losses, fan-outs.

use std::time::Duration;

use stepfleet::run::Status;
use stepfleet::step::{Checkpoint, Claim, Claimed, Commit, Failure, Fan, Join, Next, Outcome, Refill, Signalled, Wait};
use stepfleet::store::{
    Audit, Deferral, Heartbeat, Introduction, Registration, Rejection, Start, Started, Store, Tick,
};
use stepfleet_integration_tests::double::{
    call, claim, complete, introduction, join_fleet, refill, route, slots, start,
};
use stepfleet_integration_tests::fleet::Fleet;

const LEASE: Duration = Duration::from_secs(60);

fn emit(steps: &[&str]) -> Commit {
    Commit { emits: steps.iter().map(|s| (route(s), vec![1, 0xc0])).collect(), retention: LEASE, ..Commit::default() }
}

fn stop() -> Commit {
    Commit { result: Some(b"\"ok\"".to_vec()), retention: LEASE, ..Commit::default() }
}

async fn claim_again(store: &dyn Store, worker: &str, number: u64, most: usize) -> Vec<Claimed> {
    let call = call(worker, number, true);
    store.claim(&call, &slots(&call, most)).await.unwrap().unwrap()
}

fn tick() -> Tick {
    stepfleet_integration_tests::double::tick(&[])
}

#[tokio::test]
async fn a_repeated_call_gives_the_same_answer_and_has_no_second_effect() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    assert_eq!(store.start(&start("r")).await.unwrap(), Started::New("r".into()));
    assert_eq!(store.start(&start("r")).await.unwrap(), Started::Known("r".into()));

    let first = claim(store, "a", 1, 4).await;
    let again = claim_again(store, "a", 1, 4).await;
    assert_eq!(first.len(), 1, "the second start queued nothing");
    assert_eq!(again[0].fence, first[0].fence);

    let (outcome, next) =
        store.complete(&call("a", 2, false), &first[0], &emit(&["second"]), &refill(1)).await.unwrap();
    assert_eq!((outcome, next.len()), (Outcome::Committed, 1));
    let (outcome, same) = store.complete(&call("a", 2, true), &first[0], &emit(&["second"]), &refill(1)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
    assert_eq!(same[0].fence, next[0].fence);

    let retry = Failure::Retry { delay: Duration::ZERO, error: "e".into() };
    for again in [false, true] {
        let (outcome, _) = store.fail(&call("a", 3, again), &next[0], &retry, &refill(0)).await.unwrap();
        assert_eq!(outcome, Outcome::Committed);
    }
    assert_eq!(store.tick(&tick()).await.unwrap().fired, 1);
    let second = claim(store, "a", 4, 4).await;
    assert_eq!((second[0].fence.attempt, second[0].failures), (2, 1));
    for again in [false, true] {
        let (outcome, _) = store.complete(&call("a", 5, again), &second[0], &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, Outcome::Committed);
    }
    let history = store.history("r", 0, 100).await.unwrap();
    assert_eq!(history.len(), 5, "start, done, retry, done, completed: {history:?}");
}

#[tokio::test]
async fn only_the_current_attempt_commits() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "dead", Duration::from_millis(1)).await;
    join_fleet(store, "heir", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let zombie = claim(store, "dead", 1, 1).await.remove(0);
    while store.tick(&tick()).await.unwrap().requeued == 0 {}
    let mut written = emit(&["second"]);
    written.set.push(("field".into(), vec![1, 1]));
    // Queued again and not yet begun, then begun by another, then committed by the other: never the zombie's.
    for stage in 0..3 {
        let (outcome, claims) =
            store.complete(&call("dead", 2, stage > 0), &zombie, &written, &refill(1)).await.unwrap();
        assert_eq!((outcome, claims.len()), (Outcome::Fenced, 0), "stage {stage}");
        let failure = Failure::Fail { error: "e".into(), retention: LEASE };
        let (outcome, _) = store.fail(&call("dead", 3, false), &zombie, &failure, &refill(0)).await.unwrap();
        assert_eq!(outcome, Outcome::Fenced, "stage {stage}");
        assert_eq!(store.stage("dead", &zombie.fence, 0, &[(route("x"), vec![1])]).await.unwrap(), None);
        if stage == 0 {
            let heir = claim(store, "heir", 1, 1).await.remove(0);
            assert_eq!((heir.fence.attempt, heir.context.len()), (2, 0));
        } else if stage == 1 {
            let heir = claim_again(store, "heir", 1, 1).await.remove(0);
            store.complete(&call("heir", 2, false), &heir, &stop(), &refill(0)).await.unwrap();
        }
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
    let mut lease = store.lease("dead", LEASE).await.unwrap();
    assert_eq!(lease.heartbeat().await.unwrap(), Heartbeat::Lost, "a heartbeat won a lost lease back");
    let late = call("dead", 9, false);
    assert!(store.claim(&late, &slots(&late, 1)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_dead_worker_held_goes_ahead_of_a_backlog() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "dead", Duration::from_millis(1)).await;
    join_fleet(store, "heir", LEASE).await;
    store.start(&start("old")).await.unwrap();
    assert_eq!(claim(store, "dead", 1, 1).await.len(), 1);
    for n in 0..20 {
        store.start(&start(&format!("new-{n}"))).await.unwrap();
    }
    while store.tick(&tick()).await.unwrap().requeued == 0 {}
    assert_eq!(claim(store, "heir", 1, 1).await[0].fence.run, "old");
}

#[tokio::test]
async fn a_worker_with_very_many_holds_is_reaped_to_the_end() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "dead", Duration::from_millis(1)).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "dead", 1, 1).await.remove(0);
    join_fleet(store, "dead", LEASE).await;
    let branches = vec!["branch"; 6000];
    let mut open = emit(&branches);
    open.fan = Some(Fan { joins: vec![], staged: 0 });
    let (_, mut held) = complete(store, &call("dead", 2, false), &first, &open, 3000).await;
    // The branches are written a part at a time.
    for number in 3.. {
        let more = claim(store, "dead", number, 3000).await;
        if more.is_empty() {
            break;
        }
        held.extend(more);
    }
    assert_eq!(held.len(), 6000);
    join_fleet(store, "dead", Duration::from_millis(1)).await;
    let mut requeued = 0;
    for _ in 0..1000 {
        let ticked = store.tick(&tick()).await.unwrap();
        requeued += ticked.requeued;
        if !ticked.reaped.is_empty() {
            break;
        }
    }
    assert_eq!(requeued, 6000);
    assert!(store.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_is_forgotten_when_its_retention_is_over_and_not_before() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    // What a partition has anyway, however many runs there were.
    store.tick(&tick()).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let before: u64 = redis::cmd("DBSIZE").query_async(&mut redis).await.unwrap();
    for (id, retention) in [("short", Duration::ZERO), ("long", LEASE)] {
        store.start(&start(id)).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        let mut commit = Commit { retention, ..stop() };
        commit.set.push(("field".into(), vec![1, 1]));
        store.complete(&call("a", 2, false), &step, &commit, &refill(0)).await.unwrap();
    }
    while store.tick(&tick()).await.unwrap().fired == 0 {}
    assert!(store.run("short").await.unwrap().is_none());
    assert!(store.history("short", 0, 10).await.unwrap().is_empty());
    assert_eq!(store.run("long").await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(store.runs(0, 10).await.unwrap().len(), 1);
    let after: u64 = redis::cmd("DBSIZE").query_async(&mut redis).await.unwrap();
    // The run that is kept: its hash, its input, its context, its history; the index of runs and the timers; that the
    // queue has had entries, and what the worker's slots have had.
    assert_eq!(after, before + 8);
}

#[tokio::test]
async fn a_key_that_outlives_its_run_starts_another() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    let mut first = start("first");
    first.request.key = Some("k".into());
    let mut second = first.clone();
    second.run = "second".into();
    assert_eq!(store.start(&first).await.unwrap(), Started::New("first".into()));
    assert_eq!(store.start(&second).await.unwrap(), Started::Known("first".into()));
    assert_eq!(store.defer(&second).await.unwrap(), Deferral::Known, "a repeat is held as if it were new");
    let mut redis = fleet.redis.connection().await;
    let () = redis::cmd("DEL").arg("sf:{0}:run:first").query_async(&mut redis).await.unwrap();
    assert_eq!(store.start(&second).await.unwrap(), Started::New("second".into()));
}

#[tokio::test]
async fn a_rejection_does_not_take_the_id_of_a_request_that_waits() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    assert_eq!(store.defer(&start("r")).await.unwrap(), Deferral::Kept);
    let bad = Rejection { run: Some("r".into()), reason: "bad".into(), ..Rejection::default() };
    store.reject(&bad).await.unwrap();
    assert!(store.run("r").await.unwrap().is_none());
    let late = Rejection { deferred: Some("r".into()), ..bad };
    for _ in 0..2 {
        store.reject(&late).await.unwrap();
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Rejected);
    let mut redis = fleet.redis.connection().await;
    let kept: u64 = redis::cmd("XLEN").arg("sf:{0}:rejected").query_async(&mut redis).await.unwrap();
    assert_eq!(kept, 2, "one for each request");
}

#[tokio::test]
async fn a_step_that_keeps_losing_its_worker_fails_its_run() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    store.start(&start("r")).await.unwrap();
    for loss in 1..=4 {
        join_fleet(store, "dead", Duration::from_millis(1)).await;
        let call = call("dead", loss, false);
        let claim = Claim { alone: true, ..slots(&call, 1) };
        assert_eq!(store.claim(&call, &claim).await.unwrap().unwrap().len(), 1, "loss {loss}");
        while store.tick(&tick()).await.unwrap().reaped.is_empty() {}
    }
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!(run.status, Status::Failed);
    assert!(run.error.unwrap().contains("killed its worker 4 times"));
}

#[tokio::test]
async fn a_successor_goes_to_the_slot_that_was_freed_ahead_of_what_waits() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let mut step = claim(store, "a", 1, 1).await.remove(0);
    store.start(&start("waiting")).await.unwrap();
    let following = Refill { next: Next::Following, after: None };
    // The short way of a commit, and the long one, which two events need.
    for (number, emitted) in [(2, &["second"][..]), (3, &["third", "beside"][..])] {
        let commit = emit(emitted);
        let (_, handed) = store.complete(&call("a", number, false), &step, &commit, &following).await.unwrap();
        let (handed_on, slot) = (handed[0].clone(), step.fence.slot);
        assert_eq!((&*handed_on.fence.run, &*handed_on.step, handed_on.fence.slot), ("r", emitted[0], slot));
        let again = store.complete(&call("a", number, true), &step, &commit, &following).await.unwrap();
        assert_eq!(again.0, Outcome::Committed);
        assert_eq!(again.1.iter().map(|step| &step.fence).collect::<Vec<_>>(), [&handed_on.fence]);
        step = handed_on;
    }
    // A slot that lets others have their turn takes the one that has waited longest.
    let (_, other) = store.complete(&call("a", 4, false), &step, &emit(&["fourth"]), &refill(1)).await.unwrap();
    assert_eq!((&*other[0].fence.run, &*other[0].step), ("waiting", "first"));
    let rest: Vec<String> = claim(store, "a", 5, 9).await.into_iter().map(|step| step.step).collect();
    assert_eq!(rest, ["beside", "fourth"]);
}

#[tokio::test]
async fn a_slot_that_has_something_else_by_now_takes_nothing_more() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    for run in ["r", "s", "t"] {
        store.start(&start(run)).await.unwrap();
    }
    let first = claim(store, "a", 1, 1).await.remove(0);
    let (_, next) = store.complete(&call("a", 2, false), &first, &emit(&["second"]), &refill(1)).await.unwrap();
    assert_eq!(next[0].fence.run, "s");
    // The first one's commit, under another call: it is fenced, and what its slot has now stays there.
    let (outcome, more) = store.complete(&call("a", 3, false), &first, &stop(), &refill(1)).await.unwrap();
    assert_eq!((outcome, more.len()), (Outcome::Fenced, 0));
    assert_eq!(store.holds("a").await.unwrap(), [next[0].fence.clone()]);
    let (outcome, _) = store.complete(&call("a", 4, false), &next[0], &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
}

#[tokio::test]
async fn a_fan_out_joins_exactly_once_in_order_of_arrival() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    let mut open = emit(&["branch", "branch", "branch"]);
    open.fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 0 });
    let (_, mut branches) = complete(store, &call("a", 2, false), &first, &open, 3).await;
    assert_eq!(branches.len(), 3);
    branches.reverse();
    for (i, branch) in branches.iter().enumerate() {
        let number = [3u8, 4, 5][i];
        let mut commit = emit(&[]);
        commit.joins.push(("join".into(), vec![1, number]));
        let (_, next) = complete(store, &call("a", number.into(), false), branch, &commit, 3).await;
        assert_eq!(next.len(), usize::from(i == 2), "the join begins with the last branch");
        if let Some(join) = next.first() {
            let joined = join.joined.clone().unwrap();
            assert_eq!((joined.count, join.scope), (3, 0));
            let events = store.joined(join, &joined, 0, 10).await.unwrap();
            assert_eq!(events, [vec![1, 3], vec![1, 4], vec![1, 5]]);
            store.complete(&call("a", 9, false), join, &stop(), &refill(0)).await.unwrap();
        }
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn the_library_is_loaded_again_when_redis_has_lost_it() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    assert_eq!(claim(store, "a", 1, 1).await.len(), 1);
    let () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("XGROUP")
        .arg("DESTROY")
        .arg("sf:{0}:queue:w:1")
        .arg("workers")
        .query_async(&mut redis)
        .await
        .unwrap();
    store.start(&start("s")).await.unwrap();
    assert_eq!(claim(store, "a", 2, 1).await.len(), 1, "the group was not made again");
}

#[tokio::test]
async fn a_run_that_loops_for_ever_comes_to_its_limit() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let mut redis = fleet.redis.connection().await;
    let _: u64 = redis::cmd("HSET").arg(&["sf:{0}:steps:r", "last", "999999"]).query_async(&mut redis).await.unwrap();
    let (_, held) = store.complete(&call("a", 2, false), &step, &emit(&["next"]), &refill(1)).await.unwrap();
    assert_eq!(held[0].fence.seq, 1_000_000);
    store.complete(&call("a", 3, false), &held[0], &emit(&["next"]), &refill(1)).await.unwrap();
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!(run.status, Status::Failed);
    assert!(run.error.unwrap().contains("its limit of 1000000 step executions"));
}

#[tokio::test]
async fn a_fence_is_void_for_a_later_run_of_the_same_id() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let ghost = claim(store, "a", 1, 1).await.remove(0);
    store.cancel("r", None, Duration::ZERO).await.unwrap();
    store.tick(&tick()).await.unwrap();
    assert!(store.run("r").await.unwrap().is_none());
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 2, 1).await.remove(0);
    assert_eq!((ghost.fence.seq, ghost.fence.attempt), (step.fence.seq, step.fence.attempt));
    let (outcome, _) = store.complete(&call("a", 3, false), &ghost, &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced);
    let (outcome, _) = store.complete(&call("a", 4, false), &step, &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
}

#[tokio::test]
async fn what_a_step_records_has_a_limit() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let entries = |from: u64| Checkpoint {
        entries: (from..from + 5000).map(|number| (number, vec![1, 7])).collect(),
        ..Checkpoint::default()
    };
    for from in [0, 5000] {
        store.checkpoint("a", &step.fence, &entries(from)).await.unwrap();
    }
    assert!(store.checkpoint("a", &step.fence, &entries(10_000)).await.unwrap_err().is_too_large());
    let waits = |from: u64, count: u64| Checkpoint {
        waits: (from..from + count).map(|number| Wait { number, name: "n".into(), ..Wait::default() }).collect(),
        ..Checkpoint::default()
    };
    let mut redis = fleet.redis.connection().await;
    let _: u64 = redis::cmd("DEL").arg("sf:{0}:journal:r:1").query_async(&mut redis).await.unwrap();
    store.checkpoint("a", &step.fence, &waits(20_000, 1000)).await.unwrap();
    assert!(store.checkpoint("a", &step.fence, &waits(30_000, 1)).await.unwrap_err().is_too_large());
}

#[tokio::test]
async fn delays_of_any_length_can_be_read_back() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let failure = Failure::Retry { delay: Duration::MAX, error: "e".into() };
    store.fail(&call("a", 2, false), &step, &failure, &refill(0)).await.unwrap();
    let mut redis = fleet.redis.connection().await;
    let state: String = redis::cmd("HGET").arg("sf:{0}:steps:r").arg("1").query_async(&mut redis).await.unwrap();
    let due = state.rsplit(' ').next().unwrap();
    assert!(due.len() == 14 && due.bytes().all(|byte| byte.is_ascii_digit()), "{state}");
    let audit = Audit { repair: true, from: 0, max_losses: 3, retention: LEASE };
    assert_eq!(store.audit(&audit).await.unwrap().breaches, []);
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
}

#[tokio::test]
async fn so_many_signals_are_kept_and_no_more() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    store.start(&start("r")).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(store.signal("r", "n", &[1, 7], None).await.unwrap(), Signalled::Kept);
    }
    assert_eq!(store.signal("r", "n", &[1, 7], None).await.unwrap(), Signalled::Full);
    assert_eq!(store.signal("r", "other", &[1, 7], None).await.unwrap(), Signalled::Kept);
}

#[tokio::test]
async fn the_highest_version_there_can_be() {
    let fleet = Fleet::new().await;
    let store = &*fleet.store;
    let serves = vec![Registration { workflow: "w".into(), version: u32::MAX, ..Registration::default() }];
    let newest = Introduction { serves, ..introduction("a") };
    store.register(&newest, LEASE).await.unwrap();
    store.start(&Start { version: u32::MAX, ..start("r") }).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    assert_eq!(step.version, u32::MAX);
}
