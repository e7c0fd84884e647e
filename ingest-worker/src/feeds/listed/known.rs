//! When a fact could be known, by what its vendor says of that.
//!
//! Every rule errs on the late side: a day without a time of the day was over before the fact is taken for known, a local time
//! that occurs twice is the later one. What has arrived is known, whatever its stamp says.

use chrono::{
    Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Weekday,
};
use chrono_tz::America::New_York;

use super::{Field, Item};
use crate::{exact::rfc3339, kinds::Timestamp};

/// What dates an item.
#[derive(Clone, Copy, Debug)]
pub(in crate::feeds) enum Known {
    /// Nothing: it was known when it came.
    Received,
    /// Its publication: with a zone, else by the clock of New York; a day alone when it was over there.
    Published(Field),
    /// A day whose session made it, so that it is known when the next session opens.
    NextSession(Field),
    /// A day whose session made it, published in the morning of the next, half an hour before that opens.
    BeforeNextSession(Field),
    /// A disclosure: when the vendor had it, else the end of the day on which it was filed.
    Disclosed { uploaded: Field, filed: Field },
    /// The hour (UTC) in which what it counts began.
    HourAfter(Field),
    /// A filing: when the SEC accepted it, else the end of the day of filing. Both are made up where they are not after the
    /// end of the period that they report.
    Filed { accepted: Field, filed: Field, period_end: Field },
}

impl Known {
    /// Where an item stands in a list that has the newest first: the stamp as it is written, of whatever zone. What an item is known
    /// by is no such place, since a day without a time is known at its end.
    pub(super) fn place(self, item: &Item<'_>) -> Option<Timestamp> {
        match self {
            Known::Published(field) | Known::HourAfter(field) => written(&item.text(field)?),
            Known::Disclosed { uploaded, filed } => {
                written(&item.text(uploaded).or_else(|| item.text(filed))?)
            }
            Known::Received | Known::NextSession(_) | Known::BeforeNextSession(_) | Known::Filed { .. } => {
                None
            }
        }
    }

    pub(super) fn at(self, item: &Item<'_>, received_at: Timestamp) -> Timestamp {
        let text = |field: Field| item.text(field);
        let at = match self {
            Known::Received => None,
            Known::Published(field) => text(field).and_then(|text| published(&text)),
            Known::NextSession(field) => text(field).and_then(|text| next_session(date(&text)?, 9, 30)),
            Known::BeforeNextSession(field) => text(field).and_then(|text| next_session(date(&text)?, 9, 0)),
            Known::Disclosed { uploaded, filed } => {
                text(uploaded).and_then(|text| disclosed(&text)).or_else(|| end_of_day(date(&text(filed)?)?))
            }
            Known::HourAfter(field) => {
                text(field).and_then(|text| written(&text)?.checked_add_signed(TimeDelta::hours(1)))
            }
            Known::Filed { accepted, filed, period_end } => {
                let ended = text(period_end).and_then(|text| date(&text));
                let is_after = |text: &String| date(text).zip(ended).is_some_and(|(day, ended)| day > ended);
                let stamps = [accepted, filed].into_iter().filter_map(text);
                stamps.filter(is_after).find_map(|text| published(&text))
            }
        };
        at.unwrap_or(received_at).min(received_at)
    }
}

/// The day that a text begins with.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let day = text.get(..10)?;
    // Years that PostgreSQL and `chrono` both have.
    let date = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?;
    (1000..=9999).contains(&date.year()).then_some(date)
}

/// Midnight (UTC) of the day that a text begins with, which is the label of a day everywhere; a time with its zone is itself.
pub(super) fn day(text: &str) -> Option<Timestamp> {
    if text.len() > 10
        && let Ok(time) = rfc3339(text)
    {
        return Some(time);
    }
    Some(date(text)?.and_time(NaiveTime::MIN).and_utc())
}

