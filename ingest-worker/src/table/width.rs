//! The width of the bars of a file, and when such a bar is known.

use std::collections::{BTreeMap, HashMap};

use chrono::{Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta};
use chrono_tz::Tz;

use crate::kinds::{BarWidth, Timestamp};

/// Distances between rows that tell the width.
const DISTANCES: usize = 2_000;

/// Days that so many months can have.
const MONTHS: [(u32, std::ops::RangeInclusive<i64>); 4] =
    [(1, 28..=31), (3, 89..=92), (6, 181..=184), (12, 365..=366)];

/// Days by which the first or last session of a month can be apart from its first or last day.
const BUSINESS: u32 = 3;

/// The time that each bar of a file covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Seconds(i64),
    /// Calendar months, labelled by their first day, their first session, or any other day that they share.
    Months(u32),
    /// Calendar months, labelled by the last day or session of the last of them.
    MonthsToLabel(u32),
}

impl Width {
    /// What a bar of it is stored with.
    pub(super) fn stored(self) -> BarWidth {
        match self {
            Width::Seconds(seconds) => BarWidth::of_seconds(seconds),
            Width::Months(months) | Width::MonthsToLabel(months) => {
                BarWidth { seconds: 0, months: i32::try_from(months).unwrap_or(0) }
            }
        }
    }

    /// The end of the bar labelled `time`, at which it is known; its months are those of `zone`.
    pub fn end(self, time: Timestamp, zone: Option<Tz>) -> Option<Timestamp> {
        let local = time.with_timezone(&zone.unwrap_or(Tz::UTC));
        match self {
            Width::Seconds(seconds) => time.checked_add_signed(TimeDelta::seconds(seconds)),
            Width::Months(months) => local.checked_add_months(Months::new(months)).map(|end| end.to_utc()),
            Width::MonthsToLabel(_) => time.checked_add_days(Days::new(1)),
        }
    }
}

/// The width that is told, or that the labels of the rows (symbol and time) tell: the most frequent distance between neighbouring
/// rows of one symbol; months where these are as far apart as months are, and the labels are the same day of each, or its first
/// or last session.
///
/// # Errors
/// Labels of which no symbol has two.
pub(super) fn of(
    told: Option<Width>,
    zone: Option<Tz>,
    labels: impl Iterator<Item = (String, Timestamp)>,
) -> Result<Width, String> {
    if let Some(Width::Seconds(seconds)) = told {
        return Ok(Width::Seconds(seconds));
    }
    let mut previous = HashMap::<String, Timestamp>::new();
    let mut counts = BTreeMap::<i64, usize>::new();
    let (mut days, mut distances) = (Some(Vec::new()), 0);
    for (symbol, time) in labels {
        let local = time.with_timezone(&zone.unwrap_or(Tz::UTC)).naive_local();
        match &mut days {
            Some(days) if local.time() == NaiveTime::MIN => days.push(local.date()),
            _ => days = None,
        }
        if let Some(before) = previous.insert(symbol, time) {
            let distance = (time - before).num_seconds().abs();
            if distance > 0 {
                *counts.entry(distance).or_default() += 1;
                distances += 1;
            }
        }
        if distances >= DISTANCES {
            break;
        }
    }
    let labels = Labels::of(days.as_deref().unwrap_or_default());
    if let Some(Width::Months(months) | Width::MonthsToLabel(months)) = told {
        return Ok(if labels == Labels::End { Width::MonthsToLabel(months) } else { Width::Months(months) });
    }
    let spacing = counts.into_iter().max_by_key(|(width, count)| (*count, -width));
    let (seconds, _) =
        spacing.ok_or_else(|| "cannot tell the width of the bars; pass --width 1d".to_owned())?;
    let slack = if labels == Labels::Drift { 0 } else { i64::from(BUSINESS) };
    let months = MONTHS
        .into_iter()
        .find(|(_, range)| (*range.start() - slack..=*range.end() + slack).contains(&(seconds / 86_400)));
    Ok(match (months, labels) {
        (Some((months, _)), Labels::Start) => Width::Months(months),
        (Some((months, _)), Labels::End) => Width::MonthsToLabel(months),
        _ => Width::Seconds(seconds),
    })
}

