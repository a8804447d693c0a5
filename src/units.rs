//! Units for people: durations, times, amounts; written in SI and ISO, read with or without a space.

use std::time::Duration;

use meshnode_protocol::time::Timestamp;

/// A text that is no duration; the sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DurationError(String);

impl std::fmt::Display for DurationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is no duration: write 90s, 15min, 24h or 30d", self.0)
    }
}

impl std::error::Error for DurationError {}

/// Reads `90s 15min 24h 30d`, also `500ms` and `0`; `m` is minutes. At most ten years.
///
/// # Errors
/// With the text, when it is none of these.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.escape_default().to_string());
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit.trim_start() {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let ms = number.checked_mul(unit_ms).ok_or_else(wrong)?;
    if ms > DURATION_MS_MAX {
        return Err(wrong());
    }
    Ok(Duration::from_millis(ms))
}

/// A point in time as a person types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeWord {
    /// So long ago.
    Ago(Duration),
    /// Then.
    Then(Timestamp),
}

impl TimeWord {
    /// The time that is meant now.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => {
                let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_ms(now.ms().saturating_sub(ms))
            }
            Self::Then(time) => time,
        }
    }
}

/// Reads a time: a duration means so long ago; else `2026-11-20`, `2026-11-20T19:04`, or with an offset; without one
/// it is this machine's time.
///
/// # Errors
/// With the text, when it is none of these.
pub(crate) fn parse_time(text: &str) -> Result<TimeWord, String> {
    if let Ok(span) = parse_duration(text) {
        return Ok(TimeWord::Ago(span));
    }
    let text = text.trim();
    let there = text.parse::<jiff::Timestamp>().ok();
    let here = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::system()).ok()?;
        Some(zoned.timestamp())
    };
    let ms = there
        .or_else(here)
        .and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.map(|ms| TimeWord::Then(Timestamp::from_ms(ms)))
        .ok_or_else(|| {
            format!(
                "{} is no time: write 24h, 2026-11-20 or 2026-11-20T19:04",
                text.escape_default()
            )
        })
}

/// A span in its largest fitting unit, rounded down: `0.4 s`, `18 s`, `6 min`, `24 h`, `6 d`.
pub(crate) fn span_s(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A span that was measured: below ten seconds with one decimal.
pub(crate) fn span_ms(ms: u64) -> String {
    if ms < 10_000 {
        format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
    } else {
        span_s(ms / 1_000)
    }
}

/// A round trip: `0.4 ms`, `18 ms`, `1.2 s`; one decimal below ten milliseconds.
pub(crate) fn rtt(us: u64) -> String {
    match us {
        0..=9_949 => tenths(us, 1_000, "ms"),
        9_950..=999_499 => format!("{} ms", (us + 500) / 1_000),
        _ => tenths(us, 1_000_000, "s"),
    }
}

/// A round trip with one decimal always: what `ping` prints.
pub(crate) fn rtt_fine(us: u64) -> String {
    tenths(us, 1_000, "ms")
}

/// An amount in powers of 1000: `310 MB`, `1.2 GB`, `0 B`.
pub(crate) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut scale = 1u64;
    while amount / scale >= 1_000 {
        scale *= 1_000;
        unit += 1;
    }
    if unit == 0 {
        return format!("{amount} B");
    }
    let tenths = u128::from(amount) * 10 / u128::from(scale);
    if tenths < 100 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

/// A time in this machine's zone: `2026-11-21 19:04 +01:00`.
pub(crate) fn local_time(time: Timestamp) -> String {
    zoned(time, jiff::tz::TimeZone::system())
}

/// A date in UTC: `2026-11-20`.
pub(crate) fn date(time: Timestamp) -> String {
    instant(time).to_string().chars().take(10).collect()
}

/// When the month of a time began (UTC), and when the next one does; `None` at the end of time.
pub(crate) fn month_of(time: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let day = instant(time).to_zoned(jiff::tz::TimeZone::UTC).date();
    let first = day.first_of_month();
    let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
    let begin = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        let ms = u64::try_from(zoned.timestamp().as_millisecond()).ok()?;
        Some(Timestamp::from_ms(ms))
    };
    Some((begin(first)?, begin(next)?))
}

/// A time for programs: RFC 3339 in UTC, to the second.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let seconds = instant(time).as_second();
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

/// `3 h ago (2026-11-20 16:04 +01:00)`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    let span = span_s(now.since_ms(time) / 1_000);
    format!("{span} ago ({})", local_time(time))
}

/// Reads `100Mbit/s`, `500 kbit/s`, `1Gbit/s`; gives bits a second.
///
/// # Errors
/// With the text, when it is none of these.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{} is no rate: write 20Mbit/s", text.escape_default());
    amount(text, &[("kbit/s", 3), ("Mbit/s", 6), ("Gbit/s", 9)]).ok_or_else(wrong)
}

/// Reads `500GB` or `1TB/month`; gives bytes.
///
/// # Errors
/// With the text, when it is none of these.
pub(crate) fn parse_volume(text: &str) -> Result<u64, String> {
    let wrong = || format!("{} is no volume: write 500GB/month", text.escape_default());
    let volume = text.trim().trim_end_matches("/month");
    amount(volume, &[("MB", 6), ("GB", 9), ("TB", 12)]).ok_or_else(wrong)
}

/// A whole number above zero and one of these units, each a power of ten.
fn amount(text: &str, units: &[(&str, u32)]) -> Option<u64> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = trimmed.split_at(digits);
    let (_, power) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(10u64.pow(*power))
}

