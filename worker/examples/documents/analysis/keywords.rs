//! Keywords: the words and phrases that a document uses most, early and in its headings.
//!
//! Words are counted between stop words and punctuation; runs of two or three that come up more than
//! once compete with the single words they are made of, and take those words' counts when they win.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::parse::{Document, Kind};

/// The longest phrase, in words.
const PHRASE: usize = 3;
/// The longest word, in characters; what is longer is no word.
const WORD_CHARS: usize = 30;
/// How many of the best candidates compete.
const CANDIDATES: usize = 200;

/// Words that are common in documentation and say nothing about its subject, besides the common
/// English stop words.
const COMMON: &str = "\
    able add added adds additional allow allows already also always another any around available based \
    basic become behavior behaviour best better bit bug call called calls case cases change changed \
    changes check common contains correctly crate crates create created currently default details \
    different directly documentation docs done easy either end ensure etc even every example examples \
    existing feature features file files first fix fixed fixes following function functions get give \
    given go good help high however implementation implemented improve improved include included \
    includes including instead issue issues just kind know large last latest less let library like list \
    look lot made main make makes making many may means might minor much multiple must necessary need \
    needed needs never new next note now number numbers often old one only option options original \
    part particular please point possible prefer previous previously project provide provided provides \
    put rather read readme really recommended related release released remove removed requires result \
    return returns run running second section see set several shall simple simply since single small \
    something specific specified specify start still support supported supports sure take takes thing \
    things think thus time together too two type types under unless update updated usage use used \
    useful user users uses using usually value values various version versions via want wants way ways anything could consider description except followed found \
    convenient general looking looks minimum purpose started thanks unreleased january february march april \
    june july august september october november december \
    well whether will with within without work works would write yes yet you";

static STOP_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let english = stop_words::get("en");
    english.iter().copied().chain(COMMON.split_whitespace()).collect()
});

/// The words of a document with their weights.
#[derive(Default)]
pub(super) struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    phrases: HashMap<Phrase, Tally>,
}

/// One to three word numbers; unused places are `u32::MAX`.
type Phrase = [u32; PHRASE];

#[derive(Clone, Copy, Default)]
struct Tally {
    count: u32,
    weight: f64,
}

impl Vocabulary {
    /// Counts the words of a document. Code, tables and boilerplate count only when there is nothing else.
    pub(super) fn of(document: &Document) -> Self {
        let full = |kind| !matches!(kind, Kind::Code | Kind::Cell);
        let mut vocabulary = Self::default();
        let kept = |block: &&super::parse::Block| full(block.kind) && !block.boilerplate;
        vocabulary.count(&document.blocks.iter().filter(kept).collect::<Vec<_>>());
        if vocabulary.words.is_empty() {
            vocabulary.count(&document.blocks.iter().filter(|block| block.kind != Kind::Code).collect::<Vec<_>>());
        }
        vocabulary
    }

    /// How much a document is about this word, from 0 for a stop word up.
    pub(super) fn weight(&self, word: &str) -> f64 {
        let word = self.ids.get(word).copied().and_then(|id| self.phrases.get(&[id, u32::MAX, u32::MAX]));
        word.map_or(0.0, |tally| tally.weight.ln_1p())
    }

