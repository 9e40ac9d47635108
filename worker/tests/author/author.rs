use stepfleet::prelude::*;

#[event]
struct Asked {
    words: Vec<String>,
}

#[event(name = "word.split")]
#[derive(Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Word {
    text: String,
    #[serde(default)]
    at: Option<u32>,
}

#[event]
enum Counted {
    Letters(Count<usize>),
    #[serde(rename = "none")]
    Nothing,
}

#[event]
#[derive(Debug)]
struct Answered {
    letters: usize,
}

// The derives by hand, and the attribute in other places.
#[derive(Event, Serialize, Deserialize)]
#[serde(crate = "stepfleet::serde")]
#[event(name = "by.hand")]
struct ByHand {}

#[derive(Clone)]
#[event(name = "last")]
#[derive(PartialEq)]
struct Last;

#[data]
struct Count<T> {
    count: T,
}

#[data]
#[derive(Default)]
struct Memory {
    asked: u32,
}

struct Letters {
    least: usize,
}

#[workflow(start = Asked, stop = Answered, version = 1)]
impl Letters {
    #[step]
    async fn split(&self, ctx: &Context<Memory>, ev: Asked) -> Outcome<Vec<Word>> {
        ctx.state().edit(|memory| memory.asked += 1).await?;
        Ok(ev.words.into_iter().map(|text| Word { text, at: None }).collect())
    }
    #[step(retries = 5, timeout = "30s")]
    async fn count(&self, ev: Word) -> Outcome<Counted> {
        let count = ev.text.chars().count() + ev.at.map_or(0, |_| 1);
        Ok(if count >= self.least { Counted::Letters(Count { count }) } else { Counted::Nothing })
    }
    #[step]
    async fn total(&self, all: Joined<Counted>) -> Outcome<Answered> {
        let letters = |counted: &Counted| if let Counted::Letters(count) = counted { count.count } else { 0 };
        Ok(Answered { letters: all.iter().map(letters).sum() })
    }
}

#[durable]
async fn double(ctx: &Context<Memory>, input: Count<u32>) -> Outcome<Count<u64>> {
    ctx.step("double", || async { Ok(Count { count: u64::from(input.count) * 2 }) }).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    assert!(ByHand::NAME == "by.hand" && Word::NAME == "word.split" && Last::NAME == "last" && Last == Last.clone());
    Worker::from_env()?.serve(Letters { least: 2 })?.serve(double::workflow())?.run().await?;
    Ok(())
}
