//! The signals that tell a worker to stop: the first lets its steps end, the second hands them back at once.

use std::time::{Duration, Instant};

use stepfleet_shared::log;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::decisions::stopping::ends_after;

/// Listens on a separate thread: code may block all others.
pub(super) fn listen(stop: CancellationToken, now: CancellationToken, drain: Duration) -> std::io::Result<DropGuard> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let closed = CancellationToken::new();
    let guard = closed.clone().drop_guard();
    std::thread::Builder::new().name("stepfleet-signals".into()).spawn(move || {
        runtime.block_on(closed.run_until_cancelled(on_signals(stop, now, drain)));
    })?;
    Ok(guard)
}

async fn on_signals(stop: CancellationToken, now: CancellationToken, drain: Duration) {
    let Ok(mut signals) = Signals::listen() else { return std::future::pending().await };
    signals.next().await;
    let told = Instant::now();
    end_after(ends_after(drain, None));
    // Before it stops: an idle worker is gone at once, and this thread with it.
    log::info!(
        "told to stop: takes no new steps, and lets those that are running finish (signal again to hand them back at \
         once)"
    );
    stop.cancel();
    signals.next().await;
    let again = told.elapsed();
    end_after(ends_after(drain, Some(again)).saturating_sub(again));
    now.cancel();
}

/// Then ends the process, if it is still there.
fn end_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        log::error!("a task hangs: exiting without it");
        std::process::exit(1);
    });
}

/// What tells the process to stop. One that comes between two waits is not missed.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn tell() {
        let pid = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    #[tokio::test]
    async fn a_signal_that_comes_between_two_waits_is_not_missed() {
        let mut signals = Signals::listen().unwrap();
        tell();
        signals.next().await;
        tell();
        signals.next().await;
    }
}
