//! Repeats a body's changes of the context, without the body, on a context that others have changed meanwhile.
//! Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;

use stepfleet_shared::values;

use super::{Changes, Overlay};
use crate::error::Outcome;

/// A body that does more than this between two commits, or writes more bytes, runs again as a whole.
const MAX_DEEDS: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Repeats one change. False if its result differs from the one that the body got.
type Deed = Box<dyn Fn(&mut Overlay) -> bool + Send>;

/// What the body has done, in order.
#[derive(Default)]
pub(super) struct Deeds {
    list: Vec<Deed>,
    bytes: usize,
    are_too_many: bool,
}

impl Deeds {
    fn push(&mut self, bytes: usize, deed: Deed) {
        self.bytes += bytes;
        if self.are_too_many || self.list.len() >= MAX_DEEDS || self.bytes > MAX_BYTES {
            (self.list, self.are_too_many) = (Vec::new(), true);
        } else {
            self.list.push(deed);
        }
    }
}

impl fmt::Debug for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deeds").field("count", &self.list.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The changes that were handed out for a commit, and the fields that they had read.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) deeds: Deeds,
    pub(super) expects: BTreeMap<String, Option<String>>,
}

impl Overlay {
    /// Makes this change, now and again after a conflict. It gets the current field; `answer` is what the body is
    /// told, and is to be the same then. `bytes` is about how much it keeps.
    pub(crate) fn act<R: PartialEq + Clone + Send + 'static>(
        &mut self,
        bytes: usize,
        act: impl Fn(&mut Self) -> Outcome<R> + Send + 'static,
    ) -> Outcome<R> {
        let answer = act(self)?;
        let told = answer.clone();
        self.deeds.push(bytes, Box::new(move |overlay| act(overlay).is_ok_and(|again| again == told)));
        Ok(answer)
    }

    /// The body knows this field, outside of any transaction: where others change it, what the body makes of that is to
    /// be seen.
    pub(crate) fn see(&mut self, field: &str) {
        if !self.seen.contains(field) {
            self.seen.insert(field.to_owned());
        }
    }

    /// The body knows all fields.
    pub(crate) fn see_all(&mut self) {
        self.sees_all = true;
    }

    /// The last changes could not be committed, since others have written: repeats them on the current context,
    /// and the later changes of the body on top. None if the body must run again: it has read what
    /// others have changed, or would get other values now. Then nothing can be repeated.
    pub(crate) fn redo(&mut self, context: Vec<(String, Vec<u8>)>) -> Option<Changes> {
        let flight = self.flight.take()?;
        let mut anew = Self::new(context);
        (anew.seen, anew.sees_all) = (std::mem::take(&mut self.seen), self.sees_all);
        anew.follow(&flight.expects, flight.deeds)?;
        let changes = anew.take();
        anew.follow(&self.expects, std::mem::take(&mut self.deeds))?;
        *self = anew;
        Some(changes)
    }

    /// Whether that can succeed: not if the body has seen everything that it expects.
    pub(crate) fn may_be_redone(&self) -> bool {
        let is_blind = |flight: &Flight| flight.expects.keys().any(|field| !self.seen.contains(field));
        !self.sees_all && self.flight.as_ref().is_some_and(is_blind)
    }

    fn follow(&mut self, expects: &BTreeMap<String, Option<String>>, deeds: Deeds) -> Option<()> {
        let is_other = |(field, known): (&String, &Option<String>)| {
            (self.sees_all || self.seen.contains(field))
                && self.snapshot.get(field).map(|value| values::digest(value)) != *known
        };
        if deeds.are_too_many || expects.iter().any(is_other) {
            return None;
        }
        for deed in &deeds.list {
            // If the code of a transaction panics, it will panic in the body when that runs again.
            let is_same = std::panic::catch_unwind(AssertUnwindSafe(|| deed(self)));
            if !is_same.unwrap_or(false) {
                return None;
            }
        }
        self.deeds = deeds;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stepfleet_shared::step::Merge;

    use super::*;
    use crate::error::Error;

    fn context(fields: &Value) -> Vec<(String, Vec<u8>)> {
        let fields = fields.as_object().unwrap().iter();
        fields.map(|(name, value)| (name.clone(), values::encode(name, value).unwrap())).collect()
    }

    /// A transaction that adds one, and returns `told` of the sum.
    fn add_one(overlay: &mut Overlay, told: fn(u64) -> u64) -> Outcome<u64> {
        overlay.act(1, move |overlay| {
            let now: u64 = overlay.read("n").map(|n| values::decode("n", &n)).transpose()?.unwrap_or(0);
            if now == 13 {
                return Err(Error::msg("bad luck"));
            }
            assert_ne!(now, 666);
            overlay.expect("n");
            overlay.write("n", Some(values::encode("n", &(now + 1))?));
            Ok(told(now + 1))
        })
    }

    fn number(changes: &Changes) -> u64 {
        values::decode("n", &changes.set.iter().find(|(name, _)| name == "n").unwrap().1).unwrap()
    }

    #[test]
    fn what_the_body_was_told_nothing_of_is_done_again() {
        let mut overlay = Overlay::new(context(&json!({"n": 1})));
        add_one(&mut overlay, |_| 0).unwrap();
        overlay.act(1, |overlay| overlay.merge("sum", Merge::Add(2))).unwrap();
        overlay.see("other");
        let first = overlay.take();
        assert_eq!(number(&first), 2);
        // Again and again.
        for (found, expected) in [(5, 6), (9, 10)] {
            let again = overlay.redo(context(&json!({"n": found, "other": "new", "sum": 7}))).unwrap();
            assert_eq!(number(&again), expected);
            assert_eq!(again.merges, [("sum".to_owned(), Merge::Add(2))]);
            assert_eq!(again.expects, [("n".to_owned(), Some(values::digest(found.to_string().as_bytes())))]);
        }
        assert_eq!(&*overlay.read("n").unwrap(), b"10");
    }

    #[test]
    fn the_body_runs_again_where_it_knows_what_has_changed() {
        let seen: [fn(&mut Overlay); 2] = [|overlay| overlay.see("n"), Overlay::see_all];
        for see in seen {
            let mut overlay = Overlay::new(context(&json!({"n": 1})));
            see(&mut overlay);
            add_one(&mut overlay, |_| 0).unwrap();
            overlay.take();
            assert_eq!(overlay.redo(context(&json!({"n": 2}))), None);
        }
        // It gets another sum.
        let mut overlay = Overlay::new(context(&json!({"n": 1})));
        assert_eq!(add_one(&mut overlay, |sum| sum % 2).unwrap(), 0);
        overlay.take();
        assert_eq!(number(&overlay.redo(context(&json!({"n": 3}))).unwrap()), 4, "the same is no other");
        assert_eq!(overlay.redo(context(&json!({"n": 4}))), None);
    }

    #[test]
    fn a_transaction_that_fails_or_panics_on_what_is_there_now_is_for_the_body() {
        for n in [13, 666] {
            let mut overlay = Overlay::new(context(&json!({"n": 1})));
            add_one(&mut overlay, |_| 0).unwrap();
            overlay.take();
            assert_eq!(overlay.redo(context(&json!({"n": n}))), None);
        }
    }

    #[test]
    fn what_was_done_since_is_done_again_on_top() {
        let mut overlay = Overlay::new(context(&json!({"n": 1})));
        add_one(&mut overlay, |_| 0).unwrap();
        let first = overlay.take();
        add_one(&mut overlay, |_| 0).unwrap();
        let again = overlay.redo(context(&json!({"n": 10}))).unwrap();
        assert_eq!((number(&first), number(&again)), (2, 11));
        let last = overlay.take();
        assert_eq!((number(&last), last.expects[0].1.clone()), (12, Some(values::digest(b"11"))));
        assert_eq!(
            number(&overlay.redo(context(&json!({"n": 20}))).unwrap()),
            21,
            "what was committed is not done again"
        );
    }

    #[test]
    fn what_is_kept_for_it_has_a_bound() {
        let mut overlay = Overlay::new(context(&json!({"n": 1})));
        for _ in 0..5 {
            overlay.act(1024 * 1024, |_| Ok(())).unwrap();
        }
        assert!(overlay.deeds.list.is_empty());
        overlay.take();
        assert_eq!(overlay.redo(vec![]), None);
        for _ in 0..=MAX_DEEDS {
            overlay.act(0, |_| Ok(())).unwrap();
        }
        assert!(overlay.deeds.list.is_empty() && overlay.deeds.are_too_many);
    }
}
