use super::*;
use crate::history::Kind;
use crate::run::Status;
use crate::step::{Cancelled, Checkpoint, Outcome, Signalled, Wait};
use crate::store::Audit;

const HOUR: Duration = Duration::from_secs(3600);

fn wait(number: u64, name: &str, deadline: Option<Duration>) -> Wait {
    Wait { number, name: name.into(), deadline }
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
    begin(store, "a", 1, 1).await.remove(0)
}

async fn suspend(store: &MemoryStore, number: u64, step: &Claimed, waits: &[Wait]) {
    let (outcome, _) = store.suspend(&call("a", number, false), step, waits, &claim(0)).await.unwrap();
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
    assert_eq!(store.checkpoint("a", &step.fence, &records(2, 9)).await.unwrap(), Outcome::Fenced);
    join_fleet(&store, "b", LEASE).await;
    assert_eq!(begin(&store, "b", 1, 1).await[0].journal, [(1, vec![1, 7])]);
}

#[tokio::test]
async fn a_suspended_step_holds_no_worker_until_its_signal_comes() {
    let store = store();
    let step = held(&store).await;
    let waits = [wait(1, "approval", None)];
    store.checkpoint("a", &step.fence, &opens(&waits)).await.unwrap();
    suspend(&store, 2, &step, &waits).await;
    assert!(begin(&store, "a", 3, 1).await.is_empty());
    assert_eq!(store.workers().await.unwrap()[0].held, 0);
    assert_eq!(store.signal("r", "approval", &[1, 9], None).await.unwrap(), Signalled::Delivered);
    let again = begin(&store, "a", 4, 1).await.remove(0);
    assert_eq!((again.fence.attempt, again.failures, again.journal), (2, 0, vec![(1, vec![1, 9])]));
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
    assert_eq!(begin(&store, "a", 3, 1).await[0].journal, [(1, vec![1, 0]), (2, vec![1, 1])]);
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
    assert_eq!(begin(&store, "a", 3, 1).await[0].journal, [(1, vec![1, 1]), (2, vec![1, 2])]);
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
    assert_eq!(begin(&store, "b", 3, 1).await[0].journal, [(1, vec![])]);
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
    assert_eq!(begin(&store, "a", 3, 1).await.len(), 1);
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
    done(&store, 2, &step, &stop(), 0).await;
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
    let (outcome, _) = store.done(&call("a", 2, false), &step, &stop(), &claim(0)).await.unwrap();
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
    done(&store, 2, &step, &emit(&["next"]), 0).await;
    let next = begin(&store, "a", 3, 1).await.remove(0);
    store.restore(&before);
    assert_eq!(store.holds("a").await.unwrap(), std::slice::from_ref(&step.fence), "it counts on what was committed");
    let (outcome, _) = store.done(&call("a", 4, false), &next, &stop(), &claim(0)).await.unwrap();
    assert_eq!(outcome, Outcome::Fenced, "what it never heard of");
    assert_eq!(store.release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 1);
    assert_eq!(store.release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 0);
    assert_sound(&store);
    let again = begin(&store, "a", 5, 1).await.remove(0);
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
    let ghost = begin(&store, "a", 1, 1).await.remove(0);
    store.restore(&before);
    let real = begin(&store, "a", 2, 1).await.remove(0);
    assert_eq!((ghost.fence.seq, ghost.fence.attempt), (real.fence.seq, real.fence.attempt));
    let (outcome, _) = store.done(&call("a", 3, false), &ghost, &stop(), &claim(0)).await.unwrap();
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
