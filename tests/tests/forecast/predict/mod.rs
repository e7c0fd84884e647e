//! `kronos_predict`, `kronos_predict_bars` and `kronos_paths`: what a user gets for good input.

mod keys;
mod options;
mod reading;

use kronos_tests::{Database, Row, bars, rows};

/// All columns of a forecast, as text that differs when one bit does.
const ALL: &str = "series, ts, step, open, high, low, close, volume, amount, lower, upper, quantiles, prob_up, cutoff, \
                   model_version, status";

fn flat(rows: Vec<Row>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn one_row_per_series_and_step_labelled_like_the_bars() {
    let db = Database::new("one_row_per_series_and_step");
    db.run(&bars("bars", &["AAA", "BBB", "CCC"], 200));
    let rows = flat(db.rows(
        "set timezone = 'UTC';
         select series, step, ts, cutoff, status, model_version from kronos_predict('bars', 2)",
    ));
    // 200 hourly bars from 2024-01-01 00:00: the last starts at 07:00 on the ninth and ends at 08:00.
    let version = db.value("select version from kronos.models where not built_in");
    let row = |series: &str, step: u32| {
        let hour = 7 + step;
        format!("{series} {step} 2024-01-09 0{hour}:00:00+00 2024-01-09 08:00:00+00 - {version}")
    };
    assert_eq!(
        rows,
        [row("AAA", 1), row("AAA", 2), row("BBB", 1), row("BBB", 2), row("CCC", 1), row("CCC", 2)]
    );
}

#[test]
fn every_row_and_every_path_is_a_coherent_bar() {
    let db = Database::new("every_row_and_every_path");
    db.run(&bars("bars", &["AAA", "BBB"], 200));
    let incoherent =
        "not (low <= least(open, close) and high >= greatest(open, close) and volume >= 0 and amount >= 0)";
    let spread = "not (lower <= upper and prob_up between 0 and 1)";
    assert_eq!(
        db.value(&format!(
            "select count(*) filter (where {incoherent} or {spread}) || ' of ' || count(*) from kronos_predict('bars', 24)"
        )),
        "0 of 48"
    );
    assert_eq!(
        db.value(&format!(
            "select count(*) filter (where {incoherent}) || ' of ' || count(*) from kronos_paths('bars', 24, paths => 50)"
        )),
        "0 of 2400"
    );
}

#[test]
fn a_series_alone_gives_the_numbers_it_gives_among_five_hundred() {
    let db = Database::new("a_series_alone");
    db.run(
        "create table bars as
         select 'S' || s as symbol, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour' as ts,
                p as open, p * 1.01 as high, p * 0.99 as low, p * 1.001 as close, 1000 + i as volume
         from generate_series(1, 500) s, generate_series(1, 40) i,
              lateral (select 100 * exp(0.03 * sin(i * 0.05 * s)) as p) x;",
    );
    let call = |more: &str| {
        flat(db.rows(&format!(
            "select {ALL} from kronos_predict('bars', 3, samples => 4, quantile_levels => '{{0.1,0.9}}' {more})
             where series in ('S7', 'S333', 'S500') order by series, step"
        )))
    };
    let among = call("");
    assert_eq!(among.len(), 9);
    // Few names are looked up one by one, many are picked from one scan; the order asked for is neither's.
    let some = "S500,S7,S333";
    let more: String = (1..40).map(|number| format!("S{number},")).collect();
    let alone =
        ["S333", "S500", "S7"].map(|series| call(&format!(", only_series => '{{{series}}}'"))).concat();
    assert_eq!(among, alone);
    assert_eq!(among, call(&format!(", only_series => '{{{some}}}'")));
    assert_eq!(among, call(&format!(", only_series => '{{{more}{some}}}'")));
    // By the array, the stream belongs to the series without a name.
    let by_array = "select step, close from kronos_predict_bars(
         (select array_agg((ts, open, high, low, close, volume, null)::kronos.bar) from bars where symbol = 'S7'),
         3, samples => 4)";
    db.run("create view single as select ts, open, high, low, close, volume from bars where symbol = 'S7'");
    assert_eq!(
        flat(db.rows(by_array)),
        flat(db.rows("select step, close from kronos_predict('single', 3, samples => 4)"))
    );
}