/// Where in their months the labels of bars stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Labels {
    Start,
    End,
    /// Not always at the same place, or not at all.
    Drift,
}

impl Labels {
    fn of(days: &[NaiveDate]) -> Self {
        let left = |day: &NaiveDate| u32::from(day.num_days_in_month()) - day.day();
        if days.is_empty() {
            Labels::Drift
        } else if days.iter().all(|day| left(day) == 0) {
            Labels::End
        } else if days.windows(2).all(|pair| pair[0].day() == pair[1].day())
            || days.iter().all(|day| day.day() <= 1 + BUSINESS)
        {
            Labels::Start
        } else if days.iter().all(|day| left(day) <= BUSINESS) {
            Labels::End
        } else {
            Labels::Drift
        }
    }
}

/// Reads the width of bars: months such as `1mo` or `3mo`, quarters (`1q`), years (`1y`), or what [`parse_width`] reads.
///
/// # Errors
/// A text of another form, or zero.
pub fn parse_bar_width(text: &str) -> Result<Width, String> {
    let unit = [("mo", 1), ("q", 3), ("y", 12)].into_iter().find(|(unit, _)| text.ends_with(unit));
    let Some((unit, months)) = unit else { return parse_width(text).map(Width::Seconds) };
    let count: Option<u32> = text.strip_suffix(unit).and_then(|count| count.parse().ok());
    let months =
        count.and_then(|count| count.checked_mul(months)).filter(|months| (1..=120).contains(months));
    months.map(Width::Months).ok_or_else(|| format!("\"{text}\" is not a number of months from 1mo to 120mo"))
}

