//! Tidy CSV files of bars, trades, quotes or facts: which column is which, and one row to one record.

mod columns;
mod documents;
mod instant;
mod number;
mod reading;
mod survey;
mod time;
mod width;

pub use documents::{DocumentOptions, DocumentTable};
pub use number::DecimalMark;
pub use time::{TimeFormat, parse_time};
pub use width::{Width, parse_bar_width, parse_width};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chrono_tz::Tz;
use rust_decimal::Decimal;

use self::{
    columns::{Column, Columns},
    survey::Survey,
};
use crate::{
    error::{Error, Result},
    exact::decimal,
    kinds::{Bar, Quote, Record, Rejected, Timestamp, Trade},
    recording::Text,
};

/// What the user says about a file; everything left open is read off the header and the rows.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Our column → column of the file.
    pub columns: BTreeMap<String, String>,
    /// Symbol of every row, for files without a symbol column.
    pub symbol: Option<String>,
    /// Width of the bars.
    pub width: Option<Width>,
    /// Zone of times written without one; UTC when absent.
    pub zone: Option<Tz>,
    /// How times are written that do not say it themselves.
    pub time_format: Option<TimeFormat>,
    /// What stands between the whole part of a number and its fraction.
    pub decimal: Option<DecimalMark>,
    /// What stands between two columns.
    pub delimiter: Option<u8>,
}

impl Options {
    /// A reader of the rows of `path`.
    fn reader(&self, path: &Path) -> Result<csv::Reader<Text>, String> {
        let text = Text::open(path).map_err(|e| e.to_string())?;
        let delimiter = self.delimiter.unwrap_or(b',');
        Ok(csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text))
    }
}

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bars,
    Trades,
    Quotes,
}

/// A file whose rows are records.
pub trait Records {
    /// Next row and its line; a row that cannot be read comes as [`Record::Rejected`]. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Row`] where the file cannot be read on: a broken gzip stream, a row of more than
    /// [`MAX_ROW`](crate::recording::MAX_ROW) bytes.
    fn next_record(&mut self) -> Result<Option<(u64, Record)>>;

    /// Bytes of text read so far.
    fn bytes_read(&self) -> u64;
}

/// The rows of a CSV file, gzipped or not, one after the other.
struct Rows {
    path: PathBuf,
    reader: csv::Reader<Text>,
    row: csv::StringRecord,
    received_at: Timestamp,
}

impl Rows {
    fn new(path: &Path, reader: csv::Reader<Text>, received_at: Timestamp) -> Self {
        Rows { path: path.to_owned(), reader, row: csv::StringRecord::new(), received_at }
    }

    /// What `decode` makes of the next row, and its line.
    fn next(
        &mut self,
        decode: impl FnOnce(&csv::StringRecord, u64) -> Result<Record, String>,
    ) -> Result<Option<(u64, Record)>> {
        self.reader.get_mut().renew();
        let begins = self.reader.position().line();
        match self.reader.read_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.row.position().map_or(0, |p| p.line());
                let record = decode(&self.row, line).unwrap_or_else(|reason| self.rejected(line, reason));
                Ok(Some((line, record)))
            }
            Err(error) if error.is_io_error() => {
                Err(Error::Row { path: self.path.clone(), line: begins, message: error.to_string() })
            }
            Err(error) => {
                let line = error.position().map_or(0, |p| p.line());
                Ok(Some((line, self.rejected(line, error.to_string()))))
            }
        }
    }

    fn rejected(&self, line: u64, reason: String) -> Record {
        let text: Vec<_> = self.row.iter().collect();
        let reason = format!("line {line}: {reason}");
        Record::Rejected(Rejected::new(text.join(",").as_bytes(), reason, self.received_at))
    }
}

/// A CSV file of bars, trades or quotes.
pub struct Table {
    rows: Rows,
    decoder: Decoder,
}

/// How a row is read.
struct Decoder {
    kind: Kind,
    options: Options,
    survey: Survey,
    received_at: Timestamp,
}

impl Table {
    /// Opens `path`, finds its columns and how they are written; `received_at` stamps its rows.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Row`] when columns are missing or the width of the bars cannot be told.
    pub fn open(path: &Path, mut options: Options, received_at: Timestamp) -> Result<Self> {
        let text = Text::open(path)?;
        let fail = |message: String| Error::Row { path: path.to_owned(), line: 1, message };
        if options.delimiter.is_none() {
            options.delimiter = Some(columns::delimiter(text).map_err(fail)?);
        }
        let mut reader = options.reader(path).map_err(fail)?;
        let header = reader.headers().map_err(|e| fail(e.to_string()))?.clone();
        let columns = Columns::find(&header, &options).map_err(fail)?;
        let kind = kind_of(&columns, &header).map_err(fail)?;
        if !columns.has(Column::Time) {
            return Err(fail("no column with the time; name it with --column time=…".to_owned()));
        }
        if !columns.has(Column::Symbol) && options.symbol.is_none() {
            return Err(fail(
                "no column with the symbol; name it with --column symbol=… or pass --symbol".to_owned(),
            ));
        }
        let survey = Survey::of(path, columns, kind, &options, received_at).map_err(fail)?;
        let decoder = Decoder { kind, options, survey, received_at };
        Ok(Table { rows: Rows::new(path, reader, received_at), decoder })
    }

    /// What the rows are.
    pub fn kind(&self) -> Kind {
        self.decoder.kind
    }
}

impl Records for Table {
    fn next_record(&mut self) -> Result<Option<(u64, Record)>> {
        self.rows.next(|row, line| self.decoder.record(row, line))
    }

