use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered, concurrency = 8)]
impl Letters {
    #[step(retri = 5)]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(retries = 5, retries = 6)]
    async fn reply(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
