//! Child runs: the request of a wait for one, and what happens at each end.

use stepfleet_integration_tests::double::{call, claim, emit, refill, requested, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::child::{ChildEnd, Parent, asked_for};
use stepfleet_shared::history::Kind;
use stepfleet_shared::names;
use stepfleet_shared::request::{self, ChildEndedRequest, Request, StartRequest};
use stepfleet_shared::run::{Compensation, Status};
use stepfleet_shared::step::{Body, Checkpoint, Commit, Failure, LetGo, Retried, Wait};
use stepfleet_shared::store::{ChildTold, InboxReader, Rejection, Start};

use super::waits::in_order;
use super::*;

/// A wait for a child run with this id.
pub(super) fn waits_for(number: u64, id: &str) -> Wait {
    let question = asked_for(id, false, &StartRequest::new("w", "{}")).unwrap();
    Wait { number, name: names::child(1, number, "w"), question, ..Wait::default() }
}

/// A wait for a child that goes on when nobody waits for it any more.
fn waits_for_independent(number: u64, id: &str) -> Wait {
    let question = asked_for(id, true, &StartRequest::new("w", "{}")).unwrap();
    Wait { question, ..waits_for(number, id) }
}

fn parent(number: u64) -> Parent {
    Parent { run: "r".into(), wait: names::child(1, number, "w") }
}

/// A request for a run that the run `r` waits for.
fn child(id: &str, number: u64) -> Start {
    let request = StartRequest { parent: Some(parent(number)), ..StartRequest::new("w", "{}") };
    Start { request, ..start(id) }
}

fn ended(child: &str, number: u64, status: Status, output: &str) -> ChildEndedRequest {
    let (run, content) = (child.to_owned(), "json".to_owned());
    ChildEndedRequest { parent: parent(number), end: ChildEnd { run, status, content, output: output.into() } }
}

/// The entries of the inbox, in words.
async fn asked(reader: &mut Box<dyn InboxReader>) -> Vec<String> {
    let told = |fields: &request::Fields| match request::parse(fields).unwrap() {
        Request::Start(start) => {
            let parent = start.parent.map(|parent| format!(" of {} {}", parent.run, parent.wait)).unwrap_or_default();
            format!("start {}{parent}", start.id.unwrap())
        }
        Request::Cancel(cancel) => format!("cancel {}", cancel.run),
        Request::ChildEnded(ChildEndedRequest { parent, end }) => {
            let output = String::from_utf8(end.output).unwrap();
            format!("{} {} {}: {} {output}", parent.run, parent.wait, end.run, end.status)
        }
        other => format!("{other:?}"),
    };
    reader.next().await.unwrap().iter().map(|entry| told(&entry.fields)).collect()
}

async fn checkpoint(store: &dyn Store, step: &Claimed, checkpoint: Checkpoint) {
    store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
}

async fn suspend(scene: &Scene, number: u64, step: &Claimed, waits: &[Wait]) {
    scene.store().suspend(&call("a", number, false), step, waits, Body::Dropped, None, &refill(0)).await.unwrap();
    scene.assert_sound().await;
}

async fn fail(store: &dyn Store, number: u64, step: &Claimed, forget: Vec<u64>) {
    let failure = Failure::Fail { error: "e".into(), retention: HOUR, forget, upon: None };
    store.fail(&call("a", number, false), step, &failure, &refill(0)).await.unwrap();
}

#[tokio::test]
async fn a_wait_requests_a_child_once_and_gets_its_end_once() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let waits = vec![waits_for(1, "r.1"), waits_for(2, "r.2")];
        let all = Checkpoint { waits: waits.clone(), ..Checkpoint::default() };
        checkpoint(store, &step, all.clone()).await;
        checkpoint(store, &step, all).await;
        suspend(scene, 2, &step, &[waits_for(1, "another"), waits[1].clone()]).await;
        assert_eq!(asked(&mut inbox).await, ["start r.1 of r %child.1.1.w", "start r.2 of r %child.1.2.w"]);
        let end = ended("r.1", 1, Status::Completed, "7");
        assert_eq!(store.child_ended(&end, "").await.unwrap(), ChildTold::Told);
        assert_eq!(store.child_ended(&end, "").await.unwrap(), ChildTold::Over);
        scene.assert_sound().await;
        let again = claim(store, "a", 3, 1).await.remove(0);
        let mut entry = b"w%child.1.1.w \n".to_vec();
        entry.extend(end.end.payload().unwrap());
        assert_eq!(in_order(&again), [(1, entry)]);
        // Other runs are not told, and nothing is kept for them.
        let stray = ChildEndedRequest { parent: Parent { run: "nobody".into(), ..parent(1) }, ..end };
        assert_eq!(store.child_ended(&stray, "").await.unwrap(), ChildTold::Over);
        let entry = store.enqueue(&stray.fields()).await.unwrap();
        assert_eq!(store.child_ended(&stray, &entry).await.unwrap(), ChildTold::Over);
        assert_eq!(store.child_ended(&stray, &entry).await.unwrap(), ChildTold::Gone);
    })
    .await;
}

