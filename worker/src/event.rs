//! Events: what steps accept.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::published::Published;

use crate::error::Outcome;
use crate::schema;
use crate::workflow::Attempt;

/// A type that one worker can write into Redis and another can read.
#[diagnostic::on_unimplemented(
    message = "the event `{Self}` cannot be written and read",
    label = "another worker reads it",
    note = "put `#[event]` on it in place of `#[derive(Event)]`, or add `#[derive(Serialize, Deserialize)]`"
)]
// Not a subtrait of serde's traits: the compiler's errors would name those instead of this one.
pub trait Written: Sized {
    /// Writes it as a payload. `name` is for the error.
    #[doc(hidden)]
    fn payload(&self, name: &str) -> stepfleet_shared::Result<Vec<u8>>;

    /// Writes it as the caller of the run reads it.
    #[doc(hidden)]
    fn write_as(&self, what: &str, content: Content) -> stepfleet_shared::Result<Vec<u8>>;

    /// Reads a payload.
    #[doc(hidden)]
    fn from_payload(name: &str, payload: &[u8]) -> stepfleet_shared::Result<Self>;

    /// Reads what a run has published.
    #[doc(hidden)]
    fn from_published(published: &Published) -> stepfleet_shared::Result<Option<Self>>;
}

impl<E: Serialize + DeserializeOwned> Written for E {
    fn payload(&self, name: &str) -> stepfleet_shared::Result<Vec<u8>> {
        codec::encode(&format!("the event {name}"), self)
    }

    fn write_as(&self, what: &str, content: Content) -> stepfleet_shared::Result<Vec<u8>> {
        codec::encode_encrypted(what, content, self)
    }

    fn from_payload(name: &str, payload: &[u8]) -> stepfleet_shared::Result<Self> {
        codec::decode(&format!("the event {name}"), payload)
    }

    fn from_published(published: &Published) -> stepfleet_shared::Result<Option<Self>> {
        published.read()
    }
}

/// An event of a run. Implement it with `#[event]`, or with `#[derive(Event, Serialize, Deserialize)]`.
///
/// Events are routed by name: the type's own, or `#[event(name = "...")]`. They are written with their field names, so
/// a field can be added (with `#[serde(default)]`) or removed while runs are active.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "a step accepts and returns events",
    note = "put `#[event]` on `{Self}`"
)]
pub trait Event: Written + Send + Sync + 'static {
    /// The name that it is routed by.
    const NAME: &'static str;

    /// Its JSON Schema, which callers see. The macro makes the full one if the type has `#[derive(JsonSchema)]`
    /// too, and otherwise the names of its fields.
    fn schema() -> serde_json::Value {
        schema::of_fields(Self::NAME, None)
    }
}

/// An event's name, for the macros: the compiler reports an `E` that is not an event once, unlike with `E::NAME`.
#[doc(hidden)]
pub const fn name_of<E: Event>() -> &'static str {
    E::NAME
}

/// An event's schema, likewise.
#[doc(hidden)]
pub fn schema_of<E: Event>() -> serde_json::Value {
    E::schema()
}

/// All events of one type that the branches of a fan-out produced, in order of arrival.
///
/// - `Joined<E>`: the step begins once, when every branch has ended. Branches that returned nothing are left out.
/// - `Joined<E, First<N>>`: the step begins with the first N events. When all steps that join a fan-out have begun, the rest
///   of it is dropped: steps that execute are stopped within about a second, and whatever they do is not committed. Where
///   the branches end with fewer events than N, it begins with those.
/// - `Joined<(A, B)>`, with 2 to 6 events of different types: the step begins for each complete set, with the oldest event of
///   each type that waits in the same fan-out, or in the run outside of any. See [`Joined::into_set`].
pub struct Joined<E, M = All> {
    events: Vec<E>,
    mode: PhantomData<fn() -> M>,
}

/// All branches of a fan-out, in [`Joined`].
#[derive(Debug)]
pub enum All {}

/// The first `N` events of a fan-out, in [`Joined`].
#[derive(Debug)]
pub enum First<const N: u32> {}

impl<E, M> Joined<E, M> {
    /// Joins events by hand, to call a step in a unit test.
    pub fn new(events: Vec<E>) -> Self {
        Self { events, mode: PhantomData }
    }

    /// The events.
    pub fn into_vec(self) -> Vec<E> {
        self.events
    }
}

impl<E: Set> Joined<E> {
    /// The events of a complete set, as a tuple.
    ///
    /// # Panics
    /// If it was made by hand without one.
    pub fn into_set(mut self) -> E {
        self.events.pop().expect("it was made with one set")
    }
}

impl<E: fmt::Debug, M> fmt::Debug for Joined<E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Joined").field(&self.events).finish()
    }
}

impl<E, M> Deref for Joined<E, M> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.events
    }
}

