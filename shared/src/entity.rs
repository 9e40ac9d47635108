//! Entities: values under a key that outlive runs, and that calls change one after the other.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::{Backoff, ENTITY};
use crate::error::Result;
use crate::store::{EntityChange, EntityChanged, EntityStore, EntityValue};
use crate::{codec, names};

/// A type of entities: any type that implements serde's traits, with a name.
///
/// ```
/// # extern crate stepfleet_shared as stepfleet;
/// use serde::{Deserialize, Serialize};
/// use stepfleet::entity::Entity;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Cart { items: Vec<String> }
///
/// impl Entity for Cart {
///     const NAME: &'static str = "Cart";
/// }
/// ```
pub trait Entity: Serialize + DeserializeOwned + Default + Send {
    /// The name that its entities have in Redis, of 1 to 128 letters, digits, `_`, `-` and `.`. Keep it when the type is renamed. A field
    /// that is added to the type later needs a default, as values are there that do not have it.
    const NAME: &'static str;
}

/// An entity's address, and how long the entity is kept.
#[derive(Clone, Debug)]
pub struct Address {
    kind: &'static str,
    key: String,
    expires_after: Option<Duration>,
}

impl Address {
    /// The address of the entity of this type and key.
    pub fn of<E: Entity>(key: impl Into<String>) -> Self {
        Self { kind: E::NAME, key: key.into(), expires_after: None }
    }

    /// Forgets the entity if it is not changed for this long.
    #[must_use]
    pub fn expires_after(self, time: Duration) -> Self {
        Self { expires_after: Some(time), ..self }
    }

    /// The name of its type.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The text that the partition of the entity follows from, as that of a run does from its id: `<type>:<key>`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.kind, self.key)
    }

    /// Fails if the name of the type or the key is not valid.
    pub fn check(&self) -> Result<()> {
        names::check_name("the type of an entity", self.kind)?;
        names::check_id("the key of an entity", &self.key)
    }

    /// The value; None if there is none.
    pub async fn get<E: Entity>(&self, store: &dyn EntityStore) -> Result<Option<E>> {
        self.check()?;
        let found = store.entity(self.kind, &self.key).await?;
        found.value.map(|value| codec::decode(&self.what(), &value)).transpose()
    }

    /// Runs a method on the value, and writes the new value; returns the method's result, as a payload. If somebody
    /// else has changed the entity in the meantime, it is read again and the method runs on that. A call of this id
    /// that was made before has no second effect, and returns its earlier result, as long as it is among the last
    /// 10,000 calls of the entity and these have no more than 4 MiB of results.
    pub async fn call<E: Entity, R: Serialize>(
        &self,
        store: &dyn EntityStore,
        call: &str,
        method: &(dyn Fn(&mut E) -> R + Sync),
    ) -> Result<Vec<u8>> {
        self.check()?;
        self.change(store, call, |found| {
            let mut value = match &found.value {
                Some(value) => codec::decode(&self.what(), value)?,
                None => E::default(),
            };
            let result = codec::encode("the result of a call of an entity", &method(&mut value))?;
            let value = codec::encode(&self.what(), &value)?;
            let stays = found.value.as_ref() == Some(&value);
            Ok((if stays { Becomes::Same } else { Becomes::This(value) }, result))
        })
        .await
    }

    /// Removes the value. Otherwise like [`Address::call`].
    pub async fn clear(&self, store: &dyn EntityStore, call: &str) -> Result<()> {
        self.check()?;
        let result = codec::encode("nothing", &())?;
        self.change(store, call, |_| Ok((Becomes::Nothing, result.clone()))).await.map(drop)
    }

    /// `next` returns the new value and the result of the call.
    async fn change(
        &self,
        store: &dyn EntityStore,
        call: &str,
        next: impl Fn(&EntityValue) -> Result<(Becomes, Vec<u8>)>,
    ) -> Result<Vec<u8>> {
        let mut backoff = Backoff::new(ENTITY);
        let mut found = store.entity(self.kind, &self.key).await?;
        loop {
            let (becomes, result) = next(&found)?;
            let change = EntityChange {
                kind: self.kind,
                key: &self.key,
                call,
                expected: found.version,
                value: if let Becomes::This(value) = &becomes { Some(value) } else { None },
                clears: matches!(becomes, Becomes::Nothing),
                result: &result,
                expires_after: self.expires_after,
            };
            match store.change_entity(&change).await? {
                EntityChanged::Made(_) => return Ok(result),
                EntityChanged::Known(result) => return Ok(result),
                EntityChanged::Changed(now) => found = now,
            }
            backoff.wait().await;
        }
    }

    fn what(&self) -> String {
        format!("the entity {} {}", self.kind, self.key)
    }
}

/// The new value and the result of a call.
enum Becomes {
    Same,
    This(Vec<u8>),
    Nothing,
}
