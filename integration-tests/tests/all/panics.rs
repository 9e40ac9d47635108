//! The worker's own code panics: no hold is left behind, and the worker begins its dead parts anew. On both stores.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::buggy::{Buggy, When};
use stepfleet_integration_tests::fleet::nothing_is_held;
use stepfleet_integration_tests::until;
use stepfleet_integration_tests::workflows::{Asking, Flaky, Loop};
use stepfleet_shared::history::Kind;
use stepfleet_shared::store::Audit;

const LIMIT: Duration = Duration::from_secs(60);
/// A third of it is the pause between two heartbeats, all of it the pause between two looks for strays.
const LEASE: Duration = Duration::from_secs(3);

fn both() -> Both {
    Both::new(|worker| worker.serve(Loop)?.serve(Flaky)?.serve(Asking)).workers(0)
}

/// The only worker, which has a bug.
async fn add_worker(stage: &mut Stage, call: &'static str, when: When, times: u32) -> Buggy {
    let store = Buggy::new(stage.another_store(), call, when, times);
    stage.add_worker_on(Arc::new(store.clone()), LEASE);
    stage.workers_ready(1).await;
    store
}

/// Runs that commit, fail once, and wait.
async fn all_end_well(stage: &Stage, name: &str) {
    let start = async |workflow: &str, n: u64| {
        let run = stage.client.start(workflow, &json!({ "n": n })).id(format!("{workflow}-{name}"));
        run.enqueue().await.unwrap()
    };
    let (looped, flaky, asking) = (start("loop", 5).await, start("flaky", 1).await, start("asking", 3).await);
    let kinds = async |run: &str| {
        stage.store.history(run, 0, 100).await.unwrap().into_iter().map(|record| record.kind).collect::<Vec<_>>()
    };
    until(async || kinds(asking.id()).await.contains(&Kind::Suspended)).await;
    for word in ["first", "second"] {
        stage.client.run(asking.id()).signal("word", &json!(word)).await.unwrap();
    }
    assert_eq!(looped.result::<Value>(LIMIT).await.unwrap()["answer"], "6");
    assert!(flaky.result::<Value>(LIMIT).await.unwrap()["answer"].as_str().unwrap().ends_with("saw 0"));
    assert_eq!(asking.result::<Value>(LIMIT).await.unwrap()["answer"], "first second 3");
    // The commit has taken effect, but its answer was lost: the step that it has taken may be held until the next look for strays.
    nothing_is_held(&*stage.store).await;
    let mut from = Some(0);
    while let Some(at) = from {
        let audit = Audit { repair: false, from: at, max_losses: 3, retention: LIMIT };
        let audited = stage.store.audit(&audit).await.unwrap();
        assert!(audited.breaches.is_empty(), "{:?}", audited.breaches);
        from = audited.next;
    }
    for run in [looped, flaky, asking] {
        let kinds = kinds(run.id()).await;
        assert!(!kinds.contains(&Kind::Lost), "a loss that is not the step's: {kinds:?}");
    }
}

#[tokio::test]
async fn a_step_whose_worker_panics_over_it_is_tried_again_and_nothing_else_is_given_up() {
    both()
        .play(async |stage| {
            for (call, times) in [("complete", 2), ("suspend", 1), ("fail", 1)] {
                for when in [When::Before, When::After] {
                    let name = format!("{call}-{when:?}");
                    let store = add_worker(stage, call, when, times).await;
                    all_end_well(stage, &name).await;
                    assert_eq!(store.left(), 0, "{name} panicked");
                    assert_eq!(store.lives(), 1, "{name}: the same worker is at work");
                    stage.stop_workers().await;
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_worker_of_which_a_part_panics_begins_anew() {
    both()
        .play(async |stage| {
            let parts = [
                ("claim", When::Before, 3),
                ("claim", When::After, 3),
                ("holds", When::Before, 1),
                ("heartbeat", When::Before, 2),
                ("wake", When::Before, 3),
            ];
            for (call, when, times) in parts {
                let name = format!("{call}-{when:?}");
                let store = add_worker(stage, call, when, times).await;
                all_end_well(stage, &name).await;
                until(async || store.left() == 0).await;
                until(async || store.lives() == times + 1).await;
                all_end_well(stage, &format!("{name}-later")).await;
                stage.stop_workers().await;
            }
        })
        .await;
}

/// The code that gives up an attempt panics too.
#[tokio::test]
async fn a_worker_that_panics_over_a_panic_begins_anew() {
    both()
        .play(async |stage| {
            let store = add_worker(stage, "fail", When::Before, 2).await;
            all_end_well(stage, "run").await;
            assert_eq!(store.left(), 0);
            assert_eq!(store.lives(), 2);
        })
        .await;
}
