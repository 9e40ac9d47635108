//! Entities: values that outlive runs.

use std::collections::VecDeque;

use super::data::Data;
use super::millis;
use crate::store::{EntityChange, EntityChanged, EntityValue};

/// How many of the newest calls of an entity are remembered.
const MAX_CALLS: usize = 10_000;
/// How many bytes their ids and results may take. The last call is remembered whatever its size.
const CALLS_BYTES: usize = 4_194_304;
/// How long the record of a cleared entity is kept, in ms.
const CLEARED_MS: u64 = 24 * 3600 * 1000;

#[derive(Clone, Debug, Default)]
pub(super) struct EntityData {
    version: u64,
    value: Option<Vec<u8>>,
    /// The last calls and their results, oldest first.
    calls: VecDeque<(String, Vec<u8>)>,
    bytes: usize,
    expires: Option<u64>,
}

impl Data {
    fn entity_data(&mut self, now: u64, kind: &str, key: &str) -> &mut EntityData {
        let entity = self.entities.entry((kind.to_owned(), key.to_owned())).or_default();
        if entity.expires.is_some_and(|at| at <= now) {
            *entity = EntityData::default();
        }
        entity
    }

    pub(super) fn entity(&mut self, now: u64, kind: &str, key: &str) -> EntityValue {
        let entity = self.entity_data(now, kind, key);
        EntityValue { version: entity.version, value: entity.value.clone() }
    }

    pub(super) fn set_entity(&mut self, now: u64, kind: &str, key: &str, value: &[u8]) {
        let entity = self.entity_data(now, kind, key);
        entity.version += 1;
        entity.value = Some(value.to_vec());
    }

    pub(super) fn change_entity(&mut self, now: u64, change: &EntityChange<'_>) -> EntityChanged {
        let entity = self.entity_data(now, change.kind, change.key);
        if let Some((_, result)) = entity.calls.iter().find(|(call, _)| call == change.call) {
            return EntityChanged::Known(result.clone());
        }
        if entity.version != change.expected {
            return EntityChanged::Changed(EntityValue { version: entity.version, value: entity.value.clone() });
        }
        if let Some(value) = change.value {
            entity.value = Some(value.to_vec());
        } else if change.clears {
            entity.value = None;
        }
        entity.version += u64::from(change.value.is_some() || change.clears);
        entity.calls.push_back((change.call.to_owned(), change.result.to_vec()));
        entity.bytes += change.call.len() + change.result.len();
        while entity.calls.len() > 1 && (entity.calls.len() > MAX_CALLS || entity.bytes > CALLS_BYTES) {
            let (call, result) = entity.calls.pop_front().unwrap_or_default();
            entity.bytes -= call.len() + result.len();
        }
        let lasts = if change.clears { Some(CLEARED_MS) } else { change.expires_after.map(millis) };
        entity.expires = lasts.map(|lasts| now.saturating_add(lasts));
        EntityChanged::Made(entity.version)
    }
}
