//! Tidy CSV files of bars, trades or quotes: which column is which, and one row to one record.

mod width;

pub use width::{Width, parse_bar_width, parse_width};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::{
    error::{Error, Result},
    exact::{decimal, unix_seconds},
    kinds::{Bar, Quote, Record, Rejected, Timestamp, Trade},
    recording::Text,
};

/// What the user says about a file; everything left open is read off the header and the first rows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our column → column of the file.
    pub columns: BTreeMap<String, String>,
    /// Symbol of every row, for files without a symbol column.
    pub symbol: Option<String>,
    /// Width of the bars.
    pub width: Option<Width>,
    /// Zone of times written without one; UTC when absent.
    pub zone: Option<Tz>,
    /// What stands between two columns.
    pub delimiter: u8,
}

impl Default for Options {
    fn default() -> Self {
        Options { columns: BTreeMap::new(), symbol: None, width: None, zone: None, delimiter: b',' }
    }
}

/// Spellings a column is recognised by, our own first.
const SPELLINGS: &[(&str, &[&str])] = &[
    ("symbol", &["symbol", "ticker", "series", "instrument", "unique_id"]),
    ("time", &["time", "ds", "ts", "timestamp", "timestamps", "date", "datetime", "event_time"]),
    ("open", &["open"]),
    ("high", &["high"]),
    ("low", &["low"]),
    ("close", &["close"]),
    ("volume", &["volume"]),
    ("amount", &["amount", "turnover"]),
    ("close_adj", &["close_adj", "adj_close", "adjclose", "adj close"]),
    ("trade_count", &["trade_count", "trades"]),
    ("price", &["price"]),
    ("size", &["size", "qty", "quantity"]),
    ("venue", &["venue", "exchange"]),
    ("conditions", &["conditions", "cond"]),
    ("side", &["side"]),
    ("trade_id", &["trade_id"]),
    ("bid", &["bid"]),
    ("ask", &["ask"]),
    ("bid_size", &["bid_size"]),
    ("ask_size", &["ask_size"]),
];

/// What the rows of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bars,
    Trades,
    Quotes,
}

/// Reads a CSV file, gzipped or not, as records.
pub struct Table {
    path: PathBuf,
    reader: csv::Reader<Text>,
    positions: BTreeMap<&'static str, usize>,
    kind: Kind,
    options: Options,
    width: Width,
    row: csv::StringRecord,
    received_at: Timestamp,
}

