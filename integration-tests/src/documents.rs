//! A long step that records its progress.

use redis::AsyncCommands;
use stepfleet::prelude::*;

use crate::signals;
use crate::workflows::{Begin, End, Levers};

/// One step that reads many documents. Before some of them it waits for the test.
pub struct Documents {
    pub(crate) redis: Levers,
}

/// Before these documents the step waits for the test, whichever attempt it is.
pub const STOPS: [u64; 2] = [150, 220];

#[workflow(start = Begin, stop = End)]
impl Documents {
    #[step]
    async fn read(&self, ctx: &Context, ev: Begin) -> Outcome<End> {
        let mut redis = self.redis.connection().await?;
        let state = ctx.state();
        let from: u64 = state.get("done").await?.unwrap_or(0);
        for document in from + 1..=ev.n {
            // The test sees what was read, not only what was committed.
            let () = redis.rpush(format!("read:{}", ctx.run_id()), document).await?;
            if STOPS.contains(&document) {
                signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
            }
            state.push("titles", &format!("document {document}")).await?;
            state.set("done", &document).await?;
            ctx.checkpoint().await?;
        }
        let titles: Vec<String> = state.get("titles").await?.unwrap_or_default();
        Ok(End { answer: format!("{} read, attempt {}", titles.len(), ctx.attempt()) })
    }
}
