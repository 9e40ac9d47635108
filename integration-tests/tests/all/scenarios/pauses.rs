//! Runs that are paused: nothing new of them begins until they are resumed.

use std::collections::BTreeSet;

use stepfleet_integration_tests::double::{claim, emit, fan, joins, refill, route, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, Cancelled, Failure, Next, Paused, Refill, Resumed, Retried, Signalled, Wait};
use stepfleet_shared::store::{Audit, Origin, Start, Started};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

async fn pause(scene: &Scene) {
    assert_eq!(scene.store().pause("r", None).await.unwrap(), Paused::Paused);
    assert_eq!(status(scene.store()).await, Status::Paused);
    scene.assert_sound().await;
}

async fn resume(scene: &Scene, becomes: Status) {
    assert_eq!(scene.store().resume("r", None).await.unwrap(), Resumed::GoesOn);
    assert_eq!(status(scene.store()).await, becomes);
    scene.assert_sound().await;
}

async fn status(store: &dyn Store) -> Status {
    store.run("r").await.unwrap().unwrap().status
}

async fn kinds(store: &dyn Store) -> Vec<Kind> {
    store.history("r", 0, 100).await.unwrap().into_iter().map(|record| record.kind).collect()
}

/// The step executions that can be claimed.
async fn seqs(store: &dyn Store, number: u64) -> Vec<u64> {
    let mut seqs: Vec<_> = claim(store, "a", number, 20).await.iter().map(|step| step.fence.seq).collect();
    seqs.sort_unstable();
    seqs
}

/// A run of these steps, of which the worker `a` has all.
async fn begun(scene: &Scene, steps: &[&str]) -> Vec<Claimed> {
    let store = scene.store();
    join_fleet(store, "a", Duration::MAX).await;
    let routes = steps.iter().map(|step| route(step)).collect();
    store.start(&Start { routes, ..start("r") }).await.unwrap();
    let mut claimed = claim(store, "a", 1, 9).await;
    claimed.sort_by_key(|step| step.fence.seq);
    claimed
}

#[tokio::test]
async fn what_is_executed_commits_and_what_follows_is_held_back() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        pause(scene).await;
        let mut commit = emit(&["next", "other"]);
        commit.set.push(("done".into(), vec![1, 7]));
        assert!(complete(store, 2, &first, &commit, 3).await.is_empty());
        assert_eq!(store.context("r").await.unwrap(), [("done".to_owned(), vec![1, 7])]);
        assert!(seqs(store, 3).await.is_empty());
        scene.assert_sound().await;
        resume(scene, Status::Running).await;
        let next = claim(store, "a", 4, 9).await;
        assert_eq!(next.iter().map(|step| (step.fence.seq, step.fence.attempt)).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
        // Nor does the only successor of a step go a short way.
        pause(scene).await;
        let follows = Refill { next: Next::Following, after: None };
        let (_, given) = store.complete(&call("a", 5, false), &next[0], &emit(&["last"]), &follows).await.unwrap();
        assert!(given.is_empty(), "{given:?}");
        resume(scene, Status::Running).await;
        assert_eq!(seqs(store, 6).await, [4]);
        let told = [Kind::Start, Kind::Paused, Kind::Done, Kind::Resumed, Kind::Paused, Kind::Done, Kind::Resumed];
        assert_eq!(kinds(store).await, told);
    })
    .await;
}

#[tokio::test]
async fn a_paused_run_ends_with_its_last_executing_step() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        pause(scene).await;
        complete(store, 2, &first, &stop(), 0).await;
        assert_eq!(status(store).await, Status::Completed);
        assert_eq!(store.resume("r", None).await.unwrap(), Resumed::Over);
        assert_eq!(store.pause("r", None).await.unwrap(), Paused::Over);
        assert_eq!(store.pause("nobody", None).await.unwrap(), Paused::Unknown);
        assert_eq!(store.resume("nobody", None).await.unwrap(), Resumed::Unknown);
    })
    .await;
}