impl Table {
    /// Opens `path` and finds its columns; `received_at` stamps its rows.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Row`] when columns are missing or the width of the bars cannot be told.
    pub fn open(path: &Path, options: Options, received_at: Timestamp) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(options.delimiter)
            .flexible(true)
            .from_reader(Text::open(path)?);
        let fail = |message: String| Error::Row { path: path.to_owned(), line: 1, message };
        let header = reader.headers().map_err(|e| fail(e.to_string()))?.clone();
        let positions = find_columns(&header, &options).map_err(fail)?;
        let has = |names: &[&str]| names.iter().all(|name| positions.contains_key(name));
        let kind = if has(&["open", "high", "low", "close"]) {
            Kind::Bars
        } else if has(&["price", "size"]) {
            Kind::Trades
        } else if has(&["bid", "ask"]) {
            Kind::Quotes
        } else {
            return Err(fail(format!(
                "found neither bars (open, high, low, close) nor trades (price, size) nor quotes (bid, ask) in the \
                 columns {}; name them with --column close=px_last",
                header.iter().collect::<Vec<_>>().join(", ")
            )));
        };
        if !has(&["time"]) {
            return Err(fail("no column with the time; name it with --column time=…".to_owned()));
        }
        if !has(&["symbol"]) && options.symbol.is_none() {
            return Err(fail(
                "no column with the symbol; name it with --column symbol=… or pass --symbol".to_owned(),
            ));
        }
        let width = match (kind, options.width) {
            (Kind::Bars, None) => width::infer(path, &positions, &options).map_err(fail)?,
            (_, given) => given.unwrap_or(Width::Seconds(0)),
        };
        let row = csv::StringRecord::new();
        Ok(Table { path: path.to_owned(), reader, positions, kind, options, width, row, received_at })
    }

    /// What the rows are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of text read so far.
    pub fn bytes_read(&self) -> u64 {
        self.reader.position().byte()
    }

    /// Next row and its line; a row that cannot be read comes as [`Record::Rejected`]. `None` at the end.
    ///
    /// # Errors
    /// [`Error::Row`] where the file cannot be read on: a broken gzip stream, a row of more than
    /// [`MAX_ROW`](crate::recording::MAX_ROW) bytes.
    pub fn next_record(&mut self) -> Result<Option<(u64, Record)>> {
        self.reader.get_mut().renew();
        let begins = self.reader.position().line();
        match self.reader.read_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.row.position().map_or(0, |p| p.line());
                let record = self.record(line).unwrap_or_else(|reason| self.rejected(line, reason));
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
        Record::Rejected(Rejected::new(
            text.join(",").as_bytes(),
            format!("line {line}: {reason}"),
            self.received_at,
        ))
    }

    fn text(&self, column: &str) -> Option<&str> {
        let text = self.row.get(*self.positions.get(column)?)?.trim();
        (!text.is_empty()).then_some(text)
    }

    fn required(&self, column: &str) -> Result<&str, String> {
        self.text(column).ok_or_else(|| format!("{column} is missing"))
    }

    fn record(&self, line: u64) -> Result<Record, String> {
        let symbol = match &self.options.symbol {
            Some(symbol) => symbol.clone(),
            None => self.required("symbol")?.to_owned(),
        };
        let time = parse_time(self.required("time")?, self.options.zone)?;
        let line = i64::try_from(line).unwrap_or(i64::MAX);
        match self.kind {
            Kind::Bars => self.bar(symbol, time).map(Record::Bar),
            Kind::Trades => self.trade(symbol, time, line).map(Record::Trade),
            Kind::Quotes => {
                let number = |column| self.text(column).map(decimal).transpose();
                Ok(Record::Quote(Quote {
                    symbol,
                    event_time: time,
                    sequence: line,
                    bid: number("bid")?,
                    bid_size: number("bid_size")?,
                    ask: number("ask")?,
                    ask_size: number("ask_size")?,
                    bid_venue: None,
                    ask_venue: None,
                    conditions: None,
                    received_at: self.received_at,
                    known_at: time,
                }))
            }
        }
    }

    fn trade(&self, symbol: String, event_time: Timestamp, line: i64) -> Result<Trade, String> {
        let side = self.text("side").map(str::to_owned);
        Ok(Trade {
            symbol,
            // A file without ids is its own numbering: the same file gives the same rows again.
            trade_id: self.text("trade_id").map_or_else(|| line.to_string(), str::to_owned),
            sequence: self.text("trade_id").and_then(|id| id.parse().ok()).unwrap_or(line),
            event_time,
            price: decimal(self.required("price")?)?,
            size: decimal(self.required("size")?)?,
            aggressor: None,
            side,
            venue: self.text("venue").map(str::to_owned),
            conditions: self.text("conditions").map(|c| vec![c.to_owned()]),
            received_at: self.received_at,
            known_at: event_time,
            corrects: None,
        })
    }

    fn bar(&self, symbol: String, time: Timestamp) -> Result<Bar, String> {
        let number = |column: &str| -> Result<Option<f64>, String> {
            let Some(text) = self.text(column) else { return Ok(None) };
            match text.parse::<f64>() {
                Ok(0.0) if is_written_above_zero(text) => {
                    Err(format!("{column} \"{text}\" is nearer to zero than double precision can tell"))
                }
                Ok(value) if value.is_finite() => Ok(Some(value)),
                Ok(value) if value.is_nan() => Ok(None),
                _ => Err(format!("{column} \"{text}\" is not a number")),
            }
        };
        let price = |column: &str| number(column)?.ok_or_else(|| format!("{column} is missing"));
        let end = self.width.end(time).ok_or_else(|| format!("time {time} is out of range"))?;
        Ok(Bar {
            symbol,
            width_seconds: self.width.seconds(),
            width_months: self.width.months(),
            time,
            open: price("open")?,
            high: price("high")?,
            low: price("low")?,
            close: price("close")?,
            volume: number("volume")?,
            amount: number("amount")?,
            trade_count: number("trade_count")?.map(|n| n as i64),
            close_adj: number("close_adj")?,
            // A file loaded again after a correction replaces what it said before.
            sequence: self.received_at.timestamp_micros(),
            received_at: self.received_at,
            known_at: end,
        })
    }
}