#[tokio::test]
async fn a_parent_gets_each_end_of_a_child() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        for (number, id) in [(1, "good"), (2, "bad"), (3, "long")] {
            store.start(&child(id, number)).await.unwrap();
            assert_eq!(store.run(id).await.unwrap().unwrap().parent.as_deref(), Some("r"));
        }
        let steps = claim(store, "a", 1, 3).await;
        let of = |run: &str| steps.iter().find(|step| step.fence.run == run).unwrap();
        complete(store, 2, of("good"), &stop(), 0).await;
        fail(store, 3, of("bad"), Vec::new()).await;
        store.cancel("long", None, HOUR).await.unwrap();
        let held = Start { entry: requested(store, "held").await.entry, ..child("held", 4) };
        store.defer(&held).await.unwrap();
        store.cancel("held", None, HOUR).await.unwrap();
        let late = Start { entry: requested(store, "late").await.entry, ..child("late", 5) };
        store.defer(&late).await.unwrap();
        let (deferred, run) = (Some("late".to_owned()), Some("late".to_owned()));
        let (parent, reason) = (Some(parent(5)), "nobody serves it".to_owned());
        let rejection = Rejection { deferred, run, parent, reason, ..Rejection::default() };
        store.reject(&rejection).await.unwrap();
        // Another coordinator has decided.
        store.reject(&rejection).await.unwrap();
        let told = asked(&mut inbox).await;
        assert_eq!(
            told,
            [
                "r %child.1.1.w good: completed \"ok\"",
                "r %child.1.2.w bad: failed e",
                "r %child.1.3.w long: cancelled cancelled on request",
                "r %child.1.4.w held: cancelled cancelled on request",
                "r %child.1.5.w late: rejected nobody serves it",
            ]
        );
        // It is retried by hand, and its parent is told again.
        assert_eq!(store.retry("bad", None, None).await.unwrap(), Retried::GoesOn);
        let again = claim(store, "a", 4, 1).await.remove(0);
        complete(store, 5, &again, &stop(), 0).await;
        assert_eq!(asked(&mut inbox).await, ["r %child.1.2.w bad: completed \"ok\""]);
    })
    .await;
}

