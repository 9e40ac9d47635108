//! An extractive summary: the sentences of the document that say most about its keywords.

use std::collections::HashSet;

use unicode_segmentation::UnicodeSegmentation;

use super::keywords::{self, Vocabulary};
use super::parse::{Block, Document, Kind};
use super::text::shorten;

/// A sentence with fewer or more words is no good in a summary.
const WORDS: std::ops::RangeInclusive<usize> = 5..=50;
/// Two sentences with a larger share of common words say the same.
const SAME: f64 = 0.5;
/// A full stop after one of these ends no sentence.
const ABBREVIATIONS: [&str; 10] = ["e.g.", "i.e.", "etc.", "vs.", "cf.", "dr.", "mr.", "mrs.", "no.", "approx."];

struct Sentence {
    text: String,
    words: HashSet<String>,
    score: f64,
    place: usize,
}

/// At most `count` sentences and `chars` characters, in the order of the document.
pub(super) fn summarise(document: &Document, vocabulary: &Vocabulary, count: usize, chars: usize) -> String {
    let mut ranked = sentences(document, vocabulary);
    if ranked.is_empty() {
        return opening(document, count, chars);
    }
    ranked.sort_by(|left, right| right.score.total_cmp(&left.score).then(left.place.cmp(&right.place)));
    let mut chosen: Vec<Sentence> = Vec::new();
    let mut left = chars;
    for mut sentence in ranked {
        if chosen.len() == count {
            break;
        }
        if chosen.iter().any(|other| overlap(&other.words, &sentence.words) > SAME) {
            continue;
        }
        if chosen.is_empty() {
            sentence.text = shorten(&sentence.text, chars);
        }
        let length = sentence.text.chars().count() + usize::from(!chosen.is_empty());
        if length <= left {
            left -= length;
            chosen.push(sentence);
        }
    }
    chosen.sort_by_key(|sentence| sentence.place);
    chosen.iter().map(|sentence| sentence.text.as_str()).collect::<Vec<_>>().join(" ")
}

/// The sentences that may stand in a summary, with their scores.
fn sentences(document: &Document, vocabulary: &Vocabulary) -> Vec<Sentence> {
    let mut found: Vec<Sentence> = Vec::new();
    let readable = |block: &&Block| matches!(block.kind, Kind::Prose | Kind::Item) && !block.boilerplate;
    for (place, block) in (0_u32..).zip(document.blocks.iter().filter(readable)) {
        for (nth, text) in (0_u32..).zip(split(&block.text)) {
            if !is_sentence(&text) {
                continue;
            }
            let bare = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
            let words: HashSet<String> = bare.filter_map(keywords::word).collect();
            let length = f64::from(u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX));
            let mut told: Vec<f64> = words.iter().map(|word| vocabulary.weight(word)).collect();
            told.sort_by(f64::total_cmp); // A sum in hash order would differ in its last bits.
            // Documents say early what they are about; a list item is a detail.
            let early = 1.0 + 2.0 / f64::from(1 + place) + 0.5 / f64::from(1 + nth);
            let kind = if block.kind == Kind::Item { 0.6 } else { 1.0 };
            let aside = if refers_back(&text) { 0.5 } else { 1.0 };
            let score = told.iter().sum::<f64>() / length.max(8.0).powf(0.7) * early * kind * aside;
            if score > 0.0 {
                found.push(Sentence { text, words, score, place: found.len() });
            }
        }
    }
    found
}

/// Splits text into sentences; what follows an abbreviation stays with it.
fn split(text: &str) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for part in text.unicode_sentences() {
        match sentences.last_mut().filter(|last| goes_on(last)) {
            Some(last) => last.push_str(part),
            None => sentences.push(part.to_owned()),
        }
    }
    sentences.iter().map(|sentence| sentence.trim().to_owned()).collect()
}

fn goes_on(sentence: &str) -> bool {
    let last = sentence.split_whitespace().next_back().unwrap_or_default();
    let last = last.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    ABBREVIATIONS.contains(&last.as_str()) || (last.len() == 2 && last.ends_with('.'))
}

