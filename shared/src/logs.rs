//! Log lines as JSON, the same from workers and coordinators: an object each, in which the fields of the event and of the spans around it
//! are side by side, so that `run`, `step` and `attempt` are at the same place in every line that concerns one.

use std::fmt;

use serde::Serializer as _;
use serde::ser::SerializeMap as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

/// What every line has; fields of these names are left out.
const OURS: [&str; 3] = ["timestamp", "level", "target"];

/// Writes events as JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLines;

impl JsonLines {
    /// How fields of spans are to be kept for it.
    pub fn fields() -> JsonFields {
        JsonFields::new()
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        // Inner spans go before outer ones.
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(Ok(of_span)) =
                span.extensions().get::<FormattedFields<N>>().map(|text| serde_json::from_str(text))
            {
                let of_span: Map<String, Value> = of_span;
                fields.0.extend(of_span);
            }
        }
        event.record(&mut fields);
        let line = line(event, &fields.0).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

fn line(event: &Event<'_>, fields: &Map<String, Value>) -> serde_json::Result<String> {
    let mut time = String::new();
    // Writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let mut bytes = Vec::new();
    let mut json = serde_json::Serializer::new(&mut bytes);
    let mut line = json.serialize_map(None)?;
    line.serialize_entry("timestamp", &time)?;
    line.serialize_entry("level", event.metadata().level().as_str())?;
    line.serialize_entry("target", event.metadata().target())?;
    // The message comes first, for people who read the lines as they are.
    let (message, others) = (fields.get("message"), fields.iter().filter(|(name, _)| *name != "message"));
    for (name, value) in message.map(|message| ("message", message)).into_iter().chain(others.map(|(n, v)| (&**n, v))) {
        if !OURS.contains(&name) {
            line.serialize_entry(name, value)?;
        }
    }
    line.end()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        // `r#type` is a field named `type`.
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonLines::fields())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn fields_of_the_event_and_its_spans_stand_side_by_side() {
        let lines = written(|| {
            let _step = tracing::error_span!("step", run = "r1", attempt = 2, level = "mine").entered();
            let _own = tracing::info_span!("own", order = 7, attempt = "inner").entered();
            tracing::warn!(run = "other", price = 1.5, paid = true, what = ?Some(1), "it \"failed\"\nbadly");
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        for (field, value) in [
            ("level", Value::from("WARN")),
            ("message", "it \"failed\"\nbadly".into()),
            ("run", "other".into()),
            ("attempt", "inner".into()),
            ("order", 7.into()),
            ("price", 1.5.into()),
            ("paid", true.into()),
            ("what", "Some(1)".into()),
        ] {
            assert_eq!(line[field], value, "{line}");
        }
        assert!(line["timestamp"].as_str().unwrap().starts_with("20") && line["target"].is_string(), "{line}");
    }

    #[test]
    fn an_event_in_no_span_is_a_line_too() {
        let lines = written(|| tracing::info!("ready"));
        assert_eq!((lines.len(), &lines[0]["message"]), (1, &Value::from("ready")));
    }
}
