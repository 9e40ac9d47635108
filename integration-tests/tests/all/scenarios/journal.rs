//! What a step execution has recorded.

use stepfleet_integration_tests::double::{claim, join_fleet, start};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::step::{Checkpoint, CommitStatus, LetGo, Upon, Wait};

use super::waits::{in_order, records};
use super::*;

#[tokio::test]
async fn what_was_recorded_is_there_for_the_next_attempt() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        assert!(step.journal.is_empty());
        // A number is recorded once: the first value counts.
        for value in [7, 8] {
            let two = Checkpoint { entries: vec![(1, vec![1, value]), (2, vec![1, value])], ..Checkpoint::default() };
            store.checkpoint("a", &step.fence, &two).await.unwrap();
        }
        store.checkpoint("a", &step.fence, &records(1, 8)).await.unwrap();
        store.reap(&reap(&["a"])).await.unwrap();
        assert_eq!(store.checkpoint("a", &step.fence, &records(3, 9)).await.unwrap(), CommitStatus::Fenced.into());
        join_fleet(store, "b", LEASE).await;
        assert_eq!(in_order(&claim(store, "b", 1, 1).await[0]), [(1, vec![1, 7]), (2, vec![1, 7])]);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_recorded_on_top_of_what_was_forgotten() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let record = async |number, upon: Option<u64>| {
            let checkpoint = Checkpoint { upon: upon.map(Upon::Entry), ..records(number, 7) };
            store.checkpoint("a", &step.fence, &checkpoint).await.unwrap().outcome
        };
        assert_eq!(record(1, None).await, CommitStatus::Committed);
        let saved = scene.save().await;
        assert_eq!(record(2, Some(1)).await, CommitStatus::Committed);
        assert_eq!(record(3, Some(2)).await, CommitStatus::Committed);
        scene.restore(&saved).await;
        // Its hold is unchanged; the journal is not.
        assert_eq!(record(4, Some(3)).await, CommitStatus::Fenced);
        let waits = Checkpoint {
            upon: Some(Upon::Entry(3)),
            waits: vec![Wait { number: 4, name: "n".into(), ..Wait::default() }],
            ..Checkpoint::default()
        };
        assert_eq!(store.checkpoint("a", &step.fence, &waits).await.unwrap(), CommitStatus::Fenced.into());
        assert_eq!(record(2, Some(1)).await, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn what_a_step_records_has_a_limit() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let entries = |from: u64| Checkpoint {
            entries: (from..from + 5000).map(|number| (number, vec![1, 7])).collect(),
            ..Checkpoint::default()
        };
        for from in (0..100_000).step_by(5000) {
            store.checkpoint("a", &step.fence, &entries(from)).await.unwrap();
        }
        assert!(store.checkpoint("a", &step.fence, &entries(100_000)).await.unwrap_err().is_too_large());
        store.start(&start("other")).await.unwrap();
        let step = claim(store, "a", 2, 1).await.remove(0);
        let waits = |from: u64, count: u64| Checkpoint {
            waits: (from..from + count).map(|number| Wait { number, name: "n".into(), ..Wait::default() }).collect(),
            ..Checkpoint::default()
        };
        store.checkpoint("a", &step.fence, &waits(20_000, 1000)).await.unwrap();
        assert!(store.checkpoint("a", &step.fence, &waits(30_000, 1)).await.unwrap_err().is_too_large());
    })
    .await;
}

#[tokio::test]
async fn what_is_new_in_a_checkpoint_is_done_though_its_first_entry_is_known() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        store.checkpoint("a", &step.fence, &records(1, 7)).await.unwrap();
        // The sender of the second does not know about the first, whose sender was dropped.
        let wait = Wait { number: 4, name: "paid".into(), ..Wait::default() };
        let more = Checkpoint {
            entries: vec![(1, vec![1, 7]), (2, vec![1, 8])],
            let_go: vec![LetGo { number: 3, name: "left".into(), given: 0 }],
            waits: vec![wait],
            ..Checkpoint::default()
        };
        store.checkpoint("a", &step.fence, &more).await.unwrap();
        assert_eq!(store.waits("r").await.unwrap().len(), 1);
        store.reap(&reap(&["a"])).await.unwrap();
        join_fleet(store, "b", LEASE).await;
        let journal = in_order(&claim(store, "b", 1, 1).await[0]);
        assert_eq!(journal, [(1, vec![1, 7]), (2, vec![1, 8]), (3, b"xleft 0\n".to_vec())]);
    })
    .await;
}
