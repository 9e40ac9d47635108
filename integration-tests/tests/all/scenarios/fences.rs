//! Repeated calls, and commits of attempts that are no longer current.

use stepfleet_integration_tests::double::{
    call, claim, claim_again, emit, join_fleet, refill, route, slots, start, stop,
};
use stepfleet_integration_tests::scene::{BEGINNING_MS, on_both};
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Collect, CommitStatus, Failure, Next, Refill};
use stepfleet_shared::store::{Heartbeat, Started};

use super::*;

#[tokio::test]
async fn a_repeated_call_gives_the_same_answer_and_has_no_second_effect() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        assert_eq!(store.start(&start("r")).await.unwrap(), Started::New("r".into()));
        assert_eq!(store.start(&start("r")).await.unwrap(), Started::Known("r".into()));

        let first = claim(store, "a", 1, 4).await;
        let again = claim_again(store, "a", 1, 4).await;
        assert_eq!(first.len(), 1, "the second start queued nothing");
        assert_eq!(again[0].fence, first[0].fence);

        let commit = emit(&["second"]);
        let (outcome, next) = store.complete(&call("a", 2, false), &first[0], &commit, &refill(1)).await.unwrap();
        assert_eq!((outcome, next.len()), (CommitStatus::Committed, 1));
        let (outcome, same) = store.complete(&call("a", 2, true), &first[0], &commit, &refill(1)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
        assert_eq!(same[0].fence, next[0].fence);

        let retry = Failure::Retry { delay: Duration::ZERO, error: "e".into() };
        for again in [false, true] {
            let (outcome, _) = store.fail(&call("a", 3, again), &next[0], &retry, &refill(0)).await.unwrap();
            assert_eq!(outcome, CommitStatus::Committed);
        }
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 1);
        let second = claim(store, "a", 4, 4).await;
        assert_eq!((second[0].fence.attempt, second[0].failures), (2, 1));
        for again in [false, true] {
            let (outcome, _) = store.complete(&call("a", 5, again), &second[0], &stop(), &refill(0)).await.unwrap();
            assert_eq!(outcome, CommitStatus::Committed);
        }
        let history = store.history("r", 0, 100).await.unwrap();
        let kinds: Vec<Kind> = history.iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [Kind::Start, Kind::Done, Kind::Retry, Kind::Done, Kind::Completed]);
        let details: Vec<&str> = history.iter().map(|record| record.detail.as_str()).collect();
        assert_eq!([details[0], details[2], details[4]], ["w 1", "0 e", ""]);
        // When the attempt began.
        for done in [&history[1], &history[3]] {
            let since: u64 = done.detail.parse().unwrap();
            assert!((history[0].at_ms..=done.at_ms).contains(&since), "{history:?}");
            assert!(scene.redis().is_some() || since == BEGINNING_MS, "{history:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn only_the_current_attempt_commits() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "dead", MS).await;
        join_fleet(store, "heir", HOUR).await;
        store.start(&start("r")).await.unwrap();
        let zombie = claim(store, "dead", 1, 1).await.remove(0);
        scene.pass(MS).await;
        assert_eq!(store.reap(&reap(&[])).await.unwrap().requeued, 1);
        let mut written = emit(&["second"]);
        written.set.push(("field".into(), vec![1, 1]));
        // Queued again and not yet begun, then begun by another worker, then committed by it: the zombie never commits.
        for stage in 0..3 {
            let (outcome, claims) =
                store.complete(&call("dead", 2, stage > 0), &zombie, &written, &refill(1)).await.unwrap();
            assert_eq!((outcome, claims.len()), (CommitStatus::Fenced, 0), "stage {stage}");
            let failure = Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None };
            let (outcome, _) = store.fail(&call("dead", 3, false), &zombie, &failure, &refill(0)).await.unwrap();
            assert_eq!(outcome, CommitStatus::Fenced, "stage {stage}");
            assert_eq!(store.stage("dead", &zombie.fence, 0, &[(route("x"), vec![1])]).await.unwrap(), None);
            scene.assert_sound().await;
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
    })
    .await;
}

