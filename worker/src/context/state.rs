//! The state of a run: what a step reads and writes of its context.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet::{fields, names, values};

use super::Core;
use crate::error::Outcome;

/// The state of a run: fields, each with a value of its own; or, with a type, a struct whose fields they are.
pub struct State<'a, S = ()> {
    core: &'a Core,
    state: PhantomData<fn() -> S>,
}

impl<'a, S> State<'a, S> {
    pub(super) fn of(core: &'a Core) -> Self {
        Self { core, state: PhantomData }
    }
}

#[expect(clippy::unused_async, reason = "later stores read and check state while the step runs")]
impl<S> State<'_, S> {
    /// Reads a field; None where it was never set. Fails when it is of another type.
    pub async fn get<T: DeserializeOwned>(&self, field: &str) -> Outcome<Option<T>> {
        let Some(value) = self.core.read(field) else { return Ok(None) };
        Ok(Some(values::decode(field, &value)?))
    }

    /// Writes a field (1 to 128 bytes of name, at most 1 MiB of value).
    pub async fn set<T: Serialize + ?Sized>(&self, field: &str, value: &T) -> Outcome<()> {
        names::check_field(field)?;
        let value = values::encode(field, value)?;
        self.core.write(field, Some(value));
        Ok(())
    }

    /// Removes a field.
    pub async fn remove(&self, field: &str) -> Outcome<()> {
        self.core.write(field, None);
        Ok(())
    }

    /// The names of the fields that are set, in order.
    pub async fn fields(&self) -> Outcome<Vec<String>> {
        Ok(self.core.fields().into_keys().collect())
    }
}

#[expect(clippy::unused_async, reason = "later stores read and check state while the step runs")]
impl<S: Serialize + DeserializeOwned + Default> State<'_, S> {
    /// Reads the whole state. Fields that were never set have the values of `S::default()`.
    pub async fn load(&self) -> Outcome<S> {
        let mut whole = fields::split(&S::default())?;
        whole.extend(self.core.fields());
        Ok(fields::join(&whole)?)
    }

    /// Changes the state. Only the fields that are different afterwards are written, each at most 1 MiB.
    pub async fn edit<R>(&self, change: impl FnOnce(&mut S) -> R) -> Outcome<R> {
        let mut state = self.load().await?;
        let before = fields::split(&state)?;
        let answer = change(&mut state);
        for (name, value) in fields::split(&state)? {
            if before.get(&name) != Some(&value) {
                names::check_field(&name)?;
                values::check_size(&name, value.len())?;
                self.core.write(&name, Some(value));
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::Deserialize;
    use stepfleet::codec;
    use stepfleet::names::Namespace;
    use stepfleet::step::{Claimed, Fence};
    use stepfleet::store::MemoryStore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::context::{Busy, Context, Journal, Past, Reach};

    #[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
    struct Memory {
        asked: u32,
        notes: Vec<String>,
        tone: Option<String>,
    }

    fn core(snapshot: Vec<(String, Vec<u8>)>) -> Arc<Core> {
        let reach = Reach {
            store: Arc::new(MemoryStore::new(Namespace::default())),
            worker: "w".into(),
            fence: Fence { run: "r".into(), seq: 1, attempt: 1, claim: 1 },
            step: "s".into(),
            scope: 0,
            content: codec::Content::Json,
            busy: Busy::default(),
        };
        let past = Past::of(&Claimed::default());
        Arc::new(Core::new(reach, past, snapshot, CancellationToken::new(), Journal::default()))
    }

    #[tokio::test]
    async fn only_changed_fields_are_written() {
        let core = core(vec![("asked".into(), values::encode("x", &4u32).unwrap())]);
        let context = Context::<Memory>::new(core.clone());
        assert_eq!(context.state().load().await.unwrap(), Memory { asked: 4, ..Memory::default() });
        context.state().edit(|m| m.notes.push("a".into())).await.unwrap();
        assert_eq!(core.take_changes().into_keys().collect::<Vec<_>>(), ["notes"]);
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_undone_is_no_change() {
        let core = core(vec![("tone".into(), values::encode("x", "warm").unwrap())]);
        let context = Context::<()>::new(core.clone());
        context.state().set("tone", "cold").await.unwrap();
        assert_eq!(context.state().get::<String>("tone").await.unwrap().as_deref(), Some("cold"));
        context.state().set("tone", "warm").await.unwrap();
        assert!(core.take_changes().is_empty());
        context.state().remove("tone").await.unwrap();
        assert_eq!(context.state().get::<String>("tone").await.unwrap(), None);
        assert_eq!(core.take_changes(), BTreeMap::from([("tone".to_owned(), None)]));
    }

    #[tokio::test]
    async fn a_field_of_another_type_is_a_terminal_error_that_names_it() {
        let context = Context::<()>::new(core(vec![("tone".into(), values::encode("x", "warm").unwrap())]));
        let error = context.state().get::<u32>("tone").await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("tone"), "{error}");
    }

    #[tokio::test]
    async fn a_state_may_be_larger_than_one_field_may_be() {
        let core = core(vec![]);
        let context = Context::<Memory>::new(core.clone());
        let most = "x".repeat(codec::MAX_PAYLOAD - 8);
        context.state().edit(|m| m.tone = Some(most.clone())).await.unwrap();
        context.state().edit(|m| m.notes.push(most.clone())).await.unwrap();
        let error = context.state().edit(|m| m.notes.push(most)).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().starts_with("the context field notes has 2097"), "{error}");
        assert_eq!(core.take_changes().into_keys().collect::<Vec<_>>(), ["notes", "tone"]);
    }

    #[tokio::test]
    async fn a_state_that_is_no_struct_is_refused_with_advice() {
        let context = Context::<Vec<u8>>::new(core(vec![]));
        assert!(context.state().load().await.unwrap_err().to_string().contains("struct with named fields"));
    }
}