/// An instant in New York; of two of one name the later, and where the clock jumps over it, after the jump.
fn in_new_york(local: NaiveDateTime) -> Option<Timestamp> {
    let time = match New_York.from_local_datetime(&local) {
        LocalResult::Single(time) => time,
        LocalResult::Ambiguous(_, later) => later,
        LocalResult::None => New_York.from_local_datetime(&(local + TimeDelta::hours(1))).single()?,
    };
    Some(time.to_utc())
}

pub(super) fn end_of_day(day: NaiveDate) -> Option<Timestamp> {
    in_new_york(day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN))
}

/// A time without a zone: `2026-10-30 16:31:02`, with a `T` or without seconds.
fn local(text: &str) -> Option<NaiveDateTime> {
    date(text)?;
    let text = text.replace('T', " ");
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(&text, form).ok())
}

fn published(text: &str) -> Option<Timestamp> {
    if let Ok(time) = rfc3339(text) {
        return Some(time);
    }
    match local(text) {
        // Midnight to the second is what vendors write for a day.
        Some(time) if time.time() != NaiveTime::MIN => in_new_york(time),
        _ => end_of_day(date(text)?),
    }
}

/// A publication, where midnight is a day, in whatever zone it is written.
fn disclosed(text: &str) -> Option<Timestamp> {
    let is_day = chrono::DateTime::parse_from_rfc3339(text).is_ok_and(|at| at.time() == NaiveTime::MIN);
    if is_day { end_of_day(date(text)?) } else { published(text) }
}

/// A time of the next session's day in New York. Holidays are not known here: on one, the fact is known while nobody trades on it.
fn next_session(day: NaiveDate, hour: u32, minute: u32) -> Option<Timestamp> {
    let mut next = day.succ_opt()?;
    while matches!(next.weekday(), Weekday::Sat | Weekday::Sun) {
        next = next.succ_opt()?;
    }
    in_new_york(next.and_hms_opt(hour, minute, 0)?)
}

