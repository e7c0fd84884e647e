//! A forecast made `as_of` some instant is a function of what was known then.

use kronos_tests::{Database, Row, bars};

/// 2024-01-09 00:00 is the end of the 192nd bar of 300.
const AS_OF: &str = "2024-01-09 00:00+00";

fn forecast(db: &Database, more: &str) -> Vec<Row> {
    let rows = db.rows(&format!(
        "select series, ts, step, open, high, low, close, volume, amount, lower, upper, prob_up, cutoff, status
         from kronos_predict('bars', 6, as_of => '{AS_OF}' {more})"
    ));
    assert!(!rows.is_empty());
    rows
}

/// Forecasts before and after a change to what comes later.
fn unmoved(test: &str, change: &str) {
    let db = Database::new(test);
    db.run(&bars("bars", &["AAA", "BBB"], 300));
    let before = forecast(&db, "");
    db.run(change);
    assert_eq!(forecast(&db, ""), before, "{change}");
}

#[test]
fn later_values_change_nothing() {
    unmoved(
        "later_values_change_nothing",
        "update bars set open = open * 1.5, high = high * 1.5, low = low * 1.5, close = close * 1.5, volume = volume * 1.5,
                         amount = amount * 1.5 where ts + interval '1 hour' > '2024-01-09 00:00+00'",
    );
}

#[test]
fn later_rows_may_be_missing() {
    unmoved("later_rows_may_be_missing", "delete from bars where ts >= '2024-01-09 00:00+00'");
}

#[test]
fn later_rows_may_be_nonsense() {
    unmoved(
        "later_rows_may_be_nonsense",
        "update bars set close = 'nan' where ts >= '2024-01-09 00:00+00';
         insert into bars select symbol, ts + interval '7 minutes', 1, 1, 1, 1, 1, 1 from bars where ts >= '2024-01-09 00:00+00'",
    );
}

#[test]
fn the_bar_that_starts_before_as_of_but_ends_after_it_is_unknown() {
    let db = Database::new("the_bar_that_starts_before_as_of");
    db.run(&bars("bars", &["AAA"], 300));
    // Half past eleven: the bar of 23:00 has begun; what is known ends at 23:00.
    let at = |as_of: &str| {
        db.rows(&format!(
            "set timezone = 'UTC'; select ts, close, cutoff from kronos_predict('bars', 1, as_of => '{as_of}')"
        ))
    };
    let half_past = at("2024-01-08 23:30+00");
    assert_eq!(half_past[0][2].as_deref(), Some("2024-01-08 23:00:00+00"));
    assert_eq!(half_past, at("2024-01-08 23:00+00"));
    assert_ne!(half_past, at("2024-01-09 00:00+00"));
    db.run("update bars set close = close * 1.5 where ts = '2024-01-08 23:00+00'");
    assert_eq!(at("2024-01-08 23:30+00"), half_past);
    // What a stored row says now is not what it said then.
    let partial = |more: &str| {
        format!(
            "select ts, close, cutoff from kronos_predict('bars', 1, as_of => '2024-01-08 23:30+00',
               options => '{{\"include_partial\": true{more}}}')"
        )
    };
    db.error(&partial(""))
        .is("22023", "option \"include_partial\" must be false where as_of is in the past")
        .hint("known_at_col");
    // Versions of the bar tell what was known of it by then: at a quarter past, and at half past.
    db.run(
        "alter table bars drop constraint bars_pkey, add known_at timestamptz;
         update bars set known_at = ts + interval '1 hour';
         insert into bars (symbol, ts, open, high, low, close, volume, amount, known_at)
         select symbol, ts, open, greatest(open, open * f), least(open, open * f), open * f, volume / 4, amount / 4, ts + late
         from bars cross join (values (1.01, interval '15 minutes'), (1.02, interval '30 minutes'), (1.03, interval '45 minutes')) v(f, late)
         where ts = '2024-01-08 23:00+00'",
    );
    let by_known = partial(", \"known_at_col\": \"known_at\"");
    let known = db.rows(&format!("set timezone = 'UTC'; {by_known}"));
    assert_eq!(known[0][2].as_deref(), Some("2024-01-09 00:00:00+00"));
    // The same as of a table that holds what was known by half past, and no other, now.
    db.run(
        "create table by_then as select distinct on (ts) * from bars where known_at <= '2024-01-08 23:30+00' order by ts, known_at desc",
    );
    let table = by_known.replace("'bars'", "'by_then'");
    assert_eq!(db.rows(&format!("set timezone = 'UTC'; {table}")), known);
    assert_eq!(
        db.value("select round((close / open)::numeric, 4) from by_then order by ts desc limit 1"),
        "1.0200"
    );
    db.run("update bars set close = close * 1.5 where ts >= '2024-01-08 23:00+00' and known_at > '2024-01-08 23:30+00'");
    assert_eq!(db.rows(&format!("set timezone = 'UTC'; {by_known}")), known);
}