/// Tells a sentence from a fragment, a caption or a row of symbols.
fn is_sentence(text: &str) -> bool {
    let ended = text.trim_end_matches(['"', '\'', ')', '*', '\u{201d}']).ends_with(['.', '!', '?']);
    let starts = text.chars().next().is_some_and(|c| c.is_alphanumeric() || matches!(c, '"' | '\u{201c}' | '\''));
    let solid = text.chars().filter(|c| !c.is_whitespace()).count();
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let loud = text.chars().filter(|c| c.is_uppercase()).count() * 2 > letters;
    // What is left where an address was taken out, or the license once more.
    let torn = text.matches('(').count() != text.matches(')').count();
    let license = text.to_lowercase().contains("licensed under");
    let words = text.split_whitespace().count();
    ended
        && starts
        && !loud
        && !torn
        && !license
        && WORDS.contains(&words)
        && letters * 4 > solid * 3
        && solid < words * 14
}

/// A sentence that begins so needs the one before it.
fn refers_back(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default().trim_end_matches(',').to_lowercase();
    [
        "it", "this", "that", "these", "those", "they", "however", "also", "but", "and", "so", "then", "see", "please",
        "if", "thanks", "more",
    ]
    .contains(&first.as_str())
}

fn overlap(left: &HashSet<String>, right: &HashSet<String>) -> f64 {
    let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let smaller = left.len().min(right.len()).max(1);
    size(left.intersection(right).count()) / size(smaller)
}

/// For documents without sentences, such as a list of changes: how they open.
fn opening(document: &Document, count: usize, chars: usize) -> String {
    let readable = |block: &&Block| !matches!(block.kind, Kind::Heading | Kind::Code) && !block.boilerplate;
    let mut lines = Vec::new();
    for block in document.blocks.iter().filter(readable).take(count) {
        let end = if block.text.ends_with(['.', '!', '?', ':', ';', '\u{2026}']) { "" } else { "." };
        lines.push(format!("{}{end}", shorten(&block.text, chars / count.max(1) - 2)));
    }
    shorten(&lines.join(" "), chars)
}

#[cfg(test)]
mod tests {
    use super::super::parse::markdown;
    use super::*;

    fn of(text: &str, count: usize, chars: usize) -> String {
        let document = markdown(text);
        summarise(&document, &Vocabulary::of(&document), count, chars)
    }

    const TEXT: &str = "# Tide\n\nTide tables predict the height of the sea for each harbour. Lunch was good \
        that day, as everybody agreed. The moon moves the sea and so makes the tide in each harbour.\n\n\
        Our office has a yellow door and two windows. Harbour masters print tide tables for the whole year.\n";

    #[test]
    fn takes_the_telling_sentences_in_their_order() {
        let summary = of(TEXT, 2, 600);
        assert!(summary.starts_with("Tide tables predict the height of the sea for each harbour."), "{summary}");
        assert!(!summary.contains("Lunch") && !summary.contains("yellow"), "{summary}");
        assert_eq!(summary.matches('.').count(), 2, "{summary}");
    }

    #[test]
    fn keeps_to_its_bounds() {
        for chars in [20, 70, 150, 600] {
            let length = of(TEXT, 3, chars).chars().count();
            assert!(length > 0 && length <= chars, "{length} > {chars}");
        }
        assert_eq!(of(TEXT, 1, 600).matches('.').count(), 1);
    }

    #[test]
    fn says_nothing_twice() {
        let text = "The parser reads tokens from the input.\n\nThe parser reads tokens from the input.\n";
        assert_eq!(of(text, 3, 600), "The parser reads tokens from the input.");
    }

    #[test]
    fn abbreviations_end_no_sentence() {
        let parts = split("Use a tool, e.g. Cargo or Make, to build. Then run it.");
        assert_eq!(parts, ["Use a tool, e.g. Cargo or Make, to build.", "Then run it."]);
    }

    #[test]
    fn a_list_without_sentences_shows_how_it_opens() {
        let summary = of("# Changes\n\n- Faster startup\n- Fewer locks\n", 3, 600);
        assert_eq!(summary, "Faster startup. Fewer locks.");
        assert_eq!(of("", 3, 600), "");
    }
}
