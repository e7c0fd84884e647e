//! When an outcome is known and which version of it counts; what a state says, and what it makes of sample paths.

use super::{at, compare, forecast_hours, market};
use kronos_tests::Database;

/// How many outcomes each step has learnt.
fn learnt(db: &Database, name: &str) -> String {
    db.value(&format!(
        "select string_agg(step || ':' || n, ' ' order by step) from kronos.stat_calibration where name = '{name}'"
    ))
}

#[test]
fn an_outcome_is_learnt_once_its_bar_has_ended() {
    let db = market("cal_half_past", &["AAA"], 60);
    forecast_hours(&db, "naive", "live", 0, 60, "true");
    let through = |name: &str, through: &str| {
        db.run(&format!(
            "select create_calibration('{name}', 'prices'); select calibrate('{name}', {through})"
        ));
        learnt(&db, name)
    };
    // The forecast made of the bar of hour h is for the bars of the hours h + 1 to h + 3. At hour 40 the bar of hour 39 has ended.
    assert_eq!(through("hour", &at(40)), "1:39 2:38 3:37");
    assert_eq!(through("half_past", &format!("{} + interval '30 minutes'", at(40))), "1:39 2:38 3:37");
    assert_eq!(compare(&db, "half_past", "hour"), "6 states, 0 differ");
    assert_eq!(through("next", &at(41)), "1:40 2:39 3:38");
}

#[test]
fn nothing_after_now_is_learnt_whatever_is_asked_for() {
    let db = Database::installed("cal_now");
    // Of 60 hourly bars the last 20 have not ended; in one transaction, for which time stands still.
    assert_eq!(
        db.value(
            "create table prices as select date_trunc('hour', now()) + (i - 40) * interval '1 hour' as time, 100.0 + i % 7 as close from generate_series(0, 59) i;
             do $$ declare run bigint := ledger.open_run('live', 'prices', 'forecast', 1, 'naive'); begin
               perform ledger.record(run, 'select '''' as series, ''close'' as target, time as ts, 1 as step, time as cutoff, 103.0::float8 as forecast,
                 99.0::float8 as lower, 107.0::float8 as upper, 0.9::float8 as level, ''naive'' as model_version from prices');
               perform ledger.close_run(run);
             end $$;
             select create_calibration('c', 'prices');
             select n from calibrate('c', now() + interval '10 hours')"
        ),
        "40"
    );
}

#[test]
fn an_outcome_that_does_not_come_is_given_up_in_the_end() {
    let db = market("cal_patience", &["AAA"], 60);
    forecast_hours(&db, "naive", "live", 0, 60, "true");
    // Six forecasts of three steps are for hours that have not come.
    for (name, patience, left) in [("year", "1 year", "6"), ("none", "0 seconds", "0")] {
        db.run(&format!(
            r#"select create_calibration('{name}', 'prices', options => '{{"patience": "{patience}"}}'); select calibrate('{name}')"#
        ));
        let waiting = || db.value(&format!("select waiting from kronos.calibrations where name = '{name}'"));
        assert_eq!(waiting(), "6", "{name}");
        db.run(&format!("select calibrate('{name}')"));
        assert_eq!(waiting(), left, "{name}");
    }
    db.run(&format!(
        "insert into prices select symbol, {}, close from prices where time = {}",
        at(60),
        at(59)
    ));
    for (name, new) in [("year", "3"), ("none", "0")] {
        assert_eq!(db.value(&format!("select count(*) from calibrate('{name}')")), new, "{name}");
    }
}

/// Clocks in New York go forward on Sunday 2024-03-10, which is one hour shorter, and go back on 2024-11-03.
#[test]
fn a_day_ends_at_midnight_also_when_the_clocks_change() {
    for (change, before, midnight) in [
        ("2024-03-10", "2024-03-11 03:59:59+00", "2024-03-11 04:00+00"),
        ("2024-11-03", "2024-11-04 04:59:59+00", "2024-11-04 05:00+00"),
    ] {
        let db = Database::installed("cal_clocks");
        db.run(&format!(
            "create table days as select (date '{change}' + i)::timestamp at time zone 'America/New_York' as time, 100.0 + i % 3 as close
             from generate_series(-40, 0) i;
             select kronos.add_calendar('EVERY', 'America/New_York', '{{\"1-7\":[[\"00:00\",\"24:00\"]]}}');
             do $$ declare run bigint := ledger.open_run('live', 'days', 'forecast', 1, 'naive'); begin
               perform ledger.record(run, 'select '''' as series, ''close'' as target, time as ts, 1 as step, time as cutoff, 100.0::float8 as forecast,
                 99.0::float8 as lower, 101.0::float8 as upper, 0.9::float8 as level, ''naive'' as model_version from days');
               perform ledger.close_run(run);
             end $$"
        ));
        for (name, through, n) in [("before", before, "40"), ("midnight", midnight, "41")] {
            db.run(&format!(
                r#"select create_calibration('{name}', 'days', options => '{{"calendar": "EVERY"}}'); select calibrate('{name}', '{through}')"#
            ));
            assert_eq!(learnt(&db, name), format!("1:{n}"), "{change} {name}");
        }
    }
}