#[test]
fn nothing_after_now_is_known_whatever_as_of_says() {
    let db = Database::new("nothing_after_now_is_known");
    // Of 140 hourly bars the last 40 have not ended when the statements below begin, at whatever minute of the hour that is.
    let bars = "create table bars as
           select date_trunc('hour', now()) - (100 - i) * interval '1 hour' as ts, 10.0 as open, 11.0 as high, 9.0 as low,
                  10.0 + i % 7 as close, 100.0 + i as volume
           from generate_series(0, 139) i;
         create view ended as select * from bars where ts + interval '1 hour' <= now();";
    for call in [
        "kronos_predict('%', 4, as_of => now() + interval '10 hours')",
        "forecast('naive', '%', '{close}', 4, as_of => 'infinity')",
        "chronos_predict('%', '{close}', 4, as_of => now() + interval '10 hours')",
        "backtest('naive', '%', 4, num_windows => 5, as_of => now() + interval '10 hours')",
    ] {
        let (all, ended) = (call.replace('%', "bars"), call.replace('%', "ended"));
        // Sent as one string all of it is one transaction, in which time stands still.
        let compared = db.rows(&format!(
            "{bars} create temporary table a as select * from {all}; create temporary table e as select * from {ended};
             select (select count(*) > 3 from a), (select max(cutoff) = date_trunc('hour', now()) - {before} * interval '1 hour' from a),
                    (select count(*) from (table a except table e) x), (select count(*) from (table e except table a) x);
             drop table a, e; drop view ended; drop table bars",
            // The last window of a backtest leaves room for its outcomes.
            before = if call.starts_with("backtest") { 4 } else { 0 }
        ));
        assert_eq!(compared, [["t", "t", "0", "0"].map(|value| Some(value.to_owned()))], "{call}");
    }
}

#[test]
fn a_restatement_counts_once_it_is_known() {
    let db = Database::new("a_restatement_counts");
    db.run(&bars("bars", &["AAA"], 300));
    let plain = forecast(&db, "");
    db.run(
        "alter table bars add known_at timestamptz, drop constraint bars_pkey;
         update bars set known_at = ts + interval '1 hour';",
    );
    let option = ", options => '{\"known_at_col\":\"known_at\"}'";
    assert_eq!(forecast(&db, option), plain);
    // A later version of an earlier bar, known only after as_of.
    db.run(
        "insert into bars select symbol, ts, open * 1.5, high * 1.5, low * 1.5, close * 1.5, volume, amount, '2024-01-09 00:30+00'
         from bars where ts = '2024-01-08 12:00+00'",
    );
    assert_eq!(forecast(&db, option), plain);
    // Known in time, the last version counts.
    db.run("update bars set known_at = '2024-01-08 23:59+00' where known_at = '2024-01-09 00:30+00'");
    let restated = forecast(&db, option);
    assert_ne!(restated, plain);
    db.run("delete from bars where ts = '2024-01-08 12:00+00' and known_at = '2024-01-08 13:00+00'");
    assert_eq!(forecast(&db, option), restated);
    // A bar that becomes known late leaves a gap before that.
    db.run("update bars set known_at = '2024-01-10' where ts = '2024-01-08 12:00+00'");
    assert_eq!(forecast(&db, option)[0][13].as_deref(), Some("gap"));
}
