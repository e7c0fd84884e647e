//! `make demo` on files as people have them: a forecast for every symbol, or one line that says what is wrong.

use kronos_tests::{Cluster, Database, project_root, shared_folder};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn demo(db: &Database, file: Option<&Path>) -> Output {
    let mut command = Command::new(project_root().join("tools/demo"));
    command.env("KRONOS_DEMO_URI", Cluster::get().connection_string(db.name())).args(file);
    command.output().expect("the demo can be run")
}

#[track_caller]
fn shown(db: &Database, file: Option<&Path>) -> String {
    let output = demo(db, file);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// The one line that the demo refuses a file with.
#[track_caller]
fn refused(content: &str) -> String {
    let db = Database::new("demo_refuses");
    let folder = tempfile::tempdir().unwrap();
    let output = demo(&db, Some(&write(folder.path(), "bars.csv", content)));
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    message.lines().next().unwrap_or_default().replace(&folder.path().display().to_string(), "")
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The price of bar `i`: smooth, positive, never constant.
fn price(i: usize, symbol: usize) -> f64 {
    let t = i as f64;
    (4.0 + symbol as f64 + 0.03 * (t * 0.05).sin() + 0.01 * (t * 0.7 + symbol as f64).sin()).exp()
}

/// Series with steps of their answer: how many rows are good, and how many are not.
fn counts(db: &Database) -> Vec<Vec<Option<String>>> {
    db.rows(
        "select series, count(*) filter (where status is null), count(status), min(ts) from demo.forecast
         group by series order by series",
    )
}

fn row(values: [&str; 4]) -> Vec<Option<String>> {
    values.map(|value| Some(value.to_owned())).to_vec()
}

#[test]
fn simulated_bars_without_a_file() {
    let db = Database::new("demo_simulated");
    let printed = shown(&db, None);
    assert!(printed.contains("has random weights"), "{printed}");
    assert!(printed.contains("24 bars of forecast"), "{printed}");
    assert!(counts(&db).iter().all(|series| series[1].as_deref() == Some("24")), "{:?}", counts(&db));
}

#[test]
fn a_market_that_never_closes() {
    let mut csv = String::from("Timestamp,Ticker,Open,High,Low,Close,Volume\n");
    for i in 0..300 {
        for (number, symbol) in ["BTC", "ETH"].into_iter().enumerate() {
            let (open, close) = (price(i, number), price(i + 1, number));
            writeln!(
                csv,
                "{},{symbol},{open},{},{},{close},{}",
                1_704_067_200 + 3600 * i,
                open.max(close) * 1.001,
                open.min(close) * 0.999,
                1000 + i % 7
            )
            .unwrap();
        }
    }
    let db = Database::new("demo_never_closes");
    let folder = tempfile::tempdir().unwrap();
    let printed = shown(&db, Some(&write(folder.path(), "bars.csv", &csv)));
    assert!(printed.contains("BTC · demo.bar\n72 bars of history"), "{printed}");
    // 300 hours after 2024-01-01 00:00.
    assert_eq!(
        counts(&db),
        [
            row(["BTC", "24", "0", "2024-01-13 12:00:00+00"]),
            row(["ETH", "24", "0", "2024-01-13 12:00:00+00"])
        ]
    );
}

/// Half-hour bars of a market with a lunch break, a holiday and weekends, in a compressed file with semicolons, the
/// date and the time in two columns, and no symbol. 2024-01-01 is a Monday.
#[test]
fn hours_are_read_off_the_bars() {
    let mut csv = String::from("\u{feff}Date;Time;Open;High;Low;Close\r\n");
    let mut number = 0;
    for day in 1..=26 {
        let closed = day % 7 == 6 || day % 7 == 0 || day == 10;
        for time in ["09:30", "10:00", "10:30", "11:00", "13:00", "13:30", "14:00", "14:30"] {
            if closed {
                continue;
            }
            let (open, close) = (price(number, 0), price(number + 1, 0));
            let (high, low) = (open.max(close) + 0.1, open.min(close) - 0.1);
            write!(csv, "2024-01-{day:02};{time};{open};{high};{low};{close}\r\n").unwrap();
            number += 1;
        }
    }
    let db = Database::new("demo_hours");
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "lunch break's.csv", &csv);
    assert!(Command::new("gzip").arg(&file).status().unwrap().success());
    let printed = shown(&db, Some(&folder.path().join("lunch break's.csv.gz")));
    assert!(printed.contains("Trading hours were read off the bars"), "{printed}");
    // The last bar is that of Friday the 26th, 14:30.
    assert_eq!(counts(&db), [row(["lunch break's", "24", "0", "2024-01-29 09:30:00+00"])]);
    assert_eq!(
        db.value(
            "select string_agg(to_char(ts, 'HH24:MI'), ' ' order by ts) from demo.forecast where step <= 5"
        ),
        "09:30 10:00 10:30 11:00 13:00"
    );
}

#[test]
fn one_line_says_what_is_wrong_with_a_file() {
    assert_eq!(
        refused("when,open,high,low,close\n2024-01-01,1,2,1,1\n"),
        "kronos: /bars.csv has no time column; its header is: when,open,high,low,close"
    );
    assert_eq!(
        refused("ds,open,high,low,last\n2024-01-01,1,2,1,1\n"),
        "kronos: /bars.csv has no column close; its header is: ds,open,high,low,last"
    );
    assert_eq!(
        refused("ds,open,high,low,close\n2024-01-01,1,2,1,1\n2024-01-02,1,two,1,1\n"),
        "kronos: /bars.csv: invalid input syntax for type double precision: \"two\" (line 3, column high)"
    );
    assert_eq!(
        refused("ds,open,high,low,close\n2024-01-32,1,2,1,1\n"),
        "kronos: /bars.csv: date/time field value out of range: \"2024-01-32\""
    );
    assert_eq!(refused("ds,open,high,low,close\n"), "kronos: /bars.csv holds no bars");
    assert_eq!(refused(""), "kronos: /bars.csv is empty or damaged");
}

#[test]
fn real_files_beside_the_project() {
    let Some(data) = shared_folder("data") else { return };
    for (file, series) in [
        ("crypto/crypto_4h.csv.gz", 2),
        ("intraday/cn_ashare_5min_kronos.csv.gz", 1),
        ("daily/leaders_daily.csv.gz", 14),
    ] {
        let db = Database::new("demo_real");
        shown(&db, Some(&data.join(file)));
        let counts = counts(&db);
        assert_eq!(counts.len(), series, "{file}");
        assert!(counts.iter().all(|row| row[1].as_deref() == Some("24")), "{file}: {counts:?}");
    }
}
