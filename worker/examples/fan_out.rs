//! Event-driven steps: a text is split into words, which are counted on as many workers as there are, and joined once all are done.
//!
//! ```text
//! cargo run --example fan_out                                     # while `stepfleet dev` runs; start several, in several terminals
//! stepfleet start word_lengths --input '{"text": "to be or not to be"}' --wait
//! ```

use std::collections::BTreeMap;

use stepfleet::prelude::*;

#[event]
struct Asked {
    text: String,
}

#[event]
struct Word {
    text: String,
}

#[event]
struct Measured {
    word: String,
    letters: usize,
}

#[event]
struct Answered {
    lengths: BTreeMap<String, usize>,
}

struct WordLengths;

#[workflow(start = Asked, stop = Answered)]
impl WordLengths {
    /// Fans out: each word is a branch of its own.
    #[step]
    async fn split(&self, ev: Asked) -> Outcome<Vec<Word>> {
        Ok(ev.text.split_whitespace().map(|word| Word { text: word.to_owned() }).collect())
    }

    #[step(retries = 5, timeout = "10s")]
    async fn measure(&self, ev: Word) -> Outcome<Measured> {
        Ok(Measured { letters: ev.text.chars().count(), word: ev.text })
    }

    /// Fans in: runs once, when every branch has ended.
    #[step]
    async fn gather(&self, all: Joined<Measured>) -> Outcome<Answered> {
        Ok(Answered { lengths: all.into_iter().map(|measured| (measured.word, measured.letters)).collect() })
    }
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    Worker::from_env()?.serve(WordLengths)?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_words_are_measured_and_joined_once() {
        let asked = Asked { text: "to be or not to be".into() };
        let run = testing::survives_every_crash(|| testing::run(WordLengths).workers(3), &asked).await;
        let lengths = run.result::<Answered>().lengths;
        assert_eq!(lengths, [("be", 2), ("not", 3), ("or", 2), ("to", 2)].map(|(word, n)| (word.to_owned(), n)).into());
        assert_eq!((run.step("measure").executions(), run.step("gather").executions()), (6, 1));
    }
}
