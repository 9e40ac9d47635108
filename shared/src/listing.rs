//! Runs by workflow and status, newest first, page by page.

use std::sync::Arc;

use crate::error::Result;
use crate::run::{Run, Status};
use crate::store::Store;

/// How many runs are read at a time.
const PAGE: usize = 500;

/// A list of runs being asked for; see [`Client::runs`](crate::Client::runs).
#[must_use]
pub struct Runs {
    store: Arc<dyn Store>,
    workflow: Option<String>,
    status: Vec<Status>,
    skip: usize,
}

impl Runs {
    pub(crate) fn of(store: Arc<dyn Store>) -> Self {
        Self { store, workflow: None, status: Vec::new(), skip: 0 }
    }

    /// Only runs of this workflow.
    pub fn workflow(mut self, workflow: impl Into<String>) -> Self {
        self.workflow = Some(workflow.into());
        self
    }

    /// Only runs that stand so. Given several times, any of them will do.
    pub fn status(mut self, status: Status) -> Self {
        self.status.push(status);
        self
    }

    /// Passes over so many of the runs that match.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// At most `limit` runs, the newest first. Reads the runs of the whole namespace until enough were found: there is no
    /// index by workflow or status.
    pub async fn list(self, limit: usize) -> Result<Vec<Run>> {
        let (mut found, mut skip) = (Vec::new(), self.skip);
        for page in 0.. {
            let runs = self.store.runs(page * PAGE, PAGE).await?;
            if runs.is_empty() || found.len() >= limit {
                break;
            }
            for run in runs.into_iter().filter(|run| self.matches(run)) {
                if skip > 0 {
                    skip -= 1;
                } else if found.len() < limit {
                    found.push(run);
                }
            }
        }
        Ok(found)
    }

    fn matches(&self, run: &Run) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
            && (self.status.is_empty() || self.status.contains(&run.status))
    }
}
