use stepfleet::prelude::*;

#[event]
fn asked() {}

#[data]
impl Nothing {}

#[data(name = "answered")]
struct Answered {}

#[event(title = "word")]
struct Word {}

#[event]
struct Text<'a> {
    text: &'a str,
}

fn main() {}
