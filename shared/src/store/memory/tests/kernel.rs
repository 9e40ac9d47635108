//! Fences, repeated calls, losses, fan-outs: the scenarios of `integration-tests/tests/all/kernel.rs`, and more of them.

use crate::store::prelude::*;
use std::time::Duration;

use super::*;
use crate::history::Kind;
use crate::run::Status;
use crate::step::{Failure, Joined, Outcome};
use crate::store::{Heartbeat, Started};

#[tokio::test]
async fn a_repeated_call_gives_the_same_answer_and_has_no_second_effect() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    assert_eq!(store.start(&start("r")).await.unwrap(), Started::New("r".into()));
    assert_eq!(store.start(&start("r")).await.unwrap(), Started::Known("r".into()));

    let first = claim(store, "a", 1, 4).await;
    let again = store.claim(&call("a", 1, true), &slots(&call("a", 1, true), 4)).await.unwrap().unwrap();
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
    let kinds: Vec<Kind> = history.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Start, Kind::Done, Kind::Retry, Kind::Done, Kind::Completed]);
    let details: Vec<&str> = history.iter().map(|record| record.detail.as_str()).collect();
    assert_eq!(details, ["w 1", "1000000", "0 e", "1000000", ""]);
    assert_sound(store);
}

#[tokio::test]
async fn only_the_current_attempt_commits() {
    let store = &store();
    join_fleet(store, "dead", MS).await;
    join_fleet(store, "heir", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let zombie = claim(store, "dead", 1, 1).await.remove(0);
    store.advance(MS);
    assert_eq!(store.tick(&tick()).await.unwrap().requeued, 1);
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
        assert_sound(store);
        if stage == 0 {
            let heir = claim(store, "heir", 1, 1).await.remove(0);
            assert_eq!((heir.fence.attempt, heir.context.len()), (2, 0));
        } else if stage == 1 {
            let heir = store
                .claim(&call("heir", 1, true), &slots(&call("heir", 1, true), 1))
                .await
                .unwrap()
                .unwrap()
                .remove(0);
            store.complete(&call("heir", 2, false), &heir, &stop(), &refill(0)).await.unwrap();
        }
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
    let mut lease = store.lease("dead", LEASE).await.unwrap();
    assert_eq!(lease.heartbeat().await.unwrap(), Heartbeat::Lost, "a heartbeat won a lost lease back");
    assert_eq!(
        store.claim(&call("dead", 9, false), &slots(&call("dead", 9, false), 1)).await.unwrap().map(|c| c.len()),
        None
    );
}

#[tokio::test]
async fn what_a_dead_worker_held_goes_ahead_of_a_backlog() {
    let store = &store();
    join_fleet(store, "dead", MS).await;
    join_fleet(store, "heir", LEASE).await;
    store.start(&start("old")).await.unwrap();
    assert_eq!(claim(store, "dead", 1, 1).await.len(), 1);
    for n in 0..20 {
        store.start(&start(&format!("new-{n}"))).await.unwrap();
    }
    store.advance(MS);
    assert_eq!(store.tick(&tick()).await.unwrap().requeued, 1);
    assert_eq!(claim(store, "heir", 1, 1).await[0].fence.run, "old");
}

#[tokio::test]
async fn a_worker_with_very_many_holds_is_reaped_to_the_end() {
    let store = &store();
    join_fleet(store, "a", MS).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    join_fleet(store, "a", LEASE).await;
    let branches = vec!["branch"; 6000];
    let mut held = complete(store, 2, &first, &fan(&branches, &[], 0), 3000).await;
    // The branches are written a part at a time.
    for number in 3.. {
        let more = claim(store, "a", number, 3000).await;
        if more.is_empty() {
            break;
        }
        held.extend(more);
    }
    assert_eq!(held.len(), 6000);
    join_fleet(store, "a", MS).await;
    store.advance(MS);
    let mut requeued = 0;
    for n in 1..=60 {
        let ticked = store.tick(&tick()).await.unwrap();
        requeued += ticked.requeued;
        assert_eq!(ticked.reaped.len(), usize::from(n == 60), "tick {n}");
        assert_eq!(ticked.more, n < 60, "tick {n}");
    }
    assert_eq!(requeued, 6000);
    assert!(store.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_worker_that_leaves_loses_nothing_and_counts_as_no_loss() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    for attempt in 1..=5 {
        store.start(&start("r")).await.unwrap();
        join_fleet(store, "leaving", LEASE).await;
        let step = claim(store, "leaving", attempt, 1).await.remove(0);
        assert_eq!((step.fence.attempt.into(), step.failures), (attempt, 0));
        assert!(store.deregister("leaving").await.unwrap());
        assert_sound(store);
    }
    let history = store.history("r", 1, 100).await.unwrap();
    assert!(history.iter().all(|record| record.kind == Kind::Released), "{history:?}");
    assert_eq!(store.workers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_step_that_keeps_losing_its_worker_fails_its_run() {
    let store = &store();
    store.start(&start("r")).await.unwrap();
    for loss in 1..=4 {
        join_fleet(store, "dead", MS).await;
        let call = call("dead", loss, false);
        let claim = Claim { alone: true, ..slots(&call, 1) };
        assert_eq!(store.claim(&call, &claim).await.unwrap().unwrap().len(), 1, "loss {loss}");
        store.advance(MS);
        assert_eq!(store.tick(&tick()).await.unwrap().reaped, ["dead"]);
        assert_sound(store);
    }
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!((run.status, run.error_attempt), (Status::Failed, Some(4)));
    assert!(run.error.unwrap().contains("killed its worker 4 times"));
}

#[tokio::test]
async fn a_successor_goes_to_the_slot_that_was_freed_ahead_of_what_waits() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    store.start(&start("waiting")).await.unwrap();
    let following = Refill { next: Next::Following, after: None };
    let commit = emit(&["second", "beside"]);
    let (_, handed) = store.complete(&call("a", 2, false), &first, &commit, &following).await.unwrap();
    let handed = &handed[0];
    assert_eq!((&*handed.fence.run, &*handed.step, handed.fence.slot), ("r", "second", first.fence.slot));
    // Repeated, it is the same; a slot that lets others have their turn takes the one that has waited longest.
    let again = store.complete(&call("a", 2, true), &first, &commit, &following).await.unwrap();
    assert_eq!(again.0, Outcome::Committed);
    assert_eq!(again.1.iter().map(|step| &step.fence).collect::<Vec<_>>(), [&handed.fence]);
    let (_, other) = store.complete(&call("a", 3, false), handed, &emit(&["third"]), &refill(1)).await.unwrap();
    assert_eq!((&*other[0].fence.run, &*other[0].step), ("waiting", "first"));
    let rest: Vec<String> = claim(store, "a", 4, 9).await.into_iter().map(|step| step.step).collect();
    assert_eq!(rest, ["beside", "third"]);
    assert_sound(store);
}

#[tokio::test]
async fn a_fan_out_joins_exactly_once_in_order_of_arrival() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    let mut branches = complete(store, 2, &first, &fan(&["branch"; 3], &["join"], 0), 3).await;
    assert_eq!(branches.len(), 3);
    branches.reverse();
    for (i, branch) in branches.iter().enumerate() {
        let number = [3u8, 4, 5][i];
        let next = complete(store, number.into(), branch, &joins("join", number), 3).await;
        assert_eq!(next.len(), usize::from(i == 2), "the join begins with the last branch");
        assert_sound(store);
        if let Some(join) = next.first() {
            assert_eq!(join.scope, 0);
            let joined = join.joined.clone().unwrap();
            assert_eq!(joined, Joined { scope: 1, count: 3 });
            let events = store.joined(join, &joined, 0, 10).await.unwrap();
            assert_eq!(events, [vec![1, 3], vec![1, 4], vec![1, 5]]);
            assert_eq!(store.joined(join, &joined, 1, 1).await.unwrap(), [vec![1, 4]]);
            complete(store, 9, join, &stop(), 0).await;
        }
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn fan_outs_nest_and_end_inside_out() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    let outer = complete(store, 2, &first, &fan(&["outer"; 2], &["all"], 0), 2).await;
    // The first branch opens a fan-out of none that nothing joins; the second one of two, whose join joins in turn.
    assert!(complete(store, 3, &outer[0], &fan(&[], &[], 0), 1).await.is_empty());
    let inner = complete(store, 4, &outer[1], &fan(&["inner"; 2], &["some"], 0), 2).await;
    assert_eq!(inner.iter().map(|step| (step.fence.seq, step.scope)).collect::<Vec<_>>(), [(4, 3), (5, 3)]);
    // An inner branch reaches over its own fan-out.
    assert!(complete(store, 5, &inner[0], &joins("all", 7), 1).await.is_empty());
    let some = complete(store, 6, &inner[1], &joins("some", 8), 1).await.remove(0);
    assert_eq!((some.scope, some.joined.clone()), (1, Some(Joined { scope: 3, count: 1 })));
    assert_sound(store);
    let all = complete(store, 7, &some, &joins("all", 9), 1).await.remove(0);
    assert_eq!((all.scope, all.joined.clone()), (0, Some(Joined { scope: 1, count: 2 })));
    // An event for a join that no open fan-out has fails the run.
    complete(store, 8, &all, &joins("some", 1), 1).await;
    let run = store.run("r").await.unwrap().unwrap();
    assert!(run.error.unwrap().contains("the joining step \"some\""));
    assert_eq!((run.status, run.error_step.as_deref()), (Status::Failed, Some("all")));
    assert_sound(store);
}

#[tokio::test]
async fn a_run_with_nothing_left_to_do_fails() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    let (outcome, _) = store.complete(&call("a", 2, false), &first, &emit(&[]), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
    let (outcome, _) = store.complete(&call("a", 2, true), &first, &emit(&[]), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed, "a repeat of the commit that failed the run");
    let kinds: Vec<_> = store.history("r", 1, 9).await.unwrap().into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Done, Kind::Failed]);
    assert!(store.run("r").await.unwrap().unwrap().error.unwrap().contains("without its stop event"));
}

#[tokio::test]
async fn a_staged_fan_out_is_written_in_batches_with_others_in_between() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let first = claim(store, "a", 1, 1).await.remove(0);
    let chunk: Vec<_> = (0..50u8).map(|n| (route("branch"), vec![1, n])).collect();
    for (offset, length) in [(0, 50), (50, 100), (50, 100), (0, 50), (50, 100), (100, 150)] {
        assert_eq!(store.stage("a", &first.fence, offset, &chunk).await.unwrap(), Some(length));
    }
    assert!(claim(store, "a", 2, 1).await.is_empty(), "what is staged is not there yet");
    complete(store, 3, &first, &fan(&[], &["join"], 150), 0).await;
    store.start(&start("other")).await.unwrap();
    assert_sound(store);
    let claimed = claim(store, "a", 4, 200).await;
    let order: Vec<_> = claimed.iter().map(|step| (step.fence.run.as_str(), step.fence.seq)).collect();
    let mut expected = vec![("other", 1)];
    expected.extend((2..=151).map(|seq| ("r", seq)));
    // A claim looks three times into a queue: each look begins what the one before it wrote.
    assert_eq!(order, expected[..order.len()]);
    assert_eq!(order.len(), 1 + 64 + 64);
    assert_eq!(claimed[1].payload, [1, 0]);
    assert_sound(store);
    assert_eq!(claim(store, "a", 5, 200).await.len(), 150 - 128);
    assert_sound(store);
}
