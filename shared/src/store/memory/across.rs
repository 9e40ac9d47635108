//! Transitions that involve two partitions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::data::{Data, Lead};
use super::stream::EntryId;
use super::{MemoryStore, millis};
use crate::codec::{Content, MESSAGEPACK};
use crate::error::Result;
use crate::request::SignalRequest;
use crate::store::InboxEntry;
use crate::store::across::{Across, Reservation, Voided};

/// One day: no coordinator lags behind for that long.
const VOID_MS: u64 = 24 * 3600 * 1000;

impl Data {
    fn reserve(&mut self, now: u64, wanted: &Reservation, ttl: u64) -> Reservation {
        if let Some(found) = self.reserved(now, &wanted.workflow, &wanted.key) {
            return found;
        }
        let (key, expires) = ((wanted.workflow.clone(), wanted.key.clone()), now.saturating_add(ttl));
        self.keys.insert(key.clone(), Lead { run: wanted.run.clone(), expires });
        self.reservations.insert(key, wanted.clone());
        wanted.clone()
    }

    fn reserved(&self, now: u64, workflow: &str, key: &str) -> Option<Reservation> {
        let name = (workflow.to_owned(), key.to_owned());
        self.keys.get(&name).filter(|lead| lead.is_good(now))?;
        self.reservations.get(&name).cloned()
    }

    fn let_go_of_key(&mut self, now: u64, reservation: &Reservation) {
        let Reservation { workflow, key, run, ticket, .. } = reservation;
        let stands = self.reserved(now, workflow, key);
        if stands.is_some_and(|found| found.run == *run && found.ticket == *ticket) {
            let name = (workflow.clone(), key.clone());
            self.keys.remove(&name);
            self.reservations.remove(&name);
        }
    }

    fn void(&mut self, now: u64, run: &str, ticket: &str) -> Voided {
        if self.is_taken(run) {
            return Voided::Exists;
        }
        if self.deferred.contains_key(run) {
            return Voided::Deferred;
        }
        self.voided.insert((run.to_owned(), ticket.to_owned()), now.saturating_add(VOID_MS));
        Voided::Void
    }

    pub(super) fn is_void(&self, now: u64, run: &str, ticket: &str) -> bool {
        let name = (run.to_owned(), ticket.to_owned());
        self.voided.get(&name).is_some_and(|expires| now <= *expires)
    }

    fn alias(&mut self, now: u64, run: &str, known: &str, entry: Option<&str>, ttl: u64) {
        if !self.is_taken(run) {
            let keys: Vec<_> = self.signals.keys().filter(|(of, _)| of == run).cloned().collect();
            for key in keys {
                for signal in self.signals.remove(&key).unwrap_or_default() {
                    let is_packed = signal.payload.first() == Some(&MESSAGEPACK);
                    let content = if is_packed { Content::MessagePack } else { Content::Json };
                    let input = signal.payload.get(1..).unwrap_or_default().to_vec();
                    let request =
                        SignalRequest { run: known.to_owned(), name: key.1.clone(), content, input, request: None };
                    self.enqueue(now, request.fields());
                }
            }
        }
        self.aliases.insert(run.to_owned(), Lead { run: known.to_owned(), expires: now.saturating_add(ttl) });
        self.hold_no_more(now, run);
        self.leave_inbox(entry);
    }

    fn inbox_entry(&self, id: &str) -> Option<super::data::Fields> {
        self.inbox.get(EntryId::parse(id)?).cloned()
    }
}

#[async_trait]
impl Across for MemoryStore {
    async fn reserve(&self, reservation: &Reservation, ttl: Duration) -> Result<Reservation> {
        Ok(self.change(|data, now| data.reserve(now, reservation, millis(ttl))))
    }

    async fn reserved(&self, workflow: &str, key: &str) -> Result<Option<Reservation>> {
        Ok(self.change(|data, now| data.reserved(now, workflow, key)))
    }

    async fn let_go(&self, reservation: &Reservation) -> Result<()> {
        self.change(|data, now| data.let_go_of_key(now, reservation));
        Ok(())
    }

    async fn void(&self, run: &str, ticket: &str) -> Result<Voided> {
        Ok(self.change(|data, now| data.void(now, run, ticket)))
    }

    async fn alias(&self, run: &str, known: &str, entry: Option<&str>, ttl: Duration) -> Result<()> {
        self.change(|data, now| data.alias(now, run, known, entry, millis(ttl)));
        Ok(())
    }

    async fn inbox_entry(&self, id: &str) -> Result<Option<InboxEntry>> {
        let fields = self.change(|data, _| data.inbox_entry(id));
        let inbox = self.shared.namespace.partition();
        Ok(fields.map(|fields| InboxEntry { id: id.to_owned(), inbox, fields: Arc::new(fields) }))
    }

    async fn dismiss(&self, entry: &str) -> Result<()> {
        self.change(|data, _| data.leave_inbox(Some(entry)));
        Ok(())
    }
}
