//! Receipts, in lists that requests name.

use serde_json::{Value, json};
use stepfleet_integration_tests::double::{claim, refill, requested, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::step::{Body, Cancelled, Failure, Forked, Retried, Signalled, Wait};
use stepfleet_shared::store::{Deferral, Fork, Origin, Rejection, Start, Started, Store};

use super::*;

async fn told(store: &dyn Store, list: &str) -> Vec<Value> {
    let receipts = store.receipts(list).await.unwrap();
    receipts.iter().map(|receipt| serde_json::from_str(receipt).expect("a receipt is JSON")).collect()
}

/// Their events, in order.
async fn events(store: &dyn Store, list: &str) -> Vec<String> {
    told(store, list).await.iter().map(|receipt| receipt["event"].as_str().unwrap().to_owned()).collect()
}

/// A request in the inbox that names a list.
async fn asked(store: &dyn Store, list: &str) -> Origin {
    let entry = store.enqueue(&[(b"op".to_vec(), b"signal".to_vec())]).await.unwrap();
    Origin { entry, request: String::new(), reply: list.into() }
}

fn replying(mut start: Start, list: &str) -> Start {
    start.request.reply = Some(format!("sf:{{0}}:reply:{list}"));
    start
}

#[tokio::test]
async fn a_start_and_an_end_get_one_receipt_each() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        let first = replying(requested(store, "r").await, "mine");
        assert_eq!(store.start(&first).await.unwrap(), Started::New("r".into()));
        // A coordinator that did not get the answer, or another one that has taken the same entry over.
        assert_eq!(store.start(&first).await.unwrap(), Started::Known("r".into()));
        let entry = first.entry.clone().unwrap();
        assert_eq!(told(store, "mine").await, [json!({ "event": "started", "run": "r", "entry": entry })]);
        // The same request in another entry, from another caller with a list.
        let second = replying(requested(store, "r").await, "other");
        store.start(&second).await.unwrap();
        let entry = second.entry.unwrap();
        let repeated = json!({ "event": "started", "run": "r", "entry": entry, "repeated": true });
        assert_eq!(told(store, "other").await, std::slice::from_ref(&repeated));
        let step = claim(store, "a", 1, 1).await.remove(0);
        complete(store, 2, &step, &stop(), 0).await;
        let ended = json!({ "event": "ended", "run": "r", "status": "completed", "result": "ok" });
        assert_eq!(&told(store, "mine").await[1..], std::slice::from_ref(&ended));
        assert_eq!(told(store, "other").await, [repeated, ended.clone()]);
        // Too late to get the receipt of the end.
        let late = replying(requested(store, "r").await, "late");
        store.start(&late).await.unwrap();
        assert_eq!(told(store, "late").await[1..], [ended]);
        scene.pass(24 * HOUR + MS).await;
        assert!(told(store, "late").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_what_nobody_serves_is_told_whatever_becomes_of_it() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        for run in ["started", "rejected", "cancelled"] {
            let held = replying(requested(store, run).await, run);
            assert_eq!(store.defer(&held).await.unwrap(), Deferral::Kept);
            assert_eq!(store.defer(&held).await.unwrap(), Deferral::Kept);
            assert_eq!(events(store, run).await, ["kept"]);
        }
        let also = replying(requested(store, "started").await, "also");
        store.defer(&also).await.unwrap();
        store.start(&replying(start("started"), "started")).await.unwrap();
        store.start(&replying(start("started"), "started")).await.unwrap();
        let rejection = Rejection {
            deferred: Some("rejected".into()),
            run: Some("rejected".into()),
            reason: "nobody \"serves\" it\n".into(),
            ..Rejection::default()
        };
        store.reject(&rejection).await.unwrap();
        store.reject(&rejection).await.unwrap();
        assert_eq!(store.cancel("cancelled", None, HOUR).await.unwrap(), Cancelled::Stopped);
        assert_eq!(events(store, "started").await, ["kept", "started"]);
        assert_eq!(events(store, "also").await, ["kept", "started"]);
        let reason = json!({ "event": "rejected", "run": "rejected", "reason": "nobody \"serves\" it\n" });
        assert_eq!(told(store, "rejected").await[1..], [reason]);
        let status =
            json!({ "event": "ended", "run": "cancelled", "status": "cancelled", "error": "cancelled on request" });
        assert_eq!(told(store, "cancelled").await[1..], [status]);
        // The id is free, and no list waits for its next run.
        store.start(&start("rejected")).await.unwrap();
        store.cancel("rejected", None, HOUR).await.unwrap();
        assert_eq!(events(store, "rejected").await, ["kept", "rejected"]);
    })
    .await;
}

