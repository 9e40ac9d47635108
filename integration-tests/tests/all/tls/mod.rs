//! TLS to Redis: a private authority, client certificates, and the errors for bad ones.

mod several;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::authority::{Authority, Certificate, Good, server_settings, servers_speak_tls};
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::redis::{TestRedis, free_port};
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_integration_tests::until;
use stepfleet_shared::Client;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::RedisStore;
use stepfleet_shared::store::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// A server that has a port with TLS.
struct Protected {
    plain: TestRedis,
    port: u16,
}

impl Protected {
    async fn start(own: &Certificate, ca: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let redis = TestRedis::process_with(server_settings(port, own, ca, more)).await;
        Self { plain: redis, port }
    }

    fn url(&self, options: &[(&str, &Path)]) -> String {
        let options: Vec<_> = options.iter().map(|(name, file)| format!("{name}={}", file.display())).collect();
        format!("rediss://127.0.0.1:{}?{}", self.port, options.join("&"))
    }
}

/// The error of the command line with this URL.
async fn said(url: &str) -> String {
    let mut process = Process::start(Path::new(STEPFLEET), &["runs"], &[("STEPFLEET_REDIS", url)]);
    assert!(!process.ended().await.success(), "{}", process.log());
    process.log()
}

/// A worker and a coordinator with this URL end, since they cannot trust the server.
async fn ends_untrusting(url: &str) {
    for program in [WORKER, STEPFLEET] {
        let args: &[&str] = if program == STEPFLEET { &["coordinator"] } else { &[] };
        let mut process = Process::start(Path::new(program), args, &[("STEPFLEET_REDIS", url)]);
        assert!(!process.ended().await.success());
        let log = process.log();
        assert!(log.contains("invalid peer certificate") && log.contains("?ca=FILE"), "{log}");
    }
}

