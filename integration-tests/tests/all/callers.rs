//! What callers see when Redis restarts, and when replies are lost.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::proxy::Proxy;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;
use stepfleet_shared::Client;
use stepfleet_shared::step::Signalled;

const LIMIT: Duration = Duration::from_secs(30);

/// The first call on a connection that is dead by then.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_after_a_restart_of_redis_works_whatever_it_is() {
    let mut redis = TestRedis::process().await;
    let client = Client::connect(&redis.url).unwrap();
    let run = client.start("nobody-serves-it", &json!({})).id("r").enqueue().await.unwrap();
    let calls = 8;
    for call in 0..calls {
        client.runs().list(1).await.unwrap();
        redis.kill();
        redis.start_again().await;
        match call {
            0 => assert!(run.status().await.unwrap().is_none()),
            1 => drop(run.signal("word", &1).await.unwrap()),
            2 => drop(run.send("Event", &1).await.unwrap()),
            3 => drop(run.cancel().await.unwrap()),
            4 => drop(client.start("nobody-serves-it", &json!({})).enqueue().await.unwrap()),
            5 => assert!(client.runs().list(1).await.unwrap().is_empty()),
            6 => assert!(client.workflows().await.unwrap().is_empty()),
            _ => assert!(run.waits().await.unwrap().is_empty() && run.snapshot().await.unwrap().is_none()),
        }
    }
    let inbox = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut redis.connection().await).await;
    assert_eq!(inbox, Ok(5), "what was sent is there, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_reply_is_lost_is_sent_again_and_taken_once() {
    let fleet = Fleet::new().await;
    // So that no caller looks for the namespace again.
    fleet.store.open().await.unwrap();
    let proxy = Proxy::to(&fleet.redis.url).await;
    let client = Client::connect(&proxy.url).unwrap();
    let run = client.start("nobody-serves-it", &json!({})).id("r").enqueue().await.unwrap();
    // The connection is open: the next reply is that of the request.
    proxy.lose_next_reply();
    let asked = run.signal("word", &7).await.unwrap();
    assert_eq!(proxy.lost(), 1);
    let inbox = fleet.store.waiting_requests().await.unwrap();
    assert_eq!(inbox, 3, "it was not sent again");
    let _coordinator = fleet.coordinator();
    asked.taken(LIMIT).await.unwrap();
    until(async || fleet.store.waiting_requests().await.unwrap() == 0).await;
    let mut kept = 1000;
    while fleet.store.signal("r", "word", b"\x021", None).await.unwrap() == Signalled::Kept {
        kept -= 1;
    }
    assert_eq!(kept, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_short_is_told_what_for() {
    let fleet = Fleet::new().await;
    let moment = Duration::from_millis(1);
    let why = async |id: &str| fleet.client.run(id).result::<Value>(moment).await.unwrap_err().to_string();
    fleet.client.start("nobody-serves-it", &json!({})).id("held").enqueue().await.unwrap();
    assert!(
        why("held").await.starts_with("there is no run held: it was never started, has expired, or no coordinator")
    );
    let _coordinator = fleet.coordinator();
    until(async || fleet.store.is_deferred("held").await.unwrap()).await;
    assert!(why("held").await.contains("it waits for a worker that serves its workflow"));
    fleet.store.start(&stepfleet_integration_tests::double::start("queued")).await.unwrap();
    assert!(
        why("queued").await.ends_with("it waits for a worker: none serves w version 1 now"),
        "{}",
        why("queued").await
    );
}
