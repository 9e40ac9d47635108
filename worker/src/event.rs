//! Events: what steps accept.

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet::codec;

use crate::error::Outcome;
use crate::schema;
use crate::workflow::Attempt;

/// Something that happened in a run. Made with `#[derive(Event, Serialize, Deserialize)]`.
///
/// Events are routed by name: the type's own, or `#[event(name = "...")]`. They are written with their field names, so
/// a field can be added (with `#[serde(default)]`) or removed while runs are under way.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "a step accepts and returns events",
    note = "add `#[derive(Event, Serialize, Deserialize)]` to `{Self}`"
)]
pub trait Event: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name that it is routed by.
    const NAME: &'static str;

    /// Its JSON Schema, which callers see. The derive gives the full one where the type has `#[derive(JsonSchema)]`
    /// too, and otherwise the names of its fields.
    fn schema() -> serde_json::Value {
        schema::of_fields(Self::NAME, None)
    }
}

/// All events of one type that the branches of a fan-out produced, in order of arrival.
///
/// A step that accepts `Joined<E>` begins once, when every branch has ended; branches that returned nothing are left
/// out.
#[derive(Debug)]
pub struct Joined<E>(Vec<E>);

impl<E> Joined<E> {
    /// Joins events by hand, to call a step in a unit test.
    pub fn new(events: Vec<E>) -> Self {
        Self(events)
    }

    /// The events.
    pub fn into_vec(self) -> Vec<E> {
        self.0
    }
}

impl<E> Deref for Joined<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.0
    }
}

impl<E> IntoIterator for Joined<E> {
    type Item = E;
    type IntoIter = std::vec::IntoIter<E>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a Joined<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Each event of this name.
    Each(&'static str),
    /// All events of this name that a fan-out produced.
    Joined(&'static str),
}

impl Accepts {
    /// The event's name.
    pub fn event(self) -> &'static str {
        match self {
            Self::Each(name) | Self::Joined(name) => name,
        }
    }
}

/// A step's last parameter: an event, or [`Joined`] events.
#[diagnostic::on_unimplemented(
    message = "a step cannot accept `{Self}`",
    label = "this must be an event or `Joined<Event>`",
    note = "add `#[derive(Event, Serialize, Deserialize)]` to the event's type"
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
        decode(&attempt.claimed.payload)
    }
}

impl<E: Event> Input for Joined<E> {
    const ACCEPTS: Accepts = Accepts::Joined(E::NAME);

    fn read(attempt: &Attempt) -> Outcome<Self> {
        attempt.joined.iter().map(|payload| decode(payload)).collect::<Outcome<Vec<E>>>().map(Self)
    }
}

/// An event that cannot be read now cannot be read later: the error is terminal.
fn decode<E: Event>(payload: &[u8]) -> Outcome<E> {
    Ok(codec::decode(&format!("the event {}", E::NAME), payload)?)
}
