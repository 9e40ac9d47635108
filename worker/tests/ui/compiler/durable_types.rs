use std::cell::Cell;
use std::rc::Rc;

use stepfleet::prelude::*;

struct Plain;

#[durable]
async fn input(_: &Context, _: Plain) -> Outcome<()> {
    Ok(())
}

#[durable]
async fn output(_: &Context, _: ()) -> Outcome<Plain> {
    Ok(Plain)
}

#[durable]
async fn other_context(_: &other::Context, _: ()) -> Outcome<()> {
    Ok(())
}

mod other {
    pub struct Context;
}

#[durable]
async fn resource(_: &Context, _: &Cell<u8>, _: ()) -> Outcome<()> {
    Ok(())
}

#[durable]
async fn not_send(ctx: &Context, _: ()) -> Outcome<()> {
    let held = Rc::new(1);
    ctx.now().await?;
    drop(held);
    Ok(())
}

fn main() {}
