//! Reads from the environment where the fleet is, for everything that connects to it.

use std::path::Path;

use crate::error::{Error, Result};

/// The Redis of `stepfleet dev`: the default for everything that connects.
pub const DEFAULT_URL: &str = "redis://127.0.0.1:6390";

/// The port of the Redis of `stepfleet dev`: not 6379, where a Redis may be running already.
pub const DEV_PORT: u16 = 6390;

/// `STEPFLEET_REDIS`, or what the file of `STEPFLEET_REDIS_FILE` has, or [`DEFAULT_URL`]. An empty variable counts as not set. Fails
/// when the file cannot be read or is empty.
pub fn redis() -> Result<String> {
    redis_from(var("STEPFLEET_REDIS"), var("STEPFLEET_REDIS_FILE").as_deref().map(Path::new))
}

/// The URL that was given, or what the file has, or [`DEFAULT_URL`].
pub fn redis_from(url: Option<String>, file: Option<&Path>) -> Result<String> {
    match (url.filter(|url| !url.is_empty()), file) {
        (Some(url), _) => Ok(url),
        (None, Some(file)) => read(file),
        (None, None) => Ok(DEFAULT_URL.to_owned()),
    }
}

/// Editors and secret stores end files with a line feed.
fn read(file: &Path) -> Result<String> {
    let fails = |why: &str| {
        let file = file.display();
        Error::invalid(format!("the Redis URL cannot be read from {file}: {why}. STEPFLEET_REDIS_FILE names that file"))
    };
    let text = std::fs::read_to_string(file).map_err(|error| fails(&error.to_string()))?;
    match text.trim() {
        "" => Err(fails("the file is empty")),
        url => Ok(url.to_owned()),
    }
}

/// `STEPFLEET_NAMESPACE`, or `sf` if it is unset or empty.
pub fn namespace() -> String {
    var("STEPFLEET_NAMESPACE").unwrap_or_else(|| "sf".to_owned())
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_port_of_dev() {
        assert_eq!(DEFAULT_URL, format!("redis://127.0.0.1:{DEV_PORT}"));
    }

    #[test]
    fn a_url_goes_before_a_file_and_a_file_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "redis://worker:secret@redis\n").unwrap();
        let given = |url: &str, file| redis_from(Some(url.to_owned()), file).unwrap();
        assert_eq!(given("redis://there", Some(&*file)), "redis://there");
        assert_eq!(given("", Some(&*file)), "redis://worker:secret@redis");
        assert_eq!(given("", None), DEFAULT_URL);
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        let refused = || redis_from(None, Some(&file)).unwrap_err().to_string();
        assert!(refused().contains(file.to_str().unwrap()), "{}", refused());
        std::fs::write(&file, "\n").unwrap();
        assert!(refused().contains("is empty") && refused().contains("STEPFLEET_REDIS_FILE"), "{}", refused());
    }
}