#[test]
fn the_forecast_is_what_sql_computes_from_the_paths() {
    let db = Database::new("the_forecast_is_what_sql_computes");
    db.run(&bars("bars", &["AAA", "BBB"], 200));
    let differing = db.value(
        "with p as (
           select p.series, p.step, avg(p.close) as close, max(p.ts) as ts,
                  percentile_cont(array[0.05, 0.95, 0.25]) within group (order by p.close) as q,
                  avg((p.close > b.close)::int) as up
           from kronos_paths('bars', 6, paths => 40, seed => 7) p
           join lateral (select close from bars where symbol = p.series order by ts desc limit 1) b on true
           group by 1, 2)
         select count(*) filter (where abs(f.close - p.close) > 1e-9 or abs(f.lower - q[1]) > 1e-9
                                 or abs(f.upper - q[2]) > 1e-9 or abs(f.quantiles[1] - q[3]) > 1e-9
                                 or abs(f.prob_up - up) > 1e-9 or f.ts <> p.ts) || ' of ' || count(*)
         from p join kronos_predict('bars', 6, samples => 40, seed => 7, quantile_levels => '{0.25}') f using (series, step)",
    );
    assert_eq!(differing, "0 of 12");
}

#[test]
fn the_same_call_repeats_and_another_seed_does_not() {
    let db = Database::new("the_same_call_repeats");
    db.run(&bars("bars", &["AAA"], 100));
    let call =
        |seed: &str| flat(db.rows(&format!("select close from kronos_predict('bars', 3, seed => {seed})")));
    assert_eq!(call("0"), call("0"));
    assert_ne!(call("0"), call("1"));
    assert_ne!(call("null"), call("null"));
}

#[test]
fn a_model_has_a_temperature_of_its_own_unless_the_call_chooses() {
    let db = Database::new("a_model_has_a_temperature");
    db.run(&bars("bars", &["AAA"], 100));
    db.run("select kronos.register_model('cool', 'kronos', 'kronos-fixture', options => '{\"temperature\":0.5}')");
    let call = |options: &str| {
        flat(db.rows(&format!(
            "select close, lower, upper from kronos_predict('bars', 3, model => 'cool', options => '{options}')"
        )))
    };
    assert_eq!(call("{}"), call("{\"temperature\":0.5}"));
    assert_ne!(call("{}"), call("{\"temperature\":1}"));
}

#[test]
fn one_sample_has_no_interval() {
    let db = Database::new("one_sample_has_no_interval");
    db.run(&bars("bars", &["AAA"], 100));
    let rows = flat(db.rows(
        "select close is not null, lower, upper, quantiles, prob_up
         from kronos_predict('bars', 1, samples => 1, quantile_levels => '{0.5}')",
    ));
    assert_eq!(rows, ["t - - - -"]);
}

