//! Numbers and times exactly as they stand in a message.
//!
//! A JSON number such as `0.00027625` must not pass through `f64`, so it is read from the raw text; strings and
//! numbers are accepted alike because venues change their mind about which they send.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// An instant in UTC; PostgreSQL keeps its microseconds.
pub type Timestamp = DateTime<Utc>;

/// A decimal read from a JSON string or number without rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exact(pub Decimal);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        decimal(raw.get().trim_matches('"')).map(Exact).map_err(D::Error::custom)
    }
}

/// An integer read from a JSON string or number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = raw.get().trim_matches('"');
        text.parse()
            .map(Whole)
            .map_err(|_| D::Error::custom(format!("\"{text}\" is not an integer of 64 bits")))
    }
}

/// A time in RFC 3339, kept to the microsecond (PostgreSQL keeps no more).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rfc3339(pub Timestamp);

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        rfc3339(text).map(Rfc3339).map_err(D::Error::custom)
    }
}

/// A time as a literal of SQL, for statements whose bounds the planner must see as constants; `otherwise`, an infinity, for
/// a time that is none or that no row has. Spelled here from a number: no text of a feed comes into a statement.
pub fn literal(time: Option<Timestamp>, otherwise: &'static str) -> String {
    let spelled = time
        .and_then(|time| micros(time.timestamp_micros()))
        .map(|time| time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string());
    format!("'{}'::timestamptz", spelled.as_deref().unwrap_or(otherwise))
}

/// Reads a decimal without losing a digit.
///
/// # Errors
/// A text that is no number, or one with more than 28 significant digits.
pub fn decimal(text: &str) -> Result<Decimal, String> {
    let read = if text.contains(['e', 'E']) {
        Decimal::from_scientific(text)
    } else {
        Decimal::from_str_exact(text)
    };
    read.map_err(|_| format!("\"{text}\" is not a decimal of at most 28 digits"))
}

/// Reads an RFC 3339 time, dropping digits below the microsecond.
///
/// # Errors
/// A text that is no time, or a year outside of what PostgreSQL and `chrono` both hold.
pub fn rfc3339(text: &str) -> Result<Timestamp, String> {
    let time = DateTime::parse_from_rfc3339(text).map_err(|e| format!("\"{text}\" is not a time: {e}"))?;
    micros(time.timestamp_micros()).ok_or_else(|| format!("\"{text}\" is out of range"))
}

/// Reads a Unix time written as decimal seconds, for example `1618678157.908268`.
///
/// # Errors
/// A text that is no number or out of range.
pub fn unix_seconds(text: &str) -> Result<Timestamp, String> {
    let seconds = decimal(text)?;
    let micros_whole = seconds.checked_mul(Decimal::from(1_000_000)).map(|m| m.trunc());
    micros_whole
        .and_then(|m| i64::try_from(m).ok())
        .and_then(micros)
        .ok_or_else(|| format!("\"{text}\" is out of range"))
}

/// The instant `value` microseconds after 1970; `None` outside of the years 1 to 9999.
pub fn micros(value: i64) -> Option<Timestamp> {
    let time: DateTime<Utc> = DateTime::from_timestamp_micros(value)?;
    let first = DateTime::UNIX_EPOCH - TimeDelta::days(719_162);
    let last = DateTime::UNIX_EPOCH + TimeDelta::days(2_932_896);
    (first..=last).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_every_digit_and_their_scale() {
        for (json, text) in [
            ("0.00027625", "0.00027625"),
            ("\"1081.72663000\"", "1081.72663000"),
            ("12", "12"),
            ("1e-8", "0.00000001"),
            ("-0.5", "-0.5"),
        ] {
            let Exact(value) = serde_json::from_str(json).unwrap();
            assert_eq!(value.to_string(), text, "{json}");
        }
    }

    #[test]
    fn what_is_no_exact_number_is_refused() {
        for json in [
            "\"\"",
            "\"abc\"",
            "null",
            "true",
            "\"NaN\"",
            "0.12345678901234567890123456789012",
            "1e400",
            "[1]",
        ] {
            assert!(serde_json::from_str::<Exact>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn times_are_kept_to_the_microsecond() {
        let time = rfc3339("2026-11-20T15:04:05.123456789Z").unwrap();
        assert_eq!(time.to_rfc3339(), "2026-11-20T15:04:05.123456+00:00");
        assert_eq!(unix_seconds("1618678157.908268").unwrap().timestamp_micros(), 1_618_678_157_908_268);
        // Cut, not rounded: REST sends a digit more than the stream, and both are one trade.
        assert_eq!(unix_seconds("1763650802.4402956").unwrap().timestamp_micros(), 1_763_650_802_440_295);
        assert!(rfc3339("yesterday").is_err());
        assert!(unix_seconds("1e27").is_err());
        assert!(micros(i64::MAX).is_none());
    }

    #[test]
    fn times_in_statements_are_spelled_by_us() {
        let spelled = |time: &str| literal(Some(time.parse().unwrap()), "infinity");
        assert_eq!(spelled("2026-11-20T15:04:05.123456Z"), "'2026-11-20 15:04:05.123456+00'::timestamptz");
        assert_eq!(spelled("0001-01-01T00:00:00Z"), "'0001-01-01 00:00:00.000000+00'::timestamptz");
        // A leap second has a spelling that is none of PostgreSQL's.
        assert_eq!(spelled("2016-12-31T23:59:60.5Z"), "'2017-01-01 00:00:00.500000+00'::timestamptz");
        assert_eq!(literal(None, "infinity"), "'infinity'::timestamptz");
        assert_eq!(literal(Some(Timestamp::MAX_UTC), "infinity"), "'infinity'::timestamptz");
        assert_eq!(literal(Some(Timestamp::MIN_UTC), "-infinity"), "'-infinity'::timestamptz");
    }
}
