//! A step that waits and whose worker keeps the body.

use stepfleet_integration_tests::double::{call, claim, join_fleet, refill};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::step::{Body, Checkpoint, Claim, Next, Refill, Wait};

use super::waits::{in_order, records, signal, wait};
use super::*;

/// The worker `a` has recorded one call, keeps the body, and waits.
async fn keep(scene: &Scene, waits: &[Wait]) {
    let (store, step) = (scene.store(), held(scene).await);
    store.checkpoint("a", &step.fence, &records(1, 7)).await.unwrap();
    let opens = Checkpoint { waits: waits.to_vec(), ..Checkpoint::default() };
    store.checkpoint("a", &step.fence, &opens).await.unwrap();
    store.suspend(&call("a", 2, false), &step, waits, Body::Kept, None, &refill(0)).await.unwrap();
    scene.assert_sound().await;
}

#[tokio::test]
async fn its_worker_gets_only_the_results_of_its_waits() {
    on_both(async |scene| {
        let store = scene.store();
        let waits = [wait(2, "left", None), wait(3, "right", None)];
        keep(scene, &waits).await;
        store.signal("r", "right", &[1, 9], None).await.unwrap();
        let step = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!((step.fence.attempt, step.kept, step.journal.clone()), (2, true, vec![signal(3, "right", 9)]));
        assert!(step.context.is_empty(), "it has the context already");
        // The next attempt gets everything, unless the body is kept again.
        store.suspend(&call("a", 4, false), &step, &waits[..1], Body::Dropped, None, &refill(0)).await.unwrap();
        store.signal("r", "left", &[1, 8], None).await.unwrap();
        let step = claim(store, "a", 5, 1).await.remove(0);
        assert_eq!((step.kept, in_order(&step).len()), (false, 3));
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn any_other_worker_gets_everything() {
    on_both(async |scene| {
        let store = scene.store();
        keep(scene, &[wait(2, "left", None)]).await;
        join_fleet(store, "b", LEASE).await;
        store.signal("r", "left", &[1, 9], None).await.unwrap();
        let step = claim(store, "b", 3, 1).await.remove(0);
        assert_eq!((step.kept, in_order(&step)), (false, vec![(1, vec![1, 7]), signal(2, "left", 9)]));
        // And the worker that had it gets everything too, later on.
        store.release("b", std::slice::from_ref(&step.fence)).await.unwrap();
        let step = claim(store, "a", 4, 1).await.remove(0);
        assert_eq!((step.fence.attempt, step.kept, step.journal.len()), (3, false, 2));
    })
    .await;
}

#[tokio::test]
async fn a_repeated_claim_tells_everything() {
    on_both(async |scene| {
        let store = scene.store();
        keep(scene, &[wait(2, "left", None)]).await;
        store.signal("r", "left", &[1, 9], None).await.unwrap();
        let of_first = claim(store, "a", 3, 1).await.remove(0);
        let claimed = Claim { slots: vec![of_first.fence.slot], alone: false, after: None };
        let of_again = store.claim(&call("a", 3, true), &claimed).await.unwrap().unwrap().steps.remove(0);
        assert_eq!((of_first.kept, of_again.kept, of_again.journal.len()), (true, false, 2));
        assert_eq!(of_first.fence, of_again.fence);
    })
    .await;
}

#[tokio::test]
async fn what_has_come_already_wakes_a_kept_body_at_once_even_in_the_same_call() {
    on_both(async |scene| {
        let (store, step) = (scene.store(), held(scene).await);
        let waits = [wait(1, "left", None)];
        store
            .checkpoint("a", &step.fence, &Checkpoint { waits: waits.to_vec(), ..Checkpoint::default() })
            .await
            .unwrap();
        store.signal("r", "left", &[1, 9], None).await.unwrap();
        let refill = Refill { next: Next::Others, after: None };
        let (_, next) = store.suspend(&call("a", 2, false), &step, &waits, Body::Kept, None, &refill).await.unwrap();
        assert_eq!((next.len(), next[0].kept, next[0].journal.clone()), (1, true, vec![signal(1, "left", 9)]));
        scene.assert_sound().await;
    })
    .await;
}
