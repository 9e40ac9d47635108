//! Requests about a run that have an id, sent more than once; and signals that nobody takes.

use stepfleet_integration_tests::double::{claim, join_fleet, refill, route, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::step::{Body, Cancelled, SendDeferral, Sent, Signalled, Wait};
use stepfleet_shared::store::{Origin, Rejection, RequestFate, Store};

use super::*;

/// An approval as a signal, sent twice.
async fn approve(store: &dyn Store, request: &str) -> Signalled {
    store.signal("r", "approval", &[1, 9], Some(&Origin::request(request))).await.unwrap()
}

async fn fate(store: &dyn Store, request: &str) -> Option<RequestFate> {
    store.request_fate("r", request).await.unwrap()
}

fn waits(number: u64) -> Vec<Wait> {
    vec![Wait { number, name: "approval".into(), ..Wait::default() }]
}

#[tokio::test]
async fn one_approval_approves_one_stage_however_often_it_is_sent() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        store.suspend(&call("a", 2, false), &step, &waits(1), Body::Dropped, None, &refill(0)).await.unwrap();
        assert_eq!(fate(store, "q").await, None);
        assert_eq!(approve(store, "q").await, Signalled::Delivered);
        assert_eq!(fate(store, "q").await, Some(RequestFate::Taken));
        let again = claim(store, "a", 3, 1).await.remove(0);
        store.suspend(&call("a", 4, false), &again, &waits(2), Body::Dropped, None, &refill(0)).await.unwrap();
        // In the inbox a second time, as from a sender that got no answer.
        let entry = store.enqueue(&[(b"op".to_vec(), b"signal".to_vec())]).await.unwrap();
        let origin = Origin { entry, ..Origin::request("q") };
        let repeated = store.signal("r", "approval", &[1, 9], Some(&origin)).await.unwrap();
        assert_eq!(repeated, Signalled::Repeated);
        assert_eq!(store.waiting_requests().await.unwrap(), 0, "it stays in the inbox");
        assert!(claim(store, "a", 5, 1).await.is_empty(), "the second stage was approved with the first");
        assert_eq!(approve(store, "p").await, Signalled::Delivered, "another approval");
        let last = claim(store, "a", 6, 1).await.remove(0);
        complete(store, 7, &last, &stop(), 0).await;
        assert_eq!(approve(store, "p").await, Signalled::Repeated, "the run has ended: it was taken all the same");
        assert_eq!(approve(store, "late").await, Signalled::Over);
        scene.pass(24 * HOUR + MS).await;
        assert_eq!(fate(store, "p").await, None);
        assert_eq!(approve(store, "p").await, Signalled::Over);
    })
    .await;
}

