use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let shared = std::rc::Rc::new(1);
        ctx.state().set("shared", "yes").await?;
        drop(shared);
        Ok(Answered {})
    }
}

fn main() {}