#[tokio::test]
async fn a_fleet_works_over_tls_with_certificates_of_its_own_and_a_password_from_a_file() {
    if !servers_speak_tls() {
        return;
    }
    let authority = Authority::new();
    let (server, client) = (authority.sign("127.0.0.1", Good::Now), authority.sign("worker-1", Good::Now));
    let redis = Protected::start(&server, &authority.ca(), &["--tls-auth-clients", "yes"]).await;
    let ca = authority.ca();
    let mut files = vec![("ca", &*ca), ("cert", &*client.cert), ("key", &*client.key)];
    let admin = Client::connect(&redis.url(&files)).unwrap();
    assert!(admin.run("nobody").status().await.unwrap().is_none(), "it can be reached");

    let mut connection = redis.plain.connection().await;
    let _: () = redis::cmd("ACL")
        .arg(&["SETUSER", "fleet", "on", ">s3cret:/?#%", "~*", "&*", "+@all"])
        .query_async(&mut connection)
        .await
        .unwrap();
    let _: () = redis::cmd("ACL").arg(&["SETUSER", "default", "off"]).query_async(&mut connection).await.unwrap();
    let password = authority.secret("password", "s3cret:/?#%\n");
    files.push(("password_file", &*password));
    let url = redis.url(&files).replace("rediss://", "rediss://fleet@");
    let settings = [("STEPFLEET_REDIS", &*url), ("RUST_LOG", "info")];
    let coordinator = Process::start(Path::new(STEPFLEET), &["coordinator"], &settings);
    let worker = Process::start(Path::new(WORKER), &[], &settings);
    let client = Client::connect(&url).unwrap();
    let run = client.start("squares", &json!({ "count": 3 })).id("r").enqueue().await.unwrap();
    let result: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(result, json!({ "count": 3, "sum": 14 }));
    for process in [&coordinator, &worker] {
        assert!(!process.log().contains("s3cret"), "{}", process.log());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_with_what_to_do() {
    if !servers_speak_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (ca, other) = (authority.ca(), stranger.ca());
    let good = authority.sign("127.0.0.1", Good::Now);
    let redis = Protected::start(&good, &ca, &["--tls-auth-clients", "yes"]).await;
    let client = authority.sign("worker-1", Good::Now);
    let own = [("cert", &*client.cert), ("key", &*client.key)];
    let with = |files: &[(&str, &Path)]| redis.url(&[files, &own].concat());
    for (url, why) in [
        (with(&[]), "UnknownIssuer"),
        (with(&[("ca", &other)]), "invalid peer certificate"),
        (redis.url(&[("ca", &ca)]), "fatal alert"),
        (with(&[("ca", &ca)]).replace("127.0.0.1", "localhost"), "not valid for name"),
    ] {
        let said = said(&url).await;
        assert!(said.contains(why) && said.contains("?ca=FILE"), "{url}: {said}");
    }
    let expired = authority.sign("127.0.0.1", Good::NoMore);
    let redis = Protected::start(&expired, &ca, &["--tls-auth-clients", "no"]).await;
    let said = said(&redis.url(&[("ca", &ca)])).await;
    assert!(said.contains("expired") && said.contains("?ca=FILE"), "{said}");
}

#[tokio::test]
async fn a_worker_that_cannot_trust_its_server_says_so_and_ends() {
    if !servers_speak_tls() {
        return;
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.sign("127.0.0.1", Good::Now);
    let redis = Protected::start(&own, &authority.ca(), &["--tls-auth-clients", "no"]).await;
    ends_untrusting(&redis.url(&[("ca", &stranger.ca())])).await;
}

/// A worker whose connection stays closed is taken for dead.
#[tokio::test]
async fn a_worker_whose_lease_connection_is_closed_makes_another_and_is_not_given_up() {
    if !servers_speak_tls() {
        return;
    }
    let authority = Authority::new();
    let own = authority.sign("127.0.0.1", Good::Now);
    let redis = Protected::start(&own, &authority.ca(), &["--tls-auth-clients", "no"]).await;
    let (url, mut levers) = (redis.url(&[("ca", &authority.ca())]), redis.plain.connection().await);
    let settings = [("STEPFLEET_REDIS", &*url), ("TEST_LEVERS", &*redis.plain.url), ("RUST_LOG", "info")];
    let _coordinator = Process::start(Path::new(STEPFLEET), &["coordinator"], &settings);
    let _worker = Process::start(Path::new(WORKER), &[], &settings);
    let store = RedisStore::new(&redis.plain.url, Namespace::default()).unwrap();
    let run = Client::connect(&url).unwrap().start("gated", &json!({})).id("held").enqueue().await.unwrap();
    wait_for_arrival(&mut levers, "held").await;
    let client = async || store.workers().await.unwrap().first().map_or(0, |worker| worker.client);
    for _ in 0..3 {
        until(async || client().await != 0).await;
        let closed = client().await;
        let () = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(closed).query_async(&mut levers).await.unwrap();
        until(async || client().await != closed).await;
    }
    let_go(&mut levers, "held", 1).await;
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "attempt 1 after None");
}

#[tokio::test]
async fn files_that_are_not_there_and_options_that_do_not_fit_are_refused_at_once() {
    let authority = Authority::new();
    let (ca, client) = (authority.ca(), authority.sign("worker-1", Good::Now));
    let (ca, cert, empty) = (ca.display(), client.cert.display(), authority.secret("empty", "\n"));
    for (url, why) in [
        (format!("redis://h?ca={ca}"), "write rediss://"),
        (format!("rediss://h?cert={cert}"), "no key"),
        (format!("rediss://h?key={cert}"), "no certificate"),
        ("rediss://h?ca=/no/such/file".to_owned(), "/no/such/file"),
        (format!("redis://h?password_file={}", empty.display()), "is empty"),
        (format!("rediss+sentinel://a,b/main?cert={cert}"), "no key"),
        (format!("redis+cluster://a,b?ca={ca}"), "write rediss://"),
        (format!("rediss://h?ca={}", authority.secret("junk", "junk").display()), "certificate"),
    ] {
        let Err(error) = Client::connect(&url) else { panic!("{url} was taken") };
        assert!(error.is_invalid() && error.to_string().contains(why), "{url}: {error}");
    }
}
