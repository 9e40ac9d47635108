//! What a caller may do, from whatever language: write into an inbox.

use async_trait::async_trait;

use super::EntityStore;
use crate::error::Result;
use crate::request::StartRequest;

/// What a caller may do: write requests, and read their outcome.
#[async_trait]
pub trait CallerStore: EntityStore {
    /// Writes a request into the inbox, as any Redis client may; returns the run id that it will get.
    async fn submit(&self, request: &StartRequest) -> Result<String>;
    /// Writes any request into the inbox, with these fields; returns the entry's id.
    async fn enqueue(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<String>;
}
