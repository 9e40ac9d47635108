//! Whether a workflow is served at all, and what a run waits for, in words.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use super::RunHandle;
use crate::error::{Error, Result};
use crate::fleet::unknown_workflow;
use crate::partitions::Home;
use crate::run::{Run, Status};
use crate::store::{CallerStore, WorkerInfo};

/// At most this many names are remembered.
const MOST: usize = 1000;

/// Workflows that are known to be registered. They stay registered, so each is looked up once.
#[derive(Default)]
pub(super) struct Registered(Mutex<HashSet<String>>);

impl Registered {
    /// Fails if there are workers and none has ever registered the workflow: it is misspelt, or its worker has yet to
    /// come. What cannot be read is no reason to refuse.
    pub(super) async fn check(&self, home: &Home<dyn CallerStore>, workflow: &str) -> Result<()> {
        if self.has(workflow) {
            return Ok(());
        }
        let Ok(partitions) = home.known().await else { return Ok(()) };
        let first = partitions.first();
        let mut has_workers = false;
        loop {
            let Ok(known) = first.known_workflows().await else { return Ok(()) };
            if known.contains(workflow) {
                self.remember(workflow);
                return Ok(());
            }
            if has_workers {
                return Err(Error::not_found(unknown_workflow(workflow, &known)));
            }
            // A worker may have come since the names were read, so they are read again if there is one.
            let Ok(workers) = first.workers().await else { return Ok(()) };
            has_workers = workers.iter().any(is_live);
            if !has_workers {
                return Ok(());
            }
        }
    }

    fn has(&self, workflow: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(workflow)
    }

    fn remember(&self, workflow: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST {
            names.clear();
        }
        names.insert(workflow.to_owned());
    }
}

fn is_live(worker: &WorkerInfo) -> bool {
    worker.lease_ms > 0
}

impl RunHandle {
    /// What the run waits for now, in words that follow "it waits for": a coordinator to take its request in, a worker
    /// that serves its workflow, a free slot of such a worker, its turn in its session, a signal, or to be resumed.
    /// None if it waits for none of these: it is under way, has ended, or does not exist. Only the handle that started
    /// the run can tell that a coordinator is missing.
    pub async fn waits_for(&self) -> Result<Option<String>> {
        let partitions = self.client.home.known().await?;
        let Some(run) = partitions.run(&self.id).await? else {
            let store = partitions.of(&self.id);
            if !store.is_deferred(&self.id).await? {
                let taken =
                    "a coordinator to take its request in; start one if none is running (stepfleet coordinator)";
                return Ok(self.workflow.as_ref().map(|_| taken.into()));
            }
            return Ok(Some(match &self.workflow {
                Some(workflow) => self.unserved(workflow).await?,
                None => "a worker that serves its workflow".into(),
            }));
        };
        if run.status.is_over() {
            return Ok(None);
        }
        if run.status == Status::Paused {
            return Ok(Some(format!("somebody to resume it (stepfleet resume {})", run.id)));
        }
        if run.status == Status::Queued
            && let Some(session) = &run.session
            && let Some(info) = partitions.of(&run.id).session(session).await?
            && info.waiting.contains(&run.id)
        {
            return Ok(Some(format!("its turn in session {session}")));
        }
        if let Some(wait) = partitions.of(&run.id).waits(&run.id).await?.first() {
            return Ok(Some(match &*wait.name {
                "(sleep)" => "the end of a sleep".into(),
                name if name.starts_with('(') => format!("the {}", name.trim_matches(['(', ')'])),
                name => format!("the signal {name}"),
            }));
        }
        Ok(for_workers(&run, &partitions.workers().await?))
    }

    /// Its request is held: nobody serves the workflow.
    async fn unserved(&self, workflow: &str) -> Result<String> {
        let known: BTreeSet<String> = self.client.home.known().await?.first().known_workflows().await?;
        let why = if known.contains(workflow) {
            format!("no live worker serves the workflow \"{workflow}\"")
        } else {
            unknown_workflow(workflow, &known)
        };
        Ok(format!("a worker that serves its workflow: {why}"))
    }
}

/// What an active run waits for, as far as its workers say.
fn for_workers(run: &Run, workers: &[WorkerInfo]) -> Option<String> {
    let (workflow, version) = (&run.workflow, run.version);
    let name = format!("{workflow}:{version}");
    let serving: Vec<_> = workers.iter().filter(|worker| is_live(worker) && worker.serves.contains(&name)).collect();
    if serving.is_empty() {
        return Some(format!("a worker: none serves {workflow} version {version} now"));
    }
    let is_full = |worker: &&WorkerInfo| usize::try_from(worker.held).is_ok_and(|held| held >= worker.concurrency);
    (run.status == Status::Queued && serving.iter().all(is_full)).then(|| {
        let count = serving.len();
        format!("a free slot: all slots of the workers that serve {workflow} version {version} ({count}) are taken")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Content;

    fn run(status: Status) -> Run {
        Run {
            id: "r".into(),
            status,
            workflow: "rag".into(),
            version: 2,
            content: Content::Json,
            created_ms: 0,
            started_ms: None,
            finished_ms: None,
            error: None,
            error_step: None,
            error_attempt: None,
            session: None,
            durability: None,
            parent: None,
            compensation: None,
            input: vec![],
            result: None,
        }
    }

    fn worker(serves: &str, held: u64, lease_ms: i64) -> WorkerInfo {
        WorkerInfo {
            id: "w".into(),
            host: String::new(),
            pid: 1,
            concurrency: 2,
            held,
            since_ms: 0,
            lease_ms,
            client: 0,
            serves: vec![serves.into()],
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let told = |status, workers: &[WorkerInfo]| for_workers(&run(status), workers).unwrap_or_default();
        assert_eq!(told(Status::Queued, &[]), "a worker: none serves rag version 2 now");
        assert_eq!(told(Status::Running, &[worker("rag:2", 0, 0)]), "a worker: none serves rag version 2 now");
        assert!(told(Status::Queued, &[worker("rag:2", 2, 9), worker("rag:1", 0, 9)]).starts_with("a free slot: "));
        assert_eq!(told(Status::Queued, &[worker("rag:2", 2, 9), worker("rag:2", 1, 9)]), "");
        assert_eq!(told(Status::Running, &[worker("rag:2", 2, 9)]), "");
    }
}
