//! The users of deploy/redis/users.acl: each may do its work, and nothing else.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::durable::Household;
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::redis::{TestRedis, connect};
use stepfleet_integration_tests::until;
use stepfleet_shared::Client;
use stepfleet_shared::run::Status;

const LIMIT: Duration = Duration::from_secs(30);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// A Redis with these users, whose passwords are in files.
struct Guarded {
    redis: TestRedis,
    passwords: tempfile::TempDir,
}

/// What deploy/redis/users.sh prints, with passwords in this folder.
fn users(passwords: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/redis/users.sh");
    let made = Command::new("bash").arg(script).arg(passwords).output().expect("bash is there");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap()
}

impl Guarded {
    async fn start() -> Self {
        let passwords = tempfile::tempdir().unwrap();
        let users = users(passwords.path());
        let redis = TestRedis::process().await;
        let mut admin = redis.connection().await;
        // The test uses the user that the file switches off.
        for user in users.lines().filter(|user| !user.starts_with("user default ")) {
            let rules: Vec<&str> = user.split(' ').skip(1).collect();
            let () = redis::cmd("ACL").arg("SETUSER").arg(&rules).query_async(&mut admin).await.unwrap();
        }
        Self { redis, passwords }
    }

    fn address(&self) -> &str {
        self.redis.url.rsplit(['/', '@']).next().expect("an address")
    }

    fn url(&self, user: &str) -> String {
        let file = self.passwords.path().join(user);
        format!("redis://{user}@{}?password_file={}", self.address(), file.display())
    }

    fn process(&self, program: &str, args: &[&str], user: &str) -> Process {
        let settings = [("STEPFLEET_REDIS", &*self.url(user)), ("RUST_LOG", "info")];
        Process::start(Path::new(program), args, &settings)
    }

    /// The commands that the server has refused to this user, and why.
    async fn refused(&self, user: &str) -> Vec<String> {
        let mut admin = self.redis.connection().await;
        let log: Vec<Vec<redis::Value>> = redis::cmd("ACL").arg("LOG").arg(100).query_async(&mut admin).await.unwrap();
        let told = log.into_iter().map(|entry| format!("{entry:?}"));
        told.filter(|entry| entry.contains(&format!("'{user}'"))).collect()
    }

    async fn told(&self, user: &str, args: &[&str]) -> Result<redis::Value, String> {
        let password = std::fs::read_to_string(self.passwords.path().join(user)).unwrap();
        let url = format!("redis://{user}:{password}@{}", self.address());
        let client = redis::Client::open(url).unwrap();
        let mut connection = connect(&client).await.unwrap();
        let answer = redis::cmd(args[0]).arg(&args[1..]).query_async(&mut connection).await;
        answer.map_err(|error| error.to_string())
    }
}

async fn result(client: &Client, workflow: &str, input: &Value) -> Value {
    let run = client.start(workflow, input).enqueue().await.unwrap();
    run.result(LIMIT).await.unwrap()
}

#[tokio::test]
async fn each_user_may_do_its_work() {
    let guarded = Guarded::start().await;
    // It may not load functions, so it waits for a coordinator.
    let worker = guarded.process(WORKER, &[], "worker");
    let coordinator = guarded.process(STEPFLEET, &["coordinator"], "coordinator");
    let client = Client::connect(&guarded.url("caller")).unwrap();
    assert_eq!(result(&client, "squares", &json!({ "count": 5 })).await, json!({ "count": 5, "sum": 55 }));
    let household = json!(Household { members: 3, waits: false });
    assert_eq!(result(&client, "family", &household).await, json!(6));
    assert_eq!(result(&client, "count", &json!("a")).await, json!(4));
    let said = client.start("talk", &"hello").session("s").enqueue().await.unwrap();
    assert_eq!(said.result::<u64>(LIMIT).await.unwrap(), 1);

    let run = client.start("member", &json!((1, true))).id("waits").enqueue().await.unwrap();
    until(async || run.status().await.unwrap().is_some_and(|run| run.status == Status::Running)).await;
    run.signal("go", &"now").await.unwrap();
    assert_eq!(run.result::<u64>(LIMIT).await.unwrap(), 1);
    let run = client.start("member", &json!((1, true))).id("stops").enqueue().await.unwrap();
    run.cancel().await.unwrap();
    assert_eq!(run.wait(LIMIT).await.unwrap().status, Status::Cancelled);

    for args in
        [&["runs"][..], &["show", "waits"], &["workers"], &["workflows"], &["questions"], &["snapshot", "waits"]]
    {
        let mut process = guarded.process(STEPFLEET, args, "observer");
        assert!(process.ended().await.success(), "{args:?}: {}", process.log());
    }
    for user in ["caller", "worker"] {
        guarded.told(user, &["WAIT", "0", "1"]).await.expect("runs with durability need it");
    }
    for user in ["caller", "coordinator", "observer"] {
        assert_eq!(guarded.refused(user).await, Vec::<String>::new(), "{}", coordinator.log());
    }
    // It may not read the workers, which the command would also show.
    let mut start = guarded.process(STEPFLEET, &["start", "count", "--input", "\"b\"", "--wait"], "caller");
    assert!(start.ended().await.success(), "{}", start.log());

    let of_worker = guarded.refused("worker").await;
    assert!(of_worker.iter().all(|entry| entry.contains("function|load")), "{of_worker:?}\n{}", worker.log());
}

