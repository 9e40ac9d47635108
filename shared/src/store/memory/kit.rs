//! What only the test kit asks for: to let a worker die at a commit, and to see and set what is in a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::MemoryStore;
use super::data::Data;
use crate::step::{Changes, Fence};
use crate::store::InboxEntry;

/// A commit, seen from outside of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It was asked for, and has not taken effect.
    Before,
    /// It has taken effect, and was not answered.
    After,
}

type Watch = dyn Fn(&str, &Fence, Moment) -> bool + Send + Sync;

/// Who is asked at each commit.
#[derive(Default)]
pub(super) struct Watcher(Mutex<Option<Arc<Watch>>>);

impl MemoryStore {
    /// Has `watch` asked before and after each commit of a step (`complete`, `fail`, `suspend` and `checkpoint`), with the
    /// worker and its fence. Where it answers true the call never ends, as if the worker had died there: to be dropped.
    pub fn watch_commits(&self, watch: impl Fn(&str, &Fence, Moment) -> bool + Send + Sync + 'static) {
        *self.shared.watcher.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(watch));
    }

    /// The names of the signals that a run waits for now, those of the oldest step execution first.
    pub fn awaited(&self, run: &str) -> Vec<String> {
        self.change(|data, _| data.open_waits(run).into_iter().map(|wait| wait.name).collect())
    }

    /// The context of a run as it stands: field and payload. None if there is no such run.
    pub fn context(&self, run: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.change(|data, _| data.runs.get(run).map(|run| run.context.clone()))
    }

    /// The requests that are in the inbox, as a coordinator is given them: each once.
    pub fn requests(&self) -> Vec<InboxEntry> {
        self.of_inbox(self.change(|data, now| data.read_inbox(now, "kit")))
    }

    /// The fields of all requests that are in the inbox, given to a coordinator or not.
    pub fn inbox(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.change(|data, _| data.inbox.entries().cloned().collect())
    }

    /// Writes fields into the context of a run that is there.
    pub fn set_context(&self, run: &str, fields: &[(String, Vec<u8>)]) {
        let changes = Changes { set: fields, unset: &[], merges: &[], expects: &[] };
        self.change(|data, _| data.write_context(run, changes));
    }

    /// Has a session begin with this context.
    pub fn set_session(&self, name: &str, fields: &[(String, Vec<u8>)]) {
        self.change(|data, _| data.set_session(name, fields));
    }

    /// The value of an entity, by the name of its type and its key: a payload.
    pub fn entity_value(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        self.change(|data, now| data.entity(now, kind, key).value)
    }

    /// Has an entity begin with this value.
    pub fn set_entity(&self, kind: &str, key: &str, value: &[u8]) {
        self.change(|data, now| data.set_entity(now, kind, key, value));
    }

    /// Makes one transition as the commit that it is.
    pub(super) async fn commit<T>(
        &self,
        worker: &str,
        fence: &Fence,
        transition: impl FnOnce(&mut Data, u64) -> T + Send,
    ) -> T {
        self.pass(worker, fence, Moment::Before).await;
        let answer = self.change(transition);
        self.pass(worker, fence, Moment::After).await;
        answer
    }

    async fn pass(&self, worker: &str, fence: &Fence, moment: Moment) {
        let watch = self.shared.watcher.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if watch.is_some_and(|watch| watch(worker, fence, moment)) {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}
