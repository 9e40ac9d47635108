//! The order in which the body of a step receives the results of its calls.
//!
//! What a body does next may depend on which result it received first. So it receives one at a time, and each only when
//! it is at rest, that is, when it awaits and has not been woken: what it does then follows from the order alone. The
//! order is recorded, and a later attempt delivers the results in the same order. Results not delivered yet come in the
//! order in which the calls have ended, which is recorded too.
//!
//! An entry with a value says nothing if the body had received all calls before it, one after the other, without
//! those that it had dropped. Otherwise it says which was the last one received, as long as the order was like that. Once
//! they were not, it says `<place>:<numbers>`: the calls received from that place on, counted from 0, with `3-5` for 3,4,5.
//! Whatever says so for the first time says all of it. `+<number>` behind it is the call that had ended last before, where
//! it was not given yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use stepfleet_shared::journal::order::{RecordedOrder, write_numbers};
use stepfleet_shared::journal::{Entry, FIRST_ORDER};

/// The order of one attempt.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The calls that earlier attempts received, as far as that is recorded.
    known: Vec<u64>,
    /// The recorded calls that the body has received.
    given: Vec<u64>,
    /// How many of them the body has recorded something after.
    gone_on: u64,
    /// They were received by their numbers, and only dropped ones were left out.
    is_straight: bool,
    /// How many of them are recorded one by one.
    told: usize,
    /// Separate entries of the order: how many numbers are used.
    entries: u64,
    /// The calls that the body has dropped.
    let_go: BTreeSet<u64>,
    /// Calls that have ended and that the body has not received yet, in this order.
    ended: Vec<u64>,
    /// What the body may be given: it has asked for it.
    ready: BTreeSet<u64>,
    /// The call that the body receives next.
    granted: Option<u64>,
}

impl Order {
    /// As the entries of a journal tell it. None if they contradict each other.
    pub(super) fn of(entries: &BTreeMap<u64, Vec<u8>>) -> Option<Self> {
        let RecordedOrder { known, ended, told, entries } = RecordedOrder::of(entries)?;
        Some(Self { known, ended, told, entries, is_straight: true, ..Self::default() })
    }

    /// The body asks for the call's result: whether it receives it now.
    pub(super) fn pass(&mut self, number: u64) -> bool {
        if self.granted == Some(number) {
            self.granted = None;
            self.remove(number);
            return true;
        }
        self.ready.insert(number);
        self.end(number);
        false
    }

    /// A call has ended.
    pub(super) fn end(&mut self, number: u64) {
        if !self.ended.contains(&number) && !self.is_to_come(number) {
            self.ended.push(number);
        }
    }

    /// The body has received a call that is recorded, or will be.
    pub(super) fn give(&mut self, number: u64) {
        let last = self.given.last().copied().unwrap_or(0);
        self.is_straight = self.is_straight && last < number && self.has_let_go(last + 1, number);
        self.given.push(number);
    }

    /// The body has come to rest. Answers whom to wake, for the next one to be given.
    pub(super) fn rest(&mut self) -> Option<u64> {
        // The body holds on to it and does not poll it: it is not its turn before it does.
        if let Some(parked) = self.granted.take() {
            self.ready.remove(&parked);
        }
        let next = match self.expected() {
            Some(next) => next,
            None => *self.ended.iter().find(|number| self.ready.contains(number))?,
        };
        self.granted = self.ready.contains(&next).then_some(next);
        self.granted
    }

    /// A call has ended that the body does not receive, since it has not reached one that it received before.
    pub(super) fn is_held_up(&self) -> bool {
        self.granted.is_none() && !self.ready.is_empty()
    }

    /// The call that an earlier attempt received next.
    pub(super) fn expected(&self) -> Option<u64> {
        self.known.get(self.given.len()).copied()
    }

