//! Files of facts: each row a version of a document, each column a member of its payload.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use chrono::{Days, NaiveTime};
use chrono_tz::Tz;
use csv::StringRecord;
use serde_json::value::RawValue;

use super::{Options, Records, Rows, columns, instant::Moment, survey, time::Times};
use crate::{
    error::{Error, Result},
    kinds::{Document, Listing, Record, Timestamp},
    recording::Text,
};

/// What the user says about a file of facts.
#[derive(Clone, Debug, Default)]
pub struct DocumentOptions {
    /// What the documents are, for example `fmp_ratios`.
    pub kind: String,
    /// Columns that tell one document from another; the symbol, and the time of the event, where none is named.
    pub key: Vec<String>,
    /// Column with the time from which a row was known; the moment of loading where none is named.
    pub known_at: Option<String>,
    /// Column with the time of what a row tells of.
    pub event: Option<String>,
    /// Members of the payload by the columns that have them (`columns`), and how the file is written.
    pub table: Options,
}

/// A CSV file of facts.
pub struct DocumentTable {
    rows: Rows,
    decoder: Decoder,
}

struct Decoder {
    kind: String,
    /// Member of the payload that each column is; `None` for what the document says elsewhere.
    members: Vec<Option<String>>,
    key: Vec<usize>,
    symbol: Option<usize>,
    /// Symbol of every row.
    of_all: Option<String>,
    known_at: Option<(usize, Times)>,
    event: Option<(usize, Times)>,
    zone: Option<Tz>,
    received_at: Timestamp,
    /// When the newest version of each document so far was known.
    newest: HashMap<String, Timestamp>,
}

/// A cell as JSON: a number where it is written as one, digit by digit, else a text.
fn value(cell: &str) -> Result<Box<RawValue>, String> {
    let is_number = serde_json::from_str::<serde_json::Number>(cell).is_ok();
    let text = if is_number { cell.to_owned() } else { serde_json::Value::from(cell).to_string() };
    RawValue::from_string(text).map_err(|e| e.to_string())
}

/// Columns that are taken for the symbol.
const SYMBOLS: [&str; 3] = ["symbol", "ticker", "instrument"];

impl DocumentTable {
    /// Opens `path`; `received_at` stamps its rows.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Row`] for a column that does not exist or a file whose rows could not be told apart.
    pub fn open(path: &Path, mut options: DocumentOptions, received_at: Timestamp) -> Result<Self> {
        let fail = |message: String| Error::Row { path: path.to_owned(), line: 1, message };
        let text = Text::open(path)?;
        if options.table.delimiter.is_none() {
            options.table.delimiter = Some(columns::delimiter(text).map_err(fail)?);
        }
        let mut reader = options.table.reader(path).map_err(fail)?;
        let header = reader.headers().map_err(|e| fail(e.to_string()))?.clone();
        let decoder = Decoder::new(path, &header, options, received_at).map_err(fail)?;
        Ok(DocumentTable { rows: Rows::new(path, reader, received_at), decoder })
    }
}

impl Records for DocumentTable {
    fn next_record(&mut self) -> Result<Option<(u64, Record)>> {
        self.rows.next(|row, _| self.decoder.document(row).map(Record::Document))
    }

    fn bytes_read(&self) -> u64 {
        self.rows.reader.position().byte()
    }
}

impl Decoder {
    fn new(
        path: &Path,
        header: &StringRecord,
        options: DocumentOptions,
        received_at: Timestamp,
    ) -> Result<Self, String> {
        let place = |name: &str| {
            let found = header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
            found.ok_or_else(|| format!("column \"{name}\" does not exist"))
        };
        let mut members: Vec<_> = header.iter().map(|column| Some(column.trim().to_owned())).collect();
        for (member, column) in &options.table.columns {
            members[place(column)?] = Some(member.clone());
        }
        let mut names = HashSet::new();
        if let Some(twice) = members.iter().flatten().find(|name| !names.insert(name.as_str())) {
            return Err(format!("two columns are called \"{twice}\""));
        }
        let symbol = SYMBOLS.iter().find_map(|name| place(name).ok());
        let event = options.event.as_deref().map(place).transpose()?;
        let known_at = options.known_at.as_deref().map(place).transpose()?;
        let mut key: Vec<usize> = options.key.iter().map(|name| place(name)).collect::<Result<_, _>>()?;
        if key.is_empty() {
            key.extend(symbol.into_iter().chain(event));
        }
        if key.is_empty() && options.table.symbol.is_none() {
            return Err("no column tells one document from another; name some with --key".to_owned());
        }
        // When a fact was known is no part of it: said again, it is the same.
        if let Some(column) = known_at {
            members[column] = None;
        }
        let zone = options.table.zone;
        let mut times = [known_at, event].map(|column| {
            let column = column?;
            let name = header.get(column).unwrap_or_default().trim().to_ascii_lowercase();
            Some((column, Times::new(options.table.time_format.clone(), zone, &name, received_at)))
        });
        if times.iter().any(Option::is_some) {
            for (row, place) in survey::rows(path, &options.table)?.zip(0..) {
                if place >= survey::ROWS && times.iter().flatten().all(|(_, times)| times.is_settled(false)) {
                    break;
                }
                for (column, times) in times.iter_mut().flatten() {
                    times.learn(row.get(*column).unwrap_or_default().trim());
                }
            }
        }
        let [known_at, event] = times;
        Ok(Decoder {
            kind: options.kind,
            members,
            key,
            symbol,
            of_all: options.table.symbol,
            known_at,
            event,
            zone,
            received_at,
            newest: HashMap::new(),
        })
    }

