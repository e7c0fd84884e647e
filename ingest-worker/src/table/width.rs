//! The width of the bars of a file, and when such a bar is known.

use std::{collections::BTreeMap, path::Path};

use chrono::{Datelike, Days, Months, NaiveDate, TimeDelta};

use super::{Options, parse_time};
use crate::{kinds::Timestamp, recording::Text};

/// Rows that tell the width.
const ROWS: usize = 2_000;

/// Days that so many months can have.
const MONTHS: [(u32, std::ops::RangeInclusive<i64>); 4] =
    [(1, 28..=31), (3, 89..=92), (6, 181..=184), (12, 365..=366)];

/// The time that each bar of a file covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Seconds(i64),
    /// Calendar months, labelled by their first day or any other that they share.
    Months(u32),
    /// Calendar months, labelled by the last day of the last of them.
    MonthsToLabel(u32),
}

impl Width {
    /// Its length in seconds; 0 for months.
    pub fn seconds(self) -> i64 {
        if let Width::Seconds(seconds) = self { seconds } else { 0 }
    }

    /// Its length in months; 0 for seconds.
    pub fn months(self) -> i32 {
        match self {
            Width::Seconds(_) => 0,
            Width::Months(months) | Width::MonthsToLabel(months) => i32::try_from(months).unwrap_or(0),
        }
    }

    /// The end of the bar labelled `time`, at which it is known.
    pub fn end(self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Width::Seconds(seconds) => time.checked_add_signed(TimeDelta::seconds(seconds)),
            Width::Months(months) => time.checked_add_months(Months::new(months)),
            Width::MonthsToLabel(_) => time.checked_add_days(Days::new(1)),
        }
    }
}

/// The most frequent distance between neighbouring rows of one symbol, over the first rows of the file; months where the rows
/// are as far apart as months are and share their day of the month, or are the last of theirs.
pub(super) fn infer(
    path: &Path,
    positions: &BTreeMap<&'static str, usize>,
    options: &Options,
) -> Result<Width, String> {
    let text = Text::open(path).map_err(|e| e.to_string())?;
    let mut reader = csv::ReaderBuilder::new().delimiter(options.delimiter).flexible(true).from_reader(text);
    let mut previous: Option<(String, Timestamp)> = None;
    let mut counts = BTreeMap::<i64, usize>::new();
    let mut dates: Vec<NaiveDate> = Vec::new();
    for row in reader.records().take(ROWS).flatten() {
        let cell = |column: &str| positions.get(column).and_then(|i| row.get(*i)).unwrap_or_default().trim();
        let Ok(time) = parse_time(cell("time"), options.zone) else { continue };
        let symbol = cell("symbol").to_owned();
        dates.push(time.date_naive());
        if let Some((before, at)) = previous.replace((symbol.clone(), time))
            && before == symbol
            && time > at
        {
            *counts.entry((time - at).num_seconds()).or_default() += 1;
        }
    }
    let spacing = counts.into_iter().max_by_key(|(width, count)| (*count, -width));
    let (seconds, _) =
        spacing.ok_or_else(|| "cannot tell the width of the bars; pass --width 1d".to_owned())?;
    let (days, months) =
        (seconds / 86_400, |days| MONTHS.into_iter().find(|(_, range)| range.contains(&days)));
    let share_day = dates.windows(2).all(|pair| pair[0].day() == pair[1].day());
    Ok(match months(days) {
        Some((months, _)) if dates.iter().all(is_last_of_month) => Width::MonthsToLabel(months),
        Some((months, _)) if share_day => Width::Months(months),
        _ => Width::Seconds(seconds),
    })
}

fn is_last_of_month(date: &NaiveDate) -> bool {
    date.succ_opt().is_some_and(|next| next.day() == 1)
}

/// Reads the width of bars: months such as `1mo` or `3mo`, or what [`parse_width`] reads.
///
/// # Errors
/// A text of another form, or zero.
pub fn parse_bar_width(text: &str) -> Result<Width, String> {
    let Some(count) = text.strip_suffix("mo") else { return parse_width(text).map(Width::Seconds) };
    let months = count.parse().ok().filter(|months| (1..=120).contains(months));
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
    use crate::{kinds::Record, table::Table};

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
        let mut table = Table::open(file.path(), options, Timestamp::UNIX_EPOCH).unwrap();
        let records = std::iter::from_fn(|| table.next_record().unwrap());
        let Some((_, Record::Bar(bar))) = records.last() else { panic!("no bar") };
        (bar.width_months, bar.width_seconds, bar.known_at.date_naive().to_string())
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
        assert_eq!(parse_bar_width("3mo"), Ok(Width::Months(3)));
        assert_eq!(parse_bar_width("1d"), Ok(Width::Seconds(86_400)));
        for text in ["mo", "0mo", "121mo", "1.5mo", "-1mo"] {
            assert!(parse_bar_width(text).is_err(), "{text}");
        }
    }
}
