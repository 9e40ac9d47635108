use stepfleet::prelude::*;
use tokio::task::JoinSet;

#[durable]
async fn letters(ctx: &Context, _: ()) -> Outcome<()> {
    let mut set = JoinSet::new();
    set.spawn(async move { ctx.now().await });
    set.join_all().await;
    Ok(())
}

fn main() {}
