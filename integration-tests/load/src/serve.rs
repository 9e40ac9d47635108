//! A worker process: optionally many workers, each with separate connections.

use stepfleet::Worker;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::wire::{Said, Told};
use crate::{Fallible, meter, workflows};

/// What a worker process is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    /// The Redis.
    #[arg(long)]
    pub(crate) url: String,
    /// Workflows.
    #[arg(long, value_delimiter = ',')]
    pub(crate) workflows: Vec<String>,
    /// Workers.
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: usize,
    /// Steps at once of each.
    #[arg(long, default_value_t = 64)]
    pub(crate) concurrency: usize,
}

/// Works until standard input is closed.
pub(crate) async fn serve(settings: Serve) -> Fallible<()> {
    let mut workers = JoinSet::new();
    for _ in 0..settings.workers {
        let worker = Worker::connect(&settings.url)?.concurrency(settings.concurrency).allow_unpersisted();
        workers.spawn(workflows::serve(worker, &settings.workflows)?.run_until(std::future::pending()));
    }
    tokio::select! {
        ended = workers.join_next() => Err(format!("a worker has ended: {ended:?}").into()),
        listened = listen() => listened,
    }
}

async fn listen() -> Fallible<()> {
    let (line, mut lines) = mpsc::unbounded_channel();
    // A read of standard input cannot be cancelled; a separate thread ends with the process.
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
    while let Some(line) = lines.recv().await {
        match serde_json::from_str(&line)? {
            Told::Expect { bodies } => {
                meter::expect(bodies);
                Said::Expecting.say();
            }
            Told::Release => meter::release(),
            Told::Take => Said::Took(meter::taken()).say(),
        }
    }
    Ok(())
}
