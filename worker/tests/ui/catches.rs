use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(catches = "answer")]
    async fn one(&self, _: StepFailed) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(catches = [answer])]
    async fn two(&self, _: StepFailed) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step(recoveries = 0)]
    async fn three(&self, _: StepFailed) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
