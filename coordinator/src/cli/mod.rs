//! The command line: one file for each command.

mod audit;
mod bulk;
mod coordinator;
mod default_user;
mod dev;
mod doctor;
mod entity;
mod error;
mod follow;
mod fork;
mod graph;
mod new;
mod output;
mod pause;
mod published;
mod questions;
mod rejected;
mod retry;
mod runs;
mod server;
mod session;
mod shell;
mod show;
mod snapshot;
mod start;
mod steer;
mod steps;
mod text;
mod told;
mod when;
mod workers;
mod workflows;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use stepfleet_shared::env;
use stepfleet_shared::health::{Alive, Health, Listening, Token};
use stepfleet_shared::logs::JsonLines;
use stepfleet_shared::metrics::{Process, Registry};
use stepfleet_shared::outage::Outages;
use stepfleet_shared::partition::MAX_PARTITIONS;
use stepfleet_shared::partitions::Home;
use stepfleet_shared::{Client, Partitions};
use tracing_subscriber::EnvFilter;

use self::error::{CliError, CliResult};

const EXAMPLES: &str = "\
Try it:
  stepfleet dev                   a Redis and a coordinator, for development, at redis://127.0.0.1:6390
  stepfleet new hello             a worker project; cd hello && cargo run
  stepfleet start hello --input '\"Ann\"' --wait

All commands, workers and clients look at redis://127.0.0.1:6390 unless STEPFLEET_REDIS (or --redis) says otherwise.

Look at a fleet:
  stepfleet runs                  the newest runs
  stepfleet show <id>             one run: times, steps, result or error
  stepfleet rejected              requests that could not be taken, and why
  stepfleet follow <id>           what happens to it, as it happens
  stepfleet workers               who is there, and how busy
  stepfleet workflows             what they serve; graph <workflow> draws it
  stepfleet doctor                is this Redis fit, and what to change

All commands but `coordinator` and `dev` end by themselves; --json is for programs.";

const HEADING: &str = "For all commands";

/// Durable workflows on the Redis you already run.
#[derive(Parser)]
#[command(name = "stepfleet", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    fleet: Fleet,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Which fleet, and how to print.
#[derive(Args)]
struct Fleet {
    /// The Redis.
    #[arg(
        long,
        help_heading = HEADING,
        help = "The Redis: redis://[user:password@]host[:port][/db], unix:///path, \
                redis+sentinel://host:port,host:port/master-name or redis+cluster://host:port,host:port; rediss in place of \
                redis for TLS, with ?ca=FILE, &cert=FILE&key=FILE and &password_file=FILE where needed \
                [default: redis://127.0.0.1:6390]",
        global = true,
        value_name = "URL",
        env = "STEPFLEET_REDIS",
        hide_env_values = true
    )]
    redis: Option<String>,
    /// A file that has the URL.
    #[arg(
        long,
        help_heading = HEADING,
        help = "A file that has that URL, for those who keep it secret; --redis and STEPFLEET_REDIS go before it",
        global = true,
        value_name = "FILE",
        env = "STEPFLEET_REDIS_FILE"
    )]
    redis_file: Option<PathBuf>,
    /// What these come to.
    #[arg(skip)]
    url: String,
    /// The namespace: what all keys of the fleet begin with
    #[arg(long, help_heading = HEADING, global = true, value_name = "NAME", env = "STEPFLEET_NAMESPACE", default_value = "sf")]
    namespace: String,
    /// Print JSON, for programs
    #[arg(long, help_heading = HEADING, global = true)]
    json: bool,
}

impl Fleet {
    /// Finds out where Redis is.
    fn resolve(&mut self) -> Result<(), CliError> {
        let file = self.redis_file.as_deref().filter(|file| !file.as_os_str().is_empty());
        self.url = env::redis_from(self.redis.take(), file)?;
        Ok(())
    }

    fn home(&self) -> Result<Home, CliError> {
        Ok(Home::at(&self.url, &self.namespace)?)
    }

    /// The partitions of the namespace; only partition 0 if it does not exist yet.
    async fn partitions(&self) -> Result<Partitions, CliError> {
        Ok(self.home()?.known().await?)
    }