/// A time as it is written: without a zone, as if it were UTC.
fn written(text: &str) -> Option<Timestamp> {
    rfc3339(text).ok().or_else(|| Some(local(text)?.and_utc())).or_else(|| day(text))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn known(rule: Known, json: &str) -> String {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let received: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
        let at = rule.at(&Item::read(&raw).unwrap(), received);
        if at == received { "received".to_owned() } else { at.format("%Y-%m-%d %H:%M").to_string() }
    }

    #[test]
    fn a_filing_is_known_when_it_was_accepted_by_the_clock_of_new_york() {
        let filed = Known::Filed {
            accepted: &["acceptedDate"],
            filed: &["filingDate", "fillingDate"],
            period_end: &["date"],
        };
        let statement = |accepted: &str, day: &str| {
            let json = format!(r#"{{"date":"2026-06-30","acceptedDate":{accepted},"filingDate":{day}}}"#);
            known(filed, &json)
        };
        for (accepted, day, expected) in [
            // After the close, in summer and in winter.
            (r#""2026-07-30 16:31:02""#, r#""2026-07-30""#, "2026-07-30 20:31"),
            (r#""2026-11-05T16:31:02""#, r#""2026-11-05""#, "2026-11-05 21:31"),
            // The night the clocks go back: 01:30 comes twice.
            (r#""2026-11-01 01:30:00""#, "null", "2026-11-01 06:30"),
            // A day alone is over first; midnight is what vendors write for it.
            ("null", r#""2026-07-30""#, "2026-07-31 04:00"),
            (r#""2026-07-30 00:00:00""#, "null", "2026-07-31 04:00"),
            // Nobody files on the day the period ends: the stamp is made up.
            (r#""2026-06-30 00:00:00""#, "null", "received"),
            (r#""2026-06-30 00:00:00""#, r#""2026-08-03""#, "2026-08-04 04:00"),
            // A stamp of the future is known by now.
            (r#""2026-12-24 16:00:00""#, "null", "received"),
            (r#""""#, r#""soon""#, "received"),
            ("20260730", "[]", "received"),
        ] {
            assert_eq!(statement(accepted, day), expected, "{accepted} {day}");
        }
        let old =
            r#"{"date":"2026-06-30","fillingDate":"2026-07-30","acceptedDate":"2026-07-30T20:31:02.5Z"}"#;
        assert_eq!(known(filed, old), "2026-07-30 20:31", "a stamp with a zone is taken at its word");
    }

    #[test]
    fn news_are_known_when_they_were_published_and_days_at_the_next_session() {
        let published = |text: &str| known(Known::Published(&["at"]), &format!(r#"{{"at":"{text}"}}"#));
        assert_eq!(published("2026-10-30 09:00:00"), "2026-10-30 13:00");
        assert_eq!(published("2026-10-30 09:00"), "2026-10-30 13:00");
        assert_eq!(published("2026-10-30T09:00:00.000Z"), "2026-10-30 09:00");
        // The hour that is left out in spring.
        assert_eq!(published("2026-03-08 02:30:00"), "2026-03-08 07:30");
        let session = |text: &str| known(Known::NextSession(&["date"]), &format!(r#"{{"date":"{text}"}}"#));
        assert_eq!(session("2026-10-29"), "2026-10-30 13:30");
        assert_eq!(session("2026-10-30"), "2026-11-02 14:30", "a Friday, and the clocks go back");
        assert_eq!(session("2026-11-19"), "received", "before the session it is only known by who has it");
        let before =
            |text: &str| known(Known::BeforeNextSession(&["date"]), &format!(r#"{{"date":"{text}"}}"#));
        assert_eq!(before("2026-10-29"), "2026-10-30 13:00");
        assert_eq!(before("2026-10-30T00:00:00Z"), "2026-11-02 14:00");
        assert_eq!(
            known(Known::HourAfter(&["date"]), r#"{"date":"2026-10-30 09:00:00"}"#),
            "2026-10-30 10:00"
        );
        assert_eq!(known(Known::Received, r#"{"date":"2026-10-30"}"#), "received");
    }

    #[test]
    fn a_disclosure_is_known_when_the_vendor_had_it_else_when_its_day_was_over() {
        let rule = Known::Disclosed { uploaded: &["uploaded"], filed: &["filed", "reported"] };
        let disclosed = |json: &str| known(rule, json);
        assert_eq!(
            disclosed(r#"{"uploaded":"2026-11-18T14:05:00Z","filed":"2026-11-16"}"#),
            "2026-11-18 14:05"
        );
        assert_eq!(
            disclosed(r#"{"uploaded":"2026-11-18 14:05:00","filed":"2026-11-16"}"#),
            "2026-11-18 19:05"
        );
        // A day is over first, however it is written: midnight in Greenwich is the evening before in New York.
        for day in
            ["2026-11-18", "2026-11-18T00:00:00", "2026-11-18T00:00:00Z", "2026-11-18T00:00:00.000000+00:00"]
        {
            assert_eq!(disclosed(&format!(r#"{{"uploaded":"{day}"}}"#)), "2026-11-19 05:00", "{day}");
            assert_eq!(
                disclosed(&format!(r#"{{"uploaded":null,"filed":"{day}"}}"#)),
                "2026-11-19 05:00",
                "{day}"
            );
        }
        assert_eq!(
            disclosed(r#"{"reported":"2026-11-18T09:00:00Z","traded":"2026-10-02"}"#),
            "2026-11-19 05:00"
        );
        assert_eq!(disclosed(r#"{"traded":"2026-10-02"}"#), "received");
    }

    #[test]
    fn no_text_makes_a_time_that_postgresql_does_not_have() {
        for text in
            ["0000-01-01", "-999-01-01", "+12345-01-01", "2026-13-01", "2026-02-30", "", "é2026-01-01"]
        {
            assert_eq!((date(text), day(text), published(text)), (None, None, None), "{text}");
        }
        assert_eq!(next_session(date("9999-12-31").unwrap(), 9, 30).map(|t| t.year()), Some(10_000));
    }
}
