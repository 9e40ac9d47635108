//! The keys of a session are deleted, and runs of it vanish.

use stepfleet_integration_tests::double::{start, stop};
use stepfleet_shared::history::Kind;
use stepfleet_shared::store::{SessionInfo, Start};

use super::{HOUR, Stage};

/// `x` has the turn, `y` and `z` wait for it.
async fn in_line() -> Stage {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, stop()).await;
    for run in ["x", "y", "z"] {
        let mut asked = start(run);
        asked.request.session = Some("s".into());
        stage.store().start(&Start { timeout: Some(HOUR), ..asked }).await.unwrap();
    }
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage
}

async fn session(stage: &Stage) -> SessionInfo {
    stage.store().session("s").await.unwrap().unwrap_or_default()
}

impl Stage {
    /// Asserts that the remaining runs get their turns, in this order.
    async fn turns(&mut self, runs: &[&str]) {
        for run in runs {
            let claimed = self.claim(9).await;
            assert_eq!(claimed.iter().map(|step| &*step.fence.run).collect::<Vec<_>>(), [*run]);
            self.complete(&claimed[0], stop()).await;
        }
        assert_eq!(self.claim(9).await.len(), 0);
        assert_eq!(self.audit().await, [] as [&str; 0]);
        assert!(session(self).await.expires_ms.is_some());
    }

    async fn vanish(&self, run: &str) {
        let mut redis = self.fleet.redis.connection().await;
        for kind in ["run", "input", "steps", "history", "extra", "context", "begun"] {
            let () = redis::cmd("DEL").arg(format!("sf:{{0}}:{kind}:{run}")).query_async(&mut redis).await.unwrap();
        }
        for member in [("runs", run.to_owned()), ("timers", format!("timeout {run}"))] {
            let key = format!("sf:{{0}}:{}", member.0);
            let () = redis::cmd("ZREM").arg(key).arg(member.1).query_async(&mut redis).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_run_whose_turn_it_is_vanishes() {
    let mut stage = in_line().await;
    stage.vanish("x").await;
    assert_eq!(stage.audit().await, ["session s: run x, whose turn it is, is not under way"]);
    stage.turns(&["y", "z"]).await;
}

#[tokio::test]
async fn one_in_the_line_vanishes() {
    let mut stage = in_line().await;
    stage.vanish("y").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "nobody waits for it");
    stage.turns(&["x", "z"]).await;
}

#[tokio::test]
async fn the_session_is_deleted() {
    let mut stage = in_line().await;
    stage.delete("session:s").await;
    assert_eq!(stage.audit().await, ["x: session s does not know that it is its turn"]);
    stage.turns(&["x", "y", "z"]).await;
}

#[tokio::test]
async fn the_line_is_deleted() {
    let mut stage = in_line().await;
    stage.delete("line:s").await;
    let told = "it is not in the line of session s";
    assert_eq!(stage.audit().await, [format!("x: {told}"), format!("y: {told}"), format!("z: {told}")]);
    assert_eq!(session(&stage).await.running.as_deref(), Some("x"));
    let waiting = session(&stage).await.waiting;
    assert_eq!(waiting.len(), 2, "in whatever order");
    stage.turns(&["x", &waiting[0], &waiting[1]]).await;
}

#[tokio::test]
async fn a_run_is_held_back_whose_turn_has_come() {
    let mut stage = in_line().await;
    stage.vanish("x").await;
    let mut redis = stage.fleet.redis.connection().await;
    let () = redis::cmd("LPOP").arg("sf:{0}:line:s").query_async(&mut redis).await.unwrap();
    let () = redis::cmd("HSET").arg("sf:{0}:session:s").arg("running").arg("y").query_async(&mut redis).await.unwrap();
    assert_eq!(stage.audit().await, ["session s: the turn of run y has come, and it is held back"]);
    stage.turns(&["y", "z"]).await;
}

#[tokio::test]
async fn timers_are_deleted() {
    let mut stage = in_line().await;
    let mut delayed = start("late");
    delayed.request.session = Some("s".into());
    delayed.request.delay_ms = 3_600_000;
    stage.store().start(&delayed).await.unwrap();
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage.delete("timers").await;
    let told = stage.audit().await;
    assert!(told.contains(&"late: it would never take its place in session s".to_owned()), "{told:?}");
    stage.store().cancel("late", None, HOUR).await.unwrap();
    stage.turns(&["x", "y", "z"]).await;
    stage.delete("timers").await;
    assert!(stage.audit().await.contains(&"session s: it would never expire".to_owned()));
}

#[tokio::test]
async fn what_the_run_knows_of_its_session_is_deleted() {
    let mut stage = in_line().await;
    let mut redis = stage.fleet.redis.connection().await;
    let () = redis::cmd("SREM").arg("sf:{0}:extra:x").arg("sf:{0}:session:s").query_async(&mut redis).await.unwrap();
    assert_eq!(stage.audit().await, ["x: session s would not learn of its end"]);
    let history = stage.store().history("x", 0, 9).await.unwrap();
    assert!(history.iter().any(|record| record.kind == Kind::Repaired), "{history:?}");
    stage.turns(&["x", "y", "z"]).await;
}
