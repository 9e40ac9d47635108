//! The part of a journal that a fork keeps: the entries of the calls before a call, as they were before it. Pure.
//!
//! Calls are numbered as they are made. Until it makes a call, a body can only have received the ends of earlier calls, so what it
//! received up to the first later call is the order of the fork. Other ended calls are kept too, and come when the body asks
//! for it.

use std::collections::{BTreeMap, BTreeSet};

use super::order::{RecordedOrder, write_numbers};
use super::{Entry, FIRST_MARK, FIRST_ORDER, FIRST_TRY, marked, tried_by};

/// An entry that a fork has. What follows its head (its first line) is what the source has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// Its head in the source's journal; empty if there is no such entry.
    pub head: Vec<u8>,
    /// Its head in the fork's.
    pub becomes: Vec<u8>,
}

/// The head of an entry: all before its first line feed.
pub fn head_of(entry: &[u8]) -> &[u8] {
    let end = entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len());
    &entry[..end]
}

/// Whether the state was committed after this call began, by their heads: what it was before is not there for a fork.
pub fn is_committed_after(heads: &BTreeMap<u64, Vec<u8>>, call: u64) -> bool {
    let is_later = |number: u64| match marked(number) {
        Some(of) => of > call,
        None => number < FIRST_ORDER && number >= call,
    };
    heads.iter().any(|(number, head)| head.first() == Some(&b'k') && is_later(*number))
}

/// The entries of a journal, by their heads, that a fork keeps if it makes this call and all later ones
/// anew; all of them without a call. A fork that begins `with_new_state`, as the run began, commits it again: it has no
/// entries of that. None if the journal contradicts itself.
pub fn kept_before(heads: &BTreeMap<u64, Vec<u8>>, call: Option<u64>, with_new_state: bool) -> Option<Vec<Kept>> {
    let is_dropped = |head: &[u8]| with_new_state && head.first() == Some(&b'k');
    let after_all = || heads.range(..FIRST_ORDER).next_back().map_or(1, |(last, _)| last + 1);
    let call = call.or_else(|| heads.values().any(|head| is_dropped(head)).then(after_all));
    let line = |head: &Vec<u8>| [&**head, b"\n"].concat();
    let entries: BTreeMap<u64, Vec<u8>> = heads.iter().map(|(number, head)| (*number, line(head))).collect();
    let Some(call) = call else {
        let whole =
            |(number, head): (&u64, &Vec<u8>)| Kept { number: *number, head: head.clone(), becomes: head.clone() };
        return Some(heads.iter().map(whole).collect());
    };
    let recorded = RecordedOrder::of(&entries)?;
    let given: Vec<u64> = recorded.known.iter().copied().take_while(|number| *number < call).collect();
    let has_later = heads.keys().any(|number| call_of(*number).is_some_and(|of| of >= call));
    let is_kept = |number: u64, entry: &[u8]| {
        let is_before = marked(number).map_or(call_of(number).is_some_and(|of| of < call), |of| of <= call);
        is_before
            && !is_dropped(entry)
            && match Entry::read(entry) {
                // Dropped before, and not because of a later result.
                Ok(Entry::LetGo { given: by_then, .. }) => !has_later || by_then <= given.len() as u64,
                // The body continued with the error once it had received it.
                Ok(Entry::Failed { .. }) => given.contains(&number),
                _ => true,
            }
    };
    let kept: BTreeMap<u64, &Vec<u8>> = entries
        .iter()
        .filter(|(number, entry)| is_kept(**number, entry))
        .map(|(number, entry)| (*number, entry))
        .collect();
    let mut order = Order::of(&given, &kept, recorded.told > 0);
    // A call that is made again keeps its place in the order.
    order.is_straight &= !given.iter().any(|number| heads.get(number).is_some_and(|head| is_dropped(head)));
    let mut copied: Vec<Kept> = Vec::new();
    for (number, entry) in &kept {
        let head = heads.get(number)?.clone();
        let becomes = order.rewritten(entry).unwrap_or_else(|| head.clone());
        copied.push(Kept { number: *number, head, becomes });
    }
    if !order.is_straight {
        let told = format!("0:{}", write_numbers(&given));
        let becomes = head_of(&Entry::Order { order: &told }.write()).to_vec();
        copied.push(Kept { number: FIRST_ORDER + 1, head: Vec::new(), becomes });
    }
    Some(copied)
}

