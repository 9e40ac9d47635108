//! The workflow of README.md, without its pause.

use stepfleet::prelude::*;

/// What a run begins with.
#[derive(Event, Serialize, Deserialize)]
pub struct Text {
    words: Vec<String>,
}

/// A branch.
#[derive(Event, Serialize, Deserialize)]
pub struct Word {
    text: String,
}

/// What a branch comes to.
#[derive(Event, Serialize, Deserialize)]
pub struct Counted {
    letters: usize,
}

/// What the run ends with.
#[derive(Event, Serialize, Deserialize)]
pub struct Total {
    letters: usize,
}

/// The workflow.
pub struct Letters;

#[workflow(start = Text, stop = Total)]
impl Letters {
    #[step]
    async fn split(&self, text: Text) -> Outcome<Vec<Word>> {
        Ok(text.words.into_iter().map(|text| Word { text }).collect())
    }
    #[step]
    async fn count(&self, word: Word) -> Outcome<Counted> {
        Ok(Counted { letters: word.text.chars().count() })
    }
    #[step]
    async fn total(&self, all: Joined<Counted>) -> Outcome<Total> {
        Ok(Total { letters: all.iter().map(|counted| counted.letters).sum() })
    }
}
