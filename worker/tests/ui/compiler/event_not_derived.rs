use stepfleet::prelude::*;

struct Asked {}
struct Word {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn split(&self, _: Asked) -> Outcome<Vec<Word>> {
        Ok(Vec::new())
    }
    #[step]
    async fn total(&self, _: Joined<Word>) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
