use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

#[derive(Emit)]
enum Verdict {
    Again(Asked),
    Failed(String),
}

fn main() {}
