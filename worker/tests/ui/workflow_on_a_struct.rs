use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

#[workflow(start = Asked, stop = Answered)]
struct Letters;

fn main() {}
