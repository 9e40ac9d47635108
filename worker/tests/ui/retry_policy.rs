use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered, retry = "5")]
impl Letters {
    #[step(retry = 5)]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(retries = 5, retry = RetryPolicy::fixed(SECOND), factor = 2)]
    async fn reply(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