#[tokio::test]
async fn a_child_that_outlives_its_parent_is_not_cancelled_with_anything() {
    on_both(async |scene| {
        let (store, step) = (scene.store(), held(scene).await);
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let waits: Vec<Wait> = (1..4).map(|number| waits_for_independent(number, &format!("r.{number}"))).collect();
        checkpoint(store, &step, Checkpoint { waits: waits.clone(), ..Checkpoint::default() }).await;
        assert_eq!(asked(&mut inbox).await.len(), 3);
        let let_go = vec![LetGo { number: 1, name: names::child(1, 1, "w"), given: 0 }];
        checkpoint(store, &step, Checkpoint { let_go, ..Checkpoint::default() }).await;
        // Its parent is told about its end as about any other.
        assert_eq!(store.child_ended(&ended("r.2", 2, Status::Completed, "7"), "").await.unwrap(), ChildTold::Told);
        store.cancel("r", None, HOUR).await.unwrap();
        assert_eq!(store.child_ended(&ended("r.3", 3, Status::Completed, "7"), "").await.unwrap(), ChildTold::Over);
        let last = request::PlainRequest { run: "last".into(), request: None };
        store.enqueue(&last.fields("cancel")).await.unwrap();
        assert_eq!(asked(&mut inbox).await, ["cancel last"], "nothing was asked for in between");
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_child_that_nobody_waits_for_any_more_is_cancelled() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let waits = (1..=3).map(|number| waits_for(number, &format!("r.{number}"))).collect();
        checkpoint(store, &step, Checkpoint { waits, ..Checkpoint::default() }).await;
        assert_eq!(asked(&mut inbox).await.len(), 3);
        let let_go = |number| LetGo { number, name: names::child(1, number, "w"), given: 0 };
        checkpoint(store, &step, Checkpoint { let_go: vec![let_go(2)], ..Checkpoint::default() }).await;
        assert_eq!(asked(&mut inbox).await, ["cancel r.2"]);
        // The end of a child that nobody saw is not kept.
        let end = ended("r.1", 1, Status::Completed, "7");
        assert_eq!(store.child_ended(&end, "").await.unwrap(), ChildTold::Told);
        checkpoint(store, &step, Checkpoint { let_go: vec![let_go(1)], ..Checkpoint::default() }).await;
        // The step ends, and its run goes on.
        let commit = Commit { let_go: vec![let_go(1)], journalled: true, ..emit(&["next"]) };
        let next = complete(store, 2, &step, &commit, 1).await.remove(0);
        assert_eq!(asked(&mut inbox).await, ["cancel r.3"]);
        let waits = vec![Wait { name: names::child(2, 1, "w"), ..waits_for(1, "r.4") }];
        checkpoint(store, &next, Checkpoint { waits, ..Checkpoint::default() }).await;
        store.cancel("r", None, HOUR).await.unwrap();
        assert_eq!(asked(&mut inbox).await, ["start r.4 of r %child.2.1.w", "cancel r.4"]);
        let history = store.history("r", 0, 100).await.unwrap();
        assert!(history.iter().all(|record| record.kind != Kind::UnusedSignals), "{history:?}");
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_run_that_has_failed_finds_the_ends_of_its_children_when_it_is_retried() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let waits = vec![waits_for(1, "r.1"), waits_for(2, "r.2")];
        checkpoint(store, &step, Checkpoint { waits: waits.clone(), ..Checkpoint::default() }).await;
        assert_eq!(asked(&mut inbox).await.len(), 2);
        fail(store, 2, &step, Vec::new()).await;
        let end = ended("r.1", 1, Status::Completed, "7");
        assert_eq!(store.child_ended(&end, "").await.unwrap(), ChildTold::Told);
        assert_eq!(store.child_ended(&end, "").await.unwrap(), ChildTold::Over);
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
        scene.assert_sound().await;
        let again = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(in_order(&again).len(), 1);
        // It fails with its second child, and its retry requests the child again.
        suspend(scene, 4, &again, &waits[1..]).await;
        let failed = ended("r.2", 2, Status::Failed, "e");
        assert_eq!(store.child_ended(&failed, "").await.unwrap(), ChildTold::Told);
        let again = claim(store, "a", 5, 1).await.remove(0);
        fail(store, 6, &again, vec![2]).await;
        store.retry("r", None, None).await.unwrap();
        let again = claim(store, "a", 7, 1).await.remove(0);
        assert_eq!(in_order(&again).len(), 1, "only the call that it failed with is made again");
        suspend(scene, 8, &again, &[waits_for(2, "another")]).await;
        assert_eq!(asked(&mut inbox).await, ["start r.2 of r %child.1.2.w"], "the same child");
        store.cancel("r", None, HOUR).await.unwrap();
        assert_eq!(asked(&mut inbox).await, ["cancel r.2"]);
    })
    .await;
}

/// A wait that keeps a compensation with this id.
fn undo(number: u64, id: &str, always: bool) -> Wait {
    Wait { name: names::undo(1, number, "w", always), ..waits_for(number, id) }
}

fn undone(number: u64, child: &str, always: bool, status: Status) -> ChildEndedRequest {
    let parent = Parent { run: "r".into(), wait: names::undo(1, number, "w", always) };
    ChildEndedRequest { parent, ..ended(child, number, status, "") }
}

