//! A run's context as one attempt sees it: what was read, and what is to be written. Pure.

mod redo;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stepfleet_shared::step::{Bytes, Merge};
use stepfleet_shared::values;

use self::redo::{Deeds, Flight};
use crate::error::Outcome;

/// A map larger than this is checked before an insertion: it may have replaced values.
const COMPACT_FROM: usize = 64 * 1024;

/// The snapshot, with the changes that the attempt has made on top of it.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    snapshot: HashMap<String, Bytes>,
    changes: BTreeMap<String, Change>,
    /// What transactions have read: the commit is valid only if it is still there.
    expects: BTreeMap<String, Option<String>>,
    /// Fields that the body has read outside of transactions.
    seen: BTreeSet<String>,
    sees_all: bool,
    deeds: Deeds,
    /// What was handed out last.
    flight: Option<Flight>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Set(Vec<u8>),
    Unset,
    /// Applied to the value at the time of the commit.
    Merge(Merge),
}

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) set: Vec<(String, Vec<u8>)>,
    pub(crate) unset: Vec<String>,
    pub(crate) merges: Vec<(String, Merge)>,
    pub(crate) expects: Vec<(String, Option<String>)>,
    /// The same fields, as they were before.
    pub(crate) before: Vec<(String, Option<Bytes>)>,
}

impl Overlay {
    pub(crate) fn new(snapshot: Vec<(String, impl Into<Bytes>)>) -> Self {
        let snapshot = snapshot.into_iter().map(|(field, value)| (field, value.into())).collect();
        Self { snapshot, ..Self::default() }
    }

    /// These fields are what the first attempt began with.
    pub(crate) fn begin_with(&mut self, fields: impl IntoIterator<Item = (String, Option<impl Into<Bytes>>)>) {
        for (field, value) in fields {
            match value {
                Some(value) => self.snapshot.insert(field, value.into()),
                None => self.snapshot.remove(&field),
            };
        }
    }

    pub(crate) fn read(&self, field: &str) -> Option<Bytes> {
        let before = self.snapshot.get(field);
        match self.changes.get(field) {
            None => before.cloned(),
            Some(Change::Set(value)) => Some(Bytes::copy_from_slice(value)),
            Some(Change::Unset) => None,
            // It was tried when it was made.
            Some(Change::Merge(merge)) => values::merged(field, before.map(Bytes::as_ref), merge).ok().map(Bytes::from),
        }
    }

    pub(crate) fn fields(&self) -> BTreeMap<String, Bytes> {
        let names = self.snapshot.keys().chain(self.changes.keys());
        names.filter_map(|name| Some((name.clone(), self.read(name)?))).collect()
    }

    /// A value that is there already is no change.
    pub(crate) fn write(&mut self, field: &str, value: Option<Vec<u8>>) {
        if self.snapshot.get(field).map(Bytes::as_ref) == value.as_deref() {
            self.changes.remove(field);
        } else {
            self.changes.insert(field.to_owned(), value.map_or(Change::Unset, Change::Set));
        }
    }

    /// A transaction has read the field.
    pub(crate) fn expect(&mut self, field: &str) {
        // What the attempt itself has written does not depend on others.
        if matches!(self.changes.get(field), None | Some(Change::Merge(_))) && !self.expects.contains_key(field) {
            let digest = self.snapshot.get(field).map(|value| values::digest(value));
            self.expects.insert(field.to_owned(), digest);
        }
    }

    /// Fails if the field, as this attempt sees it, cannot be merged into.
    pub(crate) fn merge(&mut self, field: &str, merge: Merge) -> Outcome<()> {
        if self.rewrite(field, &merge)? {
            self.expect(field);
        }
        let before = self.read(field);
        let merged = match values::merged(field, before.as_deref(), &merge) {
            Err(error) if error.is_too_large() => {
                let Some(compacted) = before.as_deref().and_then(values::compacted) else { return Err(error.into()) };
                self.expect(field);
                values::merged(field, Some(&compacted), &merge).map(|value| (Some(value), merge))
            }
            merged => merged.map(|value| (self.is_written(field).then_some(value), merge)),
        };
        let change = match (merged?, self.changes.remove(field)) {
            ((Some(value), _), _) => Change::Set(value),
            ((None, merge), Some(Change::Merge(earlier))) => Change::Merge(joined(earlier, merge)),
            ((None, merge), _) => Change::Merge(merge),
        };
        self.changes.insert(field.to_owned(), change);
        Ok(())
    }

