//! A stream of entries, each for one consumer. A claim removes its entry at once; an entry delivered to a reader stays
//! pending until it is removed, or another reader takes it over because it is idle.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// An entry's id, increasing within its stream: `<ms>-<n>`, as in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    ms: u64,
    n: u64,
}

impl EntryId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ms, n) = text.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, n: n.parse().ok()? })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

#[derive(Clone, Debug)]
struct Given<T> {
    entry: T,
    reader: String,
    since: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Stream<T> {
    last: EntryId,
    waiting: VecDeque<(EntryId, T)>,
    given: BTreeMap<EntryId, Given<T>>,
}

impl<T> Default for Stream<T> {
    fn default() -> Self {
        Self { last: EntryId::default(), waiting: VecDeque::new(), given: BTreeMap::new() }
    }
}

impl<T: Clone> Stream<T> {
    pub(super) fn append(&mut self, now: u64, entry: T) -> EntryId {
        let same_ms = EntryId { n: self.last.n + 1, ..self.last };
        self.last = same_ms.max(EntryId { ms: now, n: 0 });
        self.waiting.push_back((self.last, entry));
        self.last
    }

    /// The number of entries, delivered or not.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.given.len()
    }

    /// All entries in order, delivered or not.
    pub(super) fn entries(&self) -> impl Iterator<Item = &T> {
        self.given.values().map(|given| &given.entry).chain(self.waiting.iter().map(|(_, entry)| entry))
    }

    /// Removes up to `most` undelivered entries.
    pub(super) fn take(&mut self, most: usize) -> Vec<T> {
        let most = most.min(self.waiting.len());
        self.waiting.drain(..most).map(|(_, entry)| entry).collect()
    }

    /// Delivers up to `most` entries to a reader.
    pub(super) fn give(&mut self, now: u64, reader: &str, most: usize) -> Vec<(EntryId, T)> {
        let most = most.min(self.waiting.len());
        let entries: Vec<(EntryId, T)> = self.waiting.drain(..most).collect();
        for (id, entry) in &entries {
            self.given.insert(*id, Given { entry: entry.clone(), reader: reader.to_owned(), since: now });
        }
        entries
    }

    /// Hands over to `reader` entries that were delivered at least `idle` ms ago.
    pub(super) fn take_over(&mut self, now: u64, reader: &str, idle: u64, most: usize) -> Vec<(EntryId, T)> {
        let idle = self.given.iter_mut().filter(|(_, given)| now.saturating_sub(given.since) >= idle).take(most);
        idle.map(|(id, given)| {
            reader.clone_into(&mut given.reader);
            given.since = now;
            (*id, given.entry.clone())
        })
        .collect()
    }

    /// Whether the entry exists, delivered or not.
    pub(super) fn has(&self, id: EntryId) -> bool {
        self.given.contains_key(&id) || self.waiting.iter().any(|(waiting, _)| *waiting == id)
    }

    /// The entry, delivered or not.
    pub(super) fn get(&self, id: EntryId) -> Option<&T> {
        let waiting = self.waiting.iter().find(|(waiting, _)| *waiting == id).map(|(_, entry)| entry);
        waiting.or_else(|| self.given.get(&id).map(|given| &given.entry))
    }

    /// Removes an entry, delivered or not.
    pub(super) fn remove(&mut self, id: EntryId) {
        if self.given.remove(&id).is_none() {
            self.waiting.retain(|(waiting, _)| *waiting != id);
        }
    }
}
