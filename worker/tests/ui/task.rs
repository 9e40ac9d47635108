//! The mistakes of `#[durable]`, in the words of tasks.

use stepfleet::prelude::*;

#[task]
fn blocking(_: &Context, input: u64) -> Outcome<u64> {
    Ok(input)
}

#[task(timeout = 5)]
async fn early(_: &Context, input: u64) -> Outcome<u64> {
    Ok(input)
}

#[task(speed = 1)]
async fn misspelt(_: &Context, input: u64) -> Outcome<u64> {
    Ok(input)
}

#[task]
struct Nothing;

fn main() {}
