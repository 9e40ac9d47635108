use stepfleet::prelude::*;

/// Its block has no `#[workflow]`.
struct Letters;

fn main() {
    let _ = Worker::from_env().unwrap().serve(Letters);
}
