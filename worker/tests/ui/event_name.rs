use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "page fetched")]
struct Fetched {}

#[derive(Event, Serialize, Deserialize)]
#[event(title = "page")]
struct Page {}

fn main() {}
