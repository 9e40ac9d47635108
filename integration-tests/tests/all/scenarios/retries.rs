//! Runs that failed and are retried: they continue from where they failed.

use std::collections::BTreeSet;

use stepfleet_integration_tests::double::{claim, emit, fan, joins, refill, route, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::published::{Position, What};
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::step::{Body, Checkpoint, CommitStatus, Failure, Merge, Retried, Signalled, Wait};
use stepfleet_shared::store::{Heartbeat, Origin, Start};

use super::waits::{in_order, records};
use super::*;
use crate::cost;

const MINUTE: Duration = Duration::from_secs(60);

async fn fail(store: &dyn Store, number: u64, step: &Claimed) {
    let failure = Failure::Fail { error: "wrong".into(), retention: HOUR, forget: Vec::new(), upon: None };
    let (outcome, _) = store.fail(&call("a", number, false), step, &failure, &refill(0)).await.unwrap();
    assert_eq!(outcome, CommitStatus::Committed);
    assert_eq!(shown(store).await.status, Status::Failed);
}

async fn retry(scene: &Scene) {
    assert_eq!(scene.store().retry("r", None, None).await.unwrap(), Retried::GoesOn);
    scene.assert_sound().await;
}

async fn shown(store: &dyn Store) -> Run {
    store.run("r").await.unwrap().unwrap()
}

async fn told(store: &dyn Store, kind: Kind) -> Vec<(u64, u32, String, String)> {
    let history = store.history("r", 0, 1000).await.unwrap();
    let of = history.into_iter().filter(|record| record.kind == kind);
    of.map(|record| (record.seq, record.attempt, record.step, record.detail)).collect()
}

/// A run of these steps, of which the worker `a` has all.
async fn begun(scene: &Scene, steps: &[&str]) -> Vec<Claimed> {
    let store = scene.store();
    join_fleet(store, "a", Duration::MAX).await;
    let routes = steps.iter().map(|step| route(step)).collect();
    store.start(&Start { routes, ..start("r") }).await.unwrap();
    let mut claimed = claim(store, "a", 1, 9).await;
    claimed.sort_by_key(|step| step.fence.seq);
    assert_eq!(claimed.len(), steps.len());
    claimed
}

#[tokio::test]
async fn a_failed_run_goes_on_from_the_step_that_failed() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        let mut commit = emit(&["next"]);
        commit.set.push(("done".into(), vec![1, 7]));
        let next = complete(store, 2, &first, &commit, 1).await.remove(0);
        fail(store, 3, &next).await;
        scene.pass(MINUTE).await;
        retry(scene).await;
        let run = shown(store).await;
        assert_eq!((run.status, run.error, run.error_step, run.error_attempt), (Status::Running, None, None, None));
        assert!(run.finished_ms.is_none());
        assert_eq!(told(store, Kind::Retried).await, [(2, 1, "next".to_owned(), String::new())]);
        let again = claim(store, "a", 4, 1).await.remove(0);
        assert_eq!((again.fence.seq, again.fence.attempt, again.failures), (2, 2, 0));
        assert_eq!((&*again.context[0].0, &*again.context[0].1), ("done", &[1, 7][..]));
        // It does not expire with the retention of its failure.
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(complete(store, 5, &next, &stop(), 0).await.len(), 0, "it is fenced");
        assert_eq!(shown(store).await.status, Status::Running);
        complete(store, 6, &again, &stop(), 0).await;
        let run = shown(store).await;
        assert_eq!((run.status, run.result), (Status::Completed, Some(b"\"ok\"".to_vec())));
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::Over);
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_was_used_up_starts_anew_and_what_is_recorded_stays() {
    on_both(async |scene| {
        let store = scene.store();
        let mut step = begun(scene, &["first"]).await.remove(0);
        for number in [2, 3] {
            let failure = Failure::Retry { delay: Duration::ZERO, error: "not yet".into() };
            store.fail(&call("a", 10 * number, false), &step, &failure, &refill(0)).await.unwrap();
            store.fire(&fire()).await.unwrap();
            step = claim(store, "a", number, 1).await.remove(0);
        }
        assert_eq!(step.failures, 2);
        store.checkpoint("a", &step.fence, &records(7, 9)).await.unwrap();
        fail(store, 40, &step).await;
        retry(scene).await;
        let again = claim(store, "a", 5, 1).await.remove(0);
        assert_eq!((again.fence.attempt, again.failures), (4, 0));
        assert_eq!((in_order(&again), &again.last_error), (vec![(7, vec![1, 9])], &None));
        // Without a recorded entry, nothing of the journal is left: the audit must not miss it.
        fail(store, 50, &again).await;
        retry(scene).await;
        let again = claim(store, "a", 6, 1).await.remove(0);
        complete(store, 60, &again, &Commit { journalled: true, ..stop() }, 0).await;
        assert_eq!(shown(store).await.status, Status::Completed);
    })
    .await;
}

