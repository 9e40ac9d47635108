use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, _: &Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
