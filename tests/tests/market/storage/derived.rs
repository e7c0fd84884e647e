//! What is derived from bars and trades: wider bars, returns, findings.

use kronos_tests::Database;

#[test]
fn wide_bars_are_made_of_narrow_ones_and_weeks_begin_on_monday() {
    let db = Database::installed("derived_widths");
    // Wednesday 3 January 2024, 22:00, to Monday 8 January, 01:00: a trade each ten minutes, the price its number.
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'T', 'file', timestamptz '2024-01-03 22:00+00' + (i - 1) * interval '10 minutes', i, i, i, 1, now(), '2024-01-03 22:00+00'
         from generate_series(1, 618) i",
    );
    let bar = |view: &str, time: &str| {
        db.value(&format!(
            "select format('%s %s %s %s %s', open, high, low, close, volume) from market.bars_{view}
             where symbol = 'T' and time = '{time}+00'"
        ))
    };
    for _ in 0..2 {
        assert_eq!(bar("15m", "2024-01-03 22:00"), "1 2 1 2 2");
        assert_eq!(bar("15m", "2024-01-03 22:15"), "3 3 3 3 1");
        assert_eq!(bar("30m", "2024-01-03 22:30"), "4 6 4 6 3");
        assert_eq!(bar("4h", "2024-01-03 20:00"), "1 12 1 12 12");
        assert_eq!(bar("4h", "2024-01-04 00:00"), "13 36 13 36 24");
        assert_eq!(bar("1d", "2024-01-04 00:00"), "13 156 13 156 144");
        assert_eq!(bar("1w", "2024-01-01 00:00"), "1 588 1 588 588");
        assert_eq!(bar("1w", "2024-01-08 00:00"), "589 618 589 618 30");
        db.run("call market.refresh_trade_bars()");
    }
    assert_eq!(
        db.value("select known_at from market.trade_bars_1w where time = '2024-01-01 00:00+00'"),
        "2024-01-08 00:00:00+00",
        "a week is known at its end"
    );
    db.run(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, known_at)
         values ('W', '7 days', '2024-01-01 00:00+00', 'file', 1, 2, 0.5, 1.5, '2024-01-08 00:00+00'),
                ('W', '15 minutes', '2024-01-01 00:00+00', 'file', 1, 2, 0.5, 1.5, '2024-01-08 00:00+00')",
    );
    assert_eq!(
        db.value("select (select count(*) from market.bars_1w where symbol = 'W') + (select count(*) from market.bars_15m where symbol = 'W')"),
        "2"
    );
}

const DAILY: &str = "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, close_adj, known_at)";

#[test]
fn a_return_needs_two_prices_of_one_kind_above_zero() {
    let db = Database::installed("derived_returns");
    // A split of 4 for 1 on 10 June, the adjusted close of the fifth missing; oil in April 2020; a close that is not finite.
    db.run(&format!(
        "{DAILY}
         select 'SPL', '1 day', d, 'yahoo', c, c, c, c, 1000, case when d <> '2024-06-05' then 100 end, d + interval '1 day'
         from (select d, case when d < '2024-06-10' then 400.0 else 100.0 end as c
               from generate_series(timestamptz '2024-06-03 00:00+00', '2024-06-14', '1 day') d) s;
         {DAILY}
         select 'OIL', '1 day', d, 'yahoo', c, c, c, c, 1000, null, d + interval '1 day'
         from (values (timestamptz '2020-04-17 00:00+00', 18.27), ('2020-04-20', -37.63), ('2020-04-21', 10.01), ('2020-04-22', 13.78)) v (d, c);
         {DAILY}
         select 'INF', '1 day', d, 'yahoo', 1, 1, 1, c, 1000, null, d + interval '1 day'
         from (values (timestamptz '2020-04-17 00:00+00', 1::float8), ('2020-04-20', 'Infinity'), ('2020-04-21', 'NaN'), ('2020-04-22', 1), ('2020-04-23', 2)) v (d, c)"
    ));
    let returns = |symbol: &str| {
        db.value(&format!(
            "select string_agg(coalesce(round(ret::numeric, 4)::text, '-'), ' ' order by time)
             from market.daily_returns where symbol = '{symbol}'"
        ))
    };
    assert_eq!(returns("SPL"), "- 0.0000 - - 0.0000 0.0000 0.0000 0.0000 0.0000 0.0000 0.0000 0.0000");
    assert_eq!(returns("OIL"), "- - - 0.3766");
    assert_eq!(returns("INF"), "- - - - 1.0000");
    assert_eq!(
        db.value("select count(*) from market.daily_returns where (ret is null) <> (log_ret is null)"),
        "0"
    );
}

#[test]
fn values_that_are_not_finite_are_findings() {
    let db = Database::installed("derived_findings");
    db.run(
        "insert into market.bars (symbol, bar_width, time, source, open, high, low, close, volume, known_at) values
           ('VINF', '1 day', '2024-01-01 00:00+00', 'x', 1, 1, 1, 'Infinity', 1, '2024-01-02'), ('VINF', '1 day', '2024-01-02 00:00+00', 'x', 1, 1, 1, 1, 1, '2024-01-03'),
           ('VNAN', '1 day', '2024-01-01 00:00+00', 'x', 1, 1, 1, 1, 1, '2024-01-02'), ('VNAN', '1 day', '2024-01-02 00:00+00', 'x', 'NaN', 'NaN', 'NaN', 'NaN', 'NaN', '2024-01-03'),
           ('VNAN', '1 day', '2024-01-03 00:00+00', 'x', 1, 1, 1, 1, 1, '2024-01-04'), ('VTINY', '1 day', '2024-01-01 00:00+00', 'x', 1e-300, 1e-300, 1e-300, 1e-300, 1, '2024-01-02'),
           ('VTINY', '1 day', '2024-01-02 00:00+00', 'x', 1e300, 1e300, 1e300, 1e300, 1, '2024-01-03');
         insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at) values
           ('TNAN', 'x', '2024-01-01 00:00:01+00', '1', 1, 'NaN', 1, '2024-01-01 00:00:02+00', '2024-01-01 00:00:02+00')",
    );
    assert_eq!(
        db.value(
            "select string_agg(format('%s %s %s', symbol, (time at time zone 'UTC')::date, check_name), ', ' order by symbol, time, check_name)
             from market.validate() where check_name in ('non_finite_value', 'price_jump')"
        ),
        "TNAN 2024-01-01 non_finite_value, VINF 2024-01-01 non_finite_value, VNAN 2024-01-02 non_finite_value, VTINY 2024-01-02 price_jump"
    );
    db.run("call market.maintenance(config => '{\"validate\": \"100 years\"}')");
}

#[test]
fn setting_up_leaves_the_session_of_psql_as_it_was() {
    let db = Database::new("derived_psql");
    let said = db.psql("\\set ON_ERROR_STOP off\n\\set QUIET off\n\\i sql/install.sql\n\\echo :ON_ERROR_STOP :QUIET :before_quiet\n");
    assert!(said.trim_end().ends_with("off off :before_quiet"), "{said}");
}