#[tokio::test]
async fn an_event_and_a_cancel_are_taken_once() {
    on_both(async |scene| {
        let store = scene.store();
        held(scene).await;
        let (events, origin) = ([(route("sent"), vec![1, 5])], Origin::request("q"));
        assert_eq!(store.send("r", &events, Some(&origin)).await.unwrap(), Sent::Delivered);
        assert_eq!(store.send("r", &events, Some(&origin)).await.unwrap(), Sent::Repeated);
        assert_eq!(claim(store, "a", 2, 5).await.len(), 1);
        let origin = Origin::request("c");
        assert_eq!(store.cancel("r", Some(&origin), Duration::ZERO).await.unwrap(), Cancelled::Stopped);
        assert_eq!(store.cancel("r", Some(&origin), HOUR).await.unwrap(), Cancelled::Repeated);
        store.fire(&fire()).await.unwrap();
        // It was meant for the earlier run, not for another one with its id.
        store.start(&start("r")).await.unwrap();
        assert_eq!(store.cancel("r", Some(&origin), HOUR).await.unwrap(), Cancelled::Repeated);
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_for_a_run_that_is_held_is_kept_once() {
    on_both(async |scene| {
        let store = scene.store();
        store.defer(&start("r")).await.unwrap();
        let send = stepfleet_shared::request::SendRequest {
            run: "r".into(),
            event: "E".into(),
            step: None,
            content: stepfleet_shared::codec::Content::Json,
            input: b"{}".to_vec(),
            request: None,
        };
        let origin = Origin::request("q");
        assert_eq!(store.defer_send(&send, Some(&origin)).await.unwrap(), SendDeferral::Deferred);
        assert_eq!(store.defer_send(&send, Some(&origin)).await.unwrap(), SendDeferral::Repeated);
        for _ in 1..1000 {
            assert_eq!(store.defer_send(&send, None).await.unwrap(), SendDeferral::Deferred);
        }
        assert_eq!(store.defer_send(&send, None).await.unwrap(), SendDeferral::Full);
        store.start(&start("r")).await.unwrap();
        assert_eq!(store.waiting_requests().await.unwrap(), 1000);
        assert_eq!(store.defer_send(&send, Some(&origin)).await.unwrap(), SendDeferral::Repeated);
        assert_eq!(store.defer_send(&send, None).await.unwrap(), SendDeferral::Live);
        let events = [(route("sent"), vec![1, 5])];
        assert_eq!(store.send("r", &events, Some(&origin)).await.unwrap(), Sent::Repeated);
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_rejected_may_be_taken_later_and_one_that_was_taken_stays_so() {
    on_both(async |scene| {
        let store = scene.store();
        let rejected = |reason: &str| Rejection {
            request: Some(("r".into(), "q".into())),
            reason: reason.into(),
            ..Rejection::default()
        };
        store.reject(&rejected("no")).await.unwrap();
        assert_eq!(fate(store, "q").await, Some(RequestFate::Rejected("no".into())));
        store.start(&start("r")).await.unwrap();
        assert_eq!(approve(store, "q").await, Signalled::Kept);
        store.reject(&rejected("too late")).await.unwrap();
        assert_eq!(fate(store, "q").await, Some(RequestFate::Kept));
    })
    .await;
}

/// The details of the records about signals that nobody took.
async fn unused(store: &dyn Store, run: &str) -> Vec<String> {
    let history = store.history(run, 0, 100).await.unwrap();
    history.into_iter().filter(|record| record.kind == Kind::UnusedSignals).map(|record| record.detail).collect()
}

#[tokio::test]
async fn signals_that_nobody_took_are_told_of_at_the_end_whatever_it_is() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", 10 * HOUR).await;
        let retention = HOUR;
        for (number, end) in [(1, "completes"), (10, "fails"), (20, "cancelled"), (30, "times-out"), (40, "longer")] {
            let mut asked = start(end);
            asked.timeout = (end == "times-out").then_some(Duration::ZERO);
            store.start(&asked).await.unwrap();
            let step = claim(store, "a", number, 1).await.remove(0);
            for name in ["b", "a", "b", "used"] {
                assert_eq!(store.signal(end, name, &[1, 1], None).await.unwrap(), Signalled::Kept);
            }
            let waits = vec![Wait { number: 1, name: "used".into(), ..Wait::default() }];
            let checkpoint = stepfleet_shared::step::Checkpoint { waits, ..Default::default() };
            store.checkpoint("a", &step.fence, &checkpoint).await.unwrap();
            match end {
                // The short way, and the long one.
                "completes" => drop(complete(store, number + 1, &step, &stop(), 0).await),
                "longer" => {
                    let commit = Commit { journalled: true, ..stop() };
                    complete(store, number + 1, &step, &commit, 0).await;
                }
                "fails" => {
                    let failure = stepfleet_shared::step::Failure::Fail {
                        error: "e".into(),
                        retention,
                        forget: Vec::new(),
                        upon: None,
                    };
                    store.fail(&call("a", number + 1, false), &step, &failure, &refill(0)).await.unwrap();
                }
                "cancelled" => drop(store.cancel(end, None, retention).await.unwrap()),
                _ => drop(store.fire(&fire()).await.unwrap()),
            }
            assert!(store.run(end).await.unwrap().unwrap().status.is_over(), "{end}");
            assert_eq!(unused(store, end).await, ["a 1, b 2"], "{end}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_record_of_unused_signals_is_bounded() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        for name in 0..30 {
            store.signal("r", &format!("s{name:02}"), &[1, 1], None).await.unwrap();
        }
        complete(store, 2, &step, &stop(), 0).await;
        let told = unused(store, "r").await.remove(0);
        assert!(told.starts_with("s00 1, s01 1, ") && told.ends_with("s19 1, 10 more names"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_run_that_a_request_repeats_tells_of_signals_that_came_for_the_request_too_late() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", HOUR).await;
        let keyed = |id: &str| {
            let mut asked = start(id);
            asked.request.key = Some("k".into());
            asked
        };
        store.defer(&keyed("second")).await.unwrap();
        store.signal("second", "word", &[1, 1], None).await.unwrap();
        store.start(&keyed("first")).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        complete(store, 2, &step, &stop(), 0).await;
        store.start(&keyed("second")).await.unwrap();
        assert_eq!(unused(store, "first").await, ["word 1"]);
    })
    .await;
}
