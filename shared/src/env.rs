//! Reads from the environment where the fleet is, for everything that connects to it.

/// The Redis of `stepfleet dev`: the default for everything that connects.
pub const DEFAULT_URL: &str = "redis://127.0.0.1:6390";

/// The port of the Redis of `stepfleet dev`: not 6379, where a Redis may be running already.
pub const DEV_PORT: u16 = 6390;

/// `STEPFLEET_REDIS`, or [`DEFAULT_URL`] where it is unset or empty.
pub fn redis() -> String {
    var("STEPFLEET_REDIS").unwrap_or_else(|| DEFAULT_URL.to_owned())
}

/// `STEPFLEET_NAMESPACE`, or `sf` where it is unset or empty.
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
}
