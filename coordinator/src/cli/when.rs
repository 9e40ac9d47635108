//! Times as people give them. Pure.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What `--help` says of every option that takes a time.
pub(super) const FORMS: &str = "a length of time before now, as in 30s, 10m, 1h or 2d, or a moment, as in \
                                2026-11-30, \"2026-11-30 10:00\" (on this machine's clock) or 2026-11-30T10:00:00Z";

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Ago(Duration),
    /// In ms since 1970.
    At(u64),
}

impl When {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let local =
            |text: &str| text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp());
        let at = text.parse::<Timestamp>().ok().or_else(|| local(text));
        let ms = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        ms.map(Self::At).ok_or_else(|| format!("use {FORMS}"))
    }

    /// In ms since 1970, on Redis' clock.
    pub(super) fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Ago(ago) => now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            Self::At(ms) => ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_lengths_or_moments() {
        assert_eq!(When::parse("1h 30m").unwrap().ms(6_000_000), 600_000);
        assert_eq!(When::parse("2d").unwrap().ms(1), 0);
        assert_eq!(When::parse("1970-01-01T00:01:00Z").unwrap(), When::At(60_000));
        assert_eq!(When::parse("2026-11-30T10:00:00+01:00").unwrap(), When::parse("2026-11-30T09:00:00Z").unwrap());
        for local in ["2026-11-30", "2026-11-30 10:00", "2026-11-30T10:00:00"] {
            assert!(matches!(When::parse(local), Ok(When::At(_))), "{local}");
        }
        assert!(When::parse("yesterday").unwrap_err().contains("as in"));
    }
}
