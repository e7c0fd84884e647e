//! What the rows of a file tell before the first is read: how its times and numbers are written, and the width of its bars.

use std::path::Path;

use super::{
    Kind, Options, Width,
    columns::{Column, Columns},
    number::Numbers,
    time::Times,
    width,
};
use crate::kinds::Timestamp;

/// Rows after which what is not open is taken for settled.
pub(super) const ROWS: usize = 2_000;

/// How the rows of a file are to be read.
#[derive(Debug)]
pub(super) struct Survey {
    pub columns: Columns,
    pub times: Times,
    pub numbers: Numbers,
    pub width: Width,
}

/// Columns of numbers.
const NUMBERS: [Column; 13] = [
    Column::Open,
    Column::High,
    Column::Low,
    Column::Close,
    Column::Volume,
    Column::Amount,
    Column::CloseAdj,
    Column::TradeCount,
    Column::Price,
    Column::Size,
    Column::Bid,
    Column::Ask,
    Column::BidSize,
];

impl Survey {
    /// Reads the first rows of `path`, and as many more as it takes to tell what they leave open.
    ///
    /// # Errors
    /// A file that cannot be read; bars whose width cannot be told.
    pub(super) fn of(
        path: &Path,
        mut columns: Columns,
        kind: Kind,
        options: &Options,
        now: Timestamp,
    ) -> Result<Self, String> {
        let mut times = Times::new(options.time_format.clone(), options.zone, &columns.time_name, now);
        let mut numbers = Numbers::new(options.decimal);
        for (row, place) in rows(path, options)?.zip(0..) {
            if place == 0 && columns.has(Column::Date) && !stands_beside_day(&columns, &row) {
                columns.drop_date();
            }
            let has_clock = columns.has(Column::Date);
            if place >= ROWS && times.is_settled(has_clock) && numbers.is_settled() {
                break;
            }
            if has_clock && let Some(clock) = columns.text(&row, Column::Time) {
                times.learn_clock(clock);
            }
            if let Some(day) = columns.text(&row, columns.day()) {
                times.learn(day);
            }
            for text in NUMBERS.iter().filter_map(|column| columns.text(&row, *column)) {
                numbers.learn(text);
            }
        }
        let width = match kind {
            Kind::Bars => {
                let (mut unread, mut are_read) = (None, false);
                let labels = rows(path, options)?.filter_map(|row| match columns.time(&row, &times) {
                    Ok(time) => {
                        are_read = true;
                        Some((columns.text(&row, Column::Symbol).unwrap_or_default().to_owned(), time))
                    }
                    Err(reason) => {
                        unread.get_or_insert(reason);
                        None
                    }
                });
                // A width that nobody can tell because no time is read is not what is wrong with the file.
                width::of(options.width, options.zone, labels)
                    .map_err(|reason| unread.filter(|_| !are_read).unwrap_or(reason))?
            }
            Kind::Trades | Kind::Quotes => Width::Seconds(0),
        };
        Ok(Survey { columns, times, numbers, width })
    }
}

/// The rows of a file that can be read, without those that cannot.
pub(super) fn rows(
    path: &Path,
    options: &Options,
) -> Result<impl Iterator<Item = csv::StringRecord> + use<>, String> {
    let mut reader = options.reader(path)?;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut row = csv::StringRecord::new();
            reader.get_mut().renew();
            match reader.read_record(&mut row) {
                Ok(true) => return Some(row),
                Err(error) if !error.is_io_error() => {}
                _ => return None,
            }
        }
    }))
}

/// Whether the column of the time has times of the day, so that the day must stand in another.
fn stands_beside_day(columns: &Columns, row: &csv::StringRecord) -> bool {
    columns.text(row, Column::Time).is_some_and(|time| {
        let is_short = time.len() <= 6 || time.len() == 9;
        let is_number = time.bytes().all(|byte| byte.is_ascii_digit());
        (is_short && is_number) || time.find(':').is_some_and(|colon| colon <= 2)
    })
}