#[tokio::test]
async fn what_a_step_failed_with_is_forgotten_and_an_empty_journal_is_no_loss() {
    on_both(async |scene| {
        let store = scene.store();
        let step = begun(scene, &["first"]).await.remove(0);
        store.checkpoint("a", &step.fence, &records(1, 5)).await.unwrap();
        store.checkpoint("a", &step.fence, &records(2, 6)).await.unwrap();
        let fails = |forget| Failure::Fail { error: "wrong".into(), retention: HOUR, forget, upon: None };
        store.fail(&call("a", 2, false), &step, &fails(vec![2]), &refill(0)).await.unwrap();
        retry(scene).await;
        let again = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(in_order(&again), [(1, vec![1, 5])]);
        store.fail(&call("a", 4, false), &again, &fails(vec![1]), &refill(0)).await.unwrap();
        // Asserts that an audit finds nothing.
        retry(scene).await;
        assert!(in_order(&claim(store, "a", 5, 1).await[0]).is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_only_failed_attempts_had_left_is_no_loss() {
    on_both(async |scene| {
        let store = scene.store();
        let step = begun(scene, &["first"]).await.remove(0);
        let failure = Failure::Retry { delay: Duration::ZERO, error: "not yet".into() };
        store.fail(&call("a", 2, false), &step, &failure, &refill(0)).await.unwrap();
        store.fire(&fire()).await.unwrap();
        let step = claim(store, "a", 3, 1).await.remove(0);
        fail(store, 4, &step).await;
        retry(scene).await;
        // Asserts that an audit finds nothing.
        scene.assert_sound().await;
        let step = claim(store, "a", 5, 1).await.remove(0);
        fail(store, 6, &step).await;
        retry(scene).await;
    })
    .await;
}

#[tokio::test]
async fn a_run_that_took_too_long_has_all_of_its_time_again() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&Start { timeout: Some(HOUR), ..start("r") }).await.unwrap();
        claim(store, "a", 1, 1).await;
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(shown(store).await.status, Status::Failed);
        let refused = store.retry("r", Some(b"\x02{}"), None).await.unwrap();
        assert!(matches!(refused, Retried::Refused(why) if why.contains("no step is recorded as failed")));
        retry(scene).await;
        assert_eq!(told(store, Kind::Retried).await, [(0, 0, "-".to_owned(), String::new())]);
        assert_eq!(claim(store, "a", 2, 1).await[0].fence.attempt, 2);
        scene.pass_almost(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(shown(store).await.status, Status::Running);
        scene.pass(scene.moment()).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(shown(store).await.status, Status::Failed);
    })
    .await;
}

#[tokio::test]
async fn branches_under_way_go_on_and_those_that_ended_are_not_done_again() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        // Eight begin at once, the others are staged.
        let branches = complete(store, 2, &first, &fan(&["branch"; 12], &["join"], 0), 4).await;
        assert_eq!(branches.len(), 4);
        complete(store, 3, &branches[0], &joins("join", 1), 0).await;
        fail(store, 4, &branches[1]).await;
        // Claims read its queue entries without effect meanwhile.
        assert!(claim(store, "a", 5, 20).await.is_empty());
        retry(scene).await;
        let mut done = BTreeSet::new();
        for number in 6..12 {
            let held = claim(store, "a", number, 20).await;
            for (n, step) in held.iter().enumerate().filter(|(_, step)| step.step == "branch") {
                assert!(done.insert(step.fence.seq), "{:?} is done twice", step.fence);
                let call = 100 * number + n as u64;
                complete(store, call, step, &joins("join", u8::try_from(step.fence.seq).unwrap()), 0).await;
            }
            let Some(join) = held.iter().find(|step| step.step == "join") else { continue };
            let events = store.joined(join, &join.joined.clone().unwrap(), 0, 20).await.unwrap();
            assert_eq!((done.len(), events.len(), &events[0]), (11, 12, &vec![1, 1]));
            complete(store, 100 * number + 99, join, &stop(), 0).await;
        }
        assert_eq!(shown(store).await.status, Status::Completed);
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_large_run_is_taken_up_a_slice_at_a_time() {
    on_both(async |scene| {
        let store = scene.store();
        let first = begun(scene, &["first"]).await.remove(0);
        let mut held = complete(store, 2, &first, &fan(&vec!["branch"; 6000], &[], 0), 3000).await;
        for number in 3..100 {
            held.extend(claim(store, "a", number, 3000).await);
        }
        assert_eq!(held.len(), 6000);
        fail(store, 100, &held[0]).await;
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
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
        let Some(redis) = scene.redis() else { return };
        // What the worker holds is read once for a slice of the audit, not once for each of the 6000.
        let mut connection = redis.connection().await;
        let before = cost::calls(&mut connection).await.get("hvals").copied().unwrap_or_default();
        scene.assert_sound().await;
        let reads = cost::calls(&mut connection).await["hvals"] - before;
        assert!((1..100).contains(&reads), "{reads} reads");
    })
    .await;
}

fn deadline(number: u64, name: &str) -> Wait {
    Wait { number, name: name.into(), deadline: Some(MINUTE), ..Wait::default() }
}

#[tokio::test]
async fn waits_and_timers_that_came_due_meanwhile_come_due() {
    on_both(async |scene| {
        let store = scene.store();
        let steps = begun(scene, &["sleeps", "rests", "awake", "fails"]).await;
        store
            .suspend(&call("a", 2, false), &steps[0], &[deadline(1, "word")], Body::Dropped, None, &refill(0))
            .await
            .unwrap();
        let failure = Failure::Retry { delay: MINUTE, error: "not yet".into() };
        store.fail(&call("a", 3, false), &steps[1], &failure, &refill(0)).await.unwrap();
        // Its body waits on, without being suspended.
        let opens = Checkpoint { waits: vec![deadline(1, "other")], ..Checkpoint::default() };
        store.checkpoint("a", &steps[2].fence, &opens).await.unwrap();
        fail(store, 4, &steps[3]).await;
        scene.pass(MINUTE).await;
        store.fire(&fire()).await.unwrap();
        retry(scene).await;
        let awake = claim(store, "a", 5, 9).await;
        assert_eq!(awake.iter().map(|step| step.fence.seq).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 3);
        let mut late: Vec<_> = claim(store, "a", 6, 9).await.into_iter().map(|step| step.fence.seq).collect();
        late.sort_unstable();
        assert_eq!(late, [1, 2]);
        let mut overdue: Vec<_> =
            told(store, Kind::Overdue).await.into_iter().map(|(seq, _, _, name)| (seq, name)).collect();
        overdue.sort();
        assert_eq!(overdue, [(1, "word".to_owned()), (3, "other".to_owned())]);
        scene.assert_sound().await;
    })
    .await;
}

#[tokio::test]
async fn a_wait_that_was_open_is_open_again() {
    on_both(async |scene| {
        let store = scene.store();
        let steps = begun(scene, &["sleeps", "fails"]).await;
        store
            .suspend(&call("a", 2, false), &steps[0], &[deadline(1, "word")], Body::Dropped, None, &refill(0))
            .await
            .unwrap();
        fail(store, 3, &steps[1]).await;
        assert!(store.waits("r").await.unwrap().is_empty());
        assert_eq!(store.signal("r", "word", &[1, 9], None).await.unwrap(), Signalled::Over);
        retry(scene).await;
        assert_eq!(store.waits("r").await.unwrap().len(), 1);
        assert_eq!(store.signal("r", "word", &[1, 9], None).await.unwrap(), Signalled::Delivered);
        let seqs: Vec<_> = claim(store, "a", 4, 9).await.into_iter().map(|step| step.fence.seq).collect();
        assert_eq!(seqs, [2, 1]);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_has_no_second_effect() {
    on_both(async |scene| {
        let store = scene.store();
        let step = begun(scene, &["first"]).await.remove(0);
        fail(store, 2, &step).await;
        let ask = async |origin: &Origin| store.retry("r", None, Some(origin)).await.unwrap();
        let with_id = Origin::request("q");
        assert_eq!(ask(&with_id).await, Retried::GoesOn);
        assert_eq!(ask(&with_id).await, Retried::Repeated);
        let step = claim(store, "a", 3, 9).await.remove(0);
        fail(store, 4, &step).await;
        assert_eq!(ask(&with_id).await, Retried::Repeated, "it was about the failure before");
        let entry = Origin::entry(store.enqueue(&[(b"op".to_vec(), b"retry".to_vec())]).await.unwrap());
        assert_eq!(ask(&entry).await, Retried::GoesOn);
        assert_eq!(ask(&entry).await, Retried::Gone);
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::Live);
        assert_eq!(store.retry("nobody", None, None).await.unwrap(), Retried::Unknown);
        assert_eq!(claim(store, "a", 5, 9).await.len(), 1);
        assert_eq!(told(store, Kind::Retried).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn the_step_that_failed_can_be_given_another_event() {
    on_both(async |scene| {
        let store = scene.store();
        let step = begun(scene, &["first"]).await.remove(0);
        fail(store, 2, &step).await;
        let refused = store.retry("r", Some(b"\x01\x80"), None).await.unwrap();
        assert!(matches!(refused, Retried::Refused(why) if why.ends_with("encoded as json")));
        assert_eq!(store.retry("r", Some(b"\x02{\"n\":1}"), None).await.unwrap(), Retried::GoesOn);
        assert_eq!(told(store, Kind::Retried).await[0].3, "with another event");
        let step = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!((&*step.payload, &*shown(store).await.input), (&b"\x02{\"n\":1}"[..], &b"{\"n\":1}"[..]));
        let next = complete(store, 4, &step, &fan(&["branch"], &["join"], 0), 1).await.remove(0);
        fail(store, 5, &next).await;
        assert_eq!(store.retry("r", Some(b"\x027"), None).await.unwrap(), Retried::GoesOn);
        let next = claim(store, "a", 6, 1).await.remove(0);
        assert_eq!((&*next.payload, &*shown(store).await.input), (&b"\x027"[..], &b"{\"n\":1}"[..]));
        let join = complete(store, 7, &next, &joins("join", 3), 1).await.remove(0);
        fail(store, 8, &join).await;
        let refused = store.retry("r", Some(b"\x027"), None).await.unwrap();
        assert!(matches!(refused, Retried::Refused(why) if why.contains("several events")));
        retry(scene).await;
        let join = claim(store, "a", 9, 1).await.remove(0);
        assert_eq!(store.joined(&join, &join.joined.clone().unwrap(), 0, 9).await.unwrap(), [vec![1, 3]]);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_fails_its_run_changes_nothing_and_can_be_made_again() {
    on_both(async |scene| {
        let store = scene.store();
        let mut step = begun(scene, &["first"]).await.remove(0);
        store.checkpoint("a", &step.fence, &records(1, 5)).await.unwrap();
        let merges = vec![("sum".to_owned(), Merge::Add(1))];
        // Nothing is left to do; or nothing joins that event.
        for (number, wrong) in [(2, emit(&[])), (3, joins("join", 1))] {
            let commit = Commit { merges: merges.clone(), journalled: true, ..wrong };
            complete(store, 10 * number, &step, &commit, 0).await;
            let run = shown(store).await;
            assert_eq!((run.status, run.error_step.as_deref()), (Status::Failed, Some("first")));
            assert!(store.context("r").await.unwrap().is_empty());
            retry(scene).await;
            step = claim(store, "a", number, 1).await.remove(0);
            assert_eq!(in_order(&step), [(1, vec![1, 5])]);
        }
        complete(store, 40, &step, &Commit { merges, journalled: true, ..stop() }, 0).await;
        assert_eq!(store.context("r").await.unwrap(), [("sum".to_owned(), b"1".to_vec())]);
        assert_eq!(told(store, Kind::Done).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn followers_and_workers_see_a_retried_run_go_on() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", HOUR).await;
        let mut followed = start("r");
        followed.request.follow_steps = true;
        store.start(&followed).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        let mut lease = store.lease("a", HOUR).await.unwrap();
        lease.heartbeat().await.unwrap();
        fail(store, 2, &step).await;
        retry(scene).await;
        let Heartbeat::Renewed { cancelled, .. } = lease.heartbeat().await.unwrap() else {
            panic!("the lease is there")
        };
        assert!(cancelled.is_empty(), "it would drop what it takes up again");
        let step = claim(store, "a", 3, 1).await.remove(0);
        complete(store, 4, &step, &stop(), 0).await;
        let published = store.published("r", Position::BEGINNING, 100).await.unwrap();
        let ends = published.iter().filter(|entry| matches!(entry.what, What::End { .. })).count();
        let numbers: Vec<_> = published.iter().map(|entry| entry.number).collect();
        assert_eq!((ends, numbers), (1, (1..=published.len() as u64).collect()));
        assert!(matches!(published.last().unwrap().what, What::End { status: Status::Completed }));
    })
    .await;
}

#[tokio::test]
async fn what_is_damaged_or_gone_is_not_gone_on_with() {
    on_both(async |scene| {
        let store = scene.store();
        let Some(redis) = scene.redis() else { return };
        let mut redis = redis.connection().await;
        let step = begun(scene, &["first"]).await.remove(0);
        fail(store, 2, &step).await;
        let record: Vec<u8> =
            redis::cmd("HGET").arg("sf:{0}:stopped:r").arg("e1").query_async(&mut redis).await.unwrap();
        let mut set = redis::cmd("HSET");
        let _: u64 = set.arg("sf:{0}:stopped:r").arg("e1").arg("nonsense").query_async(&mut redis).await.unwrap();
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
        let run = shown(store).await;
        assert!(run.status == Status::Failed && run.error.unwrap().contains("its event in Redis is damaged"));
        let mut set = redis::cmd("HSET");
        let _: u64 = set.arg("sf:{0}:stopped:r").arg("e1").arg(record).query_async(&mut redis).await.unwrap();
        let () = redis::cmd("RENAME").arg("sf:{0}:input:r").arg("x").query_async(&mut redis).await.unwrap();
        let refused = store.retry("r", None, None).await.unwrap();
        assert_eq!(refused, Retried::Refused("its input is gone".into()));
        let () = redis::cmd("RENAME").arg("x").arg("sf:{0}:input:r").query_async(&mut redis).await.unwrap();
        retry(scene).await;
        let step = claim(store, "a", 3, 1).await.remove(0);
        complete(store, 4, &step, &stop(), 0).await;
        assert_eq!(shown(store).await.status, Status::Completed);
    })
    .await;
}
