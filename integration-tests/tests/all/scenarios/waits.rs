//! Steps that wait for signals, and the signals that come.

use std::collections::BTreeMap;

use stepfleet_integration_tests::double::{call, claim, emit, join_fleet, refill, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::codec;
use stepfleet_shared::history::Kind;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::step::{Body, Checkpoint, CommitStatus, LetGo, Signalled, Wait};
use stepfleet_shared::store::Audit;

use super::*;

pub(super) fn wait(number: u64, name: &str, deadline: Option<Duration>) -> Wait {
    Wait { number, name: name.into(), deadline, ..Wait::default() }
}

pub(super) fn signal(number: u64, name: &str, value: u8) -> (u64, Vec<u8>) {
    (number, Entry::Signal { name, attributes: "", due_ms: None, payload: &[1, value] }.write())
}

fn opens(waits: &[Wait]) -> Checkpoint {
    Checkpoint { waits: waits.to_vec(), ..Checkpoint::default() }
}

pub(super) fn records(number: u64, value: u8) -> Checkpoint {
    Checkpoint { entries: vec![(number, vec![1, value])], ..Checkpoint::default() }
}

/// What a step execution has recorded, by number: stores return it in no order.
pub(super) fn in_order(step: &Claimed) -> Vec<(u64, Vec<u8>)> {
    let mut journal = step.journal.clone();
    journal.sort();
    journal
}

async fn suspend(scene: &Scene, number: u64, step: &Claimed, waits: &[Wait]) {
    let call = call("a", number, false);
    let (outcome, _) = scene.store().suspend(&call, step, waits, Body::Dropped, None, &refill(0)).await.unwrap();
    assert_eq!(outcome, CommitStatus::Committed);
    scene.assert_sound().await;
}

async fn kinds(store: &dyn Store) -> Vec<Kind> {
    store.history("r", 0, 100).await.unwrap().into_iter().map(|record| record.kind).collect()
}

#[tokio::test]
async fn a_suspended_step_holds_no_worker_until_its_signal_comes() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [wait(1, "approval", None)];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        suspend(scene, 2, &step, &waits).await;
        assert!(claim(store, "a", 3, 1).await.is_empty());
        assert_eq!(store.workers().await.unwrap()[0].held, 0);
        assert_eq!(store.signal("r", "approval", &[1, 9], None).await.unwrap(), Signalled::Delivered);
        let again = claim(store, "a", 4, 1).await.remove(0);
        assert_eq!((again.fence.attempt, again.failures, again.journal), (2, 0, vec![signal(1, "approval", 9)]));
        assert_eq!(kinds(store).await, [Kind::Start, Kind::Suspended, Kind::Signal]);
    })
    .await;
}

#[tokio::test]
async fn signals_before_their_wait_are_kept_in_order_and_bounded() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        for value in 0..1000u16 {
            let payload = [1, u8::try_from(value % 256).unwrap()];
            assert_eq!(store.signal("r", "n", &payload, None).await.unwrap(), Signalled::Kept);
        }
        assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Full);
        assert_eq!(store.signal("r", "other", &[1, 1], None).await.unwrap(), Signalled::Kept);
        let waits = [wait(1, "n", None), wait(2, "n", None)];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        suspend(scene, 2, &step, &waits).await;
        assert_eq!(in_order(&claim(store, "a", 3, 1).await[0]), [signal(1, "n", 0), signal(2, "n", 1)]);
    })
    .await;
}

#[tokio::test]
async fn two_waits_are_answered_by_their_names_whatever_the_order() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [wait(1, "left", None), wait(2, "right", None)];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        suspend(scene, 2, &step, &waits).await;
        store.signal("r", "right", &[1, 2], None).await.unwrap();
        store.signal("r", "left", &[1, 1], None).await.unwrap();
        assert_eq!(in_order(&claim(store, "a", 3, 1).await[0]), [signal(1, "left", 1), signal(2, "right", 2)]);
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_a_wait_on_time_and_a_late_signal_is_kept() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [wait(1, "approval", Some(HOUR))];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        suspend(scene, 2, &step, &waits).await;
        scene.pass_almost(HOUR).await;
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 0);
        scene.pass(scene.moment()).await;
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 1);
        assert_eq!(store.signal("r", "approval", &[1, 9], None).await.unwrap(), Signalled::Kept);
        join_fleet(store, "b", LEASE).await;
        assert_eq!(claim(store, "b", 3, 1).await[0].journal, [(1, Entry::Overdue { name: "approval" }.write())]);
        assert_eq!(kinds(store).await, [Kind::Start, Kind::Suspended, Kind::Overdue]);
    })
    .await;
}

#[tokio::test]
async fn a_signal_in_time_leaves_no_deadline_behind() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [wait(1, "approval", Some(HOUR))];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        store.signal("r", "approval", &[1, 9], None).await.unwrap();
        assert_eq!(store.fire(&fire()).await.unwrap().next_due, None);
        // The answer came before the step was suspended, so it is not.
        suspend(scene, 2, &step, &waits).await;
        assert_eq!(claim(store, "a", 3, 1).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn signals_know_which_runs_there_are() {
    on_both(async |scene| {
        let store = scene.store();
        assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Unknown);
        store.defer(&start("r")).await.unwrap();
        assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Kept);
        let step = held(scene).await;
        let waits = [wait(1, "n", None)];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        complete(store, 2, &step, &stop(), 0).await;
        assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Over);
    })
    .await;
}

