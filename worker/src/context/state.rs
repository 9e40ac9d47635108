//! The state of a run: what a step reads and writes.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stepfleet_shared::paths::Path;
use stepfleet_shared::step::Merge;
use stepfleet_shared::{fields, names, values};

use super::Core;
use crate::decisions::overlay::Overlay;
use crate::error::{Error, Outcome};

/// The state of a run: fields, each with a value of its own; or, with a type, a struct with these fields.
///
/// A step reads the state as it was when its attempt began, with its own writes on top. Its writes take effect with
/// its commit, or with [`Context::checkpoint`](super::Context::checkpoint). If other steps of the run have written in
/// the meantime, the result depends on the kind of write:
///
/// * [`set`](State::set), [`remove`](State::remove) and [`clear`](State::clear) of whole fields: the last commit wins.
/// * [`incr`](State::incr), [`push`](State::push) and [`insert`](State::insert): merged into the current value.
/// * [`edit`](State::edit), [`edit_field`](State::edit_field), and any write to a path inside a field: a transaction.
///   If a field that it has read was changed, nothing of the step is committed, and the transaction runs again on the
///   current value, without the body, as often as it takes. If the body itself has read the field (with
///   [`get`](State::get), [`load`](State::load), [`fields`](State::fields) or the answer of `incr`), or if the
///   transaction now returns something else, the body runs again with the current state, within the same attempt.
///   Recorded results of `ctx.step` are reused.
///
/// A path has parts separated by dots: `user.address.city`, `orders.0.id`. The first part is the field; the others
/// lead into maps, structs and lists.
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
    /// Reads the value at a path; None if there is none. Fails if the value has another type, or if the path leads
    /// through something that is neither a map nor a list.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<Option<T>> {
        let path = Path::parse(path)?;
        let field = {
            let mut overlay = self.core.overlay();
            overlay.see(path.field());
            overlay.read(path.field())
        };
        let Some(value) = path.get(field.as_deref())? else { return Ok(None) };
        Ok(Some(values::decode(path.whole(), &value)?))
    }

    /// Writes the value at a path. A field's name has 1 to 128 bytes, and its whole value at most 1 MiB. Missing maps
    /// on the way are created; a list does not get longer by this.
    pub async fn set<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> Outcome<()> {
        let path = Path::parse(path)?;
        let value = values::encode(path.whole(), value)?;
        self.act(&path, value.len(), move |path, overlay| {
            if path.is_field() {
                overlay.write(path.field(), Some(value.clone()));
                return Ok(());
            }
            let whole = path.set(overlay.read(path.field()).as_deref(), &value)?;
            values::check_size(path.field(), whole.len())?;
            overlay.expect(path.field());
            overlay.write(path.field(), Some(whole));
            Ok(())
        })
    }

    /// Removes the value at a path: a field, an entry of a map, or an item of a list, whose later items then move up.
    pub async fn remove(&self, path: &str) -> Outcome<()> {
        self.act(&Path::parse(path)?, 0, |path, overlay| {
            if path.is_field() {
                overlay.write(path.field(), None);
                return Ok(());
            }
            let field = overlay.read(path.field());
            overlay.expect(path.field());
            if let Some(field) = field
                && let Some(whole) = path.remove(&field)?
            {
                overlay.write(path.field(), Some(whole));
            }
            Ok(())
        })
    }

    /// Removes all fields that the step knows of.
    pub async fn clear(&self) -> Outcome<()> {
        self.core.overlay().act(0, |overlay| {
            overlay.clear();
            Ok(())
        })
    }

    /// Adds to a field that is a whole number of at most 18 digits; an unset field counts as 0. Never conflicts:
    /// additions of other steps at the same time are added too. Returns the sum as this step sees it.
    pub async fn incr(&self, field: &str, by: i64) -> Outcome<i64> {
        self.merge(whole_field(field, "incr")?, Merge::Add(by))?;
        let mut overlay = self.core.overlay();
        overlay.see(field);
        Ok(overlay.read(field).map(|sum| values::decode(field, &sum)).transpose()?.unwrap_or_default())
    }

    /// Appends to a field that is a list; an unset field counts as empty. Never conflicts: items that other steps
    /// push at the same time are kept too, in the order of the commits.
    pub async fn push<T: Serialize + ?Sized>(&self, field: &str, item: &T) -> Outcome<()> {
        let merge = values::element(whole_field(field, "push")?, item)?;
        self.merge(field, merge)
    }

    /// Writes one entry of a field that is a map or struct; an unset field counts as empty. Never conflicts: entries
    /// that other steps insert at the same time are kept too, and for the same key the last commit wins.
    pub async fn insert<T: Serialize + ?Sized>(&self, field: &str, key: &str, value: &T) -> Outcome<()> {
        let merge = values::entry(whole_field(field, "insert")?, key, value)?;
        self.merge(field, merge)
    }

    /// Changes the value at a path in a transaction: if others have changed its field by the time of the commit,
    /// `change` runs again on the current value. If there is no value, it gets `T::default()`.
    ///
    /// `change` may run any number of times, and only the last run counts; so move what it needs into it (`move`),
    /// and clone what it gives away. If a later run returns something else than the body has gone on with, the body
    /// runs again. Return nothing that the body does not need.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// ctx.state().edit_field("stock.apples", |left: &mut u32| *left = left.saturating_sub(1)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn edit_field<T, R>(&self, path: &str, change: impl Fn(&mut T) -> R + Send + 'static) -> Outcome<R>
    where
        T: Serialize + DeserializeOwned + Default,
        R: PartialEq + Clone + Send + 'static,
    {
        self.act(&Path::parse(path)?, 0, move |path, overlay| {
            let field = overlay.read(path.field());
            let found = path.get(field.as_deref())?;
            let mut value: T = found.map(|found| values::decode(path.whole(), &found)).transpose()?.unwrap_or_default();
            let answer = change(&mut value);
            let whole = path.set(field.as_deref(), &values::encode(path.whole(), &value)?)?;
            values::check_size(path.field(), whole.len())?;
            overlay.expect(path.field());
            overlay.write(path.field(), Some(whole));
            Ok(answer)
        })
    }

    /// The names of the fields that are set, in order.
    pub async fn fields(&self) -> Outcome<Vec<String>> {
        let mut overlay = self.core.overlay();
        overlay.see_all();
        Ok(overlay.fields().into_keys().collect())
    }

    fn merge(&self, field: &str, merge: Merge) -> Outcome<()> {
        let bytes = if let Merge::Append { bytes, .. } = &merge { bytes.len() } else { 0 };
        self.act(&Path::parse(field)?, bytes, move |path, overlay| overlay.merge(path.field(), merge.clone()))
    }

    fn act<R: PartialEq + Clone + Send + 'static>(
        &self,
        path: &Path<'_>,
        bytes: usize,
        act: impl Fn(&Path<'_>, &mut Overlay) -> Outcome<R> + Send + 'static,
    ) -> Outcome<R> {
        let mut overlay = self.core.overlay();
        let whole = path.whole().to_owned();
        let done = overlay.act(bytes, move |overlay| act(&Path::parse(&whole)?, overlay));
        if done.is_err() {
            // The body knows why.
            overlay.see(path.field());
        }
        done
    }
}

