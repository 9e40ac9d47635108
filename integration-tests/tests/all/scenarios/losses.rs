//! Workers that die, become silent, or leave.

use stepfleet_integration_tests::double::{call, claim, fan, join_fleet, slots, start};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_integration_tests::seen;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Claim;
use stepfleet_shared::store::{Heartbeat, Reap};

use super::*;

#[tokio::test]
async fn what_a_dead_worker_held_goes_ahead_of_a_backlog() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "dead", MS).await;
        join_fleet(store, "heir", LEASE).await;
        store.start(&start("old")).await.unwrap();
        assert_eq!(claim(store, "dead", 1, 1).await.len(), 1);
        for n in 0..20 {
            store.start(&start(&format!("new-{n}"))).await.unwrap();
        }
        scene.pass(MS).await;
        assert_eq!(store.reap(&reap(&[])).await.unwrap().requeued, 1);
        assert_eq!(claim(store, "heir", 1, 1).await[0].fence.run, "old");
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_very_many_holds_is_reaped_to_the_end() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
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
        scene.pass(MS).await;
        let mut requeued = 0;
        for n in 1..=60 {
            let reaped = store.reap(&reap(&[])).await.unwrap();
            requeued += reaped.requeued;
            assert_eq!(reaped.reaped.len(), usize::from(n == 60), "call {n}");
            assert_eq!(reaped.more, n < 60, "call {n}");
        }
        assert_eq!(requeued, 6000);
        assert!(store.workers().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_leaves_loses_nothing_and_counts_as_no_loss() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        for attempt in 1..=5 {
            store.start(&start("r")).await.unwrap();
            join_fleet(store, "leaving", LEASE).await;
            let step = claim(store, "leaving", attempt, 1).await.remove(0);
            assert_eq!((step.fence.attempt.into(), step.failures), (attempt, 0));
            assert!(store.deregister("leaving").await.unwrap());
            scene.assert_sound().await;
        }
        let history = store.history("r", 1, 100).await.unwrap();
        assert!(history.len() == 5 && history.iter().all(|record| record.kind == Kind::Released), "{history:?}");
        assert_eq!(store.workers().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_step_that_keeps_losing_its_worker_fails_its_run() {
    on_both(async |scene| {
        let store = scene.store();
        store.start(&start("r")).await.unwrap();
        for loss in 1..=4 {
            join_fleet(store, "dead", MS).await;
            let call = call("dead", loss, false);
            let claim = Claim { alone: true, ..slots(&call, 1) };
            assert_eq!(store.claim(&call, &claim).await.unwrap().unwrap().steps.len(), 1, "loss {loss}");
            scene.pass(MS).await;
            let reaped = store.reap(&reap(&[])).await.unwrap();
            assert_eq!(reaped.reaped, ["dead"]);
            assert!(matches!(reaped.expired[..], [Some(since)] if since < LEASE), "{reaped:?}");
            assert_eq!(reaped.ended.len(), usize::from(loss == 4), "{reaped:?}");
            assert!(reaped.ended.iter().all(|ended| ended.status == Status::Failed && ended.workflow == "w"));
            scene.assert_sound().await;
        }
        let run = store.run("r").await.unwrap().unwrap();
        assert_eq!((run.status, run.error_attempt), (Status::Failed, Some(4)));
        assert!(run.error.unwrap().contains("killed its worker 4 times"));
    })
    .await;
}

/// Workers whose lease connection is closed, once there is one: a server notices it a little later.
async fn disconnected(store: &dyn Store) -> Vec<(String, u64)> {
    seen(async || store.disconnected().await.unwrap(), |suspects| !suspects.is_empty()).await
}

#[tokio::test]
async fn a_worker_whose_lease_connection_is_closed_is_given_up_once_it_is_suspected() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        let mut lease = store.lease("a", LEASE).await.unwrap();
        assert!(store.disconnected().await.unwrap().is_empty());
        assert_eq!(lease.heartbeat().await.unwrap(), Heartbeat::Renewed { cancelled: vec![], drain: false });
        assert!(store.disconnected().await.unwrap().is_empty());
        drop(lease);
        let suspects = disconnected(store).await;
        assert!(suspects.len() == 1 && suspects[0].0 == "a" && suspects[0].1 > 0, "{suspects:?}");
        assert!(scene.redis().is_some() || suspects[0].1 == 1, "{suspects:?}");
        let mut anew = store.lease("a", LEASE).await.unwrap();
        anew.heartbeat().await.unwrap();
        let reaped = store.reap(&Reap { suspects: suspects.clone(), ..reap(&[]) }).await.unwrap();
        assert!(reaped.reaped.is_empty(), "it has a new connection");
        drop(anew);
        let more = disconnected(store).await;
        assert_ne!(more, suspects);
        scene.pass(LEASE).await;
        let reaped = store.reap(&Reap { suspects: more, ..reap(&[]) }).await.unwrap();
        assert_eq!(reaped.reaped, ["a"], "suspected, and its lease ran out too");
    })
    .await;
}
