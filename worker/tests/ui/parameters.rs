use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn without_self(_: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step]
    async fn without_event(&self, _: &Context) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step]
    async fn two_events(&self, _: Asked, _: Answered) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step]
    async fn owned_context(&self, _: Context<u8>, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
    #[step]
    async fn generic<T>(&mut self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

fn main() {}
