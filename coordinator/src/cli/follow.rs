//! `stepfleet follow`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use stepfleet::history::{Kind, Record};
use stepfleet::run::{Run, Status};
use stepfleet::store::{RedisStore, Store};

use super::Fleet;
use super::failure::{Failure, Outcome};
use super::output;
use super::show::{find_deferred, missing};
use super::text::{shortened, span, time_of_day};
use super::workflows::{self, unserved};

const POLL: Duration = Duration::from_millis(100);
/// How often it looks whether the run's version is served.
const LOOKS: Duration = Duration::from_secs(1);
/// How long a run may take to appear: its request may still be on its way through the inbox.
const APPEARS: Duration = Duration::from_secs(5);
const PAGE: u64 = 1000;
const EXAMPLES: &str = "\
Examples:
  stepfleet follow otters-1
  stepfleet follow otters-1 --json | jq -r .step      one record on a line

The exit code is 0 when the run completed, and 1 when it did not.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    id: String,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> Outcome {
    let store = fleet.store()?;
    let mut follower = Follower { json: fleet.json, seen: 0, away: false, looked: None, unserved: false };
    let mut run = appear(&store, &options.id).await?;
    loop {
        // Read before the records: what is over has them all.
        let over = run.status.is_over();
        if follower.print_new(&store, &run.id).await? && over {
            return Ok(follower.end(&run));
        }
        follower.look_for_workers(&store, &run).await?;
        tokio::time::sleep(POLL).await;
        match store.run(&run.id).await {
            Ok(Some(now)) => (run, follower.away) = (now, false),
            Ok(None) => return Err(Failure::new(format!("the run {} has expired while it was followed", run.id))),
            Err(error) => follower.bear(error)?,
        }
    }
}

/// Waits for a run that has just been started, or that waits for a worker.
async fn appear(store: &RedisStore, id: &str) -> Result<Run, Failure> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        if let Some(run) = store.run(id).await? {
            return Ok(run);
        }
        match find_deferred(store, id).await? {
            Some(deferred) if !told => {
                eprintln!("{id} waits for a worker that serves the workflow \"{}\"", deferred.request.workflow);
                told = true;
            }
            None if began.elapsed() > APPEARS => return Err(Failure::new(missing(store, id).await?)),
            _ => {}
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Follower {
    json: bool,
    seen: u64,
    away: bool,
    /// When it last looked whether the run's version is served, and how that was.
    looked: Option<Instant>,
    unserved: bool,
}

impl Follower {
    /// Prints the records that are there; false where they could not be read.
    async fn print_new(&mut self, store: &RedisStore, run: &str) -> Result<bool, Failure> {
        loop {
            let records = match store.history(run, self.seen, PAGE).await {
                Ok(records) => records,
                Err(error) => return self.bear(error).map(|()| false),
            };
            for record in &records {
                self.seen += 1;
                if self.json {
                    output::json(record)?;
                } else {
                    output::line(&line(record));
                }
            }
            if (records.len() as u64) < PAGE {
                return Ok(true);
            }
        }
    }

    /// That nobody serves the run's version is told once; a run is not stuck without a word.
    async fn look_for_workers(&mut self, store: &RedisStore, run: &Run) -> Result<(), Failure> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let looked = async { Ok((workflows::read(store).await?, store.now_ms().await?)) };
        let (all, now) = match looked.await {
            Ok(looked) => looked,
            Err(error) => return self.bear(error),
        };
        let waits = unserved(run, &all, now);
        if let (Some(waits), false) = (&waits, self.unserved) {
            eprintln!("{} waits {waits}", run.id);
        }
        self.unserved = waits.is_some();
        Ok(())
    }

    /// Redis being away is told once, and waited for.
    fn bear(&mut self, error: stepfleet::Error) -> Result<(), Failure> {
        if !error.is_unavailable() {
            return Err(error.into());
        }
        if !self.away {
            eprintln!("{error}; going on as soon as it is back");
        }
        self.away = true;
        Ok(())
    }

    fn end(&self, run: &Run) -> ExitCode {
        let completed = run.status == Status::Completed;
        if !completed && !self.json {
            let reason = run.error.as_deref().unwrap_or("no reason was recorded");
            eprintln!("run {} ended as {}: {reason}", run.id, run.status);
        }
        if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn line(record: &Record) -> String {
    let good = match record.kind {
        Kind::Done | Kind::Completed | Kind::Start => Some(true),
        Kind::Failed => Some(false),
        _ => None,
    };
    let kind = output::graded(&format!("{:<9}", record.kind.as_str()), good);
    let at = time_of_day(record.at_ms);
    if record.seq == 0 {
        return format!("{at}  {kind}  {}", shortened(&record.detail, 200)).trim_end().to_owned();
    }
    let detail = match record.kind {
        Kind::Done => record.began_ms().map(|began| format!("in {}", span(record.at_ms.saturating_sub(began)))),
        Kind::Retry => record.detail.split_once(' ').map(|(delay, error)| {
            format!("again in {}: {}", span(delay.parse().unwrap_or_default()), shortened(error, 200))
        }),
        _ => Some(shortened(&record.detail, 200)),
    };
    let Record { seq, attempt, step, worker, .. } = record;
    format!("{at}  {kind}  #{seq} {step}, attempt {attempt}, on {worker}  {}", detail.unwrap_or_default())
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(record: &str) -> String {
        let told = line(&Record::parse(record.as_bytes()));
        told.split_once("  ").unwrap().1.to_owned()
    }

    #[test]
    fn each_record_is_one_readable_line() {
        assert_eq!(told("1000 start 0 0 - - rag 3"), "start      rag 3");
        assert_eq!(told("1250 done 4 2 fetch w-1 1000"), "done       #4 fetch, attempt 2, on w-1  in 250ms");
        assert_eq!(
            told("1 retry 4 2 fetch w-1 1500 no\nroute"),
            "retry      #4 fetch, attempt 2, on w-1  again in 1.5s: no route"
        );
        assert_eq!(told("1 lost 4 2 fetch w-1 "), "lost       #4 fetch, attempt 2, on w-1");
    }
}