#[tokio::test]
async fn compensations_are_kept_once_and_asked_for_one_after_the_other() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let waits = vec![undo(1, "u1", false), undo(2, "u2", true)];
        let all = Checkpoint { waits, ..Checkpoint::default() };
        let kept = store.checkpoint("a", &step.fence, &all).await.unwrap();
        assert_eq!(kept.answers, [(1, b"w%undo.1.1.w \n".to_vec()), (2, b"w%cleanup.1.2.w \n".to_vec())]);
        // A repetition with other ids, and a new request.
        let waits = vec![undo(1, "x1", false), undo(2, "x2", true), undo(3, "u3", false)];
        checkpoint(store, &step, Checkpoint { waits, ..Checkpoint::default() }).await;
        fail(store, 2, &step, Vec::new()).await;
        scene.assert_sound().await;
        let stands = async || store.run("r").await.unwrap().unwrap().compensation;
        assert_eq!(stands().await, Some(Compensation::Running));
        assert_eq!(asked(&mut inbox).await, ["start u3 of r %undo.1.3.w"]);
        let tell = async |ended: ChildEndedRequest| store.child_ended(&ended, "").await.unwrap();
        assert_eq!(tell(undone(1, "u1", false, Status::Completed)).await, ChildTold::Over, "it is not its turn");
        assert_eq!(tell(undone(3, "u3", false, Status::Failed)).await, ChildTold::Told);
        assert_eq!(stands().await, Some(Compensation::Failed));
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
        assert!(
            matches!(store.retry("r", None, None).await.unwrap(), Retried::Refused(why) if why.contains("under way"))
        );
        assert_eq!(tell(undone(3, "u3", false, Status::Completed)).await, ChildTold::Told);
        assert_eq!(tell(undone(3, "u3", false, Status::Completed)).await, ChildTold::Over);
        assert_eq!(tell(undone(2, "u2", true, Status::Completed)).await, ChildTold::Told);
        assert_eq!(tell(undone(1, "u1", false, Status::Completed)).await, ChildTold::Told);
        assert_eq!(stands().await, Some(Compensation::Done));
        let wanted = ["start u3 of r %undo.1.3.w", "start u2 of r %cleanup.1.2.w", "start u1 of r %undo.1.1.w"];
        assert_eq!(asked(&mut inbox).await, wanted);
        assert!(
            matches!(store.retry("r", None, None).await.unwrap(), Retried::Refused(why) if why.contains("fork it"))
        );
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert!(store.run("r").await.unwrap().is_none(), "it is forgotten as any other");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_completes_only_cleans_up_and_one_that_times_out_is_undone() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        let mut inbox = store.inbox_reader("c").await.unwrap();
        for (run, timeout) in [("r", None), ("late", Some(HOUR)), ("plain", None)] {
            store.start(&Start { timeout, ..start(run) }).await.unwrap();
        }
        let steps = claim(store, "a", 1, 3).await;
        let of = |run: &str| steps.iter().find(|step| step.fence.run == run).unwrap();
        for (run, always) in [("r", true), ("late", false), ("plain", false)] {
            let waits = vec![undo(1, &format!("{run}.1"), always), undo(2, &format!("{run}.2"), false)];
            checkpoint(store, of(run), Checkpoint { waits, ..Checkpoint::default() }).await;
        }
        let journalled = Commit { journalled: true, ..stop() };
        complete(store, 2, of("r"), &journalled, 0).await;
        complete(store, 3, of("plain"), &journalled, 0).await;
        assert_eq!(asked(&mut inbox).await, ["start r.1 of r %cleanup.1.1.w"]);
        assert_eq!(store.run("plain").await.unwrap().unwrap().compensation, None);
        store.child_ended(&undone(1, "r.1", true, Status::Completed), "").await.unwrap();
        assert_eq!(store.run("r").await.unwrap().unwrap().compensation, Some(Compensation::Done));
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(asked(&mut inbox).await, ["start late.2 of late %undo.1.2.w"]);
        scene.assert_sound().await;
    })
    .await;
}
