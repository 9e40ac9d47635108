use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered, retention = "7")]
impl Letters {
    #[step(timeout = "30 sec.")]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(backoff = 5)]
    async fn reply(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
