//! The shapes that a run may have, each on the memory store and on a real Redis, with three workers: chains, loops,
//! fan-outs of all sizes, fan-outs in fan-outs.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::workflows;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn chains_loops_and_fan_outs_however_wide_and_nested() {
    // Workflows that talk to the test need its Redis; this test starts none of those.
    Both::new(|worker| workflows::serve(worker, "redis://127.0.0.1:1"))
        .play(async |stage| {
            for (workflow, input, expected) in [
                ("chain", json!({ "n": 7 }), json!({ "answer": "hello 7 chain" })),
                ("loop", json!({ "n": 60 }), json!({ "answer": "61" })),
                ("nested", json!({ "n": 5 }), json!({ "answer": "[0, 1, 3, 6, 10]" })),
                ("nested", json!({ "n": 0 }), json!({ "answer": "[]" })),
                ("squares", json!({ "count": 0 }), json!({ "count": 0, "sum": 0 })),
                ("squares", json!({ "count": 200 }), json!({ "count": 200, "sum": 2_686_700 })),
                ("squares", json!({ "count": 1000 }), json!({ "count": 1000, "sum": 333_833_500 })),
                ("squares", json!({ "count": 7, "even_only": true }), json!({ "count": 3, "sum": 56 })),
            ] {
                let start = stage.client.start(workflow, &input);
                let run = if workflow == "chain" { start.id("chain") } else { start }.enqueue().await.unwrap();
                let end: Value = run.result(LIMIT).await.unwrap();
                assert_eq!(end, expected, "{workflow} {input}");
            }
        })
        .await;
}
