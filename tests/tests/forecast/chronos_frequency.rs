//! The stamps of a forecast against what the reference implementation infers, for every frequency of its golden file, and the
//! season that each has.

use kronos_tests::{Database, rows, shared_folder};
use serde_json::Value;

/// Frequencies that are no width of a bar: weekdays, which a calendar names, the first or last of them in a month, the
/// third Friday.
const OTHERS: [&str; 4] = ["B", "BMS", "BME", "WOM-3FRI"];

/// A stamp 28 years earlier, when days of the week and of the year fell the same: rows of the future are not read.
fn earlier(stamp: &str) -> String {
    let (year, rest) = stamp.split_at(4);
    format!("{}{}", year.parse::<u32>().unwrap() - 28, rest.replace('T', " "))
}

#[test]
fn stamps_follow_the_frequency_of_the_rows() {
    let Some(golden) = shared_folder("reference/chronos2/golden") else { return };
    let text = std::fs::read(golden.join("frequency.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let db = Database::new("stamps_follow_the_frequency");
    let mut client = db.connect();
    let stamps = |case: &Value, key: &str| -> Vec<String> {
        let list = case[key].as_array().cloned().unwrap_or_default();
        list.iter().map(|stamp| earlier(stamp.as_str().unwrap())).collect()
    };
    let (mut compared, mut wrong) = (0, Vec::new());
    for case in cases.iter().filter(|case| !stamps(case, "future").is_empty()) {
        let inferred = case["inferred"].as_str().unwrap();
        if OTHERS.contains(&inferred) {
            continue;
        }
        let history = stamps(case, "timestamps");
        let values: Vec<String> =
            history.iter().map(|stamp| format!("('{stamp}'::timestamp, 1.0)")).collect();
        rows(&mut client, "drop table if exists t");
        rows(
            &mut client,
            &format!("create table t as select * from (values {}) v(ts, y)", values.join(", ")),
        );
        let options = r#"{"calendar": "24x7"}"#;
        let sql = format!(
            "select ts at time zone 'UTC' from forecast('naive', 't', '{{y}}', 4, options => '{options}') order by step"
        );
        let got: Vec<String> = match client.simple_query(&sql) {
            Ok(_) => rows(&mut client, &sql).concat().into_iter().flatten().collect(),
            Err(error) => {
                vec![error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_owned())]
            }
        };
        let expected: Vec<String> = stamps(case, "future").iter().map(|stamp| trimmed(stamp)).collect();
        compared += 1;
        if got.iter().map(|stamp| trimmed(stamp)).collect::<Vec<_>>() != expected {
            wrong.push(format!("{inferred} from {}: {got:?}, expected {expected:?}", history[0]));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 60, "only {compared} frequencies were compared");
}

/// A day of anything shorter, a week of days, a year of anything longer. The value of row n is n, so that what the seasonal
/// forecast repeats tells how far back it looked.
#[test]
fn the_season_is_that_of_the_width() {
    let db = Database::new("season_of_the_width");
    for (width, season) in [
        ("1 minute", 1440),
        ("15 minutes", 96),
        ("1 hour", 24),
        ("4 hours", 6),
        ("1 day", 7),
        ("1 week", 52),
        ("1 month", 12),
        ("3 months", 4),
        ("1 year", 1),
    ] {
        let back = db.value(&format!(
            "drop table if exists t;
             create table t as select timestamp '1901-01-01' + n * interval '{width}' as ts, n::float8 from generate_series(1, 50 + {season}) n;
             select 51 + {season} - forecast from forecast('seasonal_naive', 't', '{{n}}', 1)"
        ));
        assert_eq!(back, season.to_string(), "{width}");
    }
}

/// Without zeros at the end of a fraction, as PostgreSQL writes it.
fn trimmed(stamp: &str) -> String {
    match stamp.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
        None => stamp.to_owned(),
    }
}
