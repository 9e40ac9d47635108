use super::*;
use crate::codec;
use crate::history::Kind;
use crate::journal::Entry;
use crate::run::Status;
use crate::step::{Cancelled, Checkpoint, Outcome, Signalled, Wait};
use crate::store::Audit;
use crate::store::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);

fn wait(number: u64, name: &str, deadline: Option<Duration>) -> Wait {
    Wait { number, name: name.into(), deadline, filter: vec![] }
}

fn signal(number: u64, name: &str, value: u8) -> (u64, Vec<u8>) {
    (number, Entry::Signal { name, attributes: "", payload: &[1, value] }.write())
}

fn opens(waits: &[Wait]) -> Checkpoint {
    Checkpoint { waits: waits.to_vec(), ..Checkpoint::default() }
}

fn records(number: u64, value: u8) -> Checkpoint {
    Checkpoint { entries: vec![(number, vec![1, value])], ..Checkpoint::default() }
}

async fn held(store: &MemoryStore) -> Claimed {
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    claim(store, "a", 1, 1).await.remove(0)
}

async fn suspend(store: &MemoryStore, number: u64, step: &Claimed, waits: &[Wait]) {
    let (outcome, _) = store.suspend(&call("a", number, false), step, waits, &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
    assert_sound(store);
}

async fn kinds(store: &MemoryStore) -> Vec<Kind> {
    store.history("r", 0, 100).await.unwrap().into_iter().map(|record| record.kind).collect()
}

#[tokio::test]
async fn what_was_recorded_is_there_for_the_next_attempt() {
    let store = store();
    let step = held(&store).await;
    assert!(step.journal.is_empty());
    store.checkpoint("a", &step.fence, &records(1, 7)).await.unwrap();
    // A number is recorded once: the first value stands.
    store.checkpoint("a", &step.fence, &records(1, 8)).await.unwrap();
    store.tick(&Tick { suspects: vec![("a".into(), 0)], ..tick() }).await.unwrap();
    assert_eq!(store.checkpoint("a", &step.fence, &records(2, 9)).await.unwrap(), Outcome::Fenced.into());
    join_fleet(&store, "b", LEASE).await;
    assert_eq!(claim(&store, "b", 1, 1).await[0].journal, [(1, vec![1, 7])]);
}

#[tokio::test]
async fn a_suspended_step_holds_no_worker_until_its_signal_comes() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "approval", None)];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    assert!(claim(&store, "a", 3, 1).await.is_empty());
    assert_eq!(store.workers().await.unwrap()[0].held, 0);
    assert_eq!(store.signal("r", "approval", &[1, 9], None).await.unwrap(), Signalled::Delivered);
    let again = claim(&store, "a", 4, 1).await.remove(0);
    assert_eq!((again.fence.attempt, again.failures, again.journal), (2, 0, vec![signal(1, "approval", 9)]));
    assert_eq!(kinds(&store).await, [Kind::Start, Kind::Suspended, Kind::Signal]);
}

#[tokio::test]
async fn signals_before_their_wait_are_kept_in_order_and_bounded() {
    let store = store();
    let step = held(&store).await;
    for value in 0..1000u16 {
        let payload = [1, u8::try_from(value % 256).unwrap()];
        assert_eq!(store.signal("r", "n", &payload, None).await.unwrap(), Signalled::Kept);
    }
    assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Full);
    assert_eq!(store.signal("r", "other", &[1, 1], None).await.unwrap(), Signalled::Kept);
    let waits = [wait(1, "n", None), wait(2, "n", None)];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    assert_eq!(claim(&store, "a", 3, 1).await[0].journal, [signal(1, "n", 0), signal(2, "n", 1)]);
}

#[tokio::test]
async fn two_waits_are_answered_by_their_names_whatever_the_order() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "left", None), wait(2, "right", None)];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    store.signal("r", "right", &[1, 2], None).await.unwrap();
    store.signal("r", "left", &[1, 1], None).await.unwrap();
    assert_eq!(claim(&store, "a", 3, 1).await[0].journal, [signal(1, "left", 1), signal(2, "right", 2)]);
}

