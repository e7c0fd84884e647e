//! Which column of a file is which, and what stands between them.

use std::io::BufRead;

use super::{
    Options,
    time::{Times, says_unix},
};
use crate::{kinds::Timestamp, recording::Text};

/// A column of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Symbol,
    Time,
    /// The day, in files that have the time of the day in a column of its own.
    Date,
    Open,
    High,
    Low,
    Close,
    Volume,
    Amount,
    CloseAdj,
    TradeCount,
    Price,
    Size,
    Venue,
    Conditions,
    Side,
    TradeId,
    Bid,
    Ask,
    BidSize,
    AskSize,
}

use Column::*;

/// Spellings a column is recognised by, our own first.
const SPELLINGS: &[(Column, &[&str])] = &[
    (Symbol, &["symbol", "ticker", "series", "instrument", "unique_id"]),
    (Time, &["time", "ds", "ts", "timestamp", "timestamps", "datetime", "event_time"]),
    (Date, &["date", "day"]),
    (Open, &["open"]),
    (High, &["high"]),
    (Low, &["low"]),
    (Close, &["close"]),
    (Volume, &["volume", "vol", "vol."]),
    (Amount, &["amount", "turnover"]),
    (CloseAdj, &["close_adj", "adj_close", "adjclose", "adj close"]),
    (TradeCount, &["trade_count", "trades"]),
    (Price, &["price"]),
    (Size, &["size", "qty", "quantity"]),
    (Venue, &["venue", "exchange"]),
    (Conditions, &["conditions", "cond"]),
    (Side, &["side"]),
    (TradeId, &["trade_id"]),
    (Bid, &["bid"]),
    (Ask, &["ask"]),
    (BidSize, &["bid_size"]),
    (AskSize, &["ask_size"]),
];

impl Column {
    /// Its name in messages and in `--column`.
    pub(super) fn name(self) -> &'static str {
        SPELLINGS[self as usize].1[0]
    }
}

/// Where the columns of a file are.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    places: [Option<usize>; SPELLINGS.len()],
    /// What the file calls the column of the time.
    pub(super) time_name: String,
}

impl Columns {
    /// Finds them in the first line of a file.
    ///
    /// # Errors
    /// A column that the user names and that is none of ours, or none of the file's.
    pub(super) fn find(header: &csv::StringRecord, options: &Options) -> Result<Self, String> {
        let place = |name: &str| header.iter().position(|column| plain(column).eq_ignore_ascii_case(name));
        let ours = || SPELLINGS.iter().map(|(column, _)| column.name());
        if let Some(unknown) = options.columns.keys().find(|name| !ours().any(|ours| ours == *name)) {
            let names: Vec<_> = ours().collect();
            return Err(format!("column \"{unknown}\" is not one of {}", names.join(", ")));
        }
        let mut places = [None; SPELLINGS.len()];
        for (column, spellings) in SPELLINGS {
            places[*column as usize] = match options.columns.get(column.name()) {
                Some(given) => {
                    Some(place(given).ok_or_else(|| format!("column \"{given}\" does not exist"))?)
                }
                // Whoever says where the time is does not mean another column beside it.
                None if *column == Date && options.columns.contains_key(Time.name()) => None,
                None => spellings.iter().find_map(|spelling| place(spelling)),
            };
        }
        let mut columns = Columns { places, time_name: String::new() };
        if !columns.has(Time) {
            columns.places[Time as usize] = match columns.places[Date as usize].take() {
                Some(date) => Some(date),
                None => header.iter().position(|column| says_unix(&plain(column).to_ascii_lowercase())),
            };
        }
        if let Some(time) = columns.places[Time as usize].and_then(|place| header.get(place)) {
            columns.time_name = plain(time).to_ascii_lowercase();
        }
        Ok(columns)
    }

    pub(super) fn has(&self, column: Column) -> bool {
        self.places[column as usize].is_some()
    }

    /// Takes the column of the time for a whole one.
    pub(super) fn drop_date(&mut self) {
        self.places[Date as usize] = None;
    }

    /// Where the day stands: beside the time of the day, or with it.
    pub(super) fn day(&self) -> Column {
        if self.has(Date) { Date } else { Time }
    }

    /// The time of `row`.
    ///
    /// # Errors
    /// As [`Times::read`]; a time that is missing.
    pub(super) fn time(&self, row: &csv::StringRecord, times: &Times) -> Result<Timestamp, String> {
        let required =
            |column: Column| self.text(row, column).ok_or_else(|| format!("{} is missing", column.name()));
        let clock = if self.has(Date) { Some(required(Time)?) } else { None };
        times.read(required(self.day())?, clock)
    }

    /// The text of `column` in `row`; `None` where there is none.
    pub(super) fn text<'r>(&self, row: &'r csv::StringRecord, column: Column) -> Option<&'r str> {
        let text = row.get(self.places[column as usize]?)?.trim();
        (!text.is_empty()).then_some(text)
    }
}

/// A column's name without what some programs put around it: `<CLOSE>`.
fn plain(column: &str) -> &str {
    let name = column.trim();
    name.strip_prefix('<').and_then(|name| name.strip_suffix('>')).unwrap_or(name)
}

/// What can stand between two columns.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The delimiter that the first line has most of, quoted ones aside; a comma where it has none.
///
/// # Errors
/// A file that cannot be read, or one of UTF-16.
pub(super) fn delimiter(mut text: Text) -> Result<u8, String> {
    let mut line = Vec::new();
    text.read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
    if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) {
        return Err("the file is UTF-16; save it as UTF-8".to_owned());
    }
    let mut counts = [0usize; DELIMITERS.len()];
    let mut is_quoted = false;
    for byte in line {
        is_quoted ^= byte == b'"';
        if let Some(place) = DELIMITERS.iter().position(|one| *one == byte && !is_quoted) {
            counts[place] += 1;
        }
    }
    // Of equals the last is taken: the comma.
    let most = counts.iter().zip(DELIMITERS).rev().max_by_key(|(count, _)| **count);
    Ok(most.map_or(b',', |(_, delimiter)| delimiter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_stands_at_its_own_place_of_the_list() {
        for (place, (column, _)) in SPELLINGS.iter().enumerate() {
            assert_eq!(*column as usize, place, "{column:?}");
        }
    }
}
