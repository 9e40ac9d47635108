use stepfleet::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}
#[derive(Event, Serialize, Deserialize)]
struct Answered {}

#[derive(Emit)]
struct Verdict(Asked);

#[derive(Emit)]
enum Mixed {
    Both(Asked, Answered),
    Named { event: Asked },
    Fine(Asked),
}

fn main() {}