    /// The body has dropped a call. Returns whether it had received its result in an earlier attempt.
    pub(super) fn let_go(&mut self, number: u64) -> bool {
        self.let_go.insert(number);
        if self.ended.contains(&number) {
            // Its entry goes, and what that says of the order with it.
            (self.is_straight, self.told) = (false, 0);
        }
        self.remove(number);
        if self.granted == Some(number) {
            self.granted = None;
        }
        self.is_to_come(number)
    }

    /// The body never receives the call of this number.
    pub(super) fn skip(&mut self, number: u64) {
        self.let_go.insert(number);
    }

    /// An earlier attempt received it, and this one has not yet.
    fn is_to_come(&self, number: u64) -> bool {
        self.known.get(self.given.len()..).is_some_and(|left| left.contains(&number))
    }

    /// How many it has received so far.
    pub(super) fn given(&self) -> u64 {
        self.given.len() as u64
    }

    /// How much there is to tell: for [`Order::was_told`], once it is recorded.
    pub(super) fn len(&self) -> usize {
        if self.is_straight { 0 } else { self.given.len() }
    }

    /// It has recorded something after it had received this many results.
    pub(super) fn went_on(&mut self, given: u64) {
        self.gone_on = self.gone_on.max(given);
    }

    /// Whether something is recorded that came after the body had received this call's result.
    pub(super) fn has_gone_on_with(&self, number: u64) -> bool {
        self.known.contains(&number) || self.given.iter().zip(0..self.gone_on).any(|(given, _)| *given == number)
    }

    pub(super) fn was_told(&mut self, len: usize) {
        self.told = self.told.max(len);
    }

    /// The order, as an entry with the value of this call has it.
    pub(super) fn before(&self, number: u64) -> String {
        let last = self.given.last().copied().unwrap_or(0);
        let mut order = match self.is_straight {
            true if self.has_let_go(last + 1, number) => String::new(),
            true => last.to_string(),
            // Nothing at all, which is not to be taken for all calls before it.
            false if self.given.is_empty() => "0".to_owned(),
            false => self.news().unwrap_or_default(),
        };
        if let Some(last) = self.ended.last() {
            let _ = write!(order, "+{last}");
        }
        order
    }

    fn remove(&mut self, number: u64) {
        self.ready.remove(&number);
        self.ended.retain(|ended| *ended != number);
    }

    /// There is something to tell.
    pub(super) fn has_news(&self) -> bool {
        !self.is_straight && self.told < self.given.len()
    }

    /// The entry for the part of the order that is not recorded yet, if there is any; each such entry has a separate number.
    pub(super) fn entry(&mut self) -> Option<(u64, Vec<u8>)> {
        let order = if self.is_straight { None } else { self.news() }?;
        self.entries += 1;
        Some((FIRST_ORDER + self.entries, Entry::Order { order: &order }.write()))
    }

    fn news(&self) -> Option<String> {
        let news = self.given.get(self.told..).filter(|news| !news.is_empty())?;
        Some(format!("{}:{}", self.told, write_numbers(news)))
    }

    /// All of these are dropped.
    fn has_let_go(&self, from: u64, to: u64) -> bool {
        (from..to).all(|number| self.let_go.contains(&number))
    }
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::journal::fork::{head_of, kept_before};

    use super::*;

    fn value(order: &str) -> Vec<u8> {
        Entry::Value { name: "a", order, payload: b"" }.write()
    }

    fn known(entries: &[(u64, Vec<u8>)]) -> Option<Vec<u64>> {
        Order::of(&entries.iter().cloned().collect()).map(|order| order.known)
    }

    /// All of these have ended, and are received as they come.
    fn given(order: &mut Order, numbers: &[u64]) -> Vec<u64> {
        for number in numbers {
            order.pass(*number);
        }
        let mut given = Vec::new();
        while order.rest().is_some() {
            let number = order.granted.unwrap();
            assert!(order.pass(number));
            order.give(number);
            given.push(number);
        }
        given
    }