#[test]
fn columns_are_found_or_mapped() {
    let db = Database::new("columns_are_found_or_mapped");
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    let plain = flat(db.rows(&format!("select {ALL} from kronos_predict('bars', 2)")));
    // Other names and types, a count beside the key, a second time column beside the first.
    db.run(
        "create domain price as numeric;
         create table odd (\"Sym Bol\" varchar(9), trades bigint, seen timestamptz, \"time\" timestamptz, o price, high float4,
                           low numeric, px_last float8, volume numeric, amount float8);
         insert into odd select symbol, 7, now(), ts, open, high, low, close, volume, amount from bars;
         create table keyed (at timestamptz, id int, note text, open float8, high float8, low float8, close float8, volume int,
                             primary key (id, at));
         insert into keyed select ts, ascii(symbol), 'x', open, high, low, close, 1 from bars;
         create table single (ts timestamptz primary key, open float8, high float8, low float8, close float8, volume float8,
                              trades int);
         insert into single select ts, open, high, low, close, volume, 3 from bars where symbol = 'AAA';
         create materialized view stored as select * from bars;
         create table parts (like bars) partition by range (ts);
         create table parts_1 partition of parts for values from ('2024-01-01') to ('2024-01-03');
         create table parts_2 partition of parts for values from ('2024-01-03') to ('2025-01-03');
         insert into parts select * from bars;",
    );
    for relation in ["stored", "parts"] {
        assert_eq!(
            flat(db.rows(&format!("select {ALL} from kronos_predict('{relation}', 2)"))),
            plain,
            "{relation}"
        );
    }
    db.run("update odd set high = (select high from bars b where b.symbol = odd.\"Sym Bol\" and b.ts = odd.time)");
    let mapped = db.value(
        "select count(*) from kronos_predict('odd', 2, time_col => 'time',
           options => '{\"columns\":{\"open\":\"o\",\"close\":\"px_last\"}}') where status is null",
    );
    assert_eq!(mapped, "4");
    assert_eq!(
        flat(
            db.rows("select distinct series from kronos_predict('keyed', 2) where status is null order by 1")
        ),
        ["65", "66"]
    );
    assert_eq!(db.value("select count(*) from kronos_predict('keyed', 2, only_series => '{66}')"), "2");
    assert_eq!(flat(db.rows("select series, step, status from kronos_predict('single', 1)")), ["- 1 -"]);
}

#[test]
fn daily_bars_of_a_date_column_step_over_weekends_and_holidays() {
    let db = Database::new("daily_bars_of_a_date_column");
    // Every weekday up to the Tuesday before Thanksgiving 2024, which New York keeps on the 28th.
    db.run(
        "create table daily as
         select 'AAA'::text as symbol, d::date as day, 10.0 as open, 11.0 as high, 9.0 as low, 10.5 as close, 100 + n as volume
         from generate_series(date '2024-09-16', date '2024-11-26', '1 day') with ordinality x(d, n)
         where extract(isodow from d) < 6;",
    );
    let rows = flat(db.rows(
        "set timezone = 'America/New_York';
         select ts, cutoff from kronos_predict('daily', 3, samples => 2, options => '{\"calendar\":\"XNYS\"}')",
    ));
    assert_eq!(
        rows,
        [
            "2024-11-27 00:00:00-05 2024-11-26 16:00:00-05",
            "2024-11-29 00:00:00-05 2024-11-26 16:00:00-05",
            "2024-12-02 00:00:00-05 2024-11-26 16:00:00-05"
        ]
    );
    // No holiday tells whose weekdays these are, and on a market that never closes they have gaps at every weekend.
    assert_eq!(
        flat(db.rows("set timezone = 'UTC'; select status, ts, step from kronos_predict('daily', 3)")),
        ["gap 2024-09-21 00:00:00+00 -"]
    );
}

#[test]
fn hourly_bars_of_a_session_follow_the_calendar() {
    let db = Database::new("hourly_bars_of_a_session");
    // Sessions of New York from 09:30 to 16:00 up to Friday 2024-03-08, the last before summer time.
    db.run(
        "create table hourly as
         select t as ts, 10.0 as open, 11.0 as high, 9.0 as low, 10.5 as close, 100 + n as volume
         from generate_series(timestamp '2024-02-20 09:30', '2024-03-08 15:30', '1 hour') with ordinality x(l, n),
              lateral (select l at time zone 'America/New_York' as t) y
         where extract(isodow from l) < 6 and l::time between '09:30' and '15:30';",
    );
    let rows = flat(db.rows(
        "set timezone = 'UTC'; set kronos.default_calendar = 'XNYS';
         select ts, status from kronos_predict('hourly', 8, samples => 2)",
    ));
    assert_eq!(rows[0], "2024-03-11 13:30:00+00 -");
    assert_eq!(rows[6], "2024-03-11 19:30:00+00 -");
    assert_eq!(rows[7], "2024-03-12 13:30:00+00 -");
}

