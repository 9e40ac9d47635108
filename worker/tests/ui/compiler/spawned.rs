use stepfleet::prelude::*;

#[event]
struct Asked {}
#[event]
struct Answered {}

struct Letters;

#[workflow(start = Asked, stop = Answered)]
impl Letters {
    #[step]
    async fn answer(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        tokio::spawn(async move { ctx.now().await });
        Ok(Answered {})
    }
}

#[durable]
async fn letters(ctx: &Context, _: ()) -> Outcome<()> {
    let one = tokio::task::spawn(async { ctx.step("one", || async { Ok(()) }).await });
    Ok(one.await??)
}

fn main() {}