    fn is_written(&self, field: &str) -> bool {
        matches!(self.changes.get(field), Some(Change::Set(_) | Change::Unset))
    }

    /// Rewrites the field if it has an old form, or has grown by many insertions of few keys.
    fn rewrite(&mut self, field: &str, merge: &Merge) -> Outcome<bool> {
        if self.changes.contains_key(field) {
            return Ok(false);
        }
        let Some(value) = self.snapshot.get(field) else { return Ok(false) };
        let is_map = matches!(merge, Merge::Append { form: values::MAP, .. });
        let anew = match values::renewed(field, value)? {
            None if is_map && value.len() > COMPACT_FROM => {
                values::compacted(value).filter(|compacted| compacted.len() * 2 < value.len())
            }
            renewed => renewed,
        };
        let Some(anew) = anew else { return Ok(false) };
        self.expect(field);
        self.changes.insert(field.to_owned(), Change::Set(anew));
        Ok(true)
    }

    pub(crate) fn clear(&mut self) {
        self.changes = self.snapshot.keys().map(|field| (field.clone(), Change::Unset)).collect();
    }

    /// Nothing would be written.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.changes.is_empty()
    }

    /// Hands out the pending writes, and continues as if they were written.
    pub(crate) fn take(&mut self) -> Changes {
        let expects = std::mem::take(&mut self.expects);
        let mut taken = Changes { expects: expects.clone().into_iter().collect(), ..Changes::default() };
        self.flight = Some(Flight { deeds: std::mem::take(&mut self.deeds), expects });
        let seen: Vec<_> = self.changes.keys().map(|field| (field.clone(), self.read(field))).collect();
        for (field, value) in seen {
            let before = match value {
                Some(value) => self.snapshot.insert(field.clone(), value),
                None => self.snapshot.remove(&field),
            };
            taken.before.push((field, before));
        }
        for (field, change) in std::mem::take(&mut self.changes) {
            match change {
                Change::Set(value) => taken.set.push((field, value)),
                Change::Unset => taken.unset.push(field),
                Change::Merge(merge) => taken.merges.push((field, merge)),
            }
        }
        taken
    }
}