    #[test]
    fn what_has_ended_first_is_given_first_and_one_at_a_time() {
        let mut order = Order { is_straight: true, ..Order::default() };
        assert!(!order.pass(1) && !order.pass(2), "the body has not come to rest");
        assert!(order.rest().is_some() && order.granted == Some(1));
        assert!(!order.pass(2) && order.pass(1), "one at a time");
        order.give(1);
        assert_eq!(given(&mut order, &[]), [2]);
    }

    #[test]
    fn what_the_body_does_not_poll_holds_nothing_up() {
        let mut order = Order { is_straight: true, ..Order::default() };
        order.pass(1);
        order.pass(2);
        assert!(order.rest().is_some() && order.granted == Some(1));
        assert!(order.rest().is_some() && order.granted == Some(2), "the body was woken for 1, and went past it");
        assert!(order.pass(2));
        order.give(2);
        assert_eq!(given(&mut order, &[]), [0; 0]);
        assert_eq!(given(&mut order, &[1]), [1]);
    }

    #[test]
    fn what_was_recorded_before_comes_before_what_ends_now() {
        let entries = [(1, value("+4")), (3, value("0+1")), (4, value("0+5")), (5, value("0")), (6, value("0+7"))];
        let mut order = Order::of(&entries.into_iter().collect()).unwrap();
        assert_eq!(order.before(8), "0+6");
        assert_eq!(given(&mut order, &[1, 2, 3, 4, 5, 6]), [5, 4, 1, 3, 6, 2]);
    }

    #[test]
    fn what_the_entry_of_a_dropped_call_said_is_said_again() {
        let mut order = Order { is_straight: true, ..Order::default() };
        order.give(2);
        order.end(1);
        order.was_told(order.len());
        order.let_go(1);
        assert_eq!(order.entry().unwrap().1, Entry::Order { order: "0:2" }.write());
    }

    #[test]
    fn a_body_that_makes_one_call_after_the_other_records_no_order() {
        let mut order = Order { is_straight: true, ..Order::default() };
        for number in 1..=3 {
            assert_eq!((order.before(number), order.entry()), (String::new(), None));
            order.give(number);
        }
        order.let_go(4);
        assert_eq!(order.before(5), "", "what was let go of is recorded as such");
        assert_eq!(order.before(6), "3");
        order.give(6);
        assert_eq!(order.before(7), "0:1-3,6", "5 comes later");
        assert_eq!(order.entry().unwrap(), (FIRST_ORDER + 1, Entry::Order { order: "0:1-3,6" }.write()));
        order.was_told(order.len());
        assert_eq!((order.before(7), order.entry()), (String::new(), None));
        order.give(5);
        assert_eq!(order.before(8), "4:5");
    }

    #[test]
    fn the_order_is_read_as_it_was_written() {
        let let_go = Entry::LetGo { name: "a", given: 0 }.write();
        let failed = Entry::Failed { name: "a", error: b"" }.write();
        assert_eq!(known(&[]).unwrap(), [0; 0]);
        assert_eq!(known(&[(1, value("")), (2, value("")), (3, value("1"))]).unwrap(), [1]);
        assert_eq!(known(&[(1, value("")), (2, let_go), (3, value("")), (4, failed)]).unwrap(), [1, 3, 4]);
        let recorded = [(1, value("")), (3, value("0:2")), (4, value("1:3,1")), (5, value("0:2-3,1"))];
        assert_eq!(known(&recorded).unwrap(), [2, 3, 1], "whatever says all of it knows more than what says nothing");
        for (one, other) in [("0:2", "0:3"), ("0:2", "2:3"), ("0:x", "0:2"), ("0:3-1", "0:3"), ("0:1-99999999", "0:1")]
        {
            assert_eq!(known(&[(1, value(one)), (2, value(other))]), None, "{one} {other}");
        }
    }