    fn document(&mut self, row: &StringRecord) -> Result<Document, String> {
        let cell = |column: usize| row.get(column).map(str::trim).filter(|text| !text.is_empty());
        let required = |column: usize| {
            cell(column).ok_or_else(|| match &self.members[column] {
                Some(name) => format!("{name} is missing"),
                None => "the time from which it was known is missing".to_owned(),
            })
        };
        let symbol = match (&self.of_all, self.symbol) {
            (Some(symbol), _) => Some(symbol.clone()),
            (None, Some(column)) => Some(required(column)?.to_owned()),
            (None, None) => None,
        };
        let mut key: Vec<&str> = Vec::with_capacity(self.key.len() + 1);
        if self.key.is_empty() {
            key.extend(symbol.as_deref());
        }
        for column in &self.key {
            key.push(required(*column)?);
        }
        let key = key.join("/");
        let event_time = match &self.event {
            Some((column, times)) => cell(*column).map(|text| times.read(text, None)).transpose()?,
            None => None,
        };
        let known_at = match &self.known_at {
            Some((column, times)) => self.end(times.moment(required(*column)?)?)?.min(self.received_at),
            None => self.received_at,
        };
        let members = self
            .members
            .iter()
            .enumerate()
            .filter_map(|(column, name)| Some((name.as_ref()?, cell(column)?)));
        let payload: BTreeMap<&String, Box<RawValue>> =
            members.map(|(name, text)| Ok((name, value(text)?))).collect::<Result<_, String>>()?;
        let payload = serde_json::to_string(&payload).map_err(|e| e.to_string())?;
        // The store takes a version that is older than the newest for one that nobody knew before it came.
        match self.newest.insert(key.clone(), known_at) {
            Some(newest) if newest > known_at => {
                self.newest.insert(key.clone(), newest);
                return Err(format!("\"{key}\" was known later in a row above; sort the file by that time"));
            }
            Some(newest) if newest == known_at => {
                return Err(format!(
                    "\"{key}\" was known at the same time in a row above; tell the two apart with --key"
                ));
            }
            _ => {}
        }
        let document = Document::new(&self.kind, key, &payload, self.received_at)?;
        Ok(Document { symbol, event_time, known_at, listing: Listing::Version, ..document })
    }

    /// The instant of a time from which something was known: a day alone was over, by the clock of the file's zone.
    fn end(&self, moment: Moment) -> Result<Timestamp, String> {
        let over = |day: chrono::NaiveDate| day.checked_add_days(Days::new(1));
        match moment {
            Moment::Day(day) => over(day)
                .map(|next| Moment::Local(next.and_time(NaiveTime::MIN)))
                .ok_or_else(|| format!("{day} is out of range"))?
                .at(self.zone),
            other => other.at(self.zone),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str, options: DocumentOptions) -> Result<Vec<Record>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let options = DocumentOptions { kind: "facts".to_owned(), ..options };
        let mut table = DocumentTable::open(file.path(), options, "2026-11-30T12:00:00Z".parse().unwrap())?;
        Ok(std::iter::from_fn(|| table.next_record().unwrap().map(|(_, record)| record)).collect())
    }

    fn told(record: &Record) -> String {
        match record {
            Record::Document(d) => format!("{} {} {}", d.key, d.known_at.format("%F %T"), d.payload),
            Record::Rejected(rejected) => format!("{rejected:?}"),
            other => panic!("{other:?}"),
        }
    }

