//! A worker's log lines, if its process has no subscriber.

use std::io::IsTerminal;

use stepfleet_shared::logs::JsonLines;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::WorkerError;

const FILTER: &str = "STEPFLEET_LOG";
const FORMAT: &str = "STEPFLEET_LOG_FORMAT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Writes log lines to standard error from now on, unless the process has a subscriber.
pub(super) fn listen_if_nobody_does() -> Result<(), WorkerError> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // A mistake is reported even if the user's own subscriber ignores these settings.
    let format = format(var(FORMAT).as_deref())?;
    let filter = filter(var(FILTER).as_deref(), var("RUST_LOG").as_deref())?;
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    // A line that cannot be written is lost; it ends nothing.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    // It does no harm if another one was set meanwhile.
    let _ = match format {
        Format::Json => lines.fmt_fields(JsonLines::fields()).event_format(JsonLines).finish().try_init(),
        Format::Text => lines.with_ansi(is_coloured()).finish().try_init(),
    };
    Ok(())
}

fn is_coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn format(given: Option<&str>) -> Result<Format, WorkerError> {
    match given {
        None | Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(WorkerError::Setting(format!("{FORMAT} is {other:?}; it must be text or json"))),
    }
}

/// `RUST_LOG` may be meant for other programs: what cannot be read there is ignored.
fn filter(own: Option<&str>, common: Option<&str>) -> Result<EnvFilter, WorkerError> {
    let read = |text: &str| EnvFilter::builder().parse(text);
    match own {
        Some(own) => read(own).map_err(|error| {
            WorkerError::Setting(format!(
                "{FILTER} is {own:?} ({error}); it must be like info, off or info,my_crate=debug"
            ))
        }),
        None => Ok(common.and_then(|common| read(common).ok()).unwrap_or_else(|| EnvFilter::new("info"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_text_unless_json_is_asked_for() {
        assert_eq!(format(None).unwrap(), Format::Text);
        assert_eq!(format(Some("json")).unwrap(), Format::Json);
        assert_eq!(
            format(Some("xml")).unwrap_err().to_string(),
            "STEPFLEET_LOG_FORMAT is \"xml\"; it must be text or json"
        );
    }

    #[test]
    fn its_own_filter_goes_before_the_common_one() {
        let chosen = |own, common| filter(own, common).unwrap().to_string();
        assert_eq!(chosen(Some("warn"), Some("debug")), "warn");
        assert_eq!(chosen(None, Some("debug")), "debug");
        assert_eq!(chosen(None, Some("a=b=c")), "info");
        assert_eq!(chosen(None, None), "info");
        let mistake = filter(Some("stepfleet=loud"), None).unwrap_err().to_string();
        assert!(
            mistake.starts_with("STEPFLEET_LOG is \"stepfleet=loud\" (") && mistake.contains("must be like"),
            "{mistake}"
        );
    }
}
