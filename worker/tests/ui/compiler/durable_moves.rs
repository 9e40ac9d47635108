use stepfleet::prelude::*;

async fn ship(order: String) -> Outcome<String> {
    Ok(order)
}

#[durable]
async fn fulfil(ctx: &Context, order: String) -> Outcome<String> {
    ctx.step("ship", || ship(order)).retries(3).await
}

fn main() {}
