//! docs/protocol.md, followed from top to bottom with `redis-cli`: each command is typed, and prints what the page shows below it.

use std::process::Command;
use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::runtime;
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::pages::{Shown, commands};
use stepfleet_integration_tests::until;

const PAGE: &str = include_str!("../../../docs/protocol.md");
/// The worker of the page.
const WORKER: &str = "vm-17530066";
/// The page's minute, until a request of an unknown workflow is rejected.
const GRACE: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Folder {
    folder: String,
    out: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Document {
    out: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Digested {
    out: String,
}

#[derive(Event, Serialize, Deserialize)]
#[allow(clippy::struct_field_names)]
struct Report {
    report: String,
    index: String,
    documents: usize,
    unreadable: usize,
    groups: usize,
}

/// The workflow of `make demo`, which reads no files here: each folder but `nowhere` has three documents.
struct Documents;

#[workflow(start = Folder, stop = Report)]
impl Documents {
    #[step]
    async fn list(&self, asked: Folder) -> Outcome<Vec<Document>> {
        if asked.folder == "nowhere" {
            let why =
                "there is no folder nowhere: check the path, which must exist on the machine that runs the worker";
            return Err(Error::terminal(why));
        }
        Ok((0..3).map(|_| Document { out: asked.out.clone() }).collect())
    }
    #[step]
    async fn digest(&self, document: Document) -> Outcome<Digested> {
        Ok(Digested { out: document.out })
    }
    #[step]
    async fn report(&self, all: Joined<Digested>) -> Outcome<Report> {
        let out = &all[0].out;
        let (report, index) = (format!("{out}/report.md"), format!("{out}/index.json"));
        Ok(Report { report, index, documents: all.len(), unreadable: 0, groups: 0 })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Progress {
    at: u64,
}

#[task]
async fn count(ctx: &Context, _input: ()) -> Outcome<()> {
    ctx.publish(&Progress { at: 1 }).await
}

#[durable]
async fn ship(ctx: &Context, _input: ()) -> Outcome<bool> {
    let price = ctx.step("price", async || Ok(9)).await?;
    let _: u32 = ctx.step("pack", async || Ok(price)).await?;
    Ok(ctx.wait_for_user(Approval::ask("Ship it?").named("ship")).await?.answer)
}

#[durable]
async fn approved(ctx: &Context, _input: ()) -> Outcome<()> {
    loop {
        let _: bool = ctx.wait_for("approval").await?;
    }
}

#[task]
async fn chat(_ctx: &Context, said: String) -> Outcome<String> {
    Ok(said)
}

struct Page {
    fleet: Fleet,
    port: String,
    worker_id: String,
}

impl Page {
    fn command(&self, line: &str) -> String {
        line.replace("redis-cli -p 6390", &format!("redis-cli --no-raw -p {}", self.port))
    }

    async fn typed(&self, line: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", &self.command(line)]);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.unwrap();
        let printed = String::from_utf8(output.stdout).expect("text").trim_end().replace(&self.worker_id, WORKER);
        assert!(output.status.success() && !printed.starts_with("(error)"), "{line}: {printed}");
        printed
    }

    /// Types it until it prints what the page shows: a coordinator takes a moment for each request.
    async fn shows(&self, Shown { line, output }: &Shown) {
        let (expected, mut printed) = (comparable(line, output), String::new());
        let shows = async {
            while printed != expected {
                printed = comparable(line, &self.typed(line).await);
            }
        };
        let is_so = tokio::time::timeout(LIMIT, shows).await;
        assert!(is_so.is_ok(), "{line} prints\n{printed}\nand not\n{expected}");
    }

    /// Waits until coordinators have taken a request, and until the run that it has started has ended.
    async fn taken(&self, line: &str) {
        let mut redis = self.fleet.redis.connection().await;
        until(async || {
            let left: u64 = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut redis).await.unwrap();
            left == 0
        })
        .await;
        let id = line.split_once(" workflow documents id ").and_then(|(_, rest)| rest.split(' ').next());
        let is_run = |id: &&str| !["later", "second", "oops"].contains(id);
        if let Some(id) = id.filter(is_run) {
            self.fleet.client.run(id).wait(LIMIT).await.unwrap();
        }
    }
}

/// A line of a list, without its number.
fn without_number<'a>(line: &&'a str) -> &'a str {
    line.split_once(") ").map_or(*line, |(_, value)| value)
}

/// Without what is another each time: ids of entries, times, and the version of the functions. Fields of a hash have no order.
fn comparable(line: &str, text: &str) -> String {
    let mut plain = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        plain += if digits.len() < 13 { digits } else { "<ms>" };
        plain += &part[digits.len()..];
    }
    let plain = plain.replace("<ms>-1", "<ms>-0").replace("(waited 1m for one)", "(waited 10s for one)");
    // The fleet of the page serves the documents alone.
    let plain = plain.replace("approved, chat, count, documents, ship", "documents");
    let mut lines: Vec<_> = plain.lines().filter(|line| !line.starts_with("Reading messages")).map(str::trim).collect();
    if line.contains("HGETALL") {
        lines = lines.iter().map(without_number).collect();
        let mut pairs: Vec<_> = lines.chunks(2).collect();
        pairs.sort_unstable();
        lines = pairs.concat();
    }
    if line.contains("HKEYS") {
        lines.retain(|line| line.contains("documents"));
        lines = lines.iter().map(without_number).collect();
    }
    let text = lines.join("\n");
    match text.split_once("stepfleet_") {
        Some((before, rest)) if line.contains("functions") => format!("{before}stepfleet_<hash>{}", &rest[8..]),
        _ => text,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_the_protocol_prints_what_the_page_shows() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_with(Config { grace: GRACE, ..Config::default() });
    let config = runtime::Config::default().concurrency(1);
    let worker = Worker::new(fleet.another_store(), config).serve(Documents).unwrap();
    let worker = worker.serve(count::workflow()).unwrap().serve(ship::workflow()).unwrap();
    let worker = worker.serve(approved::workflow()).unwrap().serve(chat::workflow()).unwrap();
    let worker = tokio::spawn(async move { worker.run_until(std::future::pending()).await.expect("it works") });
    fleet.workers_ready(1).await;
    let port = fleet.redis.url.rsplit(':').next().unwrap().to_owned();
    let worker_id = fleet.store.workers().await.unwrap().remove(0).id;
    let page = Page { fleet, port, worker_id };
    // Runs that the page speaks of as there.
    page.fleet.client.start("count", &()).id("r-1").enqueue().await.unwrap().wait(LIMIT).await.unwrap();
    page.fleet.client.start("ship", &()).id("order-7").enqueue().await.unwrap();
    page.fleet.client.start("approved", &()).id("order-8").enqueue().await.unwrap();
    until(async || !page.fleet.client.questions(1).await.unwrap().is_empty()).await;

    let mut listening = Vec::new();
    let all = commands(PAGE);
    assert!(all.len() > 40, "only {} commands were found", all.len());
    for shown in &all {
        let line = &shown.line;
        if line.contains("SUBSCRIBE") {
            let listener = Process::wrapped("sh".as_ref(), &["-c", &page.command(line)], &[]);
            until(async || listener.log().contains("subscribe")).await;
            listening.push((listener, shown));
        } else if line.contains("XADD") {
            let id = page.typed(line).await;
            assert!(
                shown.output.is_empty() || comparable(line, &id) == comparable(line, &shown.output),
                "{line}: {id}"
            );
            page.taken(line).await;
        } else if shown.output.is_empty() {
            page.typed(line).await;
        } else {
            page.shows(shown).await;
        }
    }
    for (listener, shown) in listening {
        let expected = comparable(&shown.line, &shown.output);
        until(async || comparable(&shown.line, &listener.log()) == expected).await;
    }
    worker.abort();
}