#[tokio::test]
async fn timers_and_signals_have_their_effect_and_the_step_goes_on_when_the_run_does() {
    on_both(async |scene| {
        let store = scene.store();
        let steps = begun(scene, &["sleeps", "waits", "rests"]).await;
        let wait = |name: &str, deadline| Wait { number: 1, name: name.into(), deadline, ..Wait::default() };
        let sleeps = [wait("nothing", Some(MINUTE))];
        store.suspend(&call("a", 2, false), &steps[0], &sleeps, Body::Dropped, None, &refill(0)).await.unwrap();
        store
            .suspend(&call("a", 3, false), &steps[1], &[wait("word", None)], Body::Dropped, None, &refill(0))
            .await
            .unwrap();
        let failure = Failure::Retry { delay: MINUTE, error: "not yet".into() };
        store.fail(&call("a", 4, false), &steps[2], &failure, &refill(0)).await.unwrap();
        pause(scene).await;
        assert_eq!(store.signal("r", "word", &[1, 9], None).await.unwrap(), Signalled::Delivered);
        scene.pass(MINUTE).await;
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 2);
        assert!(store.waits("r").await.unwrap().is_empty());
        assert_eq!(kinds(store).await.iter().filter(|kind| **kind == Kind::Overdue).count(), 1);
        assert!(seqs(store, 5).await.is_empty());
        resume(scene, Status::Running).await;
        assert_eq!(seqs(store, 6).await, [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn timers_that_are_not_due_when_the_run_goes_on_come_due_later() {
    on_both(async |scene| {
        let store = scene.store();
        let step = begun(scene, &["rests"]).await.remove(0);
        let failure = Failure::Retry { delay: MINUTE, error: "not yet".into() };
        store.fail(&call("a", 2, false), &step, &failure, &refill(0)).await.unwrap();
        pause(scene).await;
        resume(scene, Status::Running).await;
        assert!(seqs(store, 3).await.is_empty());
        scene.pass(MINUTE).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(seqs(store, 4).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_has_not_begun_is_queued_again() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("r")).await.unwrap();
        pause(scene).await;
        assert!(seqs(store, 1).await.is_empty());
        resume(scene, Status::Queued).await;
        assert_eq!(seqs(store, 2).await, [1]);
        assert_eq!(status(store).await, Status::Running);
    })
    .await;
}

#[tokio::test]
async fn a_delay_goes_on_and_what_it_delays_is_held_back() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        let mut delayed = start("r");
        delayed.request.delay_ms = 60_000;
        store.start(&delayed).await.unwrap();
        pause(scene).await;
        scene.pass(MINUTE).await;
        store.fire(&fire()).await.unwrap();
        assert!(seqs(store, 1).await.is_empty());
        resume(scene, Status::Queued).await;
        assert_eq!(seqs(store, 2).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn a_run_whose_request_is_held_starts_paused_unless_it_is_resumed_before() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        for (is_resumed, id) in [(true, "other"), (false, "r")] {
            let held = start(id);
            store.defer(&held).await.unwrap();
            assert_eq!(store.pause(id, None).await.unwrap(), Paused::Paused);
            assert_eq!(store.pause(id, None).await.unwrap(), Paused::Already);
            if is_resumed {
                assert_eq!(store.resume(id, None).await.unwrap(), Resumed::GoesOn);
                assert_eq!(store.resume(id, None).await.unwrap(), Resumed::Already);
            }
            assert_eq!(store.start(&held).await.unwrap(), Started::New(id.into()));
        }
        let begun = claim(store, "a", 1, 9).await;
        assert_eq!(begun.iter().map(|step| &*step.fence.run).collect::<Vec<_>>(), ["other"]);
        assert_eq!((status(store).await, kinds(store).await), (Status::Paused, vec![Kind::Start, Kind::Paused]));
        resume(scene, Status::Queued).await;
        assert_eq!(seqs(store, 2).await, [1]);
    })
    .await;
}

#[tokio::test]
async fn a_pause_of_a_request_that_repeats_a_run_is_asked_for_anew() {
    on_both(async |scene| {
        let store = scene.store();
        let mut held = start("held");
        held.request.key = Some("k".into());
        store.defer(&held).await.unwrap();
        assert_eq!(store.pause("held", None).await.unwrap(), Paused::Paused);
        store.start(&Start { run: "r".into(), ..held.clone() }).await.unwrap();
        assert_eq!(store.start(&held).await.unwrap(), Started::Known("r".into()));
        let mut inbox = store.inbox_reader("c").await.unwrap();
        let asked: Vec<_> = inbox.next().await.unwrap().into_iter().map(|entry| (*entry.fields).clone()).collect();
        let fields = [("op", "pause"), ("run", "held")].map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec()));
        assert_eq!(asked, [fields.to_vec()]);
        assert_eq!(store.pause("held", None).await.unwrap(), Paused::Paused);
        assert_eq!(status(store).await, Status::Paused, "the id leads to it");
    })
    .await;
}

