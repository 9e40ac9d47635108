//! Small texts: times, lengths, addresses. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A length of time in at most two units.
pub(super) fn span(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{ms}ms"),
        (0, 0, 0, s) => format!("{s}.{}s", ms % 1000 / 100),
        (0, 0, m, s) => format!("{m}m{:02}s", s % 60),
        (0, h, m, _) => format!("{h}h{:02}m", m % 60),
        (d, h, ..) => format!("{d}d{:02}h", h % 24),
    }
}

/// A moment in this machine's time zone.
pub(super) fn moment(ms: u64) -> String {
    in_zone(ms, "%Y-%m-%d %H:%M:%S%.3f")
}

/// The time of day in this machine's time zone.
pub(super) fn time_of_day(ms: u64) -> String {
    in_zone(ms, "%H:%M:%S%.3f")
}

fn in_zone(ms: u64, format: &str) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "?".into(), |at| at.to_zoned(TimeZone::system()).strftime(format).to_string())
}

/// The beginning of a text that may be long, in one line.
pub(super) fn shortened(text: &str, characters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters) {
        Some((at, _)) => format!("{}... ({} bytes; --full shows all)", &line[..at], text.len()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (59_999, "59.9s"),
            (61_000, "1m01s"),
            (3_660_000, "1h01m"),
            (90_000_000, "1d01h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn moments_of_any_size_are_fine() {
        assert!(moment(1_700_000_000_123).ends_with(".123"));
        assert_eq!(moment(u64::MAX), "?");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("a\n  b", 10), "a b");
        assert_eq!(shortened("ééééé", 2), "éé... (10 bytes; --full shows all)");
    }
}
