//! What a caller may do: write into an inbox.

use async_trait::async_trait;
use redis::Cmd;

use super::RedisStore;
use super::barrier::{ROUND, confirm};
use crate::core::reply::text;
use crate::durability::Durability;
use crate::error::Result;
use crate::request::StartRequest;
use crate::store::CallerStore;

#[async_trait]
impl CallerStore for RedisStore {
    async fn submit(&self, request: &StartRequest) -> Result<String> {
        let mut add = redis::cmd("XADD");
        add.arg(self.namespace.key("inbox")).arg("*");
        for (name, value) in request.fields() {
            add.arg(name).arg(value);
        }
        let entry = match request.durability.unwrap_or_default() {
            Durability::None => text(self.link.send(&add).await?)?,
            durability => self.add_safely(&add, durability).await?,
        };
        Ok(request.id.clone().unwrap_or(entry))
    }

    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String> {
        let mut add = redis::cmd("XADD");
        add.arg(self.namespace.key("inbox")).arg("*");
        for (name, value) in fields {
            add.arg(name).arg(value);
        }
        text(self.link.send(&add).await?)
    }
}

impl RedisStore {
    /// Answers once the entry is as safe as this.
    async fn add_safely(&self, add: &Cmd, durability: Durability) -> Result<String> {
        let mut connection = self.link.dedicated(ROUND, "stepfleet-durability").await?;
        let entry = connection.query(add).await?;
        confirm(&mut connection, durability).await?;
        Ok(entry)
    }
}
