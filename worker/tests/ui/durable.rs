use stepfleet::prelude::*;

struct Shop;

#[durable]
fn not_async(ctx: &Context, order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable(version = "two", timeout = "1h")]
async fn bad_version(_: &Context, order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable(concurrency = 2)]
async fn unknown_option(_: &Context, order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable(retries = 2, retry = RetryPolicy::never())]
async fn both_policies(_: &Context, order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable]
async fn no_context(order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable]
async fn resource_by_value(_: &Context, _: Shop, order: u64) -> Outcome<u64> {
    Ok(order)
}

#[durable]
async fn input_by_reference(_: &Context, order: &u64) -> Outcome<u64> {
    Ok(*order)
}

#[durable]
async fn cannot_fail(_: &Context, order: u64) -> u64 {
    order
}

#[durable]
struct Order;

fn main() {
    // These are not reported too.
    let _ = (not_async::workflow(), resource_by_value::with(Shop));
}
