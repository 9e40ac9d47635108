use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Memory {
    asked: u32,
}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, ctx: &Context<Memory>, _: Asked) -> Outcome<Answered> {
        ctx.state().edit(|memory| memory.asked += 1).await?;
        Ok(Answered {})
    }
}

fn main() {}
