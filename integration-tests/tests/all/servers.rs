//! Which server the tests run against: that of `STEPFLEET_TEST_IMAGE`, both in containers and as processes.

use std::io::Write as _;

use stepfleet_integration_tests::redis::{TestRedis, test_image};

/// The name and version that the server reports: `valkey 8.1.1`.
async fn told(server: &TestRedis) -> String {
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("server").query_async(&mut server.connection().await).await.unwrap();
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("valkey_version:"), field("redis_version:")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, version) => format!("redis {}", version.expect("its version")),
    }
}

/// So `make test-matrix` tests against the right server, and its log names it.
#[tokio::test]
async fn the_server_is_the_one_that_was_asked_for() {
    let servers = [("in tests", TestRedis::start().await), ("as a process", TestRedis::process().await)];
    for (how, server) in &servers {
        let told = told(server).await;
        // Even if the output of tests is captured.
        writeln!(std::io::stderr(), "server {how}: {told}").unwrap();
        if std::env::var_os("STEPFLEET_TEST_IMAGE").is_some() {
            let image = test_image();
            let (name, tag) = image.rsplit_once(':').unwrap();
            let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
            let version = tag.split_once('-').map_or(tag, |(version, _)| version);
            assert!(told.starts_with(&format!("{name} {version}")), "{image} {how} is {told}");
        }
    }
}
