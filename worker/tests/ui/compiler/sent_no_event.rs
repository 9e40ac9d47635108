use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}
struct Progress {}

struct Letters;

#[workflow(start = Asked, stop = Answered, external = [Asked, String])]
impl Letters {
    #[step(sends = [Asked, Progress])]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
