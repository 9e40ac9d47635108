//! Runs begin, or their requests wait or are rejected.

use std::time::Duration;

use proptest::test_runner::TestCaseError;
use stepfleet_integration_tests::double;
use stepfleet_shared::durability::Durability;
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Rejection, Start, Store};

use super::{Case, HOUR, Pair, both, failed, plain, route, same};

impl Pair {
    pub(crate) async fn start(&mut self, mut start: Start, timeout: Option<bool>) -> Case {
        start.timeout = timeout.map(|later| if later { HOUR } else { Duration::ZERO });
        if timeout != Some(false) {
            if start.request.key.is_none() {
                return self.start_from_inbox(start).await;
            }
            both!(self, store => store.start(&start));
            return Ok("start");
        }
        // It would be chance which of several timers of about the same millisecond is first.
        self.fire().await?;
        both!(self, store => store.start(&start));
        self.fire().await?;
        Ok("start: timed out")
    }

    pub(crate) async fn defer(&mut self, run: usize) -> Case {
        let start = request(run, 1, None, false);
        both!(self, store => store.defer(&start));
        Ok("defer")
    }

    pub(crate) async fn reject(&mut self, run: usize) -> Case {
        let run = Some(format!("r{run}"));
        let rejection = Rejection { run: run.clone(), deferred: run, reason: "no".into(), ..Rejection::default() };
        both!(self, store => store.reject(&rejection));
        Ok("reject")
    }

    /// Repeats the start like a coordinator that got no reply. Plain starts go a short way.
    async fn start_from_inbox(&mut self, mut start: Start) -> Case {
        let fields = [(b"op".to_vec(), b"start".to_vec())];
        let ours = self.memory.enqueue(&fields).await.map_err(failed)?;
        let theirs = self.redis.enqueue(&fields).await.map_err(failed)?;
        for _ in 0..2 {
            start.entry = Some(ours.clone());
            let ours = self.memory.start(&start).await.map_err(failed)?;
            start.entry = Some(theirs.clone());
            let theirs = self.redis.start(&start).await.map_err(failed)?;
            same("start", &ours, &theirs)?;
            let left = (self.memory.waiting_requests().await, self.redis.waiting_requests().await);
            same("requests left in the inbox", &left.0.map_err(failed)?, &left.1.map_err(failed)?)?;
        }
        if start.request.session.is_none() {
            return Ok("start");
        }
        let found = self.memory.session(start.request.session.as_deref().unwrap_or_default()).await.map_err(failed)?;
        let waits = found.is_some_and(|session| session.waiting.contains(&start.run));
        Ok(if waits { "start: in a line" } else { "start: in a session" })
    }
}

pub(crate) fn request(run: usize, routes: usize, key: Option<usize>, delayed: bool) -> Start {
    let mut start = double::start(&format!("r{run}"));
    if delayed {
        start.request.input = b"{\"delayed\":1}".to_vec();
        start.request.delay_ms = 3_600_000;
    }
    start.request.key = key.map(|key| format!("k{key}"));
    start.request.follow_steps = run.is_multiple_of(2);
    start.durability = if run.is_multiple_of(3) { Durability::Replicas(1) } else { Durability::None };
    start.routes = ["first", "other"][..routes].iter().map(|step| route(step)).collect();
    start
}