#[tokio::test]
async fn a_deadline_ends_a_wait_on_time_and_a_late_signal_is_kept() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "approval", Some(HOUR))];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    store.advance(HOUR.saturating_sub(MS));
    assert_eq!(store.tick(&tick()).await.unwrap().fired, 0);
    store.advance(MS);
    assert_eq!(store.tick(&tick()).await.unwrap().fired, 1);
    assert_eq!(store.signal("r", "approval", &[1, 9], None).await.unwrap(), Signalled::Kept);
    join_fleet(&store, "b", LEASE).await;
    assert_eq!(claim(&store, "b", 3, 1).await[0].journal, [(1, Entry::Overdue { name: "approval" }.write())]);
    assert_eq!(kinds(&store).await, [Kind::Start, Kind::Suspended, Kind::Overdue]);
}

#[tokio::test]
async fn a_signal_in_time_leaves_no_deadline_behind() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "approval", Some(HOUR))];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    store.signal("r", "approval", &[1, 9], None).await.unwrap();
    assert_eq!(store.tick(&tick()).await.unwrap().next_due, None);
    // The answer came before the step went to sleep: it does not sleep.
    suspend(&store, 2, &step, &waits).await;
    assert_eq!(claim(&store, "a", 3, 1).await.len(), 1);
}

#[tokio::test]
async fn signals_know_which_runs_there_are() {
    let store = store();
    assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Unknown);
    store.defer(&start("r")).await.unwrap();
    assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Kept);
    let step = held(&store).await;
    let waits = [wait(1, "n", None)];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    complete(&store, 2, &step, &stop(), 0).await;
    assert_eq!(store.signal("r", "n", &[1, 1], None).await.unwrap(), Signalled::Over);
}

#[tokio::test]
async fn a_cancelled_run_stops_where_it_stands() {
    let store = store();
    assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Unknown);
    let step = held(&store).await;
    assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
    assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Over);
    assert_sound(&store);
    let (outcome, _) = store.complete(&call("a", 2, false), &step, &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced);
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Cancelled);
    store.advance(HOUR);
    store.tick(&tick()).await.unwrap();
    assert!(store.run("r").await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_that_waits_to_be_served_can_be_cancelled() {
    let store = store();
    store.defer(&start("r")).await.unwrap();
    assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
    assert!(store.deferred().await.unwrap().is_empty());
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Cancelled);
    assert_sound(&store);
}

#[tokio::test]
async fn a_store_that_forgets_is_told_what_its_workers_do_not_hold() {
    let store = store();
    let step = held(&store).await;
    let before = store.save();
    complete(&store, 2, &step, &emit(&["next"]), 0).await;
    let next = claim(&store, "a", 3, 1).await.remove(0);
    store.restore(&before);
    assert_eq!(store.holds("a").await.unwrap(), std::slice::from_ref(&step.fence), "it counts on what was committed");
    let (outcome, _) = store.complete(&call("a", 4, false), &next, &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced, "what it never heard of");
    assert_eq!(store.release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 1);
    assert_eq!(store.release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 0);
    assert_sound(&store);
    let again = claim(&store, "a", 5, 1).await.remove(0);
    assert_eq!((again.fence.seq, again.fence.attempt), (1, 2));
}

#[tokio::test]
async fn a_ghost_of_the_same_attempt_and_worker_cannot_commit() {
    let store = store();
    let before = {
        join_fleet(&store, "a", LEASE).await;
        store.start(&start("r")).await.unwrap();
        store.save()
    };
    let ghost = claim(&store, "a", 1, 1).await.remove(0);
    store.restore(&before);
    let real = claim(&store, "a", 2, 1).await.remove(0);
    assert_eq!((ghost.fence.seq, ghost.fence.attempt), (real.fence.seq, real.fence.attempt));
    let (outcome, _) = store.complete(&call("a", 3, false), &ghost, &stop(), &refill(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced);
    assert_eq!(store.holds("a").await.unwrap(), [real.fence]);
}

#[tokio::test]
async fn an_audit_finds_nothing_where_nothing_was_taken_away() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "approval", Some(HOUR))];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    let audit = Audit { repair: true, from: 0, max_losses: 3, retention: HOUR };
    let audited = store.audit(&audit).await.unwrap();
    assert_eq!((audited.examined, audited.breaches.len(), audited.next), (1, 0, None));
}

/// A signal with one attribute.
fn about(order: u8) -> Vec<u8> {
    codec::encode("x", &std::collections::BTreeMap::from([("order", order)])).unwrap()
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
    step.journal.iter().filter_map(attributes).collect()
}

