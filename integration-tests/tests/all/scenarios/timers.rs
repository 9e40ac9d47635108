//! Delayed starts and retries.

use stepfleet_integration_tests::double::{call, claim, join_fleet, refill, route, start};
use stepfleet_integration_tests::scene::{BEGINNING_MS, on_both};
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Failure;
use stepfleet_shared::store::{Ended, Start};

use super::*;

#[tokio::test]
async fn a_delayed_start_waits_for_its_timers() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        let mut delayed = start("r");
        delayed.routes = vec![route("first"), route("other")];
        delayed.request.delay_ms = 60_000;
        store.start(&delayed).await.unwrap();
        scene.assert_sound().await;
        assert!(claim(store, "a", 1, 9).await.is_empty());
        scene.pass_almost(Duration::from_secs(60)).await;
        let fired = store.fire(&fire()).await.unwrap();
        assert_eq!(fired.fired, 0);
        scene.assert_time(fired.next_due, scene.moment());
        scene.pass(scene.moment()).await;
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 2);
        let run = store.run("r").await.unwrap().unwrap();
        assert_eq!((run.status, run.started_ms), (Status::Queued, None));
        let steps = claim(store, "a", 2, 9).await;
        assert_eq!(steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["first", "other"]);
        assert_eq!(steps[0].payload, b"\x02{}");
        let run = store.run("r").await.unwrap().unwrap();
        assert_eq!(run.status, Status::Running);
        let (started, now) = (run.started_ms.unwrap(), store.now_ms().await.unwrap());
        assert!((run.created_ms..=now).contains(&started), "{run:?}");
        assert!(scene.redis().is_some() || started == BEGINNING_MS + 60_000, "{run:?}");
    })
    .await;
}

#[tokio::test]
async fn delays_of_any_length_can_be_read_back() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let failure = Failure::Retry { delay: Duration::MAX, error: "e".into() };
        store.fail(&call("a", 2, false), &step, &failure, &refill(0)).await.unwrap();
        if let Some(redis) = scene.redis() {
            let mut redis = redis.connection().await;
            let state: String =
                redis::cmd("HGET").arg("sf:{0}:steps:r").arg("1").query_async(&mut redis).await.unwrap();
            let due = state.rsplit(' ').next().unwrap();
            assert!(due.len() == 14 && due.bytes().all(|byte| byte.is_ascii_digit()), "{state}");
        }
        scene.assert_sound().await;
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
    })
    .await;
}

#[tokio::test]
async fn who_fires_is_told_how_late_that_is_and_which_runs_it_has_ended() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&Start { timeout: Some(HOUR), ..start("r") }).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        let none = store.fire(&fire()).await.unwrap();
        assert_eq!((none.fired, none.late, none.ended), (0, Duration::ZERO, vec![]));
        scene.pass(HOUR + LEASE).await;
        let fired = store.fire(&fire()).await.unwrap();
        assert!(fired.fired == 1 && fired.late >= LEASE && fired.late < HOUR, "{fired:?}");
        assert_eq!(fired.ended, [Ended { workflow: step.workflow, status: Status::Failed }]);
    })
    .await;
}
