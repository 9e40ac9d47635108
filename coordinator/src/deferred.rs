//! Requests that wait for a worker to serve their workflow.

use std::time::Duration;

use futures_util::future::join_all;
use stepfleet_shared::Result;
use stepfleet_shared::log;
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::store::{CoordinatorStore, Deferred, Rejection};

use crate::intake::{Intake, shortened};
use crate::routing::{Destination, Routes};
use crate::sessions::in_lines;
use crate::taken::{Became, Taken, Why, sum};

/// How many are processed at once.
const BATCH: usize = 128;

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Start(Destination),
    Wait,
    Reject(String),
}

fn is_late(deferred: &Deferred, now_ms: u64, grace: Duration) -> bool {
    u128::from(now_ms.saturating_sub(deferred.since_ms)) >= grace.as_millis()
}

fn judge(deferred: &Deferred, routes: &Routes, now_ms: u64, grace: Duration) -> Verdict {
    let workflow = &deferred.request.workflow;
    if let Some(to) = routes.route(workflow) {
        return Verdict::Start(to.clone());
    }
    if !is_late(deferred, now_ms, grace) {
        return Verdict::Wait;
    }
    let waited = humantime::format_duration(grace);
    Verdict::Reject(format!("{} (waited {waited} for one)", routes.refusal(workflow)))
}

impl Intake {
    /// Starts those of a partition whose workflow is served now, and rejects those that have waited longer than `grace`.
    pub(crate) async fn take_deferred(&self, store: &dyn CoordinatorStore, grace: Duration) -> Result<Taken> {
        let mut waiting = store.deferred().await?;
        if waiting.is_empty() {
            return Ok(Taken::default());
        }
        waiting.sort_by(|a, b| (a.since_ms, &a.run).cmp(&(b.since_ms, &b.run)));
        let (routes, now_ms) = (self.fleet.routes().await?, store.now_ms().await?);
        let lines = in_lines(waiting, |deferred| deferred.request.session.clone());
        let mut judged = lines.into_iter().map(async |line| {
            let mut results = Vec::new();
            for deferred in line {
                let verdict = judge(&deferred, &routes, now_ms, grace);
                let is_late = is_late(&deferred, now_ms, grace);
                results.push(self.settle(deferred, verdict, is_late).await);
            }
            results
        });
        let mut results = Vec::new();
        loop {
            let batch = join_all(judged.by_ref().take(BATCH)).await;
            if batch.is_empty() {
                self.metrics.taken_of_held(&results);
                return sum(results);
            }
            results.extend(batch.into_iter().flatten());
        }
    }

    /// `is_late`: it has waited for longer than the grace time.
    async fn settle(&self, deferred: Deferred, verdict: Verdict, is_late: bool) -> Result<Became> {
        let Deferred { run, request, .. } = deferred;
        match verdict {
            Verdict::Start(to) => match self.start(run.clone(), request.clone(), to, None).await? {
                Ok(became) => Ok(became),
                // The run that its context is to come from may have waited too, and start in this moment.
                Err(_) if !is_late && request.context_from.is_some() => Ok(Became::Deferred),
                Err((why, reason)) => self.give_up(run, &request, why, reason).await,
            },
            Verdict::Wait => Ok(Became::Deferred),
            Verdict::Reject(reason) => self.give_up(run, &request, Why::Unserved, reason).await,
        }
    }

    async fn give_up(&self, run: String, request: &StartRequest, why: Why, reason: String) -> Result<Became> {
        log::debug!(run, reason, "rejected a request");
        let fields = shortened(&request.fields());
        let (deferred, parent) = (Some(run.clone()), request.parent.clone());
        let store = self.partitions.of(&run);
        store.reject(&Rejection { deferred, run: Some(run), parent, reason, fields, ..Rejection::default() }).await?;
        self.metrics.rejected(why);
        Ok(Became::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::step::Route;
    use stepfleet_shared::store::{Registration, WorkerInfo};

    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn waiting(workflow: &str) -> Deferred {
        Deferred { run: "r".into(), request: StartRequest::new(workflow, "{}"), since_ms: 1_000_000 }
    }

    fn routes() -> Routes {
        let start = vec![Route { step: "plan".into(), event: "Asked".into(), ..Route::default() }];
        let registration = Registration { workflow: "rag".into(), version: 2, start, ..Registration::default() };
        let worker = WorkerInfo {
            id: "w".into(),
            host: String::new(),
            pid: 1,
            concurrency: 1,
            held: 0,
            since_ms: 0,
            lease_ms: 1,
            client: 0,
            serves: vec!["rag:2".into()],
        };
        Routes::new(&[worker], &[registration])
    }

    #[test]
    fn what_is_served_starts_however_long_it_has_waited() {
        for now in [1_000_000, 9_000_000] {
            let verdict = judge(&waiting("rag"), &routes(), now, GRACE);
            assert!(matches!(verdict, Verdict::Start(to) if to.version == 2));
        }
    }

    #[test]
    fn what_is_not_served_waits_for_the_grace_time() {
        assert_eq!(judge(&waiting("rga"), &routes(), 1_059_999, GRACE), Verdict::Wait);
        // Another machine's clock must not matter, nor a clock that was set back.
        assert_eq!(judge(&waiting("rga"), &routes(), 0, GRACE), Verdict::Wait);
        let Verdict::Reject(reason) = judge(&waiting("rga"), &routes(), 1_060_000, GRACE) else { panic!("it waits") };
        assert!(reason.contains("did you mean \"rag\"") && reason.contains("1m"), "{reason}");
    }

    #[test]
    fn a_rejected_request_can_be_recognised() {
        let request = StartRequest { id: Some("i".into()), key: Some("k".into()), ..StartRequest::new("w", "{}") };
        let names: Vec<_> = request.fields().into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect();
        assert_eq!(names, ["op", "workflow", "input", "content", "id", "key"]);
    }
}
