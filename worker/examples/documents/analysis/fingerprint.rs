//! `MinHash`: a signature of fixed size from which the likeness of two documents can be told.
//!
//! The share of equal values in two signatures estimates the share of runs of three words that the
//! two documents have in common (Jaccard similarity), with a standard error of about 5 percent.

use unicode_segmentation::UnicodeSegmentation;
use xxhash_rust::xxh3::xxh3_64;

use super::parse::Document;

/// The number of values in a signature.
pub(crate) const SIGNATURE_SIZE: usize = 64;

/// How many words in a row make one shingle.
const SHINGLE: usize = 3;

/// The signature of all words of a document, code included; empty when there are none.
pub(super) fn signature(document: &Document) -> Vec<u64> {
    let words: Vec<u64> = document
        .blocks
        .iter()
        .flat_map(|block| block.text.unicode_words())
        .map(|word| xxh3_64(word.to_lowercase().as_bytes()))
        .collect();
    if words.is_empty() {
        return Vec::new();
    }
    let permutations = permutations();
    let mut lowest = [u64::MAX; SIGNATURE_SIZE];
    for shingle in words.windows(SHINGLE.min(words.len())) {
        let hash = shingle.iter().fold(0, |hash: u64, word| mix(hash.rotate_left(21) ^ word));
        for (low, (factor, offset)) in lowest.iter_mut().zip(permutations) {
            // The upper half of a multiplication by an odd number is the well-mixed one.
            *low = (*low).min(hash.wrapping_mul(factor).wrapping_add(offset) >> 32);
        }
    }
    lowest.to_vec()
}

/// How alike two documents are, from 0 to 1. A document without words is like no other.
#[must_use]
pub(crate) fn similarity(left: &[u64], right: &[u64]) -> f64 {
    if left.is_empty() || left.len() != right.len() {
        return 0.0;
    }
    let equal: u32 = left.iter().zip(right).map(|(left, right)| u32::from(left == right)).sum();
    let size = u32::try_from(left.len()).unwrap_or(u32::MAX);
    f64::from(equal) / f64::from(size)
}

/// A hash of the bytes, the same on every machine.
pub(super) fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// The same [`SIGNATURE_SIZE`] hash functions in every process: signatures of different workers compare.
fn permutations() -> [(u64, u64); SIGNATURE_SIZE] {
    let mut seed = 0_u64;
    let mut next = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(seed)
    };
    std::array::from_fn(|_| (next() | 1, next()))
}

/// The finaliser of `SplitMix64`: every bit of the input changes every bit of the output.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::parse::plain;
    use super::*;

    fn of(text: &str) -> Vec<u64> {
        signature(&plain(text))
    }

    fn numbered(range: std::ops::Range<u32>) -> String {
        let words: Vec<String> = range.map(|number| format!("word{number}")).collect();
        words.join(" ")
    }

    #[test]
    fn markup_case_and_line_ends_do_not_matter() {
        let left = of("Some words about\nnearly the same thing");
        assert_eq!(left, of("some WORDS about nearly\nthe same, thing!"));
        assert!((similarity(&left, &left) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn estimates_the_share_of_common_text() {
        // 1,000 of 1,500 words in common make 998 of 1,498 shingles: two thirds.
        let estimate = similarity(&of(&numbered(0..1_250)), &of(&numbered(250..1_500)));
        assert!((estimate - 0.666).abs() < 0.16, "{estimate}");
        let apart = similarity(&of(&numbered(0..500)), &of(&numbered(500..1_000)));
        assert!(apart < 0.1, "{apart}");
    }

    #[test]
    fn values_fit_in_32_bits_and_never_change() {
        let signature = of("one two three four");
        assert_eq!(signature.len(), SIGNATURE_SIZE);
        assert!(signature.iter().all(|value| u32::try_from(*value).is_ok()));
        assert_ne!(signature[0], signature[1]);
        assert_eq!(checksum(b"stepfleet"), "f713ad53dc8f5838");
        assert_eq!(signature[..2], [1_736_040_022, 1_207_546_915]);
        assert_ne!(checksum(b"stepfleet"), checksum(b"stepfleeT"));
    }

    #[test]
    fn short_and_empty_documents() {
        assert_eq!(of("two words").len(), SIGNATURE_SIZE);
        assert!(of("").is_empty());
        assert!(similarity(&[], &[]) < f64::EPSILON);
    }
}