#[test]
fn a_revised_outcome_is_not_learnt() {
    let db = market("cal_revised", &["AAA", "BBB"], 200);
    forecast_hours(&db, "naive", "live", 0, 200, "true");
    // Every fifth outcome is revised a day after it was known.
    db.run(
        "alter table prices add known_at timestamptz, drop constraint prices_pkey;
         update prices set known_at = time + interval '1 hour';
         create table first as table prices;
         insert into prices select symbol, time, close * 1.1, known_at + interval '1 day' from first where extract(hour from time)::int % 5 = 0;
         create table last as select distinct on (symbol, time) * from prices order by symbol, time, known_at desc;
         create index on prices (symbol, time); create index on first (symbol, time); create index on last (symbol, time)",
    );
    let calibrated = |name: &str, actuals: &str, more: &str| {
        db.run(&format!(
            "select create_calibration('{name}', '{actuals}', options => '{{\"known_at_col\":\"known_at\",\"relation\":\"prices\"{more}}}')"
        ));
    };
    calibrated("revised", "prices", "");
    calibrated("firsts", "first", "");
    calibrated("lasts", "last", "");
    calibrated("rescored", "prices", ",\"rescore\":true");
    // All of them ask for the first time when every revision is known.
    db.run("select calibrate(name) from (values ('revised'), ('firsts'), ('lasts'), ('rescored')) v(name)");
    assert_eq!(compare(&db, "revised", "firsts"), "9 states, 0 differ");
    assert_eq!(compare(&db, "rescored", "lasts"), "9 states, 0 differ");
    assert_eq!(compare(&db, "revised", "lasts"), "9 states, 9 differ");
}

#[test]
fn the_radii_of_a_state_lie_where_the_outcomes_were() {
    let db = market("cal_radii", &["HIGH", "LOW"], 400);
    // Forecasts of the next hour that are three per cent off, for moves of one: all but a few outcomes lie on one side of them.
    db.run(
        "do $$ declare run bigint := ledger.open_run('live', 'prices', 'forecast', 1, 'off'); begin
           perform ledger.record(run, 'select symbol as series, ''close'' as target, time + interval ''1 hour'' as ts, 1 as step,
             time + interval ''1 hour'' as cutoff, close * exp(off) as forecast, close * exp(off - 0.01) as lower,
             close * exp(off + 0.01) as upper, 0.9::float8 as level, ''off'' as model_version
             from (select *, case symbol when ''LOW'' then -0.03 else 0.03 end as off from prices) p');
           perform ledger.close_run(run);
         end $$;
         select create_calibration('c', 'prices', method => 'trailing', options => '{\"online\":false,\"score\":\"residual\"}');
         select calibrate('c')",
    );
    // Of 399 errors the one of rank ⌈400 · 0.95⌉ = 380 on the side where the outcomes are; none on the other, where that one is negative.
    let radii = db.rows(
        "with e as (select f.series, abs(ln(p.close / f.forecast)) as error, row_number() over (partition by f.series order by abs(ln(p.close / f.forecast))) as rank
                    from ledger.forecasts f join prices p on p.symbol = f.series and p.time = f.ts)
         select series, n, abs(q_lower - case series when 'HIGH' then error else 0 end) < 1e-9, abs(q_upper - case series when 'LOW' then error else 0 end) < 1e-9,
                error > 0.045
         from kronos.stat_calibration join e using (series) where rank = 380 order by 1",
    );
    let expected =
        ["HIGH", "LOW"].map(|series| [series, "399", "t", "t", "t"].map(|value| Some(value.to_owned())));
    assert_eq!(radii, expected);
}

#[test]
fn the_probability_of_a_rise_moves_with_the_paths() {
    let db = market("cal_prob_up", &["AAA", "BBB"], 300);
    db.run(
        "alter table prices add open float8, add high float8, add low float8;
         update prices set open = close, high = close * 1.001, low = close * 0.999",
    );
    // Its points lie within their intervals, unlike those of random weights.
    let version = db.value("select version from kronos.models where name = 'kronos-nano' and built_in");
    forecast_hours(&db, &version, "live", 0, 300, "true");
    let model = format!("model => '{version}'");
    db.run("select create_calibration('c', 'prices'); select calibrate('c')");
    // As logarithms the point goes to the point and the ends to the ends, and what lies between and beyond goes evenly.
    let compared = db.value(&format!(
        "with f as (select * from kronos_predict('prices', 3, samples => 40, calibration => 'c', {model})),
              l as (select distinct on (symbol) symbol as series, close as last from prices order by symbol, time desc),
              m as (select f.series, f.step, f.prob_up, last, ln(f.close) + (ln(p.close) - ln(raw_forecast)) * case
                      when p.close < raw_forecast then (ln(f.close) - ln(lower)) / (ln(raw_forecast) - ln(raw_lower))
                      else (ln(upper) - ln(f.close)) / (ln(raw_upper) - ln(raw_forecast)) end as moved, p.close as drawn
                    from f join kronos_paths('prices', 3, 40, {model}) p using (series, step) join l using (series)),
              s as (select series, step, prob_up, avg((moved > ln(last))::int) as rises, avg((drawn > last)::int) as drawn from m group by 1, 2, 3)
         select count(*) || ' ' || count(*) filter (where abs(prob_up - rises) > 1e-9) || ' ' || (count(*) filter (where rises <> drawn) > 0)
                || ' ' || (count(*) filter (where rises <> 0.5) > 0) from s"
    ));
    assert_eq!(compared, "6 0 true true");
}
