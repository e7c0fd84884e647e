//! How much of a table a forecast reads, and that it says the same however it reads.

use super::flat;
use kronos_tests::{Database, rows};

/// Long series, so that reading all of them cannot be mistaken for reading their ends.
const SERIES: usize = 20;
const ROWS: usize = 10_000;

/// The calls, `TABLE` and `ONLY` to be filled in: a model of bars, one of columns, one that reads the known future, a baseline.
const CALLS: [&str; 4] = [
    "kronos_predict('TABLE', 3, samples => 2, series_col => 'symbol' ONLY)",
    "chronos_predict('TABLE', '{close,volume}', 3, past_covariates => '{high}', series_col => 'symbol' ONLY)",
    "chronos_predict('TABLE', '{close}', 3, future_covariates => '{hour}', past_covariates => '{word}', as_of => '2024-12-31 00:30+00', series_col => 'symbol' ONLY)",
    "forecast('naive', 'TABLE', '{close}', 3, options => '{\"context\": 300}', series_col => 'symbol' ONLY)",
];

/// `long`, which an index finds by key and time, and `heap`, the same rows without one.
fn tables(db: &Database) {
    let symbols: Vec<String> = (1..=SERIES).map(|number| format!("S{number:02}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    db.run(&kronos_tests::bars("long", &symbols, ROWS));
    db.run(
        "alter table long add hour int, add word text;
         update long set hour = extract(hour from ts), word = (array['sun', 'rain', 'fog'])[1 + extract(day from ts)::int % 3];
         create table heap as table long",
    );
    db.run("vacuum analyze long");
}

fn call(pattern: &str, table: &str, only: &str) -> String {
    pattern.replace("TABLE", table).replace("ONLY", only)
}

/// Rows of `long` that a call read by an index, and without one.
fn read(db: &Database, call: &str) -> (usize, usize) {
    let mut client = db.connect();
    client.batch_execute("begin").unwrap();
    assert!(!rows(&mut client, &format!("select * from {call}")).is_empty(), "{call}");
    let counted = rows(
        &mut client,
        "select idx_tup_fetch, seq_tup_read from pg_stat_xact_user_tables where relname = 'long'",
    );
    let count = |column: usize| counted[0][column].as_deref().unwrap().parse().unwrap();
    (count(0), count(1))
}

#[test]
fn the_ends_of_series_are_read_and_not_what_lies_before_them() {
    let db = Database::new("ends_of_series");
    tables(&db);
    // Longest contexts: 2048 rows of chronos-nano, and as many again of what follows the last target.
    let most = 2 * (2048 + 300);
    let named = ", only_series => '{S03,S11}'";
    let twenty: String = (1..=SERIES).map(|number| format!("S{number:02},")).collect();
    let all_named = format!(", only_series => '{{{}}}'", twenty.trim_end_matches(','));
    for pattern in CALLS {
        let (by_index, without) = read(&db, &call(pattern, "long", named));
        assert!(without == 0 && (2 * 256..2 * most).contains(&by_index), "{pattern}: {by_index}, {without}");
        let (by_index, without) = read(&db, &call(pattern, "long", &all_named));
        assert!(without == 0 && by_index < SERIES * most, "{pattern}, all named: {by_index}, {without}");
    }
    // Where all series are asked for, it is worth it where their ends are few among the rows.
    let (by_index, without) = read(&db, &call(CALLS[0], "long", ""));
    assert!(without == 0 && by_index < SERIES * 700, "{by_index}, {without}");
}

#[test]
fn numbers_do_not_depend_on_how_rows_are_read() {
    let db = Database::new("how_rows_are_read");
    tables(&db);
    // Rows that no model may see, columns that end early, a series without any value, gaps in a column.
    let change = "update TABLE set close = null, volume = null where ts >= timestamptz '2025-01-20 00:00+00' and symbol < 'S03';
         update TABLE set close = null, volume = null where symbol = 'S04' and ts >= '2024-03-01';
         update TABLE set close = null, volume = null where symbol = 'S05';
         update TABLE set close = 'nan' where symbol = 'S06' and ts > '2025-02-01';
         update TABLE set close = null where symbol = 'S07' and extract(hour from ts) = 5;
         delete from TABLE where symbol = 'S08' and extract(hour from ts) = 6";
    for table in ["long", "heap"] {
        db.run(&change.replace("TABLE", table));
    }
    db.run("vacuum analyze long");
    let only = ["", ", only_series => '{S01,S04,S05,S06,S07,S08,S09,nobody}'", ", only_series => '{S05}'"];
    for pattern in CALLS {
        for only in only {
            let said = |table: &str| flat(db.rows(&format!("select * from {}", call(pattern, table, only))));
            let (looked_up, read) = (said("long"), said("heap"));
            assert!(looked_up == read && !read.is_empty(), "{pattern} {only}: {looked_up:?} {read:?}");
        }
    }
    assert_eq!(
        flat(db.rows(&format!(
            "select series, status from {} where status is not null order by 1",
            call(CALLS[1], "long", "")
        ))),
        ["S05 nan"]
    );
}

/// The known future may be longer than what a model reads, and so may a stretch without values between two targets.
#[test]
fn a_long_future_hides_no_history() {
    let db = Database::new("long_future");
    db.run(
        "create table shops (shop text, day date, units float8, open bool, primary key (shop, day));
         insert into shops
         select shop, date '1990-01-01' + i, case when i < 400 or (shop = 'B' and i > 6000 and i < 6100) then 100 + i % 7 end, i % 7 <> 0
         from (values ('A'), ('B')) s (shop), generate_series(0, 12000) i;
         create table heap as table shops; create table restated as select *, timestamptz '1980-01-01' as known from shops",
    );
    let call = |table: &str, more: &str| {
        flat(db.rows(&format!(
            "select series, step, cutoff, forecast from chronos_predict('{table}', '{{units}}', 2, 'shop', 'day', future_covariates => '{{open}}' {more})"
        )))
    };
    let plain = call("heap", "");
    let stamp = |row: &str| row.split(' ').nth(2).map(str::to_owned);
    // Day 400 from 1990, and day 6100.
    assert_eq!((stamp(&plain[0]), stamp(&plain[2])), (Some("1991-02-05".into()), Some("2006-09-14".into())));
    assert_eq!(call("shops", ", only_series => '{A,B}'"), plain);
    assert_eq!(call("restated", ", options => '{\"known_at_col\": \"known\"}'"), plain);
}
