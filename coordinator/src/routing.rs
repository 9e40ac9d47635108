//! Which version of a workflow a new run gets. Pure: no I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use stepfleet_shared::durability::Durability;
use stepfleet_shared::fleet::unknown_workflow;
use stepfleet_shared::graph::Graph;
use stepfleet_shared::step::Route;
use stepfleet_shared::store::{Registration, WorkerInfo};

/// Where the start of a run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The version that the run is pinned to.
    pub version: u32,
    /// The steps that take the start event; never empty.
    pub routes: Vec<Route>,
    /// How long the run may take.
    pub timeout: Option<Duration>,
    /// How safe its progress must be before it goes on, unless its request says so.
    pub durability: Durability,
}

/// What a fleet serves and knows, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    served: BTreeMap<String, Destination>,
    versions: BTreeMap<(String, u32), Destination>,
    known: BTreeSet<String>,
    graphs: BTreeMap<(String, u32), Graph>,
}

impl Routes {
    /// A new run gets the highest version that a worker with a good lease serves.
    pub fn new(workers: &[WorkerInfo], registrations: &[Registration]) -> Self {
        let live: HashSet<&str> =
            workers.iter().filter(|w| w.lease_ms > 0).flat_map(|w| &w.serves).map(String::as_str).collect();
        let mut routes = Self::default();
        for registration in registrations {
            let Registration { workflow, version, start, .. } = registration;
            routes.known.insert(workflow.clone());
            routes.graphs.insert((workflow.clone(), *version), registration.graph.clone());
            let timeout = registration.timeout_ms.map(Duration::from_millis);
            let to =
                Destination { version: *version, routes: start.clone(), timeout, durability: registration.durability };
            routes.versions.insert((workflow.clone(), *version), to.clone());
            if start.is_empty() || !live.contains(format!("{workflow}:{version}").as_str()) {
                continue;
            }
            if routes.served.get(workflow).is_none_or(|highest| highest.version < *version) {
                routes.served.insert(workflow.clone(), to);
            }
        }
        routes
    }

    /// Where a run of this workflow starts; None if no live worker serves it.
    pub fn route(&self, workflow: &str) -> Option<&Destination> {
        self.served.get(workflow)
    }

    /// Where a run of this version starts, if it was ever registered.
    pub(crate) fn version(&self, workflow: &str, version: u32) -> Option<&Destination> {
        self.versions.get(&(workflow.to_owned(), version))
    }

    /// The steps of a version of a workflow, if it was ever registered.
    pub(crate) fn graph(&self, workflow: &str, version: u32) -> Option<&Graph> {
        self.graphs.get(&(workflow.to_owned(), version))
    }

    /// Why a request for this workflow is rejected, and what to do about it.
    pub fn refusal(&self, workflow: &str) -> String {
        if self.known.contains(workflow) {
            return format!(
                "no live worker serves the workflow \"{workflow}\"; start one that does, and send the request again"
            );
        }
        unknown_workflow(workflow, &self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(serves: &[&str], lease_ms: i64) -> WorkerInfo {
        WorkerInfo {
            id: "w".into(),
            host: String::new(),
            pid: 1,
            concurrency: 1,
            held: 0,
            since_ms: 0,
            lease_ms,
            client: 0,
            serves: serves.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    fn registration(workflow: &str, version: u32) -> Registration {
        let start = vec![Route { step: format!("first{version}"), event: "Asked".into(), ..Route::default() }];
        Registration { workflow: workflow.into(), version, start, ..Registration::default() }
    }

    fn version(routes: &Routes, workflow: &str) -> Option<u32> {
        routes.route(workflow).map(|to| to.version)
    }

    #[test]
    fn the_highest_version_that_a_live_worker_serves_is_taken() {
        let registrations = [registration("rag", 10), registration("rag", 9), registration("rag", 2)];
        let workers = [worker(&["rag:2"], 4000), worker(&["rag:9"], 1), worker(&["rag:10"], 0)];
        let routes = Routes::new(&workers, &registrations);
        assert_eq!(version(&routes, "rag"), Some(9));
        assert_eq!(routes.route("rag").unwrap().routes[0].step, "first9");
    }

    #[test]
    fn what_nobody_serves_goes_nowhere() {
        let mut unstarted = registration("ocr", 1);
        unstarted.start.clear();
        let workers = [worker(&["ocr:1", "unregistered:1"], 4000)];
        let routes = Routes::new(&workers, &[unstarted, registration("rag", 1)]);
        for workflow in ["ocr", "rag", "unregistered", "never-heard-of"] {
            assert_eq!(version(&routes, workflow), None, "{workflow}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let known = Routes::new(&[], &[registration("research", 1), registration("ocr", 1)]);
        assert_eq!(
            known.refusal("reserch"),
            "no worker has registered the workflow \"reserch\"; did you mean \"research\"? Known workflows: ocr, \
             research"
        );
        assert_eq!(
            known.refusal("billing"),
            "no worker has registered the workflow \"billing\". Known workflows: ocr, research"
        );
        assert!(known.refusal("ocr").contains("no live worker serves"));
        assert!(Routes::default().refusal("ocr").contains("nor any other"));
    }

    #[test]
    fn a_refusal_is_bounded() {
        let many: Vec<_> = (0..500).map(|i| registration(&format!("workflow-{i:03}"), 1)).collect();
        let refusal = Routes::new(&[], &many).refusal("x");
        assert!(refusal.ends_with("workflow-019, ..."), "{refusal}");
    }
}
