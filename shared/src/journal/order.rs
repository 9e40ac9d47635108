//! The order in which a body received the results of its calls, as in the entries of its journal. Workers write it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Entry, FIRST_MARK, FIRST_ORDER, marked};

/// More calls than any journal has entries: whatever the bytes are, they do not fill the memory.
const MOST: u64 = 1_000_000;

/// What the entries of a journal tell of the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedOrder {
    /// What the body has received, as far as it is recorded.
    pub known: Vec<u64>,
    /// Other calls that have ended, in this order.
    pub ended: Vec<u64>,
    /// How many of the known are recorded one by one.
    pub told: usize,
    /// The last number, counted from [`FIRST_ORDER`], of an entry of the order alone.
    pub entries: u64,
}

impl RecordedOrder {
    /// None if the entries contradict each other.
    pub fn of(entries: &BTreeMap<u64, Vec<u8>>) -> Option<Self> {
        let (mut places, mut straight_to, mut after) = (Vec::new(), 0, BTreeMap::new());
        let read = entries.iter().filter_map(|(number, entry)| Some((*number, Entry::read(entry).ok()?)));
        for (number, entry) in read {
            let number = marked(number).unwrap_or(number);
            let (given, ended) = match entry {
                Entry::Value { order, .. }
                | Entry::GivenUp { order, .. }
                | Entry::Mark { order, .. }
                | Entry::Order { order } => order.split_once('+').unwrap_or((order, "")),
                Entry::Failed { .. } => {
                    straight_to = straight_to.max(number);
                    continue;
                }
                _ => continue,
            };
            if !ended.is_empty() {
                after.insert(number, ended.parse().ok()?);
            }
            match given.split_once(':') {
                None if given.is_empty() => straight_to = straight_to.max(number.saturating_sub(1)),
                None => straight_to = straight_to.max(given.parse().ok()?),
                Some((place, numbers)) => places.push((place.parse::<usize>().ok()?, read_numbers(numbers)?)),
            }
        }
        let is_none = |entry: &Vec<u8>| matches!(Entry::read(entry), Ok(Entry::LetGo { .. } | Entry::Patch { .. }));
        let calls = entries.range(..FIRST_ORDER).filter(|(_, entry)| !is_none(entry));
        let mut left: BTreeSet<u64> = calls.map(|(number, _)| *number).collect();
        let (known, told) = if places.is_empty() {
            (left.range(..=straight_to).copied().collect(), 0)
        } else {
            let known = put_together(places)?;
            let told = known.len();
            (known, told)
        };
        for number in &known {
            left.remove(number);
        }
        let ended = one_after_the_other(&left, &after);
        let entries = entries.range(FIRST_ORDER..FIRST_MARK).last().map_or(0, |(last, _)| last - FIRST_ORDER);
        Some(Self { known, ended, told, entries })
    }
}

/// By their numbers, but each after its recorded predecessor.
fn one_after_the_other(left: &BTreeSet<u64>, after: &BTreeMap<u64, u64>) -> Vec<u64> {
    let mut next: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut first = left.clone();
    for (number, before) in after.iter().filter(|(number, before)| left.contains(number) && left.contains(before)) {
        first.remove(number);
        next.entry(*before).or_default().push(*number);
    }
    let mut sorted = Vec::new();
    while let Some(number) = first.pop_first() {
        sorted.push(number);
        first.extend(next.remove(&number).unwrap_or_default());
    }
    sorted
}

/// Calls one after the other, with `3-5` for 3,4,5.
pub fn write_numbers(numbers: &[u64]) -> String {
    let mut text = String::new();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = match run {
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            _ => write!(text, "{comma}{}", run[0]),
        };
    }
    text
}

fn read_numbers(text: &str) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    for run in text.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        if last.checked_sub(first)? > MOST || numbers.len() as u64 > MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Joins parts that may overlap into one sequence, if they agree and leave no gap.
fn put_together(mut parts: Vec<(usize, Vec<u64>)>) -> Option<Vec<u64>> {
    parts.sort_by_key(|(place, _)| *place);
    let mut all: Vec<u64> = Vec::new();
    for (place, numbers) in parts {
        let known = all.get(place..)?;
        let same = known.len().min(numbers.len());
        if known[..same] != numbers[..same] {
            return None;
        }
        all.extend_from_slice(&numbers[same..]);
    }
    Some(all)
}
