//! The transitions for what concerns two partitions.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::readers::INBOX_GROUP;
use crate::core::args::ms;
use crate::core::build;
use crate::core::decode::inbox_entries;
use crate::core::generated::{args, words};
use crate::core::outcome::reservation;
use crate::core::reply::Reply;
use crate::error::{Error, Result};
use crate::store::InboxEntry;
use crate::store::across::{Across, Reservation, Voided};

#[async_trait]
impl Across for RedisStore {
    async fn reserve(&self, wanted: &Reservation, ttl: Duration) -> Result<Reservation> {
        let found = reservation(&wanted.workflow, &wanted.key, self.call(&build::reserve(wanted, ttl)).await?)?;
        found.ok_or_else(|| Error::reply("a reservation has no run"))
    }

    async fn reserved(&self, workflow: &str, key: &str) -> Result<Option<Reservation>> {
        reservation(workflow, key, self.call(&args::Reserved { workflow, key }).await?)
    }

    async fn let_go(&self, reservation: &Reservation) -> Result<()> {
        let Reservation { workflow, key, run, ticket, .. } = reservation;
        match self.ask(&args::LetGo { workflow, key, run, ticket }).await?.0 {
            words::LetGo::Ok | words::LetGo::Other => Ok(()),
        }
    }

    async fn void(&self, run: &str, ticket: &str) -> Result<Voided> {
        let (word, _) = self.ask(&args::Void { run, ticket }).await?;
        Ok(word.into())
    }

    async fn alias(&self, run: &str, known: &str, entry: Option<&str>, ttl: Duration) -> Result<()> {
        let given = args::Alias { run, known, entry: entry.unwrap_or_default(), ttl: ms(ttl) };
        match self.ask(&given).await?.0 {
            words::Alias::Ok => Ok(()),
        }
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
