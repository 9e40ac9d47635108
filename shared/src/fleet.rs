//! Whether the queue of a workflow's version has workers, and since when it has none. Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::store::WorkerInfo;

/// At most this many known workflows are named in an error.
const NAMED: usize = 20;

/// The queue of one version of a workflow, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The workflow.
    pub workflow: String,
    /// Its version.
    pub version: u32,
    /// How many step events wait in it.
    pub waiting: u64,
    /// When the last worker that served it left (ms since 1970); none if none ever served it.
    pub departed_ms: Option<u64>,
}

/// How one version of a workflow is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Serving {
    /// The workflow.
    pub workflow: String,
    /// Its version.
    pub version: u32,
    /// How many live workers serve it.
    pub workers: usize,
    /// How many step events wait for one.
    pub waiting: u64,
    /// Since when no live worker has served it (ms since 1970); none if one does, or if that is not known.
    pub unserved_since_ms: Option<u64>,
}

impl Serving {
    /// Whether no worker serves this version: its runs go on only when one comes.
    pub fn is_unserved(&self) -> bool {
        self.workers == 0
    }
}

/// How each version is served, by name and version.
pub fn serving(queues: &[Queue], workers: &[WorkerInfo], now_ms: u64) -> Vec<Serving> {
    let mut all: Vec<Serving> = queues.iter().map(|queue| judge(queue, workers, now_ms)).collect();
    all.sort_by(|a, b| (&a.workflow, a.version).cmp(&(&b.workflow, b.version)));
    all
}

fn judge(queue: &Queue, workers: &[WorkerInfo], now_ms: u64) -> Serving {
    let name = format!("{}:{}", queue.workflow, queue.version);
    let ours = || workers.iter().filter(|worker| worker.serves.contains(&name));
    let live = ours().filter(|worker| worker.lease_ms > 0).count();
    // A worker whose loss was not noticed yet has been gone since its lease ran out.
    let expired = ours().map(|worker| now_ms.saturating_add_signed(worker.lease_ms)).max();
    let since = expired.max(queue.departed_ms).filter(|_| live == 0);
    Serving {
        workflow: queue.workflow.clone(),
        version: queue.version,
        workers: live,
        waiting: queue.waiting,
        unserved_since_ms: since,
    }
}

/// How the version that a run is pinned to is served; none if no worker ever registered it.
pub fn serving_of<'a>(all: &'a [Serving], workflow: &str, version: u32) -> Option<&'a Serving> {
    all.iter().find(|serving| serving.workflow == workflow && serving.version == version)
}

/// Says that no worker has ever registered this workflow, and names the known ones and the nearest of them.
pub fn unknown_workflow(workflow: &str, known: &BTreeSet<String>) -> String {
    if known.is_empty() {
        return format!(
            "no worker has registered the workflow \"{workflow}\", nor any other; start a worker that serves it"
        );
    }
    let meant = nearest(workflow, known).map_or_else(|| ".".into(), |near| format!("; did you mean \"{near}\"?"));
    let more = if known.len() > NAMED { ", ..." } else { "" };
    let known: Vec<&str> = known.iter().take(NAMED).map(String::as_str).collect();
    format!("no worker has registered the workflow \"{workflow}\"{meant} Known workflows: {}{more}", known.join(", "))
}

fn nearest<'a>(workflow: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let distance = |name: &String| strsim::osa_distance(&name.to_lowercase(), &workflow.to_lowercase());
    let near = known.iter().min_by_key(|name| distance(name))?;
    (distance(near) <= (workflow.chars().count() / 3).max(2)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(workflow: &str, version: u32, departed_ms: Option<u64>) -> Queue {
        Queue { workflow: workflow.into(), version, waiting: 2, departed_ms }
    }

    fn worker(serves: &[&str], lease_ms: i64) -> WorkerInfo {
        let serves = serves.iter().map(|name| (*name).to_owned()).collect();
        let (id, host) = ("w".into(), String::new());
        WorkerInfo { id, host, pid: 1, concurrency: 1, held: 0, since_ms: 0, lease_ms, client: 0, serves }
    }

    #[test]
    fn a_version_is_served_by_workers_with_a_good_lease() {
        let queues = [queue("b", 1, None), queue("a", 10, Some(400)), queue("a", 2, Some(400)), queue("a", 1, None)];
        let workers = [worker(&["a:10", "b:1"], 5), worker(&["a:10"], 1), worker(&["a:2"], -100), worker(&["b:10"], 9)];
        let all = serving(&queues, &workers, 1000);
        let told: Vec<_> =
            all.iter().map(|s| (s.workflow.as_str(), s.version, s.workers, s.unserved_since_ms)).collect();
        assert_eq!(told, [("a", 1, 0, None), ("a", 2, 0, Some(900)), ("a", 10, 2, None), ("b", 1, 1, None)]);
        assert!(serving_of(&all, "a", 1).unwrap().is_unserved());
        assert!(serving_of(&all, "c", 1).is_none());
    }

    #[test]
    fn the_last_that_went_counts() {
        let since = |departed, leases: &[i64]| {
            let workers: Vec<_> = leases.iter().map(|lease| worker(&["a:1"], *lease)).collect();
            serving(&[queue("a", 1, departed)], &workers, 1000)[0].unserved_since_ms
        };
        assert_eq!(since(Some(950), &[-100, -200]), Some(950));
        assert_eq!(since(Some(850), &[-100, -200]), Some(900));
        assert_eq!(since(Some(850), &[0]), Some(1000));
        assert_eq!(since(Some(850), &[i64::MIN]), Some(850));
    }
}