#[tokio::test]
async fn an_audit_finds_nothing_if_nothing_was_deleted() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [wait(1, "approval", Some(HOUR))];
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        suspend(scene, 2, &step, &waits).await;
        let (mut from, mut slices) = (Some(0), Vec::new());
        while let Some(at) = from {
            let audit = Audit { repair: true, from: at, max_losses: 3, retention: HOUR };
            let audited = store.audit(&audit).await.unwrap();
            assert_eq!(audited.breaches, []);
            slices.push(audited.examined);
            from = audited.next;
        }
        // In memory, only the run is compared; on Redis, its keys and those of the worker.
        assert!(if scene.redis().is_some() { slices.iter().sum::<u64>() > 1 } else { slices == [1] }, "{slices:?}");
    })
    .await;
}

/// A signal with one attribute.
fn about(order: u8) -> Vec<u8> {
    codec::encode("x", &BTreeMap::from([("order", order)])).unwrap()
}

fn filtered(number: u64, order: u8) -> Wait {
    Wait { filter: vec![("order".into(), order.to_string())], ..wait(number, "paid", None) }
}

/// The number and the attributes of each signal that ended a wait.
fn answered(step: &Claimed) -> Vec<(u64, String)> {
    let attributes = |(number, entry): &(u64, Vec<u8>)| match Entry::read(entry) {
        Ok(Entry::Signal { attributes, .. }) => Some((*number, attributes.to_owned())),
        _ => None,
    };
    in_order(step).iter().filter_map(attributes).collect()
}

#[tokio::test]
async fn a_filter_lets_the_right_signal_pass_before_and_after_its_wait() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        for order in [1, 2] {
            assert_eq!(store.signal("r", "paid", &about(order), None).await.unwrap(), Signalled::Kept);
        }
        let waits = [filtered(1, 2), filtered(2, 3), filtered(3, 4)];
        suspend(scene, 2, &step, &waits).await;
        let step = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(answered(&step), [(1, "order=2".into())]);
        suspend(scene, 4, &step, &waits[1..]).await;
        assert_eq!(store.signal("r", "paid", &about(9), None).await.unwrap(), Signalled::Kept);
        assert_eq!(store.signal("r", "paid", &about(4), None).await.unwrap(), Signalled::Delivered);
        let open = store.waits("r").await.unwrap();
        assert_eq!(
            open.iter().map(|wait| (wait.number, wait.filter.clone())).collect::<Vec<_>>(),
            [(2, vec![("order".into(), "3".into())])]
        );
        assert_eq!(answered(&claim(store, "a", 5, 1).await.remove(0)).len(), 2);
    })
    .await;
}

fn dropped(number: u64, name: &str) -> LetGo {
    LetGo { number, name: name.into(), given: 0 }
}

#[tokio::test]
async fn what_reached_a_wait_that_was_let_go_unseen_is_kept_ahead_of_others() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let open = opens(&[wait(1, "stop", None), wait(2, "other", Some(HOUR))]);
        store.checkpoint("a", &step.fence, &open).await.unwrap();
        store.signal("r", "stop", &[1, 1], None).await.unwrap();
        store.signal("r", "stop", &[1, 2], None).await.unwrap();
        let let_go = vec![dropped(1, "stop"), dropped(2, "other")];
        let checkpoint = Checkpoint {
            let_go,
            entries: records(3, 7).entries,
            waits: vec![wait(4, "stop", None)],
            ..Checkpoint::default()
        };
        store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
        assert_eq!(store.fire(&fire()).await.unwrap().next_due, None, "its deadline went with it");
        assert_eq!(store.signal("r", "other", &[1, 3], None).await.unwrap(), Signalled::Kept);
        suspend(scene, 2, &step, &[wait(5, "stop", None)]).await;
        let step = claim(store, "a", 3, 1).await.remove(0);
        let gone = |name| Entry::LetGo { name, given: 0 }.write();
        let expected = [
            (1, gone("stop")),
            (2, gone("other")),
            records(3, 7).entries.remove(0),
            signal(4, "stop", 1),
            signal(5, "stop", 2),
        ];
        assert_eq!(in_order(&step), expected);

        // A step that ends without having seen its signals does not take them along.
        let let_go = vec![dropped(4, "stop"), dropped(5, "stop")];
        let commit = Commit { journalled: true, let_go, ..emit(&["next"]) };
        complete(store, 4, &step, &commit, 0).await;
        let next = claim(store, "a", 5, 1).await.remove(0);
        suspend(scene, 6, &next, &[wait(1, "stop", None), wait(2, "stop", None)]).await;
        let values = in_order(&claim(store, "a", 7, 1).await[0]);
        assert_eq!(values, [signal(1, "stop", 1), signal(2, "stop", 2)], "in the order in which they came");
    })
    .await;
}

#[tokio::test]
async fn waits_of_steps_that_have_ended_make_room() {
    on_both(async |scene| {
        let store = scene.store();
        let mut step = held(scene).await;
        for round in 0..3 {
            let waits: Vec<_> = (1..=500).map(|number| wait(number, "n", None)).collect();
            store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
            assert_eq!(store.waits("r").await.unwrap().len(), 500);
            complete(store, 2 + round * 2, &step, &emit(&["next"]), 0).await;
            step = claim(store, "a", 3 + round * 2, 1).await.remove(0);
        }
        let waits: Vec<_> = (1..=1001).map(|number| wait(number, "n", None)).collect();
        let refused = store.suspend(&call("a", 100, false), &step, &waits, Body::Dropped, None, &refill(0)).await;
        assert!(refused.unwrap_err().is_too_large());
        assert!(store.waits("r").await.unwrap().is_empty());
        suspend(scene, 101, &step, &waits[..1000]).await;
        // Waits that are open already count once.
        store.signal("r", "n", &[1, 1], None).await.unwrap();
        let step = claim(store, "a", 102, 1).await.remove(0);
        suspend(scene, 103, &step, &waits[1..1000]).await;
    })
    .await;
}