    #[test]
    fn what_was_given_first_is_given_first_again() {
        let entries = [(1, value("")), (2, value("0")), (3, value("0:2")), (4, value(""))];
        let mut order = Order::of(&entries.into_iter().collect()).unwrap();
        assert_eq!(given(&mut order, &[1, 5, 4]), [0; 0], "2 has not come by");
        assert!(order.is_held_up() && order.expected() == Some(2));
        assert_eq!(given(&mut order, &[2]), [2, 1, 4, 5]);
    }

    #[test]
    fn a_body_that_drops_what_it_was_given_before_is_found_out() {
        let entries = [(1, value("")), (2, value("0:1"))];
        let mut order = Order::of(&entries.into_iter().collect()).unwrap();
        assert!(!order.let_go(2) && order.let_go(1));
    }

    /// A body with calls beside each other, and what it records.
    #[derive(Default)]
    struct Body {
        order: Order,
        entries: BTreeMap<u64, Vec<u8>>,
        made: u64,
        under_way: Vec<u64>,
        over: Vec<u64>,
        let_go: Vec<(u64, u64)>,
    }

    impl Body {
        fn does(&mut self, what: u8, choice: usize) {
            match what {
                0 => {
                    self.made += 1;
                    self.under_way.push(self.made);
                }
                1 if !self.under_way.is_empty() => {
                    let number = self.under_way.remove(choice % self.under_way.len());
                    self.entries.insert(number, value(&self.order.before(number)));
                    for (number, given) in self.let_go.drain(..) {
                        self.entries.insert(number, Entry::LetGo { name: "a", given }.write());
                    }
                    self.order.was_told(self.order.len());
                    self.order.pass(number);
                    self.over.push(number);
                }
                2 => {
                    if self.order.rest().is_some() {
                        let number = self.order.granted.unwrap();
                        assert!(self.order.pass(number));
                        self.order.give(number);
                        self.over.retain(|over| *over != number);
                    }
                }
                _ => {
                    let left: Vec<u64> = self.under_way.iter().chain(&self.over).copied().collect();
                    if !left.is_empty() {
                        let number = left[choice % left.len()];
                        self.let_go.push((number, self.order.given()));
                        self.order.let_go(number);
                        self.under_way.retain(|other| *other != number);
                        self.over.retain(|other| *other != number);
                    }
                }
            }
        }

        /// A fork at this call learns nothing of later ones, and receives results in the order in which the body received them.
        fn check(&self, call: u64) {
            let heads = self.entries.iter().map(|(number, entry)| (*number, head_of(entry).to_vec())).collect();
            let kept = kept_before(&heads, Some(call), false).expect("it does not contradict itself");
            let copied = kept.into_iter().map(|one| (one.number, [&*one.becomes, b"\n"].concat())).collect();
            let first: Vec<u64> = self.order.given.iter().copied().take_while(|number| *number < call).collect();
            let order = Order::of(&copied).expect("nor does the fork");
            assert!(first.starts_with(&order.known), "{first:?} {:?} at {call}", order.known);
            assert!(order.ended.iter().all(|number| *number < call));
            let is_let_go = |entry: &[u8]| matches!(Entry::read(entry), Ok(Entry::LetGo { .. }));
            for (number, entry) in self.entries.range(..call) {
                assert!(is_let_go(entry) || copied.contains_key(number), "{number} is made twice");
            }
            let has_later = self.entries.keys().any(|number| *number >= call);
            for (number, entry) in copied.range(..FIRST_ORDER) {
                if let Ok(Entry::LetGo { given, .. }) = Entry::read(entry) {
                    assert!(!has_later || given <= first.len() as u64, "{number} was let go of later");
                }
                assert!(*number < call);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_fork_is_given_what_its_source_was_given_before_it(
            deeds in proptest::collection::vec((0..4u8, 0..4usize), 1..60)
        ) {
            let mut body = Body { order: Order { is_straight: true, ..Order::default() }, ..Body::default() };
            for (what, choice) in deeds {
                body.does(what, choice);
            }
            for call in 1..=body.made + 1 {
                body.check(call);
            }
        }
    }
}
