//! A run's context, as one step sees it: read from the snapshot that came with the event, written with its commit.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet::step::Fence;
use stepfleet::{codec, fields, names};
use tokio_util::sync::CancellationToken;

use crate::error::Outcome;

/// What a step knows of its run. `S` is the type of the run's state; leave it out for fields without one.
///
/// What a step writes commits together with the events that it returns: an attempt that fails, or whose worker was
/// taken for dead, leaves nothing behind. Steps of one run that write the same field at the same time: the last wins.
pub struct Context<S = ()> {
    core: Arc<Core>,
    state: PhantomData<fn() -> S>,
}

/// The snapshot, and what this attempt has changed of it.
#[derive(Debug)]
pub(crate) struct Core {
    fence: Fence,
    failures: u32,
    snapshot: HashMap<String, Vec<u8>>,
    changes: Mutex<BTreeMap<String, Option<Vec<u8>>>>,
    cancelled: CancellationToken,
}

impl Core {
    pub(crate) fn new(
        fence: Fence,
        failures: u32,
        snapshot: Vec<(String, Vec<u8>)>,
        cancelled: CancellationToken,
    ) -> Self {
        Self { fence, failures, snapshot: snapshot.into_iter().collect(), changes: Mutex::default(), cancelled }
    }

    fn read(&self, field: &str) -> Option<Vec<u8>> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.get(field).map_or_else(|| self.snapshot.get(field), Option::as_ref).cloned()
    }

    fn fields(&self) -> BTreeMap<String, Vec<u8>> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fields: BTreeMap<_, _> = self.snapshot.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for (name, value) in changes.iter() {
            match value {
                Some(value) => fields.insert(name.clone(), value.clone()),
                None => fields.remove(name),
            };
        }
        fields
    }

    /// A value that is there already is no change.
    fn write(&self, field: &str, value: Option<Vec<u8>>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.snapshot.get(field) == value.as_ref() {
            changes.remove(field);
        } else {
            changes.insert(field.to_owned(), value);
        }
    }

    pub(crate) fn take_changes(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Context<S> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, state: PhantomData }
    }

    /// Cancelled when the run is, within about a second. Code that awaits is dropped then and need not look; code that
    /// computes for long, or has given work to other tasks or threads, can stop by it.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.core.cancelled
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.core.fence.run
    }

    /// The step execution's number, unique in its run.
    pub fn seq(&self) -> u64 {
        self.core.fence.seq
    }

    /// Which attempt this is, from 1. Attempts whose worker died count too.
    pub fn attempt(&self) -> u32 {
        self.core.fence.attempt
    }

    /// How many attempts before this one ended with an error.
    pub fn failures(&self) -> u32 {
        self.core.failures
    }

    /// The same for every attempt at this step execution, and for no other: an idempotency key for calls to others.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.core.fence.run, self.core.fence.seq)
    }

    /// The run's state.
    pub fn state(&self) -> State<'_, S> {
        State { core: &self.core, state: PhantomData }
    }
}

/// The state of a run: fields, each with a value of its own; or, with a type, a struct whose fields they are.
pub struct State<'a, S = ()> {
    core: &'a Core,
    state: PhantomData<fn() -> S>,
}

#[expect(clippy::unused_async, reason = "later stores read and check state while the step runs")]
impl<S> State<'_, S> {
    /// Reads a field; None where it was never set. Fails when it is of another type.
    pub async fn get<T: DeserializeOwned>(&self, field: &str) -> Outcome<Option<T>> {
        let Some(value) = self.core.read(field) else { return Ok(None) };
        Ok(Some(codec::decode(&format!("the context field {field}"), &value)?))
    }

    /// Writes a field (1 to 128 bytes of name, at most 1 MiB of value).
    pub async fn set<T: Serialize + ?Sized>(&self, field: &str, value: &T) -> Outcome<()> {
        names::check_field(field)?;
        let value = codec::encode(&format!("the context field {field}"), value)?;
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
                codec::check_size(&format!("the context field {name}"), value.len() - 1)?;
                self.core.write(&name, Some(value));
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
    struct Memory {
        asked: u32,
        notes: Vec<String>,
        tone: Option<String>,
    }

    fn core(snapshot: Vec<(String, Vec<u8>)>) -> Arc<Core> {
        Arc::new(Core::new(
            Fence { run: "r".into(), seq: 1, attempt: 1, claim: 1 },
            0,
            snapshot,
            CancellationToken::new(),
        ))
    }

    #[tokio::test]
    async fn only_changed_fields_are_written() {
        let core = core(vec![("asked".into(), codec::encode("x", &4u32).unwrap())]);
        let context = Context::<Memory>::new(core.clone());
        assert_eq!(context.state().load().await.unwrap(), Memory { asked: 4, ..Memory::default() });
        context.state().edit(|m| m.notes.push("a".into())).await.unwrap();
        assert_eq!(core.take_changes().into_keys().collect::<Vec<_>>(), ["notes"]);
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_undone_is_no_change() {
        let core = core(vec![("tone".into(), codec::encode("x", "warm").unwrap())]);
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
        let context = Context::<()>::new(core(vec![("tone".into(), codec::encode("x", "warm").unwrap())]));
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