#[tokio::test]
async fn a_signal_is_taken_kept_or_rejected() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let signal = async |origin: &Origin| store.signal("r", "word", &[1, 9], Some(origin)).await.unwrap();
        let kept = asked(store, "l").await;
        assert_eq!(signal(&kept).await, Signalled::Kept);
        assert_eq!(signal(&kept).await, Signalled::Gone);
        let waits = |number| vec![Wait { number, name: "word".into(), ..Wait::default() }];
        store.suspend(&call("a", 2, false), &step, &waits(1), Body::Dropped, None, &refill(0)).await.unwrap();
        let again = claim(store, "a", 3, 1).await.remove(0);
        store.suspend(&call("a", 4, false), &again, &waits(2), Body::Dropped, None, &refill(0)).await.unwrap();
        let named = Origin { request: "q".into(), ..asked(store, "l").await };
        assert_eq!(signal(&named).await, Signalled::Delivered);
        // Its sender got no answer, and sends it again.
        let repeated = Origin { request: "q".into(), ..asked(store, "l").await };
        assert_eq!(signal(&repeated).await, Signalled::Repeated);
        let receipts = told(store, "l").await;
        assert_eq!(events(store, "l").await, ["kept", "taken", "taken"]);
        assert_eq!(receipts[0], json!({ "event": "kept", "run": "r", "entry": kept.entry }));
        assert_eq!(receipts[1], json!({ "event": "taken", "run": "r", "entry": named.entry, "request": "q" }));
        let Origin { entry, .. } = asked(store, "").await;
        let rejection = Rejection {
            entry: entry.clone(),
            request: Some(("r".into(), "q2".into())),
            reply: Some("l".into()),
            reason: "no".into(),
            ..Rejection::default()
        };
        store.reject(&rejection).await.unwrap();
        store.reject(&rejection).await.unwrap();
        let rejected = json!({ "event": "rejected", "run": "r", "entry": entry, "request": "q2", "reason": "no" });
        assert_eq!(told(store, "l").await[3..], [rejected]);
        for _ in 0..1100 {
            signal(&repeated).await;
            let next = asked(store, "l").await;
            signal(&Origin { request: "q".into(), ..next }).await;
        }
        assert_eq!(told(store, "l").await.len(), 1000, "a list is bounded");
    })
    .await;
}

#[tokio::test]
async fn a_fork_and_a_retry_get_receipts_with_their_ends() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let failure = Failure::Fail { error: "no".into(), retention: HOUR, forget: vec![], upon: None };
        store.fail(&call("a", 2, false), &step, &failure, &refill(0)).await.unwrap();
        let origin = asked(store, "retry").await;
        assert_eq!(store.retry("r", None, Some(&origin)).await.unwrap(), Retried::GoesOn);
        let again = claim(store, "a", 3, 1).await.remove(0);
        store.fail(&call("a", 4, false), &again, &failure, &refill(0)).await.unwrap();
        let ended = json!({ "event": "ended", "run": "r", "status": "failed", "error": "no" });
        assert_eq!(told(store, "retry").await[1..], [ended]);
        assert_eq!(events(store, "retry").await, ["taken", "ended"]);

        let routes = vec![stepfleet_integration_tests::double::route("first")];
        let fork = Fork { asked: "r".into(), id: "f".into(), is_start: true, seq: 1, routes, ..Fork::default() };
        let origin = asked(store, "fork").await;
        assert_eq!(store.fork(&fork, Some(&origin)).await.unwrap(), Forked::Made);
        let origin = asked(store, "fork").await;
        assert_eq!(store.fork(&fork, Some(&origin)).await.unwrap(), Forked::Known);
        let step = claim(store, "a", 5, 1).await.remove(0);
        complete(store, 6, &step, &stop(), 0).await;
        let receipts = told(store, "fork").await;
        assert_eq!(events(store, "fork").await, ["started", "started", "ended"]);
        assert!(receipts.iter().all(|receipt| receipt["run"] == "f"), "{receipts:?}");
        assert_eq!((&receipts[0]["repeated"], &receipts[1]["repeated"]), (&Value::Null, &json!(true)));
        assert_eq!(receipts[2]["result"], "ok");
    })
    .await;
}

/// A large result is not in the receipt, but in the run.
#[tokio::test]
async fn a_receipt_is_small() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        store.start(&replying(requested(store, "r").await, "l")).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        let result = serde_json::to_vec(&"x".repeat(65_536)).unwrap();
        complete(store, 2, &step, &Commit { result: Some(result), ..stop() }, 0).await;
        assert_eq!(told(store, "l").await[1], json!({ "event": "ended", "run": "r", "status": "completed" }));
    })
    .await;
}
