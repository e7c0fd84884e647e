//! The case files: what is asked and what the reference answered.

use chrono::NaiveDateTime;
use kronos_models::bars::{Bar, BarRequest, Sampling, Stamp, complete};
use kronos_models::kronos::tokenizer::Token;
use kronos_models::random::Stream;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// `<case>.json`.
#[derive(Deserialize)]
pub struct Case {
    pub case: Settings,
    #[serde(default)]
    series: Vec<Series>,
    expected: OneOrMany<Expected>,
}

/// The options of the call.
#[derive(Deserialize)]
pub struct Settings {
    pub name: String,
    data: String,
    starts: Vec<usize>,
    context: usize,
    pub pred_len: usize,
    pub max_context: usize,
    columns: Vec<String>,
    #[serde(rename = "T")]
    temperature: f32,
    top_k: usize,
    top_p: f32,
    pub sample_count: usize,
}

/// The input of one series, where the file repeats it.
#[derive(Deserialize)]
struct Series {
    x_timestamp: Vec<String>,
    y_timestamp: Vec<String>,
    x: HashMap<String, Vec<f64>>,
}

/// The answer for one series.
#[derive(Deserialize)]
pub struct Expected {
    pub x_mean: [f32; 6],
    pub x_std: [f32; 6],
    pub context_s1: Vec<u16>,
    pub context_s2: Vec<u16>,
    generated_s1: OneOrMany<Vec<u16>>,
    generated_s2: OneOrMany<Vec<u16>>,
    pred: HashMap<String, Vec<f32>>,
}

/// Sets with formula weights have one series and one path and drop the list around it.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::Many(many) => many,
            Self::One(one) => vec![one],
        }
    }
}

pub const COLUMNS: [&str; 6] = ["open", "high", "low", "close", "volume", "amount"];

impl Case {
    /// Requests in the order of the series, and what is expected of each.
    pub fn into_series(self, folder: &Path) -> Vec<(BarRequest, Expected)> {
        let series = if self.series.is_empty() { self.case.rows(folder) } else { self.series };
        series
            .into_iter()
            .zip(self.expected.into_vec())
            .map(|(series, expected)| (series.request(self.case.pred_len), expected))
            .collect()
    }
}

impl Settings {
    /// Always the most likely token: the answer needs no luck.
    pub fn is_greedy(&self) -> bool {
        self.top_k == 1
    }

    pub fn sampling(&self) -> Sampling {
        Sampling::new(self.temperature, self.top_k, self.top_p).unwrap()
    }

    /// The series of the case, cut from its data file.
    fn rows(&self, folder: &Path) -> Vec<Series> {
        let table = Table::read(&folder.join("data").join(&self.data).with_extension("csv"));
        let cut = |start: usize| Series {
            x_timestamp: table.timestamps[start..][..self.context].to_vec(),
            y_timestamp: table.timestamps[start + self.context..][..self.pred_len].to_vec(),
            x: self
                .columns
                .iter()
                .map(|name| (name.clone(), table.columns[name][start..][..self.context].to_vec()))
                .collect(),
        };
        self.starts.iter().map(|&start| cut(start)).collect()
    }
}

impl Series {
    fn request(&self, horizon: usize) -> BarRequest {
        let value = |name: &str, row: usize| self.x.get(name).map(|column| column[row]);
        let bar = |row: usize| -> Bar {
            let prices = ["open", "high", "low", "close"].map(|name| self.x[name][row]);
            complete(prices, value("volume", row), value("amount", row))
        };
        BarRequest {
            bars: (0..self.x_timestamp.len()).map(bar).collect(),
            stamps: self.x_timestamp.iter().chain(&self.y_timestamp).map(|text| stamp(text)).collect(),
            horizon,
            stream: Stream::from_key(0),
        }
    }
}

impl Expected {
    /// The forecast, row by row in channel order.
    pub fn pred(&self) -> Vec<f32> {
        (0..self.pred["close"].len()).flat_map(|step| COLUMNS.map(|name| self.pred[name][step])).collect()
    }

    /// Tokens per path.
    pub fn generated(&self) -> Vec<Vec<Token>> {
        let (s1, s2) = (self.generated_s1.clone().into_vec(), self.generated_s2.clone().into_vec());
        let path = |(s1, s2): (Vec<u16>, Vec<u16>)| {
            s1.into_iter().zip(s2).map(|(s1, s2)| Token { s1, s2 }).collect()
        };
        s1.into_iter().zip(s2).map(path).collect()
    }
}

/// A file of bars.
pub struct Table {
    pub timestamps: Vec<String>,
    pub columns: HashMap<String, Vec<f64>>,
}

impl Table {
    pub fn read(path: &Path) -> Self {
        let mut reader =
            csv::Reader::from_path(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names: Vec<String> = reader.headers().unwrap().iter().skip(1).map(String::from).collect();
        let mut table = Self { timestamps: Vec::new(), columns: HashMap::new() };
        for record in reader.records() {
            let record = record.unwrap();
            table.timestamps.push(record[0].into());
            for (name, text) in names.iter().zip(record.iter().skip(1)) {
                table.columns.entry(name.clone()).or_default().push(text.parse().unwrap());
            }
        }
        table
    }

    /// The rows of `range` as a request; rows after it lend the forecast their stamps.
    pub fn request(&self, range: std::ops::Range<usize>, horizon: usize) -> BarRequest {
        Series {
            x_timestamp: self.timestamps[range.clone()].to_vec(),
            y_timestamp: self.timestamps[range.end..][..horizon].to_vec(),
            x: self
                .columns
                .iter()
                .map(|(name, column)| (name.clone(), column[range.clone()].to_vec()))
                .collect(),
        }
        .request(horizon)
    }
}

/// The calendar fields of a timestamp as the files write it.
pub fn stamp(text: &str) -> Stamp {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().into()
}