/// Reads a width such as `30s`, `1m`, `4h`, `1d`, `1w` into seconds.
///
/// # Errors
/// A text of another form, or zero.
pub fn parse_width(text: &str) -> Result<i64, String> {
    let wrong = || format!("\"{text}\" is not a width such as 1m, 5m, 1h, 1d or 1w");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    if !(1..=10_000).contains(&count) {
        return Err(wrong());
    }
    Ok(count * seconds)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::table::Records;
    use crate::{
        kinds::Record,
        table::{Options, Table},
    };

    #[test]
    fn widths_have_a_unit() {
        assert_eq!(parse_width("5m"), Ok(300));
        assert_eq!(parse_width("1w"), Ok(604_800));
        for text in ["", "m", "0m", "5", "5x", "é"] {
            assert!(parse_width(text).is_err(), "{text}");
        }
    }

    /// Width in months and seconds, and when the last bar is known, of daily labels.
    fn known(labels: &[&str], width: Option<Width>) -> (i32, i64, String) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "symbol,date,open,high,low,close").unwrap();
        for label in labels {
            writeln!(file, "A,{label},1,2,1,2").unwrap();
        }
        let options = Options { width, ..Options::default() };
        let mut table = Table::open(file.path(), options, "2026-11-30T00:00:00Z".parse().unwrap()).unwrap();
        let records = std::iter::from_fn(|| table.next_record().unwrap());
        let Some((_, Record::Bar(bar))) = records.last() else { panic!("no bar") };
        (bar.width.months, bar.width.seconds, bar.known_at.date_naive().to_string())
    }

    #[test]
    fn months_are_known_at_their_end() {
        let first = ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01"];
        assert_eq!(known(&first[..3], None), (1, 0, "2024-04-01".into()));
        assert_eq!(known(&first[1..], None), (1, 0, "2024-05-01".into()), "29 and 31 days apart");
        let quarters = ["2023-10-01", "2024-01-01", "2024-04-01", "2024-07-01"];
        assert_eq!(known(&quarters, None), (3, 0, "2024-10-01".into()));
        assert_eq!(known(&["2022-01-01", "2023-01-01", "2024-01-01"], None), (12, 0, "2025-01-01".into()));
        // The last day of a month ends it.
        assert_eq!(known(&["2024-01-31", "2024-02-29", "2024-03-31"], None), (1, 0, "2024-04-01".into()));
        // Four weeks are no month.
        assert_eq!(
            known(&["2024-01-05", "2024-02-02", "2024-03-01"], None),
            (0, 28 * 86_400, "2024-03-29".into())
        );
        assert_eq!(known(&first[..1], Some(Width::Months(3))), (3, 0, "2024-04-01".into()));
        // Whoever tells the width does not tell which end of it the labels are.
        assert_eq!(known(&["2024-03-31", "2024-06-30"], Some(Width::Months(3))), (3, 0, "2024-07-01".into()));
        // First and last sessions: 1 January is a holiday, 29 March 2024 is Good Friday, 31 March a Sunday.
        assert_eq!(known(&["2024-01-02", "2024-02-01", "2024-03-01"], None), (1, 0, "2024-04-01".into()));
        assert_eq!(known(&["2024-01-31", "2024-02-29", "2024-03-28"], None), (1, 0, "2024-03-29".into()));
        assert_eq!(known(&["2023-09-29", "2023-12-29", "2024-03-28"], None), (3, 0, "2024-03-29".into()));
        for labels in [["2024-Q1", "2024-Q2", "2024-Q3"], ["2024/01/01", "2024.04.01", "2024-07"]] {
            assert_eq!(known(&labels, None), (3, 0, "2024-10-01".into()));
        }
        assert_eq!(known(&["2022", "2023", "2024"], None), (12, 0, "2025-01-01".into()));
        assert_eq!(known(&["202401", "202402"], None), (1, 0, "2024-03-01".into()));
        // The newest first.
        assert_eq!(known(&["2024-03-01", "2024-02-01", "2024-01-01"], None), (1, 0, "2024-02-01".into()));
        assert_eq!(parse_bar_width("3mo"), Ok(Width::Months(3)));
        assert_eq!(parse_bar_width("1q"), Ok(Width::Months(3)));
        assert_eq!(parse_bar_width("2y"), Ok(Width::Months(24)));
        assert_eq!(parse_bar_width("1d"), Ok(Width::Seconds(86_400)));
        for text in ["mo", "0mo", "121mo", "1.5mo", "-1mo", "q", "11y"] {
            assert!(parse_bar_width(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_month_of_another_zone_ends_with_it() {
        let berlin = Some(chrono_tz::Europe::Berlin);
        let start: Vec<Timestamp> = ["2023-12-31T23:00:00Z", "2024-01-31T23:00:00Z", "2024-02-29T23:00:00Z"]
            .map(|time| time.parse().unwrap())
            .to_vec();
        let labels = || start.iter().map(|time| ("A".to_owned(), *time));
        assert_eq!(of(None, berlin, labels()), Ok(Width::Months(1)));
        let end = |width: Width, time: Timestamp| width.end(time, berlin).unwrap().to_rfc3339();
        // The clocks of Berlin go forward on 31 March.
        assert_eq!(end(Width::Months(1), start[2]), "2024-03-31T22:00:00+00:00");
        // Without the zone these are evenings of no day: a bar is known after the days it spans, not before.
        assert_eq!(of(None, None, labels()), Ok(Width::Seconds(29 * 86_400)));
    }

    #[test]
    fn rows_by_date_tell_the_width_as_rows_by_symbol_do() {
        let days = (1..=3).flat_map(|day| ["A", "B"].map(|symbol| (symbol.to_owned(), day * 86_400)));
        let labels = days.map(|(symbol, time)| (symbol, Timestamp::from_timestamp(time, 0).unwrap()));
        assert_eq!(of(None, None, labels), Ok(Width::Seconds(86_400)));
    }
}