#[tokio::test]
async fn a_fence_is_void_for_a_later_run_of_the_same_id() {
    on_both(async |scene| {
        let store = scene.store();
        let ghost = held(scene).await;
        store.cancel("r", None, Duration::ZERO).await.unwrap();
        store.fire(&fire()).await.unwrap();
        assert!(store.run("r").await.unwrap().is_none());
        store.start(&start("r")).await.unwrap();
        let step = claim(store, "a", 2, 1).await.remove(0);
        assert_eq!((ghost.fence.seq, ghost.fence.attempt), (step.fence.seq, step.fence.attempt));
        let (outcome, _) = store.complete(&call("a", 3, false), &ghost, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced);
        let (outcome, _) = store.complete(&call("a", 4, false), &step, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_forgets_is_told_what_its_workers_do_not_hold() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let before = scene.save().await;
        complete(store, 2, &step, &emit(&["next"]), 0).await;
        let next = claim(store, "a", 3, 1).await.remove(0);
        scene.restore(&before).await;
        let fences = std::slice::from_ref(&step.fence);
        assert_eq!(store.holds("a").await.unwrap(), fences, "it counts on what was committed");
        let (outcome, _) = store.complete(&call("a", 4, false), &next, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced, "what it never heard of");
        assert_eq!(store.release("a", fences).await.unwrap(), 1);
        assert_eq!(store.release("a", fences).await.unwrap(), 0);
        scene.assert_sound().await;
        let again = claim(store, "a", 5, 1).await.remove(0);
        assert_eq!((again.fence.seq, again.fence.attempt), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_ghost_of_the_same_attempt_and_worker_cannot_commit() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        store.start(&start("r")).await.unwrap();
        let before = scene.save().await;
        let ghost = claim(store, "a", 1, 1).await.remove(0);
        scene.restore(&before).await;
        let real = claim(store, "a", 2, 1).await.remove(0);
        assert_eq!((ghost.fence.seq, ghost.fence.attempt), (real.fence.seq, real.fence.attempt));
        let (outcome, _) = store.complete(&call("a", 3, false), &ghost, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced);
        assert_eq!(store.holds("a").await.unwrap(), [real.fence]);
    })
    .await;
}

#[tokio::test]
async fn a_worker_commits_nothing_that_another_holds() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        join_fleet(store, "b", LEASE).await;
        let commit = emit(&["second", "beside"]);
        let (outcome, _) = store.complete(&call("b", 1, false), &step, &commit, &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced);
        assert_eq!(store.holds("a").await.unwrap(), std::slice::from_ref(&step.fence));
        let (outcome, _) = store.complete(&call("a", 2, false), &step, &commit, &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn the_short_ways_of_a_commit_are_fenced_too() {
    on_both(async |scene| {
        let store = scene.store();
        let zombie = held(scene).await;
        assert_eq!(store.reap(&reap(&["a"])).await.unwrap().requeued, 1);
        for worker in ["a", "heir"] {
            join_fleet(store, worker, LEASE).await;
        }
        let heir = claim(store, "heir", 1, 1).await.remove(0);
        let following = Refill { next: Next::Following, after: None };
        // One successor in the same slot, and the end of the run.
        for (number, commit) in [(2, emit(&["second"])), (3, stop())] {
            let (outcome, more) =
                store.complete(&call("a", number, false), &zombie, &commit, &following).await.unwrap();
            assert_eq!((outcome, more.len()), (CommitStatus::Fenced, 0), "{commit:?}");
        }
        let kinds: Vec<_> = store.history("r", 0, 9).await.unwrap().into_iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [Kind::Start, Kind::Lost]);
        assert_eq!(store.holds("heir").await.unwrap(), std::slice::from_ref(&heir.fence));
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
    })
    .await;
}

#[tokio::test]
async fn a_collection_is_fenced() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let one = |number| Collect {
            number,
            step: step.step.clone(),
            group: step.group,
            buffer: "pages".into(),
            count: 2,
            payload: vec![1, 7],
            upon: None,
        };
        assert!(store.collect("a", &step.fence, &one(1)).await.unwrap().is_some());
        store.reap(&reap(&["a"])).await.unwrap();
        assert_eq!(store.collect("a", &step.fence, &one(2)).await.unwrap(), None);
    })
    .await;
}
