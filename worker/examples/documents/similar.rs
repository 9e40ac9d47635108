//! Finds documents that are nearly the same among thousands, without comparing each with each.
//!
//! The signatures are cut into bands. Documents that agree in a whole band are compared; those that are
//! alike enough end up in one group (locality-sensitive hashing, then union-find).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::analysis::{Digest, SIGNATURE_SIZE, similarity};

/// How likely a pair at the threshold may be missed.
const MISS: f64 = 0.001;

/// Documents that are nearly the same: each is alike enough to at least one other of the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// All of them are the same to the byte.
    pub exact: bool,
    /// How alike the least like of them is to the first, from 0 to 1 (estimated).
    pub similarity: f64,
    /// The documents, sorted by path.
    pub members: Vec<Member>,
}

/// A document in a [`Group`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Its path.
    pub path: String,
    /// How alike it is to the first of the group, from 0 to 1 (estimated).
    pub similarity: f64,
    /// Another document of the group has exactly its bytes.
    pub exact: bool,
}

/// Groups the documents whose estimated similarity is `threshold` (0 to 1) or more; exact copies always.
/// Large groups come first.
#[must_use]
pub(crate) fn near_duplicates(digests: &[Digest], threshold: f64) -> Vec<Group> {
    let mut sorted: Vec<&Digest> = digests.iter().collect();
    sorted.sort_by(|left, right| left.path.cmp(&right.path));
    let mut sets = Sets::new(sorted.len());

    // Copies first, and only one of each goes on: a thousand equal licenses cost one comparison.
    let mut copies: HashMap<(&str, u64), usize> = HashMap::new();
    let mut shapes: HashMap<&[u64], usize> = HashMap::new();
    let mut distinct = Vec::new();
    for (at, digest) in sorted.iter().enumerate() {
        let copy = *copies.entry((&digest.checksum, digest.bytes)).or_insert(at);
        sets.join(copy, at);
        if copy == at && digest.fingerprint.len() == SIGNATURE_SIZE {
            let shape = *shapes.entry(&digest.fingerprint).or_insert(at);
            sets.join(shape, at);
            if shape == at {
                distinct.push(at);
            }
        }
    }
    let rows = rows(threshold);
    for band in 0..SIGNATURE_SIZE / rows {
        let mut buckets: HashMap<&[u64], Vec<usize>> = HashMap::new();
        for at in &distinct {
            let key = &sorted[*at].fingerprint[band * rows..(band + 1) * rows];
            let bucket = buckets.entry(key).or_default();
            for other in bucket.iter() {
                let alike = || similarity(&sorted[*other].fingerprint, &sorted[*at].fingerprint) >= threshold;
                if sets.root(*other) != sets.root(*at) && alike() {
                    sets.join(*other, *at);
                }
            }
            bucket.push(*at);
        }
    }
    let mut groups: Vec<Group> = sets.groups().iter().map(|members| group(&sorted, members)).collect();
    groups.sort_by(|left, right| {
        let size = right.members.len().cmp(&left.members.len());
        size.then_with(|| left.members[0].path.cmp(&right.members[0].path))
    });
    groups
}

/// The most rows in a band with which a pair at the threshold is still found: more rows, fewer
/// comparisons in vain.
fn rows(threshold: f64) -> usize {
    let missed = |rows: i32| {
        let bands = i32::try_from(SIGNATURE_SIZE).unwrap_or(i32::MAX) / rows;
        (1.0 - threshold.clamp(0.0, 1.0).powi(rows)).powi(bands)
    };
    match () {
        () if missed(8) <= MISS => 8,
        () if missed(4) <= MISS => 4,
        () if missed(2) <= MISS => 2,
        () => 1,
    }
}