#[test]
fn until_means_every_bar_that_starts_up_to_then() {
    let db = Database::new("until_means_every_bar");
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    db.run("delete from bars where symbol = 'BBB' and ts > '2024-01-04'");
    // AAA ends at 2024-01-05 04:00, BBB at 2024-01-04 01:00.
    let rows = flat(db.rows(
        "set timezone = 'UTC';
         select series, count(*), max(ts) from kronos_predict('bars', until => '2024-01-05 06:30+00', samples => 2)
         group by 1 order by 1",
    ));
    assert_eq!(rows, ["AAA 3 2024-01-05 06:00:00+00", "BBB 30 2024-01-05 06:00:00+00"]);
    let rows = flat(db.rows(
        "select series, status from kronos_predict('bars', until => '2024-01-04 12:00+00', samples => 2) where step is null",
    ));
    assert_eq!(rows, ["AAA past_until"]);
}

#[test]
fn missing_volume_is_said_once() {
    let db = Database::new("missing_volume_is_said_once");
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    db.run("alter table bars drop column volume, drop column amount");
    let (mut client, notices) = db.connect_with_notices();
    let found = rows(&mut client, "select volume >= 0, status from kronos_predict('bars', 1)");
    assert_eq!(flat(found), ["t -", "t -"]);
    let notices = notices.lock().unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("volume is missing in 2 of 2 series"), "{notices:?}");
}

#[test]
fn reading_never_writes_and_row_security_holds() {
    let db = Database::new("reading_never_writes");
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    let role = db.role("analyst");
    db.run(&format!(
        "select kronos.grant_access('{role}', 'use'); grant select on bars to {role};
         alter table bars enable row level security;
         create policy own on bars for select to {role} using (symbol = 'BBB');"
    ));
    let mut client = db.connect_as(&role);
    client.batch_execute("begin read only").unwrap();
    let seen = rows(&mut client, "select distinct series from kronos_predict('bars', 2)");
    assert_eq!(flat(seen), ["BBB"]);
    let seen =
        rows(&mut client, "select series, status from kronos_predict('bars', 2, only_series => '{AAA}')");
    assert_eq!(flat(seen), ["AAA no_rows"]);
    client.batch_execute("commit").unwrap();
}

#[test]
fn a_role_without_select_is_refused_and_columns_count() {
    let db = Database::new("a_role_without_select");
    db.run(&bars("bars", &["AAA"], 100));
    let role = db.role("analyst");
    db.run(&format!("select kronos.grant_access('{role}', 'use')"));
    let mut client = db.connect_as(&role);
    db.error_in(&mut client, "select * from kronos_predict('bars', 2)")
        .is("42501", "permission denied for table bars");
    // Privileges on the columns that are read are enough.
    db.run(&format!("grant select (symbol, ts, open, high, low, close, volume, amount) on bars to {role}"));
    assert_eq!(rows(&mut client, "select * from kronos_predict('bars', 2)").len(), 2);
}

#[test]
fn a_thousand_calls_in_one_connection_need_no_more_memory() {
    let db = Database::new("a_thousand_calls");
    db.run(&bars("bars", &["AAA", "BBB"], 64));
    let mut client = db.connect();
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let resident = || -> usize {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut call = |count: usize| {
        for _ in 0..count {
            let found = rows(&mut client, "select * from kronos_predict('bars', 2, samples => 2)");
            assert_eq!(found.len(), 4);
        }
    };
    call(100);
    let before = resident();
    call(1000);
    let grown = resident().saturating_sub(before);
    // The allocator's own slack; one leaked context of 64 bars a call would be 6 MB.
    assert!(grown < 2048, "{grown} kB more after 1,000 calls");
}
