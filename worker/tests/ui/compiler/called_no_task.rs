use stepfleet::prelude::*;

struct Plain;

async fn body(ctx: &Context) -> Outcome<()> {
    ctx.task::<Plain>(&1).await
}

fn main() {}