#[tokio::test]
async fn a_slot_is_given_no_other_branch_and_all_are_done_once_in_the_end() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        // Eight begin at once, the others are staged.
        let branches = complete(store, 2, &first, &fan(&["branch"; 12], &["join"], 0), 2).await;
        pause(scene).await;
        let mut done: BTreeSet<u64> = BTreeSet::new();
        for (n, step) in branches.iter().enumerate() {
            done.insert(step.fence.seq);
            let follows = Refill { next: Next::Following, after: None };
            let call = call("a", 3 + n as u64, false);
            let (_, given) = store.complete(&call, step, &joins("join", 1), &follows).await.unwrap();
            assert!(given.is_empty(), "{given:?}");
        }
        assert!(seqs(store, 10).await.is_empty());
        let mend = Audit { repair: true, from: 0, max_losses: 3, retention: HOUR };
        assert_eq!(store.audit(&mend).await.unwrap().breaches, []);
        assert!(seqs(store, 11).await.is_empty());
        resume(scene, Status::Running).await;
        for number in 12..20 {
            for (n, step) in claim(store, "a", number, 20).await.iter().enumerate() {
                let call = 100 * number + n as u64;
                if step.step == "join" {
                    assert_eq!(store.joined(step, &step.joined.clone().unwrap(), 0, 20).await.unwrap().len(), 12);
                    complete(store, call, step, &stop(), 0).await;
                } else {
                    assert!(done.insert(step.fence.seq), "{:?} is done twice", step.fence);
                    complete(store, call, step, &joins("join", 1), 0).await;
                }
            }
        }
        assert_eq!((status(store).await, done.len()), (Status::Completed, 12));
    })
    .await;
}

#[tokio::test]
async fn a_large_run_is_resumed_a_slice_at_a_time() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        store.complete(&call("a", 2, false), &first, &fan(&vec!["branch"; 6000], &[], 0), &refill(0)).await.unwrap();
        let mut held = Vec::new();
        for number in 3..99 {
            held.extend(claim(store, "a", number, 3000).await);
        }
        assert_eq!(held.len(), 6000);
        pause(scene).await;
        // Its worker hands all of them back.
        while !store.deregister("a").await.unwrap() {}
        join_fleet(store, "a", Duration::MAX).await;
        for number in 100..110 {
            assert!(claim(store, "a", number, 3000).await.is_empty());
        }
        assert_eq!(store.resume("r", None).await.unwrap(), Resumed::GoesOn);
        let calls = if scene.redis().is_some() { 3.. } else { 0.. };
        let mut fired = 0;
        while store.fire(&fire()).await.unwrap().fired > 0 {
            fired += 1;
        }
        assert!(calls.contains(&fired), "{fired} slices");
        scene.assert_sound().await;
        let mut again = BTreeSet::new();
        for number in 200..300 {
            again.extend(claim(store, "a", number, 3000).await.into_iter().map(|step| step.fence.seq));
        }
        assert_eq!(again.len(), 6000);
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_lost_meanwhile_is_replaced_when_the_run_goes_on() {
    on_both(async |scene| {
        let store = scene.store();
        begun(scene, &["first"]).await;
        pause(scene).await;
        store.reap(&reap(&["a"])).await.unwrap();
        join_fleet(store, "b", Duration::MAX).await;
        assert!(claim(store, "b", 1, 9).await.is_empty());
        scene.assert_sound().await;
        resume(scene, Status::Running).await;
        assert_eq!(claim(store, "b", 2, 9).await[0].fence.attempt, 2);
    })
    .await;
}

