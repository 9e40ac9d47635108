//! What is made from the contract is up to date.

use stepfleet_contract::{lua, rust};

use super::documents::HINT;
use super::sources::{read_or_empty, root};

#[test]
fn the_files_that_are_made_are_what_is_rendered() {
    let is_to_write = std::env::var_os("STEPFLEET_WRITE_DOCS").is_some();
    let files = rust::render().into_iter().chain([(lua::FILE.to_owned(), lua::render())]);
    for (file, fresh) in files {
        if is_to_write && fresh != read_or_empty(&file) {
            std::fs::write(root().join(&file), &fresh).expect("can be written");
        }
        assert!(fresh == read_or_empty(&file), "{file} is stale; {HINT}");
    }
}
