//! What only the test kit needs: killing a worker at a commit, and reading and setting the state of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::MemoryStore;
use super::data::Data;
use crate::step::{Changes, Fence};
use crate::store::InboxEntry;

/// A moment of a commit, seen from outside the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Requested, but not yet in effect.
    Before,
    /// In effect, but not yet answered.
    After,
}

type Watch = dyn Fn(&str, &Fence, Moment) -> bool + Send + Sync;

/// The callback that each commit asks.
#[derive(Default)]
pub(super) struct Watcher(Mutex<Option<Arc<Watch>>>);

impl MemoryStore {
    /// Calls `watch` before and after each commit of a step (`complete`, `fail`, `suspend` and `checkpoint`), with the
    /// worker and its fence. If it returns true, the call never returns, as if the worker had died there: drop its
    /// future.
    pub fn watch_commits(&self, watch: impl Fn(&str, &Fence, Moment) -> bool + Send + Sync + 'static) {
        *self.shared.watcher.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(watch));
    }

    /// The names of the signals that a run waits for, those of the oldest step execution first.
    pub fn awaited(&self, run: &str) -> Vec<String> {
        self.change(|data, _| data.open_waits(run).into_iter().map(|wait| wait.name).collect())
    }

    /// The current context of a run: field and payload. None if there is no such run.
    pub fn context(&self, run: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.change(|data, _| data.runs.get(run).map(|run| run.context.clone()))
    }

    /// Reads the requests in the inbox as a coordinator does: each once.
    pub fn requests(&self) -> Vec<InboxEntry> {
        self.of_inbox(self.change(|data, now| data.read_inbox(now, "kit")))
    }

    /// The fields of all requests in the inbox, delivered to a coordinator or not.
    pub fn inbox(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.change(|data, _| data.inbox.entries().cloned().collect())
    }

    /// Writes fields into the context of an existing run.
    pub fn set_context(&self, run: &str, fields: &[(String, Vec<u8>)]) {
        let changes = Changes { set: fields, unset: &[], merges: &[], expects: &[] };
        self.change(|data, _| data.write_context(run, changes));
    }

    /// Sets the initial context of a session.
    pub fn set_session(&self, name: &str, fields: &[(String, Vec<u8>)]) {
        self.change(|data, _| data.set_session(name, fields));
    }

    /// The value of an entity, as a payload, by the name of its type and its key.
    pub fn entity_value(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        self.change(|data, now| data.entity(now, kind, key).value)
    }

    /// Sets the initial value of an entity.
    pub fn set_entity(&self, kind: &str, key: &str, value: &[u8]) {
        self.change(|data, now| data.set_entity(now, kind, key, value));
    }

    /// Makes one transition, asking the watcher before and after.
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