/// One merge that does what the two do. The later one was tried on top of the earlier.
fn joined(earlier: Merge, later: Merge) -> Merge {
    match (earlier, later) {
        (Merge::Add(a), Merge::Add(b)) => Merge::Add(a.saturating_add(b)),
        (Merge::Append { form, bytes: mut first }, Merge::Append { bytes: second, .. }) => {
            first.extend(second);
            Merge::Append { form, bytes: first }
        }
        (_, later) => later,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stepfleet_shared::codec;

    use super::*;

    fn overlay(fields: &Value) -> Overlay {
        let fields = fields.as_object().unwrap().iter();
        Overlay::new(fields.map(|(name, value)| (name.clone(), values::encode(name, value).unwrap())).collect())
    }

    fn seen(overlay: &Overlay, field: &str) -> Value {
        overlay.read(field).map_or(Value::Null, |value| values::decode(field, &value).unwrap())
    }

    fn push(overlay: &mut Overlay, field: &str, value: &Value) -> Outcome<()> {
        overlay.merge(field, values::element(field, value).unwrap())
    }

    #[test]
    fn own_writes_and_merges_are_seen() {
        let mut overlay = overlay(&json!({"count": 3, "log": ["a"], "tone": "warm"}));
        overlay.merge("count", Merge::Add(2)).unwrap();
        overlay.merge("count", Merge::Add(-1)).unwrap();
        push(&mut overlay, "log", &json!("b")).unwrap();
        push(&mut overlay, "log", &json!("c")).unwrap();
        push(&mut overlay, "new", &json!(1)).unwrap();
        overlay.write("tone", None);
        assert_eq!((seen(&overlay, "count"), seen(&overlay, "log")), (json!(4), json!(["a", "b", "c"])));
        assert_eq!(overlay.fields().into_keys().collect::<Vec<_>>(), ["count", "log", "new"]);
        let taken = overlay.take();
        assert_eq!((taken.set.len(), &taken.unset, taken.expects.len()), (0, &vec!["tone".to_owned()], 0));
        assert_eq!(taken.merges[0], ("count".to_owned(), Merge::Add(1)));
        assert_eq!(taken.merges.len(), 3, "those of one field are one: {taken:?}");
        assert_eq!((seen(&overlay, "count"), seen(&overlay, "log")), (json!(4), json!(["a", "b", "c"])));
        assert_eq!(overlay.take(), Changes::default(), "it was all handed out");
    }

    #[test]
    fn merges_into_what_was_written_are_written_with_it() {
        let mut overlay = overlay(&json!({"log": ["a"], "n": 1}));
        overlay.write("log", Some(values::encode("log", &json!(["x"])).unwrap()));
        push(&mut overlay, "log", &json!("y")).unwrap();
        overlay.write("n", None);
        overlay.merge("n", Merge::Add(5)).unwrap();
        let taken = overlay.take();
        assert_eq!((taken.set.len(), taken.merges.len(), taken.unset.len()), (2, 0, 0));
        assert_eq!((seen(&overlay, "log"), seen(&overlay, "n")), (json!(["x", "y"]), json!(5)));
    }

    #[test]
    fn a_merge_that_cannot_be_made_leaves_all_as_it_was() {
        let mut overlay = overlay(&json!({"tone": "warm"}));
        let error = push(&mut overlay, "tone", &json!(1)).unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("field tone is not a list"), "{error}");
        assert!(overlay.merge("tone", Merge::Add(1)).is_err());
        assert_eq!(overlay.take(), Changes::default());
    }

    #[test]
    fn what_is_kept_in_an_old_form_is_written_anew() {
        let old = codec::encode("x", &["a"]).unwrap();
        let digest = values::digest(&old);
        let mut overlay = Overlay::new(vec![("log".into(), old)]);
        push(&mut overlay, "log", &json!("b")).unwrap();
        let taken = overlay.take();
        assert_eq!(taken.expects, [("log".to_owned(), Some(digest))], "nobody may have pushed meanwhile");
        assert_eq!(taken.set, [("log".to_owned(), values::encode("log", &["a", "b"]).unwrap())]);
    }

    #[test]
    fn a_map_with_many_values_that_count_no_more_is_made_smaller() {
        let entry = |n: usize| values::entry("seen", "key", &"x".repeat(1000 + n % 7)).unwrap();
        let mut value = values::encode("seen", &json!({})).unwrap();
        for n in 0..100 {
            value = values::merged("seen", Some(&value), &entry(n)).unwrap();
        }
        let mut overlay = Overlay::new(vec![("seen".into(), value)]);
        overlay.merge("seen", entry(3)).unwrap();
        let taken = overlay.take();
        assert_eq!((taken.merges.len(), taken.expects.len()), (0, 1));
        assert!(taken.set[0].1.len() < 2100, "{} bytes", taken.set[0].1.len());

        // Within one attempt too, once it is full.
        for n in 0..3000 {
            overlay.merge("seen", entry(n)).unwrap();
        }
        assert!(overlay.take().set[0].1.len() <= codec::MAX_PAYLOAD + 1);
    }

    #[test]
    fn a_transaction_expects_what_it_has_read_and_not_what_the_attempt_has_written() {
        let mut overlay = overlay(&json!({"a": 1, "b": 2}));
        overlay.write("a", Some(b"7".to_vec()));
        for field in ["a", "b", "c"] {
            overlay.expect(field);
        }
        overlay.write("b", Some(b"8".to_vec()));
        let taken = overlay.take();
        assert_eq!(taken.expects, [("b".to_owned(), Some(values::digest(b"2"))), ("c".to_owned(), None)]);
        overlay.expect("b");
        assert_eq!(overlay.take().expects, [("b".to_owned(), Some(values::digest(b"8")))], "as if it were committed");
    }

    #[test]
    fn all_is_cleared_and_a_value_that_was_there_is_no_change() {
        let mut overlay = overlay(&json!({"a": 1, "b": 2}));
        overlay.write("c", Some(b"3".to_vec()));
        overlay.clear();
        assert!(overlay.fields().is_empty());
        overlay.write("a", Some(b"1".to_vec()));
        let taken = overlay.take();
        assert_eq!((taken.set.len(), taken.unset), (0, vec!["b".to_owned()]));
    }
}
