use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

fn policy() -> u32 {
    5
}

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step(retry = policy())]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
