//! The pieces of what concerns two partitions.

use std::time::Duration;

use async_trait::async_trait;

use super::decode::inbox_entries;
use super::readers::INBOX_GROUP;
use super::reply::Reply;
use super::{RedisStore, millis};
use crate::error::{Error, Result};
use crate::store::InboxEntry;
use crate::store::across::{Across, Reservation, Voided};

/// `<inbox>/<entry>`, as it is kept.
fn place_text(place: Option<&(u16, String)>) -> String {
    place.map_or_else(String::new, |(inbox, entry)| format!("{inbox}/{entry}"))
}

fn read_place(text: &str) -> Option<(u16, String)> {
    let (inbox, entry) = text.split_once('/')?;
    Some((inbox.parse().ok()?, entry.to_owned()))
}

/// None where the key is nobody's.
fn reservation(workflow: &str, key: &str, mut reply: Reply) -> Result<Option<Reservation>> {
    let (run, ticket, place) = (reply.text()?, reply.text()?, reply.text()?);
    let (workflow, key) = (workflow.to_owned(), key.to_owned());
    Ok(Some(Reservation { workflow, key, ticket, place: read_place(&place), run }).filter(|it| !it.run.is_empty()))
}

#[async_trait]
impl Across for RedisStore {
    async fn reserve(&self, wanted: &Reservation, ttl: Duration) -> Result<Reservation> {
        let mut command = self.transition("reserve");
        command.arg(&wanted.workflow).arg(&wanted.key).arg(&wanted.run).arg(&wanted.ticket);
        command.arg(place_text(wanted.place.as_ref())).arg(millis(ttl));
        let found = reservation(&wanted.workflow, &wanted.key, self.call(&command).await?)?;
        found.ok_or_else(|| Error::reply("a reservation has no run"))
    }

    async fn reserved(&self, workflow: &str, key: &str) -> Result<Option<Reservation>> {
        let mut command = self.transition("reserved");
        command.arg(workflow).arg(key);
        reservation(workflow, key, self.call(&command).await?)
    }

    async fn let_go(&self, reservation: &Reservation) -> Result<()> {
        let mut command = self.transition("let_go");
        let Reservation { workflow, key, run, ticket, .. } = reservation;
        command.arg(workflow).arg(key).arg(run).arg(ticket);
        self.call(&command).await.map(drop)
    }

    async fn void(&self, run: &str, ticket: &str) -> Result<Voided> {
        let mut command = self.transition("void");
        command.arg(run).arg(ticket);
        match self.call(&command).await?.text()?.as_str() {
            "void" => Ok(Voided::Void),
            "exists" => Ok(Voided::Exists),
            "deferred" => Ok(Voided::Deferred),
            other => Err(Error::reply(format!("what became of a ticket, {other:?}, is not known"))),
        }
    }

    async fn alias(&self, run: &str, known: &str, entry: Option<&str>, ttl: Duration) -> Result<()> {
        let mut command = self.transition("alias");
        command.arg(run).arg(known).arg(entry.unwrap_or_default()).arg(millis(ttl));
        self.call(&command).await.map(drop)
    }

    async fn inbox_entry(&self, id: &str) -> Result<Option<InboxEntry>> {
        let mut range = redis::cmd("XRANGE");
        range.arg(self.namespace.key("inbox")).arg(id).arg(id);
        let found = inbox_entries(Reply::new(self.link.send(&range).await?)?, self.namespace.partition())?;
        Ok(found.into_iter().next())
    }

    async fn dismiss(&self, entry: &str) -> Result<()> {
        let inbox = self.namespace.key("inbox");
        let mut pipeline = redis::pipe();
        pipeline.cmd("XACK").arg(&inbox).arg(INBOX_GROUP).arg(entry);
        pipeline.cmd("XDEL").arg(&inbox).arg(entry);
        self.link.send_all(&pipeline).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = Some((3, "1719922000000-0".to_owned()));
        assert_eq!(read_place(&place_text(place.as_ref())), place);
        assert_eq!(read_place(&place_text(None)), None);
        assert_eq!(read_place("x/y"), None);
    }
}
