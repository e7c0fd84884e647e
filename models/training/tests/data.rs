//! Files as panels: whatever the format, the same rows; what is wrong with a file is told with its place.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test may stop where it is

use flate2::Compression;
use flate2::write::GzEncoder;
use kronos_job::SourceOptions;
use kronos_training::data::{timestamp, width};
use kronos_training::{Panel, Result};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Noon of 1 March 2020 in UTC, in microseconds.
const NOON: i64 = 1_583_064_000_000_000;
const HOUR: i64 = 3_600_000_000;

/// Rows of two series in no order, with a missing number and a column that nobody asked for.
const ROWS: &str = "ds,remark,close,symbol
2020-03-01 14:00:00,x,3.5,B
2020-03-01T12:00:00Z,x,1.0,A
2020-03-01 14:00:00+01,,,A
2020-03-01 12:00:00,x,2.5,B
2020-03-01 14:00:00,x,1.25,A
";

fn source(files: &[&Path], changes: Value) -> SourceOptions {
    let mut source = json!({"files": files, "series_col": "symbol", "time_col": "ds", "targets": ["close"]});
    source.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    serde_json::from_value(source).unwrap()
}

fn read(source: &SourceOptions) -> Result<Panel> {
    kronos_training::data::read(source, Path::new(""))
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A series: its name, and its values by their times.
type Series<'a> = (&'a str, Vec<(i64, Option<f64>)>);

/// Each series with its hours since noon and its values; a missing one is `None`.
fn rows(panel: &Panel) -> Vec<Series<'_>> {
    let of = |series: &kronos_training::PanelSeries| {
        let values = series.values[0].iter().map(|value| (!value.is_nan()).then_some(*value));
        series.times.iter().map(|time| (time - NOON) / HOUR).zip(values).collect()
    };
    panel.series.iter().map(|series| (series.name.as_str(), of(series))).collect()
}

type Expected = [(&'static str, Vec<(i64, Option<f64>)>); 2];

fn expected() -> Expected {
    [("A", vec![(0, Some(1.0)), (1, None), (2, Some(1.25))]), ("B", vec![(0, Some(2.5)), (2, Some(3.5))])]
}

#[test]
fn rows_are_put_in_order_and_what_is_missing_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let plain = written(folder.path(), "bars.csv", ROWS);
    let panel = read(&source(&[&plain], json!({}))).unwrap();
    assert_eq!(rows(&panel), expected());
    assert_eq!(panel.columns, ["close"]);

    let zipped = folder.path().join("bars.csv.gz");
    let mut encoder = GzEncoder::new(File::create(&zipped).unwrap(), Compression::fast());
    encoder.write_all(ROWS.as_bytes()).unwrap();
    encoder.finish().unwrap();
    assert_eq!(rows(&read(&source(&[&zipped], json!({}))).unwrap()), expected());
}

#[test]
fn parquet_holds_the_rows_that_a_text_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bars.parquet");
    let schema = "message bars {
        required binary symbol (utf8); required int64 ds (timestamp_micros); optional double close;
        optional int64 volume;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let symbols = ["B", "A", "A", "B", "A"].map(ByteArray::from);
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&symbols, None, None).unwrap();
    column.close().unwrap();
    let times = [2, 0, 1, 0, 2].map(|hour| NOON + hour * HOUR);
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&times, None, None).unwrap();
    column.close().unwrap();
    // The third close and the second volume are NULL.
    let mut column = group.next_column().unwrap().unwrap();
    let closes = [3.5, 1.0, 2.5, 1.25];
    column.typed::<DoubleType>().write_batch(&closes, Some(&[1, 1, 0, 1, 1]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[20, 30, 40, 50], Some(&[1, 0, 1, 1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    assert_eq!(rows(&read(&source(&[&path], json!({}))).unwrap()), expected());
    let panel = read(&source(&[&path], json!({"targets": ["volume", "close"]}))).unwrap();
    let volumes = [
        ("A", vec![(0, None), (1, Some(30.0)), (2, Some(50.0))]),
        ("B", vec![(0, Some(40.0)), (2, Some(20.0))]),
    ];
    assert_eq!(rows(&panel), volumes);
    let missing = read(&source(&[&path], json!({"targets": ["open"]}))).unwrap_err().to_string();
    assert!(missing.contains("there is no column \"open\""), "{missing}");
}

#[test]
fn only_the_series_and_times_that_were_asked_for_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "bars.csv", ROWS);
    // The last instant belongs to it.
    let until = read(&source(&[&path], json!({"until": "2020-03-01 13:00:00"}))).unwrap();
    let [(a, all_of_a), (b, all_of_b)] = expected();
    assert_eq!(rows(&until), [(a, all_of_a[..2].to_vec()), (b, all_of_b[..1].to_vec())]);
    let only = read(&source(&[&path], json!({"only_series": ["B", "C"]}))).unwrap();
    assert_eq!(rows(&only), [(b, all_of_b)]);
    let refused = read(&source(&[&path], json!({"until": "tomorrow"}))).unwrap_err().to_string();
    assert_eq!(refused, "job: until: \"tomorrow\" is no date or time");
}

#[test]
fn a_file_without_a_column_of_series_is_one_series() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [("BTC.1h.csv", "1"), ("ETH.1h.csv", "2")]
        .map(|(name, value)| written(folder.path(), name, &format!("ds,close\n2020-03-01,{value}\n")));
    let panel = read(&source(&[&second, &first], json!({"series_col": null}))).unwrap();
    assert_eq!(rows(&panel), [("BTC", vec![(-12, Some(1.0))]), ("ETH", vec![(-12, Some(2.0))])]);
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |text: &str| {
        let path = written(folder.path(), "bad.csv", text);
        let error = read(&source(&[&path], json!({}))).unwrap_err().to_string();
        error.split_once("bad.csv\", ").map_or(error.clone(), |(_, reason)| reason.to_owned())
    };
    let header = "ds,symbol,close\n";
    assert_eq!(refused("ds,symbol\n"), "header: there is no column \"close\"");
    assert_eq!(
        refused(&format!("{header}2020-03-01,A,1\n1 March,A,2\n")),
        "line 3: \"1 March\" is no date or time"
    );
    assert_eq!(refused(&format!("{header}2020-03-01,A,1o0\n")), "line 2: \"1o0\" is no number");
    let twice = refused(&format!("{header}2020-03-01,A,1\n2020-03-01,A,2\n"));
    assert!(
        twice.contains("\"A\"") && twice.contains("row 1 is not later than the row before it"),
        "{twice}"
    );
    let none = read(&source(&[], json!({}))).unwrap_err().to_string();
    assert_eq!(none, "job: a source needs files and targets");
}

#[test]
fn the_width_of_bars_is_their_most_common_distance_and_times_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let times = [0, 1, 2, 5, 6, 9].map(|hour| timestamp(NOON + hour * HOUR));
    let text: String = times.iter().map(|time| format!("{time},A,1\n")).collect();
    let path = written(folder.path(), "bars.csv", &format!("ds,symbol,close\n{text}"));
    let panel = read(&source(&[&path], json!({}))).unwrap();
    assert_eq!(width(&panel), HOUR);
    assert_eq!((panel.series[0].times[0], panel.series[0].times[5]), (NOON, NOON + 9 * HOUR));
}