/// A merge is into a field as a whole.
fn whole_field<'a>(field: &'a str, what: &str) -> Outcome<&'a str> {
    if Path::parse(field)?.is_field() {
        return Ok(field);
    }
    Err(Error::terminal(format!(
        "{what} is for whole fields, and {field} leads into one: change it with edit_field, or keep it as a field of its own"
    )))
}

#[expect(clippy::unused_async, reason = "later stores read and check state while the step runs")]
impl<S: Serialize + DeserializeOwned + Default> State<'_, S> {
    /// Reads the whole state. Fields that were never set have the values of `S::default()`.
    pub async fn load(&self) -> Outcome<S> {
        let mut overlay = self.core.overlay();
        overlay.see_all();
        load(&overlay)
    }

    /// Changes the state in a transaction: if others have changed any field of `S` by the time of the commit,
    /// `change` runs again on the current state, as with [`State::edit_field`]. `change` gets a copy; its changes
    /// take effect as a whole, or not at all if it panics or if a field is too large. Only the fields that it has
    /// changed are written, each at most 1 MiB.
    ///
    /// Steps that edit at the same time conflict, even if they change different fields: [`State::edit_field`] reads
    /// one field only, and [`State::incr`] and the other merges read none.
    pub async fn edit<R>(&self, change: impl Fn(&mut S) -> R + Send + 'static) -> Outcome<R>
    where
        R: PartialEq + Clone + Send + 'static,
    {
        let mut overlay = self.core.overlay();
        let done = overlay.act(0, move |overlay| edit(overlay, &change));
        if done.is_err() {
            // The body knows why.
            overlay.see_all();
        }
        done
    }
}

fn load<S: Serialize + DeserializeOwned + Default>(overlay: &Overlay) -> Outcome<S> {
    let mut whole = fields::split(&S::default())?;
    whole.extend(overlay.fields().into_iter().map(|(field, value)| (field, value.into())));
    Ok(fields::join(&whole)?)
}