    fn client(&self) -> Result<Client, CliError> {
        Ok(Client::connect_to(&self.url, &self.namespace)?)
    }
}

/// The number of partitions of a new namespace.
#[derive(Args)]
struct Creation {
    /// Create the namespace with this many partitions, if it is new; the number is fixed then [default: 16 in a
    /// cluster, else 1]
    #[arg(long, value_name = "N", env = "STEPFLEET_PARTITIONS", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PARTITIONS)))]
    partitions: Option<u16>,
}

/// The health endpoints of the process.
#[derive(Args)]
struct HealthAddress {
    /// Answer /livez, /readyz and /metrics over HTTP at this address, for those who watch over the process; not one that the internet can reach
    #[arg(long, value_name = "ADDRESS:PORT", env = "STEPFLEET_HEALTH")]
    health: Option<SocketAddr>,
    /// Ask for the token in this file before /metrics is shown, or why the process is not ready
    #[arg(long, value_name = "FILE", env = "STEPFLEET_METRICS_TOKEN_FILE")]
    metrics_token_file: Option<PathBuf>,
}

/// The health endpoints of a process, and what it counts.
struct Watched {
    health: Health,
    metrics: Registry,
    _alive: Alive,
    _listening: Option<Listening>,
}

impl HealthAddress {
    /// Listens at the given address, if any, until the value is dropped.
    fn watch(&self, outages: &Outages) -> Result<Watched, CliError> {
        let metrics = Registry::new(Process::Coordinator, outages);
        let health = Health::new(outages).with_metrics(&metrics, self.token()?);
        Ok(Watched { _alive: health.alive(), _listening: self.listen(&health)?, health, metrics })
    }

    /// The file comes from the flag or its variable.
    fn token(&self) -> Result<Option<Token>, CliError> {
        let Some(file) = &self.metrics_token_file else { return Ok(Token::from_env()?) };
        Ok(Some(Token::from_file(file)?))
    }

    fn listen(&self, health: &Health) -> Result<Option<Listening>, CliError> {
        let Some(address) = self.health else { return Ok(None) };
        let failed = |error| {
            CliError::new(format!(
                "the health endpoints cannot listen on {address} ({error}); give another address with --health"
            ))
        };
        health.listen(address).map(Some).map_err(failed)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run a coordinator until SIGTERM or ctrl-c
    Coordinator(coordinator::Options),
    /// Run a Redis and a coordinator on this machine, for development
    Dev(dev::Options),
    /// Make a worker project: a small workflow, its test, a Dockerfile
    New(new::Options),
    /// Start a run
    Start(start::Options),
    /// List runs, newest first
    Runs(runs::Options),
    /// List the requests that were rejected, with the reasons, newest first
    Rejected(rejected::Options),
    /// Show one run: its times, its steps, its result or error
    Show(show::Options),
    /// Print a run's context as JSON
    Snapshot(snapshot::Options),
    /// Show a session: its context, the run whose turn it is, and those that wait for theirs
    Session(session::Options),
    /// Print the value of an entity as JSON
    Entity(entity::Options),
    /// Print what a run has recorded, to be replayed against other code
    Export(snapshot::Export),
    /// Print what happens to a run, as it happens
    Follow(follow::Options),
    /// Cancel a run
    Cancel(steer::Cancel),
    /// Retry failed runs from the step that failed
    Retry(retry::Options),
    /// Fork runs: start new ones from a point of others
    Fork(fork::Options),
    /// Pause runs: no step of theirs begins until they are resumed
    Pause(pause::Pause),
    /// Resume paused runs
    Resume(pause::Resume),
    /// Send a run the signal that one of its steps waits for
    Signal(steer::Signal),
    /// List the questions that runs ask people
    Questions(questions::Questions),
    /// Answer a question of a run
    Answer(questions::Answer),
    /// Send an event to the steps of a run that is under way
    Send(steer::Send),
    /// List the workers
    Workers,
    /// List the workflows that workers serve, or have served
    Workflows,
    /// Draw a workflow: its steps, and the events between them
    Graph(graph::Options),
    /// Check whether this Redis is fit for a fleet
    Doctor(doctor::Options),
    /// Print a script that completes commands and options in a shell
    Completions(shell::Completions),
    /// Print the manual page, or write one for each command
    Man(shell::Man),
    /// Keeps the server of `dev` no longer than `dev` itself
    #[command(hide = true)]
    DevServer(server::Options),
}

/// All commands and flags of the program, as data.
#[doc(hidden)]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The program `stepfleet`: reads its arguments, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("stepfleet: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = cli.fleet.resolve().and_then(|()| runtime.block_on(run(&cli)));
    let code = match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("stepfleet: {}", failure.sentence(&cli.fleet.url));
            ExitCode::FAILURE
        }
    };
    runtime.shutdown_background();
    code
}

