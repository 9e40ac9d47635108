//! Readers, leases and the end of runs: whoever waits is woken.

use super::*;
use crate::store::Heartbeat;
use crate::store::prelude::*;

/// Far less than a blocking read waits.
const SOON: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn an_idle_worker_is_woken_by_what_arrives() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    let mut reader = store.wake_reader("a").await.unwrap();
    let other = store.clone();
    let waiting = tokio::spawn(async move { reader.next().await.unwrap() });
    tokio::task::yield_now().await;
    other.start(&start("r")).await.unwrap();
    assert!(tokio::time::timeout(SOON, waiting).await.expect("it was not woken").unwrap());
    assert_eq!(claim(store, "a", 1, 1).await.len(), 1);
}

#[tokio::test]
async fn a_worker_whose_lease_connection_is_closed_is_given_up_once_it_is_suspected() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    let mut lease = store.lease("a", LEASE).await.unwrap();
    assert!(store.disconnected().await.unwrap().is_empty());
    assert_eq!(lease.heartbeat().await.unwrap(), Heartbeat::Renewed { cancelled: vec![], drain: false });
    assert!(store.disconnected().await.unwrap().is_empty());
    drop(lease);
    let suspects = store.disconnected().await.unwrap();
    assert_eq!(suspects, [("a".to_owned(), 1)]);
    let mut anew = store.lease("a", LEASE).await.unwrap();
    anew.heartbeat().await.unwrap();
    let ticked = store.tick(&Tick { suspects, ..tick() }).await.unwrap();
    assert!(ticked.reaped.is_empty(), "it has a new connection");
    drop(anew);
    let suspects = store.disconnected().await.unwrap();
    store.advance(LEASE);
    let ticked = store.tick(&Tick { suspects, ..tick() }).await.unwrap();
    assert_eq!(ticked.reaped, ["a"], "suspected, and its lease ran out too");
}

#[tokio::test]
async fn whoever_waits_for_the_end_of_a_run_is_told() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    store.start(&start("r")).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    let other = store.clone();
    let waiting = tokio::spawn(async move { other.wait_ended("r", LEASE).await.unwrap() });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // Forgotten at once: it is not there any more when the waiter looks.
    complete(store, 2, &step, &Commit { retention: Duration::ZERO, ..stop() }, 0).await;
    store.tick(&tick()).await.unwrap();
    tokio::time::timeout(SOON, waiting).await.expect("it was not told").unwrap();
}

#[tokio::test]
async fn requests_are_given_to_one_coordinator_and_taken_over_by_another() {
    let store = &store();
    let request = StartRequest::new("w", "{}");
    let entry = store.submit(&request).await.unwrap();
    assert_eq!(entry, "1000000-0");
    let named = StartRequest { id: Some("r".into()), ..request };
    assert_eq!(store.submit(&named).await.unwrap(), "r");
    let entries = store.inbox_reader("c1").await.unwrap().next().await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["1000000-0", "1000000-1"]);
    let parsed = crate::request::parse(&entries[1].fields).unwrap();
    assert_eq!(parsed, crate::request::Request::Start(named));
    assert!(store.reclaim_inbox("c2", MS).await.unwrap().is_empty());
    store.advance(MS);
    assert_eq!(store.reclaim_inbox("c2", MS).await.unwrap().len(), 2);
    assert!(store.reclaim_inbox("c1", MS).await.unwrap().is_empty(), "they are c2's now");
    let taken = Start { entry: Some(entry), ..start("1000000-0") };
    store.start(&taken).await.unwrap();
    assert_eq!(store.reclaim_inbox("c1", Duration::ZERO).await.unwrap().len(), 1);
}