fn group(sorted: &[&Digest], members: &[usize]) -> Group {
    let first = sorted[members[0]];
    let same = |left: &Digest, right: &Digest| left.checksum == right.checksum && left.bytes == right.bytes;
    let mut copies: HashMap<(&str, u64), usize> = HashMap::new();
    for at in members {
        *copies.entry((&sorted[*at].checksum, sorted[*at].bytes)).or_default() += 1;
    }
    let describe = |at: &usize| {
        let digest = sorted[*at];
        let similarity = if same(first, digest) { 1.0 } else { similarity(&first.fingerprint, &digest.fingerprint) };
        let exact = copies[&(digest.checksum.as_str(), digest.bytes)] > 1;
        Member { path: digest.path.clone(), similarity, exact }
    };
    let members: Vec<Member> = members.iter().map(describe).collect();
    let least = members.iter().map(|member| member.similarity).fold(1.0, f64::min);
    Group { exact: copies.len() == 1, similarity: least, members }
}

/// Union-find: which documents hang together.
struct Sets(Vec<usize>);

impl Sets {
    fn new(size: usize) -> Self {
        Self((0..size).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, left: usize, right: usize) {
        let (left, right) = (self.root(left), self.root(right));
        self.0[left.max(right)] = left.min(right);
    }

    /// The sets of two and more, each in order.
    fn groups(&mut self) -> Vec<Vec<usize>> {
        let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
        for at in 0..self.0.len() {
            groups.entry(self.root(at)).or_default().push(at);
        }
        groups.into_values().filter(|members| members.len() > 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::analysis::{Limits, digest};
    use super::*;

    fn digests(texts: &[(&str, String)]) -> Vec<Digest> {
        let folder = tempfile::tempdir().unwrap();
        let read = |(name, text): &(&str, String)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Digest { path: (*name).to_owned(), ..digest(&path, &Limits::default()).unwrap() }
        };
        texts.iter().map(read).collect()
    }

    fn words(range: std::ops::Range<u32>) -> String {
        let words: Vec<String> = range.map(|number| format!("word{number}")).collect();
        words.join(" ")
    }

    fn paths(group: &Group) -> Vec<&str> {
        group.members.iter().map(|member| member.path.as_str()).collect()
    }

    #[test]
    fn groups_what_is_alike_and_notes_exact_copies() {
        let near = format!("{} changed", words(0..400));
        let found = near_duplicates(
            &digests(&[
                ("d.txt", words(0..400)),
                ("a.txt", words(0..400)),
                ("c.txt", near),
                ("other.txt", words(1_000..1_400)),
                ("y.txt", words(2_000..2_050)),
                ("x.txt", words(2_000..2_050)),
            ]),
            0.8,
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(paths(&found[0]), ["a.txt", "c.txt", "d.txt"]);
        let exact: Vec<bool> = found[0].members.iter().map(|member| member.exact).collect();
        assert_eq!(exact, [true, false, true]);
        assert!(!found[0].exact && found[0].similarity >= 0.8, "{found:?}");
        assert_eq!(paths(&found[1]), ["x.txt", "y.txt"]);
        assert!(found[1].exact && found[1].similarity > 0.999);
    }

    #[test]
    fn the_threshold_decides() {
        let texts = digests(&[("a.txt", words(0..1_000)), ("b.txt", words(250..1_250))]); // 0.6 alike
        assert_eq!(near_duplicates(&texts, 0.4).len(), 1);
        assert!(near_duplicates(&texts, 0.9).is_empty());
    }

    #[test]
    fn documents_without_words_are_alike_only_when_equal() {
        let texts = digests(&[("a.md", "***".into()), ("b.md", "---".into()), ("c.md", "***".into())]);
        let found = near_duplicates(&texts, 0.8);
        assert_eq!(found.len(), 1);
        assert_eq!(paths(&found[0]), ["a.md", "c.md"]);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter() {
        let mut texts = digests(&[("a.txt", words(0..90)), ("b.txt", words(0..91)), ("c.txt", words(0..92))]);
        let first = near_duplicates(&texts, 0.7);
        texts.reverse();
        assert_eq!(first, near_duplicates(&texts, 0.7));
        assert_eq!(first[0].members.len(), 3);
        assert!(near_duplicates(&[], 0.7).is_empty());
    }

    #[test]
    fn bands_fit_the_threshold() {
        assert_eq!([1.0, 0.8, 0.5, 0.2].map(rows), [8, 4, 2, 1]);
    }
}
