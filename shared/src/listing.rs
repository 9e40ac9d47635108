//! Runs by workflow and status, newest first, page by page.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::client::patience::patiently;
use crate::error::Result;
use crate::partitions::{Home, Partitions};
use crate::run::{Run, Status};
use crate::store::CallerStore;

/// How many runs are read at a time, of all partitions together.
const PAGE: usize = 500;
/// How many are read of one partition, at least.
const LEAST: usize = 32;

/// A query for runs; see [`Client::runs`](crate::Client::runs).
#[must_use]
pub struct Runs {
    home: Home<dyn CallerStore>,
    workflow: Option<String>,
    status: Vec<Status>,
    text: Option<String>,
    since_ms: u64,
    before_ms: u64,
    skip: usize,
}

impl Runs {
    pub(crate) fn of(home: Home<dyn CallerStore>) -> Self {
        Self { home, workflow: None, status: Vec::new(), text: None, since_ms: 0, before_ms: u64::MAX, skip: 0 }
    }

    /// Only runs of this workflow.
    pub fn workflow(mut self, workflow: impl Into<String>) -> Self {
        self.workflow = Some(workflow.into());
        self
    }

    /// Only runs with this status. Given several times, runs with any of them.
    pub fn status(mut self, status: Status) -> Self {
        self.status.push(status);
        self
    }

    /// Only runs that have this text in their id or error, in whatever case.
    pub fn text(mut self, text: &str) -> Self {
        self.text = Some(text.to_lowercase());
        self
    }

    /// Only runs that were created at this time (ms since 1970, on Redis' clock) or later.
    pub fn since(mut self, ms: u64) -> Self {
        self.since_ms = ms;
        self
    }

    /// Only runs that were created before this time (ms since 1970, on Redis' clock).
    pub fn before(mut self, ms: u64) -> Self {
        self.before_ms = ms;
        self
    }

    /// Skips this many matching runs.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    /// Returns at most `limit` runs, the newest first. Reads the runs of the whole namespace until it has found enough:
    /// there is no index by workflow or status.
    pub async fn list(self, limit: usize) -> Result<Vec<Run>> {
        patiently(|| async { self.read(limit).await }).await
    }

    async fn read(&self, limit: usize) -> Result<Vec<Run>> {
        let (mut found, mut skip) = (Vec::new(), self.skip);
        let mut newest = Newest::of(&self.home.known().await?);
        while found.len() < limit
            && let Some(run) = newest.next().await?
        {
            if run.created_ms < self.since_ms {
                break;
            }
            if !self.matches(&run) {
                continue;
            }
            if skip > 0 {
                skip -= 1;
            } else {
                found.push(run);
            }
        }
        Ok(found)
    }

    fn matches(&self, run: &Run) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow)
            && (self.status.is_empty() || self.status.contains(&run.status))
            && run.created_ms < self.before_ms
            && self.text.as_ref().is_none_or(|text| has_text(run, text))
    }
}

fn has_text(run: &Run, text: &str) -> bool {
    run.id.to_lowercase().contains(text) || run.error.as_ref().is_some_and(|error| error.to_lowercase().contains(text))
}

/// The runs of all partitions, the newest first.
struct Newest {
    pages: Vec<Pages>,
    size: usize,
}

/// The runs of one partition.
struct Pages {
    store: Arc<dyn CallerStore>,
    read: VecDeque<Run>,
    /// How many were read so far.
    offset: usize,
    over: bool,
}

impl Newest {
    fn of(partitions: &Partitions<dyn CallerStore>) -> Self {
        let pages = |store: &Arc<dyn CallerStore>| Pages {
            store: store.clone(),
            read: VecDeque::new(),
            offset: 0,
            over: false,
        };
        let size = (PAGE / partitions.all().len()).max(LEAST);
        Self { pages: partitions.all().iter().map(pages).collect(), size }
    }

    async fn next(&mut self) -> Result<Option<Run>> {
        try_join_all(self.pages.iter_mut().map(|pages| pages.fill(self.size))).await?;
        let front = |pages: &Pages| pages.read.front().map(|run| (run.created_ms, run.id.clone()));
        let newest = self.pages.iter_mut().filter(|pages| !pages.read.is_empty()).max_by_key(|pages| front(pages));
        Ok(newest.and_then(|pages| pages.read.pop_front()))
    }
}

impl Pages {
    async fn fill(&mut self, size: usize) -> Result<()> {
        if self.read.is_empty() && !self.over {
            let runs = self.store.runs(self.offset, size).await?;
            self.offset += size;
            self.over = runs.is_empty();
            self.read.extend(runs);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Namespace;
    use crate::partition::run_of_entry;
    use crate::request::StartRequest;
    use crate::store::prelude::*;
    use crate::store::{MemoryStore, Start, Store};

    #[tokio::test]
    async fn runs_of_all_partitions_are_one_list() {
        let stores: Vec<_> =
            (0..3).map(|p| MemoryStore::with_clock(Namespace::new("sf", p).unwrap(), 1_000_000)).collect();
        for (n, store) in stores.iter().cycle().take(100).enumerate() {
            for store in &stores {
                store.advance(std::time::Duration::from_millis(1));
            }
            let (request, run) = (StartRequest::new("w", "{}"), run_of_entry(&format!("{n}"), 0));
            store.start(&Start { request, run, version: 1, routes: vec![], ..Start::default() }).await.unwrap();
        }
        let partitions =
            Partitions::of_stores(stores.into_iter().map(|store| Arc::new(store) as Arc<dyn Store>).collect());
        let list = async |skip, limit| {
            let runs = Runs::of(Home::from(partitions.clone())).skip(skip).list(limit).await.unwrap();
            runs.into_iter().map(|run| run.id.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(list(0, 1000).await, (0..100).rev().collect::<Vec<_>>());
        assert_eq!(list(95, 3).await, [4, 3, 2]);
        let runs = || Runs::of(Home::from(partitions.clone()));
        let ids = async |runs: Runs| {
            runs.list(1000).await.unwrap().into_iter().map(|run| run.id.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(ids(runs().text("9").since(1_000_041).before(1_000_071)).await, [69, 59, 49]);
        assert_eq!(ids(runs().since(1_000_099)).await, [99, 98]);
    }
}