impl<E, M> IntoIterator for Joined<E, M> {
    type Item = E;
    type IntoIter = std::vec::IntoIter<E>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a, E, M> IntoIterator for &'a Joined<E, M> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

/// A tuple of 2 to 6 events of different types.
pub trait Set: Sized + Send + 'static {
    /// The events' names, in the tuple's order.
    const NAMES: &'static [&'static str];

    /// Reads the events, in the tuple's order.
    #[doc(hidden)]
    fn read(parts: &[Vec<u8>]) -> Outcome<Self>;
}

macro_rules! set {
    ($($event:ident $at:tt),+) => {
        impl<$($event: Event),+> Set for ($($event,)+) {
            const NAMES: &'static [&'static str] = &[$($event::NAME),+];

            fn read(parts: &[Vec<u8>]) -> Outcome<Self> {
                let part = |at: usize| parts.get(at).map(Vec::as_slice).unwrap_or_default();
                Ok(($(decode::<$event>(part($at))?,)+))
            }
        }
    };
}

set!(A 0, B 1);
set!(A 0, B 1, C 2);
set!(A 0, B 1, C 2, D 3);
set!(A 0, B 1, C 2, D 3, E 4);
set!(A 0, B 1, C 2, D 3, E 4, F 5);

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Each event of this name.
    Each(&'static str),
    /// All events of this name that a fan-out produced.
    Joined(&'static str),
    /// The first this many of them.
    First(&'static str, u32),
    /// One of each.
    Set(&'static [&'static str]),
}

impl Accepts {
    /// The event's name; of a set, the first one's.
    pub fn event(self) -> &'static str {
        match self {
            Self::Each(name) | Self::Joined(name) | Self::First(name, _) => name,
            Self::Set(names) => names.first().copied().unwrap_or_default(),
        }
    }

    /// The names of all events that it waits for.
    pub fn events(self) -> Vec<&'static str> {
        match self {
            Self::Set(names) => names.to_vec(),
            other => vec![other.event()],
        }
    }

    /// Whether it joins the events of a fan-out.
    pub fn is_joined(self) -> bool {
        matches!(self, Self::Joined(_) | Self::First(..))
    }
}

/// A step's last parameter: an event, or [`Joined`] events.
#[diagnostic::on_unimplemented(
    message = "a step cannot accept `{Self}`",
    label = "this must be an event, `Joined<Event>`, `Joined<Event, First<N>>` or `Joined<(Event, Event)>`",
    note = "put `#[event]` on the event's type"
)]
pub trait Input: Sized + Send + 'static {
    /// What the step waits for.
    const ACCEPTS: Accepts;

    /// Reads it.
    fn read(attempt: &Attempt) -> Outcome<Self>;
}

impl<E: Event> Input for E {
    const ACCEPTS: Accepts = Accepts::Each(E::NAME);

    fn read(attempt: &Attempt) -> Outcome<Self> {
        let read = decode(&attempt.claimed.payload);
        read.map_err(|error| if attempt.claimed.is_outside { error.unreadable() } else { error })
    }
}

impl<E: Event> Input for Joined<E> {
    const ACCEPTS: Accepts = Accepts::Joined(E::NAME);

    fn read(attempt: &Attempt) -> Outcome<Self> {
        read_all(attempt)
    }
}

impl<E: Event, const N: u32> Input for Joined<E, First<N>> {
    const ACCEPTS: Accepts = {
        assert!(N > 0, "`First<0>` would begin with nothing: use `First<1>` or more");
        Accepts::First(E::NAME, N)
    };

    fn read(attempt: &Attempt) -> Outcome<Self> {
        read_all(attempt)
    }
}

macro_rules! set_input {
    ($($event:ident),+) => {
        impl<$($event: Event),+> Input for Joined<($($event,)+)> {
            const ACCEPTS: Accepts = Accepts::Set(<($($event,)+) as Set>::NAMES);

            fn read(attempt: &Attempt) -> Outcome<Self> {
                let parts = attempt.claimed.parts.as_deref().unwrap_or_default();
                Ok(Self::new(vec![<($($event,)+) as Set>::read(parts)?]))
            }
        }
    };
}

set_input!(A, B);
set_input!(A, B, C);
set_input!(A, B, C, D);
set_input!(A, B, C, D, E);
set_input!(A, B, C, D, E, F);

fn read_all<E: Event, M>(attempt: &Attempt) -> Outcome<Joined<E, M>> {
    attempt.joined.iter().map(|payload| decode(payload)).collect::<Outcome<Vec<E>>>().map(Joined::new)
}

/// An event that cannot be read now cannot be read later: the error is terminal. An event from outside may be anything.
fn decode<E: Event>(payload: &[u8]) -> Outcome<E> {
    Ok(E::from_payload(E::NAME, payload)?)
}
