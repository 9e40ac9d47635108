//! Fan-outs and their joins.

use stepfleet_integration_tests::double::{claim, emit, fan, joins, route, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, Commit, CommitStatus, Fan, Join, JoinBuffer, Next, Refill, Signalled, Wait};
use stepfleet_shared::store::Start;

use super::*;

#[tokio::test]
async fn a_fan_out_joins_exactly_once_in_order_of_arrival() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        let mut branches = complete(store, 2, &first, &fan(&["branch"; 3], &["join"], 0), 3).await;
        assert_eq!(branches.len(), 3);
        branches.reverse();
        for (i, branch) in branches.iter().enumerate() {
            let number = [3u8, 4, 5][i];
            let next = complete(store, number.into(), branch, &joins("join", number), 3).await;
            assert_eq!(next.len(), usize::from(i == 2), "the join begins with the last branch");
            scene.assert_sound().await;
            if let Some(join) = next.first() {
                assert_eq!(join.group, 0);
                let joined = join.joined.clone().unwrap();
                assert_eq!(joined, JoinBuffer { group: 1, count: 3 });
                let events = store.joined(join, &joined, 0, 10).await.unwrap();
                assert_eq!(events, [vec![1, 3], vec![1, 4], vec![1, 5]]);
                assert_eq!(store.joined(join, &joined, 1, 1).await.unwrap(), [vec![1, 4]]);
                complete(store, 9, join, &stop(), 0).await;
            }
        }
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
    })
    .await;
}

#[tokio::test]
async fn fan_outs_nest_and_end_inside_out() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        let outer = complete(store, 2, &first, &fan(&["outer"; 2], &["all"], 0), 2).await;
        // The first branch opens an empty fan-out that nothing joins; the second opens one of two, whose join joins in turn.
        assert!(complete(store, 3, &outer[0], &fan(&[], &[], 0), 1).await.is_empty());
        let inner = complete(store, 4, &outer[1], &fan(&["inner"; 2], &["some"], 0), 2).await;
        assert_eq!(inner.iter().map(|step| (step.fence.seq, step.group)).collect::<Vec<_>>(), [(4, 3), (5, 3)]);
        // An inner branch emits past its own fan-out.
        assert!(complete(store, 5, &inner[0], &joins("all", 7), 1).await.is_empty());
        let some = complete(store, 6, &inner[1], &joins("some", 8), 1).await.remove(0);
        assert_eq!((some.group, some.joined.clone()), (1, Some(JoinBuffer { group: 3, count: 1 })));
        scene.assert_sound().await;
        let all = complete(store, 7, &some, &joins("all", 9), 1).await.remove(0);
        assert_eq!((all.group, all.joined.clone()), (0, Some(JoinBuffer { group: 1, count: 2 })));
        // An event for a join that no open fan-out has fails the run.
        complete(store, 8, &all, &joins("some", 1), 1).await;
        let run = store.run("r").await.unwrap().unwrap();
        assert!(run.error.unwrap().contains("the joining step \"some\""));
        assert_eq!((run.status, run.error_step.as_deref()), (Status::Failed, Some("all")));
    })
    .await;
}

#[tokio::test]
async fn what_an_outer_join_leaves_behind_is_not_handed_over() {
    on_both(async |scene| {
        let store = scene.store();
        let with_the_first = |branches: &[&str], join: &str| {
            let joins = vec![Join { route: route(join), first: Some(1) }];
            Commit { fan: Some(Fan { joins, staged: 0 }), ..emit(branches) }
        };
        let first = held(scene).await;
        let outer = complete(store, 2, &first, &with_the_first(&["outer"; 2], "all"), 2).await;
        let inner = complete(store, 3, &outer[0], &with_the_first(&["inner"], "some"), 1).await.remove(0);
        // The inner join begins, and is void in the same moment, because the outer one closes the fan-out around it.
        let both = Commit { joins: vec![("some".into(), vec![1, 1]), ("all".into(), vec![1, 2])], ..emit(&[]) };
        let following = Refill { next: Next::Following, after: None };
        let (status, next) = store.complete(&call("a", 4, false), &inner, &both, &following).await.unwrap();
        assert_eq!(status, CommitStatus::Committed);
        assert_eq!(next.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["all"]);
        scene.assert_sound().await;
        complete(store, 5, &next[0], &stop(), 0).await;
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Completed);
    })
    .await;
}