#[tokio::test]
async fn a_filter_lets_the_right_signal_pass_before_and_after_its_wait() {
    let store = store();
    let step = held(&store).await;
    for order in [1, 2] {
        assert_eq!(store.signal("r", "paid", &about(order), None).await.unwrap(), Signalled::Kept);
    }
    let waits = [filtered(1, 2), filtered(2, 3), filtered(3, 4)];
    suspend(&store, 2, &step, &waits).await;
    let step = claim(&store, "a", 3, 1).await.remove(0);
    assert_eq!(answered(&step), [(1, "order=2".into())]);
    suspend(&store, 4, &step, &waits[1..]).await;
    assert_eq!(store.signal("r", "paid", &about(9), None).await.unwrap(), Signalled::Kept);
    assert_eq!(store.signal("r", "paid", &about(4), None).await.unwrap(), Signalled::Delivered);
    let open = store.waits("r").await.unwrap();
    assert_eq!(
        open.iter().map(|wait| (wait.number, wait.filter.clone())).collect::<Vec<_>>(),
        [(2, vec![("order".into(), "3".into())])]
    );
    assert_eq!(answered(&claim(&store, "a", 5, 1).await.remove(0)).len(), 2);
}

#[tokio::test]
async fn what_reached_a_wait_that_was_let_go_unseen_is_kept_ahead_of_others() {
    let store = store();
    let step = held(&store).await;
    let open = opens(&[wait(1, "stop", None), wait(2, "other", Some(HOUR))]);
    store.checkpoint("a", &step.fence, &open).await.unwrap();
    store.signal("r", "stop", &[1, 1], None).await.unwrap();
    store.signal("r", "stop", &[1, 2], None).await.unwrap();
    let let_go = vec![(1, "stop".to_owned()), (2, "other".to_owned())];
    let checkpoint = Checkpoint {
        let_go,
        entries: records(3, 7).entries,
        waits: vec![wait(4, "stop", None)],
        ..Checkpoint::default()
    };
    store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
    assert_eq!(store.tick(&tick()).await.unwrap().next_due, None, "its deadline went with it");
    assert_eq!(store.signal("r", "other", &[1, 3], None).await.unwrap(), Signalled::Kept);
    suspend(&store, 2, &step, &[wait(5, "stop", None)]).await;
    let step = claim(&store, "a", 3, 1).await.remove(0);
    let gone = |name| Entry::LetGo { name }.write();
    let expected = [
        (1, gone("stop")),
        (2, gone("other")),
        records(3, 7).entries.remove(0),
        signal(4, "stop", 1),
        signal(5, "stop", 2),
    ];
    assert_eq!(step.journal, expected);

    // A step that ends without having looked at its waits takes nothing along.
    let let_go = vec![(4, "stop".to_owned()), (5, "stop".to_owned())];
    let commit = Commit { journalled: true, let_go, ..emit(&["next"]) };
    complete(&store, 4, &step, &commit, 0).await;
    let next = claim(&store, "a", 5, 1).await.remove(0);
    suspend(&store, 6, &next, &[wait(1, "stop", None), wait(2, "stop", None)]).await;
    let values: Vec<_> = claim(&store, "a", 7, 1).await.remove(0).journal;
    assert_eq!(values, [signal(1, "stop", 1), signal(2, "stop", 2)], "in the order in which they came");
}

#[tokio::test]
async fn waits_of_steps_that_have_ended_make_room() {
    let store = store();
    let mut step = held(&store).await;
    for round in 0..3 {
        let waits: Vec<_> = (1..=500).map(|number| wait(number, "n", None)).collect();
        store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
        assert_eq!(store.waits("r").await.unwrap().len(), 500);
        complete(&store, 2 + round * 2, &step, &emit(&["next"]), 0).await;
        step = claim(&store, "a", 3 + round * 2, 1).await.remove(0);
    }
    let waits: Vec<_> = (1..=1001).map(|number| wait(number, "n", None)).collect();
    let refused = store.suspend(&call("a", 100, false), &step, &waits, &refill(0)).await;
    assert!(refused.unwrap_err().is_too_large());
    assert!(store.waits("r").await.unwrap().is_empty());
    suspend(&store, 101, &step, &waits[..1000]).await;
    // Those that are open already count once.
    store.signal("r", "n", &[1, 1], None).await.unwrap();
    let step = claim(&store, "a", 102, 1).await.remove(0);
    suspend(&store, 103, &step, &waits[1..1000]).await;
}