/// The call that an entry is of; none for one of the order.
fn call_of(number: u64) -> Option<u64> {
    match number {
        ..FIRST_ORDER => Some(number),
        FIRST_ORDER..FIRST_MARK | FIRST_MARK..FIRST_TRY => None,
        FIRST_TRY.. => tried_by(number),
    }
}

/// What the fork's entries say of the order.
struct Order {
    /// By their numbers, with only dropped ones left out: then the last one says it all.
    is_straight: bool,
    /// What each value says, if those of the source say more.
    given: Option<String>,
    ended: BTreeSet<u64>,
}

impl Order {
    fn of(given: &[u64], kept: &BTreeMap<u64, &Vec<u8>>, is_told: bool) -> Self {
        let is_let_go = |number: &u64| {
            kept.get(number)
                .is_some_and(|entry| matches!(Entry::read(entry), Ok(Entry::LetGo { .. } | Entry::Patch { .. })))
        };
        let (mut is_straight, mut last) = (true, 0);
        for number in given {
            is_straight = is_straight && last < *number && (last + 1..*number).all(|between| is_let_go(&between));
            last = *number;
        }
        let ended = kept.keys().copied().filter(|number| !is_let_go(number)).collect();
        let told = if is_straight { last } else { 0 };
        Self { is_straight, given: is_told.then(|| told.to_string()), ended }
    }

