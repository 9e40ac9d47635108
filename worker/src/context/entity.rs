//! `ctx.entity`: values that outlive runs, and that calls change one after the other.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::codec;
use stepfleet_shared::entity::{Address, Entity};

use super::step::StepCall;
use super::{Context, Core};
use crate::error::Outcome;

impl<S> Context<S> {
    /// The entity of this type and key: a value that outlives runs, and that any number of runs may change at the
    /// same time. A key has 1 to 200 letters, digits and `_ - . : / @`. The first call creates the entity.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Cart { items: Vec<String> }
    ///
    /// impl Entity for Cart {
    ///     const NAME: &'static str = "Cart";
    /// }
    ///
    /// # async fn body(ctx: &Context, user: String, item: String) -> Outcome<()> {
    /// let cart = ctx.entity::<Cart>(&user);
    /// let count = cart.call("add item", |cart| {
    ///     cart.items.push(item.clone());
    ///     cart.items.len()
    /// }).await?;
    /// # Ok(()) }
    /// ```
    pub fn entity<E: Entity>(&self, key: impl Into<String>) -> EntityHandle<'_, E, S> {
        EntityHandle { context: self, address: Address::of::<E>(key), entity: PhantomData }
    }
}

/// An entity, as a body changes and reads it. Each call is recorded like one of [`Context::step`], and has the same
/// options.
pub struct EntityHandle<'a, E, S = ()> {
    context: &'a Context<S>,
    address: Address,
    entity: PhantomData<fn() -> E>,
}

impl<'a, E: Entity + 'a, S> EntityHandle<'a, E, S> {
    /// Forgets the entity if it is not changed for this long after this handle's last call. Without this, entities
    /// are kept for ever.
    #[must_use]
    pub fn expires_after(self, time: Duration) -> Self {
        Self { address: self.address.expires_after(time), ..self }
    }

    /// Runs a method on the value (`E::default()` if there is none yet), and writes the changed value. Calls of one
    /// entity take effect one after the other, whoever makes them: if somebody else was faster, the method runs again
    /// on the new value. So it must do nothing but change the value and return an answer. It cannot await; to refuse
    /// something, return a `Result`.
    ///
    /// The change takes effect once: a worker that dies between the change and its recording, or one that only seemed
    /// dead, changes nothing a second time. The entity remembers its last 10,000 calls for this, as long as their
    /// answers have no more than 4 MiB.
    ///
    /// Takes two round trips in addition to the recording, and another one the first time in an attempt. The name is
    /// for people, like that of [`Context::step`]. Fails with an error that is not terminal if the value in Redis is
    /// not an `E`, and with a terminal one if the key is not valid, or if the value or the answer is over 1 MiB.
    pub fn call<R>(&self, name: &str, method: impl Fn(&mut E) -> R + Send + Sync + 'a) -> StepCall<'a, R>
    where
        R: Serialize + DeserializeOwned + Send + 'a,
    {
        let core = &*self.context.core;
        let (number, address) = (core.journal().upcoming(), self.address.clone());
        let method = std::sync::Arc::new(method);
        self.context.step(name, move || {
            let (address, method) = (address.clone(), method.clone());
            async move {
                let call = core.entity_call(number).await?;
                let result = core.reach.persist(|_| -> BoxFuture<'_, _> {
                    let store = core.reach.partitions.of(&address.place());
                    Box::pin(address.call(&**store, &call, &*method))
                });
                Ok(codec::decode("the result of a call of an entity", &result.await?)?)
            }
        })
    }

    /// The current value, or None if there is none. It is recorded: a later attempt gets the same value.
    pub fn get(&self) -> StepCall<'a, Option<E>>
    where
        E: Send,
    {
        let (core, address) = (&*self.context.core, self.address.clone());
        self.context.step(&named("get", &address), move || {
            let address = address.clone();
            async move {
                let get = core.reach.persist(|_| -> BoxFuture<'_, _> {
                    let store = core.reach.partitions.of(&address.place());
                    Box::pin(address.get::<E>(&**store))
                });
                get.await
            }
        })
    }

    /// Removes the value: the next call begins with `E::default()`. The entity remembers its last calls for one more
    /// day.
    pub fn clear(&self) -> StepCall<'a, ()> {
        let core = &*self.context.core;
        let (number, address) = (core.journal().upcoming(), self.address.clone());
        self.context.step(&named("clear", &address), move || {
            let address = address.clone();
            async move {
                let call = core.entity_call(number).await?;
                let clear = core.reach.persist(|_| -> BoxFuture<'_, _> {
                    let store = core.reach.partitions.of(&address.place());
                    Box::pin(address.clear(&**store, &call))
                });
                clear.await
            }
        })
    }
}

/// Keys are not in it: a name is bounded, and the key may come from anywhere.
fn named(what: &str, address: &Address) -> String {
    format!("{what} {}", address.kind())
}

impl Core {
    /// Identifies this call among all others, also those of a later run with this id. The same in each attempt.
    async fn entity_call(&self, number: u64) -> Outcome<String> {
        let (reach, born) = (&self.reach, self.born().await?);
        Ok(format!("{}.{}.{number}.{born:x}", reach.run, reach.seq))
    }

    /// When the run was created (ms), which distinguishes it from a later one with its id.
    pub(super) async fn born(&self) -> Outcome<u64> {
        let reach = &self.reach;
        let read = || async {
            let run = reach.persist(|_| -> BoxFuture<'_, _> { Box::pin(reach.store.run(&reach.run)) }).await?;
            Outcome::Ok(run.map_or(0, |run| run.created_ms))
        };
        self.born.get_or_try_init(read).await.copied()
    }
}

impl<E: Entity, S> fmt::Debug for EntityHandle<'_, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityHandle").field("address", &self.address).finish_non_exhaustive()
    }
}
