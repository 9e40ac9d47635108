//! Entities, seen by callers.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::patience::patiently;
use super::{Client, new_id};
use crate::entity::{Address, Entity};
use crate::error::Result;
use crate::{codec, names, snapshot};

impl Client {
    /// The entity of this type and key, whether it exists or not: a value that outlives runs.
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # use serde::{Deserialize, Serialize};
    /// # use stepfleet::entity::Entity;
    /// # #[derive(Default, Serialize, Deserialize)] struct Cart { items: Vec<String> }
    /// # impl Entity for Cart { const NAME: &'static str = "Cart"; }
    /// # async fn example(client: stepfleet::Client) -> stepfleet::Result<()> {
    /// let cart = client.entity::<Cart>("user-7");
    /// let items = cart.call(|cart| {
    ///     cart.items.push("an apple".to_owned());
    ///     cart.items.len()
    /// }).await?;
    /// # Ok(()) }
    /// ```
    pub fn entity<E: Entity>(&self, key: impl Into<String>) -> EntityHandle<E> {
        EntityHandle { client: self.clone(), address: Address::of::<E>(key), entity: PhantomData }
    }

    /// The value of an entity as JSON, by the name of its type and its key; None if it does not exist. Fails if a
    /// name is not valid, or if the value cannot be expressed in JSON.
    pub async fn entity_json(&self, kind: &str, key: &str) -> Result<Option<Value>> {
        names::check_name("the type of an entity", kind)?;
        names::check_id("the key of an entity", key)?;
        let place = format!("{kind}:{key}");
        let read = || async { self.home.known().await?.of(&place).entity(kind, key).await };
        patiently(read).await?.value.map(|value| snapshot::to_json(key, &value)).transpose()
    }
}

/// An entity, seen by a caller. Unlike requests, its calls need permission to call the fleet's functions in Redis
/// (`FCALL`), and to write the entity's keys.
#[derive(Clone)]
pub struct EntityHandle<E> {
    client: Client,
    address: Address,
    entity: PhantomData<fn() -> E>,
}

impl<E: Entity> EntityHandle<E> {
    /// Forgets the entity if it is not changed for this long after this handle's last call. Without this, entities
    /// are kept for ever.
    #[must_use]
    pub fn expires_after(self, time: Duration) -> Self {
        Self { address: self.address.expires_after(time), ..self }
    }

    /// The current value; None if there is none.
    pub async fn get(&self) -> Result<Option<E>> {
        patiently(|| async { self.address.get(&**self.client.home.known().await?.of(&self.address.place())).await })
            .await
    }

    /// Runs a method on the value (`E::default()` if there is none yet), writes the changed value, and returns the
    /// method's answer. If somebody else was faster, the method runs again on the new value. The change takes effect
    /// once, whatever replies are lost.
    ///
    /// Fails if the key is not valid, if the value in Redis is not an `E`, and if the value or the answer is over 1
    /// MiB.
    pub async fn call<R: Serialize + DeserializeOwned>(&self, method: impl Fn(&mut E) -> R + Sync) -> Result<R> {
        let call = format!("client.{}", new_id());
        let result = patiently(|| async {
            let partitions = self.client.home.known().await?;
            self.address.call(&**partitions.of(&self.address.place()), &call, &method).await
        })
        .await?;
        codec::decode("the result of a call of an entity", &result)
    }

    /// Removes the value.
    pub async fn clear(&self) -> Result<()> {
        let call = format!("client.{}", new_id());
        patiently(|| async {
            let partitions = self.client.home.known().await?;
            self.address.clear(&**partitions.of(&self.address.place()), &call).await
        })
        .await
    }
}