    fn by(known_at: &str) -> DocumentOptions {
        DocumentOptions { known_at: Some(known_at.to_owned()), ..DocumentOptions::default() }
    }

    #[test]
    fn a_row_is_known_when_its_day_is_over_in_the_zone_of_the_file() {
        let text = "symbol,as_of,pe,note\nAAA,2012-12-27,14.980,\"a \"\"b\"\"\"\nAAA,2013-01-03,,\nBBB,2012-12-27,007,x\n";
        let utc = read(text, by("as_of")).unwrap();
        assert_eq!(told(&utc[0]), r#"AAA 2012-12-28 00:00:00 {"note":"a \"b\"","pe":14.980,"symbol":"AAA"}"#);
        assert_eq!(told(&utc[1]), r#"AAA 2013-01-04 00:00:00 {"symbol":"AAA"}"#);
        assert_eq!(told(&utc[2]), r#"BBB 2012-12-28 00:00:00 {"note":"x","pe":"007","symbol":"BBB"}"#);
        let zone = Options { zone: Some(chrono_tz::America::New_York), ..Options::default() };
        let there = read(text, DocumentOptions { table: zone, ..by("as_of") }).unwrap();
        assert!(told(&there[0]).starts_with("AAA 2012-12-28 05:00:00"), "{}", told(&there[0]));
        // How days are written is told by the column.
        for (first, second) in [("01/02/2013", "25/01/2013"), ("20130201", "20130125")] {
            let rows = read(&format!("symbol,seen\nAAA,{first}\nBBB,{second}\n"), by("seen")).unwrap();
            let days = [told(&rows[0]), told(&rows[1])].map(|row| row[4..14].to_owned());
            assert_eq!(days, ["2013-02-02", "2013-01-26"], "{first}");
        }
        // Today is not over, but the row is here.
        let today = read("symbol,seen\nAAA,2026-11-30\nAAA,2026-11-30T09:30:00Z\n", by("seen")).unwrap();
        assert_eq!(told(&today[0]), r#"AAA 2026-11-30 12:00:00 {"symbol":"AAA"}"#);
    }

    #[test]
    fn columns_are_renamed_keys_chosen_and_events_dated() {
        let columns = [("priceToEarningsRatio".to_owned(), "pe".to_owned())].into();
        let options = DocumentOptions {
            key: vec!["symbol".to_owned(), "q".to_owned()],
            event: Some("ends".to_owned()),
            table: Options { columns, ..Options::default() },
            ..DocumentOptions::default()
        };
        let read = read("symbol;q;ends;pe\nAAA;Q1;2012-03-31;9.5\n", options).unwrap();
        let Record::Document(document) = &read[0] else { panic!("{read:?}") };
        assert_eq!((document.key.as_str(), document.symbol.as_deref()), ("AAA/Q1", Some("AAA")));
        assert_eq!(document.event_time.unwrap().to_rfc3339(), "2012-03-31T00:00:00+00:00");
        assert_eq!(document.known_at, document.received_at, "nobody says that it was known before");
        assert!(document.payload.contains(r#""priceToEarningsRatio":9.5"#), "{}", document.payload);
    }

    #[test]
    fn what_would_get_a_wrong_time_or_no_name_is_refused() {
        let backwards =
            "symbol,as_of,pe\nAAA,2013-01-03,1\nBBB,2012-12-27,1\nAAA,2012-12-27,2\nAAA,2013-01-03,3\n";
        let rows = read(backwards, by("as_of")).unwrap();
        assert!(told(&rows[1]).starts_with("BBB 2012-12-28"), "another document has its own order");
        assert!(told(&rows[2]).contains("known later in a row above"), "{}", told(&rows[2]));
        assert!(told(&rows[3]).contains("known at the same time in a row above"), "{}", told(&rows[3]));
        let undated = read("symbol,as_of,pe\nAAA,,1\n", by("as_of")).unwrap();
        assert!(told(&undated[0]).contains("the time from which it was known is missing"));
        let unnamed = read("symbol,pe\n,1\n", DocumentOptions::default()).unwrap();
        assert!(told(&unnamed[0]).contains("symbol is missing"));
        for (text, options, reason) in [
            ("symbol,pe\n", by("as_of"), "column \"as_of\" does not exist"),
            ("pe,Pe,pe\n", DocumentOptions::default(), "two columns are called \"pe\""),
            ("pe\n1\n", DocumentOptions::default(), "name some with --key"),
        ] {
            let error = read(text, options).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