#[tokio::test]
async fn what_is_executed_when_the_run_goes_on_stays_where_it_is() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        pause(scene).await;
        resume(scene, Status::Running).await;
        assert!(seqs(store, 2).await.is_empty());
        complete(store, 3, &first, &stop(), 0).await;
        assert_eq!(status(store).await, Status::Completed);
    })
    .await;
}

#[tokio::test]
async fn a_cancel_takes_effect_at_once_and_a_retry_only_where_the_run_has_failed() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        pause(scene).await;
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::Paused);
        // It fails for good anyway.
        let failure = Failure::Fail { error: "wrong".into(), retention: HOUR, forget: Vec::new(), upon: None };
        store.fail(&call("a", 2, false), &first, &failure, &refill(0)).await.unwrap();
        assert_eq!(status(store).await, Status::Failed);
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
        assert_eq!(status(store).await, Status::Running, "whoever retries it wants it to go on");
        assert_eq!(seqs(store, 3).await, [1]);
        pause(scene).await;
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
        assert_eq!(status(store).await, Status::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn the_timeout_of_the_run_goes_on() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&Start { timeout: Some(HOUR), ..start("r") }).await.unwrap();
        pause(scene).await;
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        let run = store.run("r").await.unwrap().unwrap();
        assert_eq!(
            (run.status, run.error.as_deref()),
            (
                Status::Failed,
                Some(
                    "the run did not end within its timeout of 1h, which keeps running while a run is paused; active \
                     steps: first (1 queued)"
                )
            )
        );
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_has_no_second_effect() {
    on_both(async |scene| {
        let store = scene.store();
        begun(scene, &["first"]).await;
        let (pause, resume) = (Origin::request("p"), Origin::request("q"));
        assert_eq!(store.pause("r", Some(&pause)).await.unwrap(), Paused::Paused);
        assert_eq!(store.resume("r", Some(&resume)).await.unwrap(), Resumed::GoesOn);
        assert_eq!(store.pause("r", Some(&pause)).await.unwrap(), Paused::Repeated);
        assert_eq!(status(store).await, Status::Running);
        let entry = Origin::entry(store.enqueue(&[(b"op".to_vec(), b"pause".to_vec())]).await.unwrap());
        assert_eq!(store.pause("r", Some(&entry)).await.unwrap(), Paused::Paused);
        assert_eq!(store.pause("r", Some(&entry)).await.unwrap(), Paused::Gone);
        assert_eq!(store.resume("r", Some(&resume)).await.unwrap(), Resumed::Repeated);
        assert_eq!(status(store).await, Status::Paused);
        let entry = Origin::entry(store.enqueue(&[(b"op".to_vec(), b"resume".to_vec())]).await.unwrap());
        assert_eq!(store.resume("r", Some(&entry)).await.unwrap(), Resumed::GoesOn);
        assert_eq!(store.resume("r", Some(&entry)).await.unwrap(), Resumed::Gone);
        assert_eq!(kinds(store).await.iter().filter(|kind| **kind == Kind::Resumed).count(), 2);
    })
    .await;
}
