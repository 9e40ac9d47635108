//! `stepfleet session`, and what others tell of sessions.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use stepfleet_shared::client::SessionStatus;
use stepfleet_shared::run::Run;
use stepfleet_shared::store::{ReaderStore, SessionInfo};

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::text::moment;

/// How many runs that wait are listed.
const LISTED: usize = 20;

const EXAMPLES: &str = "\
Examples:
  stepfleet session user-7
  stepfleet session user-7 --context           only what its runs share
  stepfleet session user-7 --json | jq .running

Any Redis client can do the same: LRANGE sf:{0}:line:user-7 0 -1 gives the runs, the one whose turn it is first.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The session's name
    name: String,
    /// Only the context
    #[arg(long)]
    context: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let Some(session) = fleet.client()?.session(&options.name).status().await? else {
        return Err(CliError::new(format!(
            "there is no session {}; no run was started in it, or it has expired",
            options.name
        )));
    };
    if options.context {
        output::json(&session.context)?;
    } else if fleet.json {
        output::json(&session)?;
    } else {
        for line in shown(&session) {
            output::line(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(session: &SessionStatus) -> Vec<String> {
    let SessionStatus { name, running, waiting, completed, expires_ms, context, .. } = session;
    let field = |name: &str, value: &str| format!("{name:<10}{value}");
    let mut lines = vec![field("session", name), field("turn", running.as_deref().unwrap_or("nobody's"))];
    let mut listed: Vec<&str> = waiting.iter().take(LISTED).map(String::as_str).collect();
    let more = format!("{} more", waiting.len().saturating_sub(LISTED));
    if waiting.len() > LISTED {
        listed.push(&more);
    }
    if !listed.is_empty() {
        lines.push(field("waiting", &listed.join(", ")));
    }
    lines.push(field("completed", &completed.to_string()));
    lines.extend(expires_ms.map(|ms| field("expires", &moment(ms))));
    lines.push(field("context", &Value::Object(context.clone()).to_string()));
    lines
}

/// What a run of a session waits for; None if it does not wait for its turn.
pub(super) async fn turn(store: &dyn ReaderStore, run: &Run) -> stepfleet_shared::Result<Option<String>> {
    let Some(name) = run.session.as_ref().filter(|_| !run.status.is_over()) else { return Ok(None) };
    let session = store.session(name).await?.unwrap_or_default();
    Ok(place(&session, &run.id).map(|place| format!("for its turn in session {name}, {place}")))
}

/// `behind run a (2 are ahead of it)`.
fn place(session: &SessionInfo, run: &str) -> Option<String> {
    let at = session.waiting.iter().position(|other| other == run)?;
    let before = match at {
        0 => session.running.as_ref(),
        _ => session.waiting.get(at - 1),
    };
    let more = if at == 0 { String::new() } else { format!(" ({} are ahead of it)", at + 1) };
    Some(before.map_or_else(|| "which no run has yet".to_owned(), |before| format!("behind run {before}{more}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_line_is_told_by_the_run_before_it() {
        let waiting = vec!["b".to_owned(), "c".to_owned()];
        let session = SessionInfo { running: Some("a".into()), waiting, ..SessionInfo::default() };
        assert_eq!(place(&session, "a"), None);
        assert_eq!(place(&session, "b").unwrap(), "behind run a");
        assert_eq!(place(&session, "c").unwrap(), "behind run b (2 are ahead of it)");
    }

    #[test]
    fn a_session_is_shown_with_those_that_wait() {
        let mut session = SessionStatus::new("s");
        session.waiting = (0..22).map(|n| format!("r{n}")).collect();
        session.context = serde_json::json!({"asked": 3}).as_object().cloned().unwrap_or_default();
        (session.running, session.completed) = (Some("r".into()), 7);
        let told = shown(&session);
        assert_eq!(told[1], "turn      r");
        assert!(told[2].starts_with("waiting   r0, r1") && told[2].ends_with("r19, 2 more"), "{}", told[2]);
        assert_eq!(told[4], "context   {\"asked\":3}");
        (session.running, session.waiting) = (None, Vec::new());
        assert_eq!(shown(&session)[1..3], ["turn      nobody's", "completed 7"]);
    }
}