async fn run(cli: &Cli) -> CliResult {
    let fleet = &cli.fleet;
    let Some(command) = &cli.command else {
        output::line(shell::NEXT);
        return Ok(ExitCode::SUCCESS);
    };
    match command {
        Command::Coordinator(options) => coordinator::run(fleet, options).await,
        Command::Dev(options) => dev::run(fleet, options).await,
        Command::New(options) => new::run(fleet, options),
        Command::Start(options) => start::run(fleet, options).await,
        Command::Runs(options) => runs::run(fleet, options).await,
        Command::Rejected(options) => rejected::run(fleet, options).await,
        Command::Show(options) => show::run(fleet, options).await,
        Command::Snapshot(options) => snapshot::run(fleet, options).await,
        Command::Session(options) => session::run(fleet, options).await,
        Command::Entity(options) => entity::run(fleet, options).await,
        Command::Export(options) => snapshot::export(fleet, options).await,
        Command::Follow(options) => follow::run(fleet, options).await,
        Command::Cancel(options) => steer::cancel(fleet, options).await,
        Command::Retry(options) => retry::run(fleet, options).await,
        Command::Fork(options) => fork::run(fleet, options).await,
        Command::Pause(options) => pause::pause(fleet, options).await,
        Command::Resume(options) => pause::resume(fleet, options).await,
        Command::Signal(options) => steer::signal(fleet, options).await,
        Command::Questions(options) => questions::list(fleet, options).await,
        Command::Answer(options) => questions::answer(fleet, options).await,
        Command::Send(options) => steer::send(fleet, options).await,
        Command::Workers => workers::run(fleet).await,
        Command::Workflows => workflows::run(fleet).await,
        Command::Graph(options) => graph::run(fleet, options).await,
        Command::Doctor(options) => doctor::run(fleet, options).await,
        Command::Completions(options) => {
            shell::completions(Cli::command(), options);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(options) => shell::man(Cli::command(), options),
        Command::DevServer(options) => server::run(options).await,
    }
}

/// Logs go to standard error, at the level that `RUST_LOG` says (info by default), as JSON with `--json` or `STEPFLEET_LOG_FORMAT=json`.
fn log_to_stderr(json: bool, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // A line that cannot be written is lost; it ends nothing.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if json || std::env::var("STEPFLEET_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.fmt_fields(JsonLines::fields()).event_format(JsonLines).init();
    } else {
        logs.with_target(false).with_ansi(output::is_coloured(&std::io::stderr())).init();
    }
}

/// Waits for SIGTERM or ctrl-c. A second one ends the process at once, whatever it is at.
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut told = async move || {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    told().await;
    tokio::spawn(async move {
        told().await;
        std::process::exit(1);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    /// The help of every option says which values it takes: those that there are, or in which units.
    #[test]
    fn the_help_names_values_and_units() {
        for command in super::Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for option in command.get_arguments() {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                let named = option.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
                let of = format!("{} {:?}: {help}", command.get_name(), option.get_id());
                assert!(!help.is_empty(), "{of}");
                match named.as_deref() {
                    Some("TIME") => assert!(help.contains("as in"), "{of}"),
                    Some("STATUS" | "FORMAT" | "SHELL") => assert!(!option.get_possible_values().is_empty(), "{of}"),
                    _ => {}
                }
            }
        }
    }
}