    fn bytes_read(&self) -> u64 {
        self.rows.reader.position().byte()
    }
}

impl Decoder {
    fn text<'r>(&self, row: &'r csv::StringRecord, column: Column) -> Option<&'r str> {
        self.survey.columns.text(row, column)
    }

    fn required<'r>(&self, row: &'r csv::StringRecord, column: Column) -> Result<&'r str, String> {
        self.text(row, column).ok_or_else(|| missing(column))
    }

    fn record(&self, row: &csv::StringRecord, line: u64) -> Result<Record, String> {
        let symbol = match &self.options.symbol {
            Some(symbol) => symbol.clone(),
            None => self.required(row, Column::Symbol)?.to_owned(),
        };
        let time = self.survey.columns.time(row, &self.survey.times)?;
        let line = i64::try_from(line).unwrap_or(i64::MAX);
        match self.kind {
            Kind::Bars => self.bar(row, symbol, time).map(Record::Bar),
            Kind::Trades => self.trade(row, symbol, time, line).map(Record::Trade),
            Kind::Quotes => Ok(Record::Quote(Quote {
                symbol,
                event_time: time,
                sequence: line,
                bid: self.exact(row, Column::Bid)?,
                bid_size: self.exact(row, Column::BidSize)?,
                ask: self.exact(row, Column::Ask)?,
                ask_size: self.exact(row, Column::AskSize)?,
                bid_venue: None,
                ask_venue: None,
                conditions: None,
                received_at: self.received_at,
                known_at: time,
            })),
        }
    }

    fn trade(
        &self,
        row: &csv::StringRecord,
        symbol: String,
        event_time: Timestamp,
        line: i64,
    ) -> Result<Trade, String> {
        let side = self.text(row, Column::Side).map(str::to_owned);
        let id = self.text(row, Column::TradeId);
        Ok(Trade {
            symbol,
            // A file without ids is its own numbering: the same file gives the same rows again.
            trade_id: id.map_or_else(|| line.to_string(), str::to_owned),
            sequence: id.and_then(|id| id.parse().ok()).unwrap_or(line),
            event_time,
            price: self.exact(row, Column::Price)?.ok_or_else(|| missing(Column::Price))?,
            size: self.exact(row, Column::Size)?.ok_or_else(|| missing(Column::Size))?,
            aggressor: None,
            side,
            venue: self.text(row, Column::Venue).map(str::to_owned),
            conditions: self.text(row, Column::Conditions).map(|c| vec![c.to_owned()]),
            received_at: self.received_at,
            known_at: event_time,
            corrects: None,
        })
    }

    fn exact(&self, row: &csv::StringRecord, column: Column) -> Result<Option<Decimal>, String> {
        let plain = self.text(row, column).map(|text| self.survey.numbers.plain(text)).transpose()?;
        plain.map(|text| decimal(&text)).transpose()
    }

    fn number(&self, row: &csv::StringRecord, column: Column) -> Result<Option<f64>, String> {
        let Some(text) = self.text(row, column) else { return Ok(None) };
        let plain = self.survey.numbers.plain(text).map_err(|e| format!("{} {e}", column.name()))?;
        match plain.parse::<f64>() {
            Ok(0.0) if is_written_above_zero(&plain) => {
                Err(format!("{} \"{text}\" is nearer to zero than double precision can tell", column.name()))
            }
            Ok(value) if value.is_finite() => Ok(Some(value)),
            Ok(value) if value.is_nan() => Ok(None),
            _ => Err(format!("{} \"{text}\" is not a number", column.name())),
        }
    }

    fn bar(&self, row: &csv::StringRecord, symbol: String, time: Timestamp) -> Result<Bar, String> {
        let price = |column| self.number(row, column)?.ok_or_else(|| missing(column));
        let width = self.survey.width;
        let end = width.end(time, self.options.zone).ok_or_else(|| format!("time {time} is out of range"))?;
        Ok(Bar {
            symbol,
            width: width.stored(),
            time,
            open: price(Column::Open)?,
            high: price(Column::High)?,
            low: price(Column::Low)?,
            close: price(Column::Close)?,
            volume: self.number(row, Column::Volume)?,
            amount: self.number(row, Column::Amount)?,
            trade_count: self.number(row, Column::TradeCount)?.map(|n| n as i64),
            close_adj: self.number(row, Column::CloseAdj)?,
            // A file loaded again after a correction replaces what it said before.
            sequence: self.received_at.timestamp_micros(),
            received_at: self.received_at,
            known_at: end,
        })
    }
}

fn missing(column: Column) -> String {
    format!("{} is missing", column.name())
}

fn kind_of(columns: &Columns, header: &csv::StringRecord) -> Result<Kind, String> {
    let has = |of: &[Column]| of.iter().all(|column| columns.has(*column));
    if has(&[Column::Open, Column::High, Column::Low, Column::Close]) {
        Ok(Kind::Bars)
    } else if has(&[Column::Price, Column::Size]) {
        Ok(Kind::Trades)
    } else if has(&[Column::Bid, Column::Ask]) {
        Ok(Kind::Quotes)
    } else {
        Err(format!(
            "found neither bars (open, high, low, close) nor trades (price, size) nor quotes (bid, ask) in the columns {}; \
             name them with --column close=px_last",
            header.iter().collect::<Vec<_>>().join(", ")
        ))
    }
}

/// Whether a number has another digit than 0 before its exponent.
fn is_written_above_zero(text: &str) -> bool {
    text.split(['e', 'E']).next().is_some_and(|digits| digits.contains(|c: char| ('1'..='9').contains(&c)))
}

#[cfg(test)]
mod tests;
