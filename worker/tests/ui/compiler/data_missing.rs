use stepfleet::prelude::*;

struct Line {}

#[event]
struct Order {
    lines: Vec<Line>,
}

fn main() {}
