//! Entities.

use async_trait::async_trait;

use super::RedisStore;
use crate::core::args::ms_or_none;
use crate::core::generated::{args, words};
use crate::core::reply::{Reply, number};
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::store::{EntityChange, EntityChanged, EntityStore, EntityValue};

#[async_trait]
impl EntityStore for RedisStore {
    async fn entity(&self, kind: &str, key: &str) -> Result<EntityValue> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.namespace.key_of("entity", &format!("{kind}:{key}"))).arg("version").arg("value");
        let mut reply = Reply::new(self.link.send(&read).await?)?;
        let version = match reply.value()? {
            Value::Nil => 0,
            version => number(&version)?,
        };
        let value = match reply.value()? {
            Value::Nil => None,
            value => Some(crate::core::reply::bytes(value)?),
        };
        Ok(EntityValue { version, value })
    }

    async fn change_entity(&self, change: &EntityChange<'_>) -> Result<EntityChanged> {
        let given = args::Entity {
            kind: change.kind,
            key: change.key,
            call: change.call,
            expected: change.expected,
            value: change.value.into_iter().collect(),
            clears: change.clears,
            result: change.result,
            expires: ms_or_none(change.expires_after),
        };
        let (word, mut reply) = self.ask(&given).await?;
        Ok(match word {
            words::Entity::Ok => EntityChanged::Made(reply.number()?),
            words::Entity::Done => EntityChanged::Known(reply.bytes()?),
            words::Entity::Changed => {
                let version = reply.text()?.parse().map_err(|_| Error::reply("an entity has no version"))?;
                let mut value = reply.array()?;
                let value = if value.is_over() { None } else { Some(value.bytes()?) };
                EntityChanged::Changed(EntityValue { version, value })
            }
        })
    }
}
