//! `stepfleet follow`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use stepfleet_shared::Partitions;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::published::Position;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::store::ReaderStore;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::published::{self, Asks, Shown};
use super::session::turn;
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
  stepfleet follow otters-1 --events                  what it publishes, and where its steps stand (start --follow-steps)
  stepfleet follow otters-1 --from 1795312270626-0    what it published after that entry
  stepfleet follow otters-1 --stream answer           the text of its streams of this name, as it is written

Questions that the run asks people are printed on standard error, with any of these options.

The exit code is 0 when the run completed, and 1 when it did not.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    id: String,
    /// Print what the run publishes instead of its history
    #[arg(long)]
    events: bool,
    /// As --events, with what comes after this entry of the run's stream (each line begins with its entry's id)
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
    /// Print the text of the run's streams of this name as it is written, and nothing else
    #[arg(long, value_name = "NAME", conflicts_with = "events")]
    stream: Option<String>,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let partitions = fleet.partitions().await?;
    let asks = Asks::default();
    let mut follower = Follower { json: fleet.json, seen: 0, away: false, looked: None, unserved: false, asks };
    let mut run = appear(&partitions, &options.id).await?;
    if options.events || options.from.is_some() || options.stream.is_some() {
        let shown = match &options.stream {
            Some(stream) => Shown::Text(stream),
            None => Shown::Entries,
        };
        return published::follow(fleet.json, partitions, &run.id, options.from.unwrap_or_default(), shown).await;
    }
    loop {
        // Read before the records: what is over has them all.
        let over = run.status.is_over();
        if follower.print_new(&**partitions.of(&run.id), &run.id).await? && over {
            return Ok(end(follower.json, &run));
        }
        follower.look_for_workers(&partitions, &run).await?;
        tokio::time::sleep(POLL).await;
        match partitions.run(&run.id).await {
            Ok(Some(now)) => (run, follower.away) = (now, false),
            Ok(None) => return Err(CliError::new(format!("the run {} expired while it was being followed", run.id))),
            Err(error) => follower.bear(error)?,
        }
    }
}

/// Waits for a run that has just been started, or that waits for a worker.
async fn appear(partitions: &Partitions, id: &str) -> Result<Run, CliError> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        if let Some(run) = partitions.run(id).await? {
            return Ok(run);
        }
        match find_deferred(partitions, id).await? {
            Some(deferred) if !told => {
                eprintln!("{id} waits for a worker that serves the workflow \"{}\"", deferred.request.workflow);
                told = true;
            }
            None if began.elapsed() > APPEARS => return Err(CliError::new(missing(partitions, id).await?)),
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
    asks: Asks,
}

impl Follower {
    /// Prints the existing records; false if they could not be read.
    async fn print_new(&mut self, store: &dyn ReaderStore, run: &str) -> Result<bool, CliError> {
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

    /// Says once that no worker serves the run's version, so that a stuck run is not silent.
    async fn look_for_workers(&mut self, partitions: &Partitions, run: &Run) -> Result<(), CliError> {
        if self.looked.is_some_and(|at| at.elapsed() < LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if let Err(error) = self.asks.tell(partitions, &run.id).await {
            return self.bear(error);
        }
        let looked = async { Ok((workflows::read(partitions).await?, partitions.first().now_ms().await?)) };
        let (all, now) = match looked.await {
            Ok(looked) => looked,
            Err(error) => return self.bear(error),
        };
        let waits = match turn(&**partitions.of(&run.id), run).await {
            Ok(None) => unserved(run, &all, now),
            Ok(turn) => turn,
            Err(error) => return self.bear(error),
        };
        if let (Some(waits), false) = (&waits, self.unserved) {
            eprintln!("{} waits {waits}", run.id);
        }
        self.unserved = waits.is_some();
        Ok(())
    }

    /// Says once that Redis is away, and waits for it.
    fn bear(&mut self, error: stepfleet_shared::Error) -> Result<(), CliError> {
        if !error.is_unavailable() {
            return Err(error.into());
        }
        if !self.away {
            eprintln!("{error}; following continues when it is back");
        }
        self.away = true;
        Ok(())
    }
}

pub(super) fn end(json: bool, run: &Run) -> ExitCode {
    let completed = run.status == Status::Completed;
    if !completed && !json {
        let reason = run.error.as_deref().unwrap_or("no reason was recorded");
        eprintln!("run {} ended as {}: {reason}", run.id, run.status);
    }
    if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
        return format!("{at}  {kind}  {}", shortened(&record.told(), 200)).trim_end().to_owned();
    }
    let detail = match record.kind {
        Kind::Done => record.began_ms().map(|began| format!("in {}", span(record.at_ms.saturating_sub(began)))),
        Kind::Retry => record.detail.split_once(' ').map(|(delay, error)| {
            format!("next attempt in {}: {}", span(delay.parse().unwrap_or_default()), shortened(error, 200))
        }),
        _ => Some(shortened(&record.told(), 200)),
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
            "retry      #4 fetch, attempt 2, on w-1  next attempt in 1.5s: no route"
        );
        assert_eq!(told("1 lost 4 2 fetch w-1 "), "lost       #4 fetch, attempt 2, on w-1");
    }
}