/// A rate as it is typed, in the largest unit that makes it a whole number; what is below 1 kbit/s is left out.
pub(crate) fn whole_rate(bps: u64) -> String {
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s")];
    let whole = units.iter().find(|(unit, _)| bps.is_multiple_of(*unit));
    let (unit, name) = whole.copied().unwrap_or((1000, "kbit/s"));
    format!("{}{name}", bps / unit)
}

/// A rate without its unit, in Mbit/s: `12.4`, `100`, `0.3`.
pub(crate) fn mbits(bps: u64) -> String {
    let tenths = (bps + 50_000) / 100_000;
    if tenths.is_multiple_of(10) {
        format!("{}", tenths / 10)
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

fn instant(time: Timestamp) -> jiff::Timestamp {
    i64::try_from(time.ms())
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

fn zoned(time: Timestamp, zone: jiff::tz::TimeZone) -> String {
    instant(time)
        .to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M %:z")
        .to_string()
}

fn tenths(value: u64, scale: u64, unit: &str) -> String {
    let tenths = (value.saturating_mul(10) + scale / 2) / scale;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Ten years: longer spans are typing mistakes.
const DURATION_MS_MAX: u64 = 3_653 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<u64> {
        parse_duration(text)
            .ok()
            .and_then(|d| u64::try_from(d.as_millis()).ok())
    }

    #[test]
    fn durations_are_read_with_and_without_a_space_and_m_is_minutes() {
        assert_eq!(ms("90s"), Some(90_000));
        assert_eq!(ms("15min"), Some(900_000));
        assert_eq!(ms("15 m"), Some(900_000));
        assert_eq!(ms("24 h"), Some(86_400_000));
        assert_eq!(ms("30d"), Some(2_592_000_000));
        assert_eq!(ms("0"), Some(0));
    }

    #[test]
    fn a_time_is_a_span_ago_or_a_date() {
        let now = Timestamp::from_ms(1_795_284_240_500);
        let read = |text: &str| parse_time(text).map(|word| word.before(now).ms());
        assert_eq!(read("24h"), Ok(now.ms() - 86_400_000));
        assert_eq!(read("2026-11-21T18:04:00Z"), Ok(1_795_284_240_000));
        assert_eq!(read("2026-11-21T19:04:00+01:00"), Ok(1_795_284_240_000));
        assert!(read("2026-11-21").is_ok() && read("2026-11-21 19:04").is_ok());
        for text in ["", "yesterday", "2026-13-01", "1960-01-01"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_named_in_the_sentence() {
        for text in [
            "",
            "5",
            "h",
            "-5s",
            "5 weeks",
            "1.5h",
            "99999999999999999999s",
            "9999999d",
        ] {
            assert_eq!(ms(text), None, "{text}");
        }
        let error = parse_duration("5 weeks").unwrap_err().to_string();
        assert_eq!(
            error,
            "5 weeks is no duration: write 90s, 15min, 24h or 30d"
        );
    }

    #[test]
    fn spans_take_the_largest_unit_that_says_at_least_two_of_it() {
        let spans = [0, 18, 119, 360, 7_200, 86_400, 518_400].map(span_s);
        assert_eq!(
            spans,
            ["0 s", "18 s", "119 s", "6 min", "2 h", "24 h", "6 d"]
        );
        assert_eq!(span_ms(340), "0.3 s");
        assert_eq!(span_ms(61_000), "61 s");
    }

    #[test]
    fn round_trips_and_amounts_are_short_and_in_powers_of_1000() {
        assert_eq!(
            [400, 18_000, 9_949, 9_950, 1_200_000].map(rtt),
            ["0.4 ms", "18 ms", "9.9 ms", "10 ms", "1.2 s"]
        );
        assert_eq!(rtt_fine(63_400), "63.4 ms");
        assert_eq!(
            [0, 999, 1_000, 4_000_000, 80_000_000, 1_250_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "4.0 MB", "80 MB", "1.2 GB"]
        );
        assert_eq!(bytes(u64::MAX), "18 EB");
    }

    #[test]
    fn rates_and_volumes_are_read_with_their_unit_and_not_without() {
        assert_eq!(parse_rate("20Mbit/s"), Ok(20_000_000));
        assert_eq!(parse_rate(" 500 kbit/s"), Ok(500_000));
        assert_eq!(parse_volume("1TB/month"), Ok(1_000_000_000_000));
        assert_eq!(parse_volume("500 GB"), Ok(500_000_000_000));
        for text in [
            "",
            "20",
            "Mbit/s",
            "0Mbit/s",
            "20mbit/s",
            "99999999999Gbit/s",
        ] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(parse_volume("1TB/week").is_err());
        assert_eq!(
            [12_400_000, 100_000_000, 340_000, 0].map(mbits),
            ["12.4", "100", "0.3", "0"]
        );
    }

    #[test]
    fn times_are_local_with_offset_for_people_and_utc_for_programs() {
        let time = Timestamp::from_ms(1_795_284_240_500);
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(zoned(time, zone), "2026-11-21 19:04 +01:00");
        assert_eq!(rfc3339(time), "2026-11-21T18:04:00Z");
        assert_eq!(date(time), "2026-11-21");
    }

    #[test]
    fn the_end_of_time_does_not_panic() {
        let never = Timestamp::from_ms(u64::MAX);
        assert!(local_time(never).starts_with("9999"));
        assert!(rfc3339(never).starts_with("9999"));
    }
}
