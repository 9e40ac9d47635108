use stepfleet::prelude::*;

#[derive(Event, Serialize)]
struct Named {
    name: &'static str,
}

#[derive(Event, Serialize, Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Event, Serialize, Deserialize)]
struct Page<T> {
    content: T,
}

fn main() {}