fn edit<S: Serialize + DeserializeOwned + Default, R>(
    overlay: &mut Overlay,
    change: impl Fn(&mut S) -> R,
) -> Outcome<R> {
    let mut state: S = load(overlay)?;
    let before = fields::split(&state)?;
    let answer = change(&mut state);
    let after = fields::split(&state)?;
    let defaults = fields::split(&S::default())?;
    let known: BTreeSet<&String> = before.keys().chain(after.keys()).chain(defaults.keys()).collect();
    let changed: Vec<_> = known.iter().filter(|name| before.get(**name) != after.get(**name)).collect();
    for name in &changed {
        names::check_field(name)?;
        values::check_size(name, after.get(**name).map_or(0, Vec::len))?;
    }
    for name in &known {
        overlay.expect(name);
    }
    for name in changed {
        overlay.write(name, after.get(*name).cloned());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Deserialize;
    use stepfleet_shared::codec;
    use stepfleet_shared::names::Namespace;
    use stepfleet_shared::step::{Claimed, Fence};
    use stepfleet_shared::store::MemoryStore;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::context::{Busy, Context, Hold, Journal, Past, Reach};

    #[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
    struct Memory {
        asked: u32,
        notes: Vec<String>,
        tone: Option<String>,
    }

    fn core(snapshot: Vec<(String, Vec<u8>)>) -> Arc<Core> {
        let reach = Reach {
            store: Arc::new(MemoryStore::new(Namespace::default())),
            partitions: stepfleet_shared::Partitions::from(Arc::new(MemoryStore::new(Namespace::default()))),
            worker: "w".into(),
            run: "r".into(),
            seq: 1,
            hold: Hold::of(&Fence { run: "r".into(), seq: 1, attempt: 1, claim: 1, ..Fence::default() }),
            step: "s".into(),
            group: 0,
            content: codec::Content::Json,
            busy: Busy::default(),
            outages: stepfleet_shared::outage::Outages::default(),
            durability: stepfleet_shared::durability::Durability::None,
            confirmed: crate::context::Confirmed::default(),
        };
        let past = Past::of(&Claimed::default());
        Arc::new(Core::new(reach, past, snapshot, CancellationToken::new(), Journal::default()))
    }

    fn written(core: &Core) -> Vec<String> {
        core.overlay().take().set.into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn only_changed_fields_are_written() {
        let core = core(vec![("asked".into(), values::encode("x", &4u32).unwrap())]);
        let context = Context::<Memory>::new(core.clone());
        assert_eq!(context.state().load().await.unwrap(), Memory { asked: 4, ..Memory::default() });
        context.state().edit(|m| m.notes.push("a".into())).await.unwrap();
        assert_eq!(written(&core), ["notes"]);
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_undone_is_no_change() {
        let core = core(vec![("tone".into(), values::encode("x", "warm").unwrap())]);
        let context = Context::<()>::new(core.clone());
        context.state().set("tone", "cold").await.unwrap();
        assert_eq!(context.state().get::<String>("tone").await.unwrap().as_deref(), Some("cold"));
        context.state().set("tone", "warm").await.unwrap();
        assert!(core.overlay().is_unchanged());
        context.state().remove("tone").await.unwrap();
        assert_eq!(context.state().get::<String>("tone").await.unwrap(), None);
        assert_eq!(core.overlay().take().unset, ["tone"]);
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
        context
            .state()
            .edit({
                let most = most.clone();
                move |m| m.tone = Some(most.clone())
            })
            .await
            .unwrap();
        context
            .state()
            .edit({
                let most = most.clone();
                move |m| m.notes.push(most.clone())
            })
            .await
            .unwrap();
        let error = context.state().edit(move |m| m.notes.push(most.clone())).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().starts_with("the context field notes has 2097"), "{error}");
        assert_eq!(written(&core), ["notes", "tone"]);
    }

    #[tokio::test]
    async fn a_state_that_is_no_struct_is_refused_with_advice() {
        let context = Context::<Vec<u8>>::new(core(vec![]));
        assert!(context.state().load().await.unwrap_err().to_string().contains("struct with named fields"));
    }

    #[tokio::test]
    async fn a_path_inside_of_a_field_is_written_in_a_transaction() {
        let core = core(vec![("user".into(), values::encode("user", &serde_json::json!({"name": "a"})).unwrap())]);
        let state = Context::<()>::new(core.clone());
        let state = state.state();
        state.set("user.address.city", "b").await.unwrap();
        state.set("other.deep", &1).await.unwrap();
        state.edit_field("user.age", |age: &mut u32| *age += 3).await.unwrap();
        assert_eq!(state.get::<String>("user.address.city").await.unwrap().as_deref(), Some("b"));
        assert_eq!(state.get::<u32>("user.age").await.unwrap(), Some(3));
        state.remove("user.name").await.unwrap();
        assert_eq!(state.get::<String>("user.name").await.unwrap(), None);
        let taken = core.overlay().take();
        assert_eq!(taken.set.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["other", "user"]);
        assert_eq!(taken.expects.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["other", "user"]);
        let error = state.push("user.names", &1).await.unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("edit_field"), "{error}");
    }

    #[tokio::test]
    async fn an_edit_expects_all_that_the_type_has_and_leaks_nothing_where_it_fails() {
        let core = core(vec![("other".into(), b"1".to_vec()), ("asked".into(), b"4".to_vec())]);
        let context = Context::<Memory>::new(core.clone());
        let most = "x".repeat(codec::MAX_PAYLOAD + 1);
        let failed = context.state().edit(move |m| (m.asked, m.tone) = (9, Some(most.clone()))).await;
        assert!(failed.unwrap_err().is_terminal() && core.overlay().is_unchanged());
        context.state().edit(|m| m.asked += 1).await.unwrap();
        let taken = core.overlay().take();
        assert_eq!(taken.set, [("asked".to_owned(), b"5".to_vec())]);
        assert_eq!(taken.expects.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["asked", "notes", "tone"]);
    }
}
