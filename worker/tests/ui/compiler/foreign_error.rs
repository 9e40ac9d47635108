use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

/// It does not implement `std::error::Error`.
struct NoRoute;

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, _: Asked) -> Result<Answered, NoRoute> {
        Err(NoRoute)
    }

    #[step]
    async fn again(&self, _: Asked) -> Outcome<Answered> {
        Err(NoRoute)?
    }
}

fn main() {}