/// Redis replays its append-only file as the user that the file switches off.
#[tokio::test]
async fn what_the_users_have_done_is_there_after_a_restart() {
    let Guarded { mut redis, passwords } = Guarded::start().await;
    let users =
        users(passwords.path()).replace("user default off", "user test on nopass ~* &* +@all\nuser default off");
    let file = passwords.path().join("users.acl");
    std::fs::write(&file, users).unwrap();
    redis.kill();
    redis.begin_again(&["--aclfile", file.to_str().unwrap()]);
    redis.url = redis.url.replace("redis://", "redis://test:any@");
    redis.wait_until_ready().await;
    let guarded = Guarded { redis, passwords };
    let _worker = guarded.process(WORKER, &[], "worker");
    let _coordinator = guarded.process(STEPFLEET, &["coordinator"], "coordinator");
    let client = Client::connect(&guarded.url("caller")).unwrap();
    let run = client.start("squares", &json!({ "count": 5 })).id("kept").enqueue().await.unwrap();
    let _: Value = run.result(LIMIT).await.unwrap();

    let Guarded { mut redis, passwords } = guarded;
    redis.kill();
    redis.begin_again(&["--aclfile", file.to_str().unwrap()]);
    redis.wait_until_ready().await;
    let guarded = Guarded { redis, passwords };
    let status = guarded.told("observer", &["HGET", "sf:{0}:run:kept", "status"]).await.unwrap();
    assert_eq!(status, redis::Value::BulkString(b"completed".to_vec()));
}

#[tokio::test]
async fn no_user_may_do_more() {
    let guarded = Guarded::start().await;
    for (user, forbidden) in [
        ("caller", &[&["HSET", "sf:{0}:run:r", "status", "completed"][..], &["XRANGE", "sf:{0}:inbox", "-", "+"]][..]),
        ("caller", &[&["HGETALL", "sf:{0}:context:r"], &["FCALL", "f", "0"], &["DEL", "sf:{0}:run:r"]]),
        (
            "observer",
            &[&["HSET", "sf:{0}:run:r", "status", "completed"], &["XADD", "sf:{0}:inbox", "*", "op", "cancel"]],
        ),
        (
            "worker",
            &[&["FUNCTION", "LOAD", "REPLACE", "#!lua name=x\n"], &["CLIENT", "KILL", "ID", "1"], &["EVAL", "", "0"]],
        ),
        (
            "coordinator",
            &[&["CLIENT", "KILL", "ID", "1"], &["FUNCTION", "FLUSH"], &["SHUTDOWN"], &["EVAL", "return 1", "0"]],
        ),
    ] {
        for args in forbidden {
            let said = guarded.told(user, args).await.expect_err(user);
            assert!(said.contains("NOPERM") || said.contains("permissions"), "{user} {args:?}: {said}");
        }
    }
    for user in ["caller", "worker", "coordinator", "observer"] {
        for args in [
            &["GET", "other:key"][..],
            &["SET", "other:key", "1"],
            &["FLUSHALL"],
            &["FLUSHDB"],
            &["KEYS", "*"],
            &["CONFIG", "SET", "maxmemory", "1"],
            &["ACL", "LIST"],
            &["SUBSCRIBE", "other"],
            &["MONITOR"],
        ] {
            let said = guarded.told(user, args).await.expect_err(user);
            assert!(said.contains("NOPERM") || said.contains("permissions"), "{user} {args:?}: {said}");
        }
    }
}

/// A restart would drop each transaction that it may not execute.
#[tokio::test]
async fn doctor_warns_of_a_default_user_without_rights() {
    let mut redis = TestRedis::process().await;
    let (address, file) = (redis.address().to_owned(), tempfile::NamedTempFile::new().unwrap());
    redis.url = format!("redis://test:any@{address}");
    for (rules, level) in [("-@all", "warn"), ("~* &* +@all -fcall", "warn"), ("~* &* +@all", "ok")] {
        let users = format!("user test on nopass ~* &* +@all\nuser default off {rules}\n");
        std::fs::write(file.path(), users).unwrap();
        redis.kill();
        redis.begin_again(&["--aclfile", file.path().to_str().unwrap()]);
        redis.wait_until_ready().await;
        let told = Command::new(STEPFLEET).args(["--redis", &redis.url, "--json", "doctor"]).output().unwrap();
        assert!(told.status.success(), "{told:?}");
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let checks = told["checks"].as_array().unwrap();
        let rights = checks.iter().find(|check| check["name"] == "default-user").unwrap();
        assert_eq!(rights["level"], level, "{rules}: {rights}");
        let advice = rights["advice"].as_str();
        assert_eq!(advice.is_some_and(|advice| advice.contains("user default off ~* &* +@all")), level == "warn");
    }
}
