//! A store that comes back without what an attempt has recorded: the attempt commits nothing on top of it.

use stepfleet_integration_tests::double::{call, claim, emit, refill, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{
    Body, CallId, Checkpoint, Claim, Collect, CommitStatus, Failure, Next, Refill, Upon, Wait,
};

use super::waits::records;
use super::*;

/// A checkpoint before all calls: it has no entry.
fn marks(mark: u64, upon: Option<Upon>) -> Checkpoint {
    Checkpoint { mark: Some(mark), upon, set: vec![("done".into(), vec![1, 7])], ..Checkpoint::default() }
}

/// What an attempt may record last: how, and what it is built upon then.
fn recorded() -> [(Checkpoint, Upon); 2] {
    [(records(1, 7), Upon::Entry(1)), (marks(1, None), Upon::Mark(1))]
}

/// The ways in which an attempt may end.
const WAYS: [&str; 6] = ["stop", "hand over", "catch", "fail", "suspend", "collect"];

async fn end(store: &dyn Store, way: &str, step: &Claimed, upon: Option<Upon>) -> CommitStatus {
    let call = call("a", 9, false);
    let following = Refill { next: Next::Following, after: None };
    let complete = async |commit: Commit| {
        let commit = Commit { upon, journalled: true, has_traces: true, ..commit };
        store.complete(&call, step, &commit, &following).await.unwrap()
    };
    let (outcome, claimed) = match way {
        "stop" => complete(stop()).await,
        "hand over" => complete(emit(&["next"])).await,
        "catch" => complete(Commit { caught: Some("e".into()), ..emit(&["next"]) }).await,
        "fail" => {
            let failure = Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon };
            store.fail(&call, step, &failure, &following).await.unwrap()
        }
        "suspend" => {
            let waits = [Wait { number: 5, name: "word".into(), ..Wait::default() }];
            store.suspend(&call, step, &waits, Body::Dropped, upon, &following).await.unwrap()
        }
        _ => {
            let (step_name, buffer) = (step.step.clone(), "pages".to_owned());
            let collect = Collect { number: 5, step: step_name, group: 0, buffer, count: 2, payload: vec![1, 7], upon };
            let entry = store.collect("a", &step.fence, &collect).await.unwrap();
            return if entry.is_some() { CommitStatus::Committed } else { CommitStatus::Forgotten };
        }
    };
    assert!(outcome == CommitStatus::Committed || claimed.is_empty(), "{way}: {claimed:?}");
    outcome
}

#[tokio::test]
async fn an_attempt_does_not_end_on_top_of_what_was_forgotten() {
    for way in WAYS {
        on_both(async |scene| {
            let store = scene.store();
            let step = held(scene).await;
            let before = scene.save().await;
            for (checkpoint, upon) in recorded() {
                store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
                scene.restore(&before).await;
                // Its hold is what it was.
                assert_eq!(end(store, way, &step, Some(upon)).await, CommitStatus::Forgotten, "{way} on {upon:?}");
                assert_eq!(end(store, way, &step, Some(upon)).await, CommitStatus::Forgotten, "{way}, again");
                assert_eq!(store.holds("a").await.unwrap(), std::slice::from_ref(&step.fence));
                assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
                assert!(store.context("r").await.unwrap().is_empty());
                scene.assert_sound().await;
            }
            // Others go on from what is there.
            assert_eq!(store.release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 1);
            let again = claim(store, "a", 10, 1).await.remove(0);
            assert_eq!((again.fence.seq, again.fence.attempt, again.journal.len()), (1, 2, 0));
        })
        .await;
    }
}

#[tokio::test]
async fn an_attempt_ends_on_top_of_what_is_there() {
    for way in WAYS {
        for (checkpoint, upon) in recorded() {
            on_both(async |scene| {
                let step = held(scene).await;
                scene.store().checkpoint("a", &step.fence, &checkpoint).await.unwrap();
                assert_eq!(
                    end(scene.store(), way, &step, Some(upon)).await,
                    CommitStatus::Committed,
                    "{way} on {upon:?}"
                );
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_checkpoint_is_not_made_on_top_of_one_that_was_forgotten() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let make = async |mark, upon: Option<u64>| {
            let checkpoint = marks(mark, upon.map(Upon::Mark));
            store.checkpoint("a", &step.fence, &checkpoint).await.unwrap().outcome
        };
        assert_eq!(make(1, None).await, CommitStatus::Committed);
        let saved = scene.save().await;
        assert_eq!(make(2, Some(1)).await, CommitStatus::Committed);
        assert_eq!(make(2, Some(1)).await, CommitStatus::Committed, "it was made, and is repeated");
        scene.restore(&saved).await;
        assert_eq!(make(3, Some(2)).await, CommitStatus::Fenced);
        assert_eq!(make(2, Some(1)).await, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn a_later_checkpoint_stands_for_those_before_it_and_one_of_another_attempt_for_none() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        store.checkpoint("a", &first.fence, &marks(1, None)).await.unwrap();
        store.release("a", std::slice::from_ref(&first.fence)).await.unwrap();
        let second = claim(store, "a", 2, 1).await.remove(0);
        assert_eq!(end(store, "stop", &second, Some(Upon::Mark(1))).await, CommitStatus::Forgotten);
        // One whose answer was never awaited may have been made.
        store.checkpoint("a", &second.fence, &marks(1, None)).await.unwrap();
        store.checkpoint("a", &second.fence, &marks(2, Some(Upon::Mark(1)))).await.unwrap();
        assert_eq!(end(store, "stop", &second, Some(Upon::Mark(3))).await, CommitStatus::Forgotten);
        assert_eq!(end(store, "stop", &second, Some(Upon::Mark(1))).await, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_is_repeated_is_not_taken_for_one_on_top_of_nothing() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        store.checkpoint("a", &step.fence, &records(1, 7)).await.unwrap();
        let commit = Commit { journalled: true, upon: Some(Upon::Entry(1)), ..emit(&["next"]) };
        for again in [false, true] {
            // The first try has removed the journal.
            let (outcome, next) = store.complete(&call("a", 2, again), &step, &commit, &refill(1)).await.unwrap();
            assert_eq!((outcome, next.len()), (CommitStatus::Committed, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn a_claim_tells_what_the_store_believed_to_be_in_its_slots() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let before = scene.save().await;
        complete(store, 2, &step, &stop(), 0).await;
        scene.restore(&before).await;
        let (call, slot) = (call("a", 3, false), Claim { slots: vec![step.fence.slot], ..Claim::default() });
        let taken = store.claim(&call, &slot).await.unwrap().unwrap();
        assert_eq!((taken.vacated, taken.steps.len()), (vec!["r".to_owned()], 1));
        assert_eq!((taken.steps[0].fence.seq, taken.steps[0].fence.attempt), (1, 2));
        store.release("a", std::slice::from_ref(&taken.steps[0].fence)).await.unwrap();
        let (outcome, _) = store.complete(&call, &step, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced);
        let next = CallId { number: 4, ..call };
        assert_eq!(store.claim(&next, &slot).await.unwrap().unwrap().vacated, [] as [String; 0]);
    })
    .await;
}