/// Whether a number has another digit than 0 before its exponent.
fn is_written_above_zero(text: &str) -> bool {
    text.split(['e', 'E']).next().is_some_and(|digits| digits.contains(|c: char| ('1'..='9').contains(&c)))
}

fn find_columns(
    header: &csv::StringRecord,
    options: &Options,
) -> Result<BTreeMap<&'static str, usize>, String> {
    let place = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
    if let Some(unknown) = options.columns.keys().find(|ours| !SPELLINGS.iter().any(|(name, _)| name == ours))
    {
        let names: Vec<_> = SPELLINGS.iter().map(|(name, _)| *name).collect();
        return Err(format!("column \"{unknown}\" is not one of {}", names.join(", ")));
    }
    let mut positions = BTreeMap::new();
    for (ours, spellings) in SPELLINGS {
        let found = match options.columns.get(*ours) {
            Some(given) => Some(place(given).ok_or_else(|| format!("column \"{given}\" does not exist"))?),
            None => spellings.iter().find_map(|spelling| place(spelling)),
        };
        if let Some(found) = found {
            positions.insert(*ours, found);
        }
    }
    Ok(positions)
}

/// Reads a date, a local or zoned time, or Unix seconds, milliseconds or microseconds.
///
/// # Errors
/// A text that is none of these, or a local time that the zone skips.
pub fn parse_time(text: &str, zone: Option<Tz>) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Ok(time.to_utc());
        }
    }
    // A date is the label of a session, in any zone: bars of a day start at 00:00 UTC of it.
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(local) = NaiveDateTime::parse_from_str(text, format) {
            let zone = zone.unwrap_or(Tz::UTC);
            // Of the two hours of an autumn night the earlier is meant; the skipped hour of spring does not exist.
            let time = zone.from_local_datetime(&local).earliest();
            return time.map(|t| t.to_utc()).ok_or_else(|| format!("{text} does not exist in {zone}"));
        }
    }
    // Seconds of 12 digits would be after the year 5138: they are milliseconds or microseconds of our days.
    match text.split('.').next().map_or(0, str::len) {
        ..=11 => unix_seconds(text).map_err(|_| format!("\"{text}\" is not a time")),
        12..=14 => rescaled(text, 1_000),
        _ => rescaled(text, 1_000_000),
    }
}

