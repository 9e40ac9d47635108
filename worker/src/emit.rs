//! What a step returns: an event, `Option` or `Vec` of one, nothing, or an enum of these with `#[derive(Emit)]`.

use stepfleet_shared::codec::Content;

use crate::error::Outcome;
use crate::event::Event;

/// What a step may return.
#[diagnostic::on_unimplemented(
    message = "a step cannot return `{Self}`",
    label = "return an event, `Option<Event>`, `Vec<Event>`, `()` or an enum with `#[derive(Emit)]`",
    note = "put `#[event]` on the event's type, or `#[derive(Emit)]` on an enum of events"
)]
pub trait Emit: Send + 'static {
    /// Names the events that it may contain.
    fn shape(shape: &mut Shape);

    /// Writes the events that it contains.
    fn emit(self, emission: &mut Emission) -> Outcome<()>;
}

/// The events that a step may emit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The event's name, and whether it opens a fan-out.
    pub events: Vec<(&'static str, bool)>,
    /// It may emit nothing.
    pub ends: bool,
}

impl Shape {
    /// The shape of a return type.
    pub fn of<T: Emit>() -> Self {
        let mut shape = Self::default();
        T::shape(&mut shape);
        shape
    }
}

/// The events that one attempt emitted, serialized.
#[derive(Debug)]
pub struct Emission {
    stop: &'static str,
    content: Content,
    /// Events by name, as payloads.
    pub events: Vec<(&'static str, Vec<u8>)>,
    /// The event whose `Vec` was returned.
    pub fan: Option<&'static str>,
    /// The stop event, as the caller reads it.
    pub result: Option<Vec<u8>>,
}

impl Emission {
    pub(crate) fn new(stop: &'static str, content: Content) -> Self {
        Self { stop, content, events: Vec::new(), fan: None, result: None }
    }

    /// A durable function begins again with this input.
    pub(crate) fn again(stop: &'static str, content: Content, input: Vec<u8>) -> Self {
        Self { events: vec![("Input", input)], ..Self::new(stop, content) }
    }

    fn push<E: Event>(&mut self, event: &E) -> Outcome<()> {
        if E::NAME == self.stop {
            self.result = Some(event.write_as("the result", self.content)?);
        } else {
            self.events.push((E::NAME, event.payload(E::NAME)?));
        }
        Ok(())
    }
}

impl<E: Event> Emit for E {
    fn shape(shape: &mut Shape) {
        shape.events.push((E::NAME, false));
    }

    fn emit(self, emission: &mut Emission) -> Outcome<()> {
        emission.push(&self)
    }
}

impl<E: Event> Emit for Option<E> {
    fn shape(shape: &mut Shape) {
        shape.events.push((E::NAME, false));
        shape.ends = true;
    }

    fn emit(self, emission: &mut Emission) -> Outcome<()> {
        self.map_or(Ok(()), |event| emission.push(&event))
    }
}

impl<E: Event> Emit for Vec<E> {
    fn shape(shape: &mut Shape) {
        shape.events.push((E::NAME, true));
        shape.ends = true;
    }

    fn emit(self, emission: &mut Emission) -> Outcome<()> {
        emission.fan = Some(E::NAME);
        self.iter().try_for_each(|event| emission.push(event))
    }
}

impl Emit for () {
    fn shape(shape: &mut Shape) {
        shape.ends = true;
    }

    fn emit(self, _: &mut Emission) -> Outcome<()> {
        Ok(())
    }
}
