//! How a commit or a checkpoint changes a run's context.

use std::collections::BTreeMap;

use super::data::Data;
use crate::error::Result;
use crate::step::{Changes, CommitStatus};
use crate::values;

impl Data {
    /// The outcome if the changes cannot be applied; an error if one is invalid.
    pub(super) fn objection(&self, run: &str, changes: Changes<'_>) -> Result<Option<CommitStatus>> {
        let context = self.runs.get(run).map(|run| &run.context);
        let found = |field: &String| context.and_then(|context| context.get(field)).map(Vec::as_slice);
        if changes.expects.iter().any(|(field, digest)| found(field).map(values::digest) != *digest) {
            return Ok(Some(CommitStatus::Conflict));
        }
        self.merged(run, changes).map(|_| None)
    }

    /// The merged fields with their new values.
    fn merged(&self, run: &str, changes: Changes<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut merged: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (field, merge) in changes.merges {
            let before = merged.get(field).or_else(|| self.runs.get(run)?.context.get(field));
            let value = values::merged(field, before.map(Vec::as_slice), merge)?;
            merged.insert(field.clone(), value);
        }
        Ok(merged)
    }

    pub(super) fn write_context(&mut self, run: &str, changes: Changes<'_>) {
        // Invalid changes were refused before.
        let merged = self.merged(run, changes).unwrap_or_default();
        let Some(run) = self.runs.get_mut(run) else { return };
        run.context_version +=
            u64::from(!(changes.set.is_empty() && changes.unset.is_empty() && changes.merges.is_empty()));
        run.context.extend(changes.set.iter().cloned());
        run.context.extend(merged);
        for field in changes.unset {
            run.context.remove(field);
        }
    }
}
