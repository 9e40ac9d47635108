//! What a caller may do: write into an inbox.

use async_trait::async_trait;

use super::RedisStore;
use crate::core::reply::text;
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
        let entry = text(self.link.send(&add).await?)?;
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
