//! What `stepfleet dev` prints while it runs: the runs that it takes, and the requests that it rejects.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use stepfleet_shared::Client;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::store::RejectedRequest;

use super::output;
use super::rejected::id;
use super::runs::changed_line;
use super::text::time_of_day;
use crate::Partitions;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How many runs are looked at, the newest.
const NEWEST: usize = 500;
/// How many lines a look may print; the rest is counted.
const LINES: usize = 20;

/// Looks again and again, until it is dropped, or nobody reads any more: a program that started `dev --json` may read one line and
/// exit. Earlier runs and requests are not printed.
pub(super) async fn tell(client: Client, partitions: Partitions, json: bool) {
    let mut teller = Teller { seen: HashMap::new(), from_ms: 0, json, is_read: true };
    let mut is_first = true;
    while teller.is_read {
        // The coordinator reports that Redis is away.
        if let (Ok(runs), Ok(now)) = (client.runs().list(NEWEST).await, partitions.first().now_ms().await) {
            let rejected = if is_first { Vec::new() } else { teller.rejected(&partitions, now).await };
            teller.look(&runs, &rejected, now, is_first);
            is_first = false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Teller {
    seen: HashMap<String, Status>,
    /// Rejections before this one were printed.
    from_ms: u64,
    json: bool,
    is_read: bool,
}

impl Teller {
    async fn rejected(&self, partitions: &Partitions, now_ms: u64) -> Vec<RejectedRequest> {
        let mut all = Vec::new();
        for store in partitions.all() {
            all.extend(store.rejected(self.from_ms, now_ms, NEWEST).await.unwrap_or_default());
        }
        all.sort_by_key(|rejected| rejected.at_ms);
        all
    }

    fn look(&mut self, runs: &[Run], rejected: &[RejectedRequest], now_ms: u64, is_first: bool) {
        self.from_ms = now_ms;
        let mut changed: Vec<&Run> =
            runs.iter().rev().filter(|run| self.seen.insert(run.id.clone(), run.status) != Some(run.status)).collect();
        let listed: HashMap<String, Status> = runs.iter().map(|run| (run.id.clone(), run.status)).collect();
        self.seen = listed;
        // Those have their own line.
        changed.retain(|run| run.status != Status::Rejected && !is_first);
        for run in changed.iter().take(LINES) {
            self.print_run(run, now_ms);
        }
        if changed.len() > LINES && !self.json {
            self.line(&format!("{}  and {} more runs (stepfleet runs)", time_of_day(now_ms), changed.len() - LINES));
        }
        for rejected in rejected.iter().take(LINES) {
            self.print_rejected(rejected);
        }
        if rejected.len() > LINES && !self.json {
            let more = rejected.len() - LINES;
            self.line(&format!("{}  and {more} more rejected requests (stepfleet rejected)", time_of_day(now_ms)));
        }
    }

    fn line(&mut self, text: &str) {
        self.is_read = self.is_read && output::is_read(text);
    }

    fn print_run(&mut self, run: &Run, now_ms: u64) {
        if self.json {
            let about = json!({"event": "run", "id": run.id, "workflow": run.workflow, "status": run.status, "error": run.error});
            self.line(&about.to_string());
        } else {
            self.line(&changed_line(run, now_ms));
        }
    }

    fn print_rejected(&mut self, rejected: &RejectedRequest) {
        let (id, op) = (id(rejected).unwrap_or("-"), rejected.field("op").unwrap_or("-"));
        if self.json {
            let about = json!({"event": "rejected", "id": id, "op": op, "reason": rejected.reason});
            self.line(&about.to_string());
        } else {
            let time = time_of_day(rejected.at_ms);
            self.line(&format!("{time}  {id}  {op}  rejected: {}", rejected.reason));
        }
    }
}