#[tokio::test]
async fn a_staged_fan_out_is_written_in_batches_with_others_in_between() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        let chunk: Vec<_> = (0..50u8).map(|n| (route("branch"), vec![1, n])).collect();
        for (offset, length) in [(0, 50), (50, 100), (50, 100), (0, 50), (50, 100), (100, 150)] {
            assert_eq!(store.stage("a", &first.fence, offset, &chunk).await.unwrap(), Some(length));
        }
        assert!(claim(store, "a", 2, 1).await.is_empty(), "what is staged is not there yet");
        complete(store, 3, &first, &fan(&[], &["join"], 150), 0).await;
        store.start(&start("other")).await.unwrap();
        scene.assert_sound().await;
        let claimed = claim(store, "a", 4, 200).await;
        let order: Vec<_> = claimed.iter().map(|step| (step.fence.run.as_str(), step.fence.seq)).collect();
        let mut expected = vec![("other", 1)];
        expected.extend((2..=151).map(|seq| ("r", seq)));
        // A claim reads a queue three times: each read begins what the previous one wrote.
        assert_eq!(order, expected[..order.len()]);
        assert_eq!(order.len(), 1 + 64 + 64);
        assert_eq!(claimed[1].payload, [1, 0]);
        scene.assert_sound().await;
        assert_eq!(claim(store, "a", 5, 200).await.len(), 150 - 128);
    })
    .await;
}

#[tokio::test]
async fn a_run_with_nothing_left_to_do_fails() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        for again in [false, true] {
            let call = call("a", 2, again);
            let (outcome, _) = store.complete(&call, &first, &emit(&[]), &double::refill(0)).await.unwrap();
            assert_eq!(
                outcome,
                stepfleet_shared::step::CommitStatus::Committed,
                "a repeat of the commit that failed the run"
            );
        }
        let kinds: Vec<_> = store.history("r", 1, 9).await.unwrap().into_iter().map(|record| record.kind).collect();
        assert_eq!(kinds, [stepfleet_shared::history::Kind::Failed]);
        assert!(store.run("r").await.unwrap().unwrap().error.unwrap().contains("without its stop event"));
    })
    .await;
}

/// In Redis a wait for `ide` is the field `wide`, and the turns of `imed` are the field `timed`: other fields had these names once.
#[tokio::test]
async fn names_of_signals_and_steps_are_never_taken_for_something_else() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        let routes = ["waits", "opens"].map(route).to_vec();
        store.start(&Start { routes, timeout: Some(HOUR), ..start("r") }).await.unwrap();
        let steps = claim(store, "a", 1, 2).await;
        let waits = [Wait { number: 1, name: "ide".into(), ..Wait::default() }];
        store.suspend(&call("a", 2, false), &steps[0], &waits, Body::Dropped, None, &double::refill(0)).await.unwrap();
        let branches = complete(store, 3, &steps[1], &fan(&["branch"; 12], &[], 0), 1).await;
        assert_eq!(store.waits("r").await.unwrap().len(), 1);
        assert_eq!(store.signal("r", "ide", &[1, 9], None).await.unwrap(), Signalled::Delivered);
        let mut limited = emit(&["imed"]);
        limited.emits[0].0.limit = Some(1);
        let next = complete(store, 4, &branches[0], &limited, 99).await;
        assert!(next.iter().any(|step| step.step == "imed"), "it never has its turn: {next:?}");
    })
    .await;
}

/// Its worker died before the commit, and the next attempt comes to another fan-out.
#[tokio::test]
async fn what_an_attempt_staged_in_vain_is_no_part_of_a_later_fan_out() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let chunk = vec![(route("vain"), vec![1, 7]); 5];
        assert_eq!(store.stage("a", &step.fence, 0, &chunk).await.unwrap(), Some(5));
        store.release("a", std::slice::from_ref(&step.fence)).await.unwrap();
        let step = claim(store, "a", 2, 1).await.remove(0);
        let mut branches = complete(store, 3, &step, &fan(&["branch"; 2], &["join"], 0), 9).await;
        branches.extend(claim(store, "a", 4, 9).await);
        assert_eq!(branches.iter().map(|branch| &*branch.step).collect::<Vec<_>>(), ["branch"; 2]);
        scene.assert_sound().await;
        // A slot whose branch has ended takes what is staged of its fan-out.
        let following = Refill { next: Next::Following, after: None };
        let (_, more) =
            store.complete(&call("a", 5, false), &branches[0], &joins("join", 1), &following).await.unwrap();
        assert!(more.is_empty(), "{more:?}");
        let join = complete(store, 6, &branches[1], &joins("join", 2), 1).await.remove(0);
        assert_eq!(join.joined, Some(JoinBuffer { group: 1, count: 2 }));
    })
    .await;
}