    /// The head with what it may still say; none if it says nothing of the order.
    fn rewritten(&self, entry: &[u8]) -> Option<Vec<u8>> {
        let entry = Entry::read(entry).ok()?;
        let (Entry::Value { order, .. } | Entry::GivenUp { order, .. } | Entry::Mark { order, .. }) = entry else {
            return None;
        };
        let (given, ended) = order.split_once('+').unwrap_or((order, ""));
        let mut order = self.given.clone().unwrap_or_else(|| given.to_owned());
        if ended.parse().is_ok_and(|number: u64| self.ended.contains(&number)) {
            order = format!("{order}+{ended}");
        }
        let written = match entry {
            Entry::GivenUp { name, error, .. } => Entry::GivenUp { name, order: &order, error }.write(),
            Entry::Mark { name, before, .. } => Entry::Mark { name, order: &order, before }.write(),
            _ => Entry::Value { name: entry.name(), order: &order, payload: b"" }.write(),
        };
        Some(head_of(&written).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `<number> <head>`.
    fn kept(heads: &[(u64, &str)], call: u64) -> Vec<(u64, String)> {
        let heads = heads.iter().map(|(number, head)| (*number, head.as_bytes().to_vec())).collect();
        let kept = kept_before(&heads, Some(call), false).unwrap();
        kept.into_iter().map(|one| (one.number, String::from_utf8(one.becomes).unwrap())).collect()
    }

    fn expected(heads: &[(u64, &str)]) -> Vec<(u64, String)> {
        heads.iter().map(|(number, head)| (*number, (*head).to_owned())).collect()
    }

    #[test]
    fn calls_one_after_the_other_are_cut_off() {
        let heads = [(1, "sa"), (2, "fb"), (3, "wword user=1"), (4, "sc"), (5, "o%sleep.5")];
        assert_eq!(kept(&heads, 4), expected(&heads[..3]));
        assert_eq!(kept(&heads, 1), []);
        assert_eq!(kept(&heads, 9), expected(&heads));
    }

    #[test]
    fn what_comes_from_a_later_call_is_not_there() {
        // 3 came first, then 1 and 2; 4 and 5 after all of them.
        let heads = [(1, "sa 0:3+3"), (2, "sb 0:3,1"), (3, "sc 0"), (4, "sd 0:3,1-2"), (5, "se 3:4")];
        assert_eq!(
            kept(&heads, 5),
            expected(&[(1, "sa 0+3"), (2, "sb 0"), (3, "sc 0"), (4, "sd 0"), (FIRST_ORDER + 1, "d0:3,1-2,4")])
        );
        assert_eq!(kept(&heads, 3), expected(&[(1, "sa 0"), (2, "sb 0")]));
    }

    #[test]
    fn tries_go_with_their_call() {
        let (first, second) = (super::super::of_try(1, 1), super::super::of_try(2, 1));
        let heads = [(1, "ea"), (first, "ta 5 10"), (second, "tb 5 10"), (second + 1, "o%retry.2.b")];
        assert_eq!(kept(&heads, 2), expected(&[(1, "ea"), (first, "ta 5 10")]));
        assert_eq!(kept(&heads, 3), expected(&heads));
    }

    #[test]
    fn what_was_let_go_of_for_a_later_call_is_made_again() {
        // The sleep 1 raced with 2, 3 and 4, and lost to 4; the wait 5 lost to 6.
        let heads = [
            (1, "x%sleep.1 3"),
            (2, "sa 0"),
            (3, "sb 0:2"),
            (4, "sc 1:3"),
            (5, "xword 4"),
            (6, "sd 2:4"),
            (7, "se 3:6"),
        ];
        assert_eq!(kept(&heads, 4), expected(&[(2, "sa 0"), (3, "sb 0"), (FIRST_ORDER + 1, "d0:2-3")]));
        let by_the_numbers = [(1, "x%sleep.1 3"), (2, "sa 4"), (3, "sb 4"), (4, "sc 4")];
        assert_eq!(kept(&heads, 5), expected(&by_the_numbers));
        assert_eq!(kept(&heads, 6), expected(&by_the_numbers), "the wait is opened again");
        assert!(kept(&heads, 7).contains(&(5, "xword 4".to_owned())));
    }

    #[test]
    fn a_journal_that_contradicts_itself_is_none() {
        let heads = [(1, b"sa 0:2".to_vec()), (2, b"sb 0:1".to_vec())].into();
        assert_eq!(kept_before(&heads, Some(2), false), None);
    }

    #[test]
    fn commits_of_the_state_are_made_again_where_it_begins_anew() {
        let text = [(1, "sa"), (2, "kcheckpoint"), (3, "sb 2"), (FIRST_MARK + 4, "kcheckpoint 3"), (4, "sc")];
        let heads: BTreeMap<u64, Vec<u8>> = text.iter().map(|(n, head)| (*n, head.as_bytes().to_vec())).collect();
        let of = |call, anew| -> Vec<(u64, String)> {
            let kept = kept_before(&heads, call, anew).unwrap();
            kept.into_iter().map(|one| (one.number, String::from_utf8(one.becomes).unwrap())).collect()
        };
        assert_eq!(
            of(None, false),
            expected(&[(1, "sa"), (2, "kcheckpoint"), (3, "sb 2"), (4, "sc"), (FIRST_MARK + 4, "kcheckpoint 3")])
        );
        assert_eq!(of(Some(4), true), expected(&[(1, "sa"), (3, "sb 2"), (FIRST_ORDER + 1, "d0:1-3")]));
        let all = of(None, true);
        assert!(
            all.iter().all(|(_, head)| !head.starts_with('k')) && all.iter().any(|(_, head)| head.starts_with("d0:1-")),
            "{all:?}"
        );
        assert!(is_committed_after(&heads, 2) && is_committed_after(&heads, 3) && !is_committed_after(&heads, 4));
    }
}
