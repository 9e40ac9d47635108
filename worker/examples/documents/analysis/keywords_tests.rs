//! Tests of `keywords.rs`.

use super::super::parse::{markdown, plain};
use super::*;

fn best(text: &str) -> Vec<String> {
    Vocabulary::of(&markdown(text)).best(5)
}

#[test]
fn finds_phrases_and_leaves_stop_words_out() {
    let found = best(
        "The garbage collector is in the heap. A garbage collector walks the heap, and the garbage \
         collector sweeps. This is because of the pauses.",
    );
    assert_eq!(found[0], "garbage collector");
    assert!(found.contains(&"heap".to_owned()), "{found:?}");
    for stop in ["the", "is", "because", "this", "garbage", "collector"] {
        assert!(!found.contains(&stop.to_owned()), "{found:?}");
    }
}

#[test]
fn plurals_count_with_their_singular() {
    let found = best("Parsers parse. A parser reads tokens; other parsers read a token. Glass.");
    assert!(found.contains(&"parser".to_owned()) && !found.contains(&"parsers".to_owned()), "{found:?}");
    let vocabulary = Vocabulary::of(&plain("Title line\n\nOne parser, two parsers."));
    assert!((vocabulary.weight("parsers") - vocabulary.weight("parser")).abs() < f64::EPSILON);
}

#[test]
fn headings_and_names_in_code_count_but_code_and_licenses_do_not() {
    let found = best(
        "# Quartz scheduler\n\nA `quartz` clock ticks. `Vec::<Junk>::new()`\n\n```\nfenced fenced fenced\n```\n\n\
         ## License\n\nApache apache apache apache.\n",
    );
    assert_eq!(found[0], "quartz");
    assert!(!found.iter().any(|word| ["junk", "fenced", "apache", "vec"].contains(&word.as_str())), "{found:?}");
}

#[test]
fn punctuation_ends_a_phrase() {
    let runs = runs_of("Fast parsing (zero-copy) of JSON/YAML, v1.2.3 in main.rs");
    assert_eq!(runs, [vec!["fast", "parsing"], vec!["zero-copy"], vec!["json", "yaml"]]);
}

#[test]
fn the_order_never_changes() {
    let text = "alpha beta gamma delta epsilon zeta eta theta";
    assert_eq!(best(text), best(text));
    assert!(best("").is_empty());
}