    /// The best `count` keywords, best first.
    pub(super) fn best(&self, count: usize) -> Vec<String> {
        let mut rivals: Vec<(Phrase, f64)> = self
            .phrases
            .iter()
            .filter(|(phrase, tally)| length(phrase) == 1 || tally.count > 1)
            .map(|(phrase, tally)| (*phrase, tally.weight))
            .collect();
        let order =
            |left: &(Phrase, f64), right: &(Phrase, f64)| right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0));
        for rival in &mut rivals {
            rival.1 *= worth(&rival.0);
        }
        rivals.sort_by(order);
        rivals.truncate(CANDIDATES);
        let mut chosen = Vec::new();
        while chosen.len() < count && !rivals.is_empty() {
            rivals.sort_by(order);
            let (winner, _) = rivals.remove(0);
            chosen.push(self.spell(&winner));
            let taken = self.phrases.get(&winner).map_or(0.0, |tally| tally.weight);
            for (rival, score) in &mut rivals {
                let shared = rival[..length(rival)].iter().filter(|word| winner.contains(word)).count();
                if shared == length(rival) {
                    *score -= taken * worth(rival); // A part of the winner: what is left of it counts.
                }
                if shared > 0 {
                    *score *= 0.4; // Rather something else than the same word again.
                }
            }
            rivals.retain(|(_, score)| *score > 0.0);
        }
        chosen
    }

    fn count(&mut self, blocks: &[&super::parse::Block]) {
        let total = f64::from(u32::try_from(blocks.len()).unwrap_or(u32::MAX));
        let mut runs: Vec<(f64, Vec<u32>)> = Vec::new();
        for (place, block) in (0_u32..).zip(blocks) {
            let early = 1.0 + 0.5 * (1.0 - f64::from(place) / total);
            let weight = early * if block.kind == Kind::Heading { 1.5 } else { 1.0 };
            for run in runs_of(&block.terms) {
                runs.push((weight, run.iter().map(|word| self.id(word)).collect()));
            }
        }
        let singular = self.singulars();
        for (weight, mut run) in runs {
            for word in &mut run {
                *word = singular[*word as usize];
            }
            for at in 0..run.len() {
                for size in 1..=PHRASE.min(run.len() - at) {
                    let mut phrase = [u32::MAX; PHRASE];
                    phrase[..size].copy_from_slice(&run[at..at + size]);
                    let tally = self.phrases.entry(phrase).or_default();
                    tally.count += 1;
                    tally.weight += weight;
                }
            }
        }
        for id in self.ids.values_mut() {
            *id = singular[*id as usize];
        }
    }

    fn id(&mut self, word: &str) -> u32 {
        if let Some(id) = self.ids.get(word) {
            return *id;
        }
        let id = u32::try_from(self.words.len()).unwrap_or(u32::MAX - 1);
        self.words.push(word.to_owned());
        self.ids.insert(word.to_owned(), id);
        id
    }

    /// For each word its own number, or that of its singular when the document has that too.
    fn singulars(&self) -> Vec<u32> {
        (0_u32..)
            .zip(&self.words)
            .map(|(id, word)| {
                let stem = word.strip_suffix('s').filter(|stem| stem.len() > 2 && !stem.ends_with('s'));
                stem.and_then(|stem| self.ids.get(stem)).copied().unwrap_or(id)
            })
            .collect()
    }

    fn spell(&self, phrase: &Phrase) -> String {
        let words = phrase[..length(phrase)].iter().map(|word| self.words[*word as usize].as_str());
        words.collect::<Vec<_>>().join(" ")
    }
}

fn length(phrase: &Phrase) -> usize {
    phrase.iter().take_while(|word| **word != u32::MAX).count()
}

/// A phrase says more than a word, so it may come up less often.
fn worth(phrase: &Phrase) -> f64 {
    [0.0, 1.0, 1.8, 2.2][length(phrase)]
}

/// The runs of words between stop words and punctuation, in small letters.
fn runs_of(text: &str) -> Vec<Vec<String>> {
    let mut runs = vec![Vec::new()];
    let cut = |runs: &mut Vec<Vec<String>>| {
        if runs.last().is_some_and(|run| !run.is_empty()) {
            runs.push(Vec::new());
        }
    };
    for token in text.split(|c: char| c.is_whitespace() || matches!(c, '/' | '\u{2014}')) {
        let bare = token.trim_matches(|c: char| !c.is_alphanumeric());
        if !token.starts_with(bare) {
            cut(&mut runs);
        }
        match word(bare) {
            Some(word) => runs.last_mut().into_iter().for_each(|run| run.push(word.clone())),
            None => cut(&mut runs),
        }
        if !token.ends_with(bare) {
            cut(&mut runs);
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// The word in small letters when it may be part of a keyword.
pub(super) fn word(bare: &str) -> Option<String> {
    let word = bare.to_lowercase().replace('\u{2019}', "'");
    let word = word.strip_suffix("'s").unwrap_or(&word);
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let odd = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '\'');
    let fits = letters > 1 && letters * 2 > word.chars().count() && (3..=WORD_CHARS).contains(&word.chars().count());
    let is_file =
        word.rsplit_once('.').is_some_and(|(_, ending)| matches!(ending, "md" | "rs" | "txt" | "toml" | "html"));
    let foreign_name = word.contains('.') && !word.is_ascii();
    let stop = STOP_WORDS.contains(word);
    (fits && !is_file && !foreign_name && !stop && !word.contains(odd)).then(|| word.to_owned())
}

#[cfg(test)]
#[path = "keywords_tests.rs"]
mod tests;