fn rescaled(text: &str, per_second: i64) -> Result<Timestamp, String> {
    let units: i64 = text.parse().map_err(|_| format!("\"{text}\" is not a time"))?;
    let micros = units.checked_mul(1_000_000 / per_second).and_then(crate::exact::micros);
    micros.ok_or_else(|| format!("\"{text}\" is out of range"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn records(text: &str, options: Options) -> Result<Vec<Record>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut table = Table::open(file.path(), options, Timestamp::UNIX_EPOCH)?;
        Ok(std::iter::from_fn(|| table.next_record().unwrap().map(|(_, record)| record)).collect())
    }

    #[test]
    fn bars_are_recognised_and_known_at_their_end() {
        let text = "symbol,ds,open,high,low,close,volume\nA,2014-03-03,40.5,41,40,40.9,\nA,2014-03-04,41,42,40,41.7,9\n";
        let read = records(text, Options::default()).unwrap();
        let Record::Bar(bar) = &read[0] else { panic!("{read:?}") };
        assert_eq!((bar.width_seconds, bar.volume), (86_400, None));
        assert_eq!(bar.known_at.to_rfc3339(), "2014-03-04T00:00:00+00:00");
    }

    #[test]
    fn columns_can_be_mapped_and_bad_rows_are_quarantined_alone() {
        let columns = [("close".to_owned(), "px_last".to_owned())].into();
        let options = Options { columns, symbol: Some("X".into()), ..Options::default() };
        let text = "time,open,high,low,px_last\n2024-01-01T00:00:00Z,1,1,1,1\n2024-01-01T01:00:00Z,1,1,1,oops\n2024-01-01T02:00:00Z,1,1,1,2\n";
        let read = records(text, options).unwrap();
        assert!(
            matches!(&read[..], [Record::Bar(_), Record::Rejected(r), Record::Bar(b)]
            if r.reason.contains("line 3") && r.reason.contains("oops") && b.width_seconds == 3_600),
            "{read:?}"
        );
    }

    #[test]
    fn a_price_that_double_precision_takes_for_zero_is_refused() {
        let bar = |close: &str| {
            let options = Options { width: Some(Width::Seconds(86_400)), ..Options::default() };
            records(&format!("symbol,ds,open,high,low,close\nA,2014-03-03,0,41,0e5,{close}\n"), options)
        };
        for close in ["1e-400", "-0.1E-330", "00.001e-999"] {
            let read = bar(close).unwrap();
            assert!(
                matches!(&read[..], [Record::Rejected(r)] if r.reason.contains(close) && r.reason.contains("nearer to zero")),
                "{read:?}"
            );
        }
        for (close, expected) in [("0.000", 0.0), ("-0", 0.0), ("5e-324", 5e-324), ("1e-300", 1e-300)] {
            let read = bar(close).unwrap();
            assert!(matches!(&read[..], [Record::Bar(bar)] if bar.close == expected), "{read:?}");
        }
    }

    #[test]
    fn trades_keep_their_text_and_get_their_line_as_identity() {
        let text = "symbol,ts,price,size,exchange,cond,suspicious\nSPY,2013-10-07T08:00:00.464Z,167.410,100,P,20002000,0\n";
        let read = records(text, Options::default()).unwrap();
        let [Record::Trade(trade)] = &read[..] else { panic!("{read:?}") };
        assert_eq!((trade.price.to_string().as_str(), trade.trade_id.as_str()), ("167.410", "2"));
    }

    #[test]
    fn what_a_header_cannot_tell_is_an_error_with_the_way_out() {
        let message = |text: &str| records(text, Options::default()).unwrap_err().to_string();
        assert!(message("a,b\n1,2\n").contains("--column"));
        assert!(message("time,open,high,low,close\n").contains("--symbol"));
        assert!(message("symbol,time,open,high,low,close\nA,2024-01-01,1,1,1,1\n").contains("--width"));
    }

    #[test]
    fn times_of_every_common_form_are_read() {
        let noon = "2024-07-01T12:00:00+00:00";
        for text in [
            "2024-07-01T12:00:00Z",
            "2024-07-01 12:00:00+00",
            "2024-07-01 12:00",
            "1719835200",
            "1719835200000",
        ] {
            assert_eq!(parse_time(text, None).unwrap().to_rfc3339(), noon, "{text}");
        }
        let new_york = Some(chrono_tz::America::New_York);
        assert_eq!(parse_time("2024-07-01 08:00:00", new_york).unwrap().to_rfc3339(), noon);
        // The clocks of New York go from 02:00 to 03:00 in March, and from 02:00 back to 01:00 in November.
        assert!(parse_time("2024-03-10 02:30:00", new_york).is_err());
        let first = parse_time("2024-11-03 01:30:00", new_york).unwrap();
        assert_eq!(first.to_rfc3339(), "2024-11-03T05:30:00+00:00", "of the two the earlier");
        assert!(parse_time("soon", None).is_err());
    }
}
