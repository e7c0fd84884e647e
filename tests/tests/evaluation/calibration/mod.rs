//! Calibration: learning from the ledger, serving forecasts, and the aggregates beside it.

mod as_of;
mod known;
mod learnt;

use kronos_tests::{Database, rows, shared_folder, until};
use std::io::Write;
use std::process::Command;

/// A database with the set-up and `prices (symbol, time, close)`: hourly random walks from 2024-01-01, 1 % an hour.
fn market(test: &str, symbols: &[&str], hours: usize) -> Database {
    let db = Database::installed(test);
    let symbols = symbols.iter().map(|symbol| format!("'{symbol}'")).collect::<Vec<_>>().join(", ");
    db.run(&format!(
        "create table prices (symbol text, time timestamptz, close float8, primary key (symbol, time));
         create function draw(text, int) returns float8 language sql immutable
           as $$ select ('x' || substr(md5($1 || $2), 1, 8))::bit(32)::bigint::float8 / 4294967296 $$;
         -- The sum of six uniform numbers is nearly normal, with a variance of one half.
         create function shock(text, int) returns float8 language sql immutable
           as $$ select 0.01 * sqrt(2) * sum(draw($1 || k, $2) - 0.5) from generate_series(1, 6) k $$;
         insert into prices
         select s, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour',
                100 * exp(sum(shock(s, i)) over (partition by s order by i))
         from unnest(array[{symbols}]::text[]) s, generate_series(0, {hours} - 1) i;
         create index on prices (time);"
    ));
    db
}

/// Records forecasts of one to three steps at every hour in `[from, to)`: the last close, a tenth of a percent too high, with
/// an interval of half the width that would be right. One run per day.
fn forecast_hours(db: &Database, model: &str, kind: &str, from: usize, to: usize, filter: &str) {
    db.run(&format!(
        "do $$
         declare run bigint; day int;
         begin
           for day in select d from generate_series({from}, {to} - 1, 24) d loop
             run := ledger.open_run('{kind}', 'prices', 'forecast', 3, '{model}');
             perform ledger.record(run, format($q$
               select p.symbol as series, 'close' as target, p.time + h * interval '1 hour' as ts, h as step,
                      p.time + interval '1 hour' as cutoff, p.close * 1.001 as forecast,
                      p.close * 1.001 * exp(-0.5 * 1.645 * 0.01 * sqrt(h)) as lower,
                      p.close * 1.001 * exp(0.5 * 1.645 * 0.01 * sqrt(h)) as upper, 0.9::float8 as level, '{model}' as model_version
               from prices p, generate_series(1, 3) h
               where p.time >= timestamptz '2024-01-01 00:00+00' + %s * interval '1 hour'
                 and p.time < timestamptz '2024-01-01 00:00+00' + %s * interval '1 hour' and {filter} $q$,
               day, least(day + 24, {to})));
             perform ledger.close_run(run);
           end loop;
         end $$"
    ));
}

/// The newest state of every group of two calibrations, side by side: how many there are and how many differ in any bit.
fn compare(db: &Database, one: &str, other: &str) -> String {
    let newest = |name: &str| {
        format!(
            "(select g.scope, g.model, g.member, g.step, s.n, s.updated_through, s.state from ledger.calibration_groups g
              cross join lateral (select * from ledger.calibration_state s where s.group_id = g.group_id order by version desc limit 1) s
              where g.calibration = '{name}')"
        )
    };
    db.value(&format!(
        "select count(*) || ' states, ' || count(*) filter (where a.state is distinct from b.state
           or a.n is distinct from b.n or a.updated_through is distinct from b.updated_through) || ' differ'
         from {} a full join {} b using (scope, model, member, step)",
        newest(one),
        newest(other)
    ))
}

fn at(hour: usize) -> String {
    format!("timestamptz '2024-01-01 00:00+00' + {hour} * interval '1 hour'")
}

/// What schedulers call: one that fails costs the others nothing, and is told.
#[test]
fn a_job_lets_every_calibration_of_its_role_learn() {
    let db = market("cal_job", &["AAA"], 100);
    forecast_hours(&db, "naive", "live", 0, 100, "true");
    db.run(
        "create table gone as table prices;
         select create_calibration('a', 'gone', options => '{\"relation\": \"prices\"}');
         select create_calibration('b', 'prices');
         drop table gone",
    );
    let learnt =
        "select string_agg(name || ' ' || coalesce(version, 0), ', ' order by name) from kronos.calibrations";
    let said = db.psql("call kronos.run_calibration();");
    assert!(said.contains("WARNING:  calibration \"a\" has learnt nothing: "), "{said}");
    assert!(said.contains("ERROR:  1 of 2 calibrations have learnt nothing"), "{said}");
    assert_eq!(db.value(learnt), "a 0, b 1");
    db.run("select drop_calibration('a'); select reset_calibration('b')");
    db.run("call kronos.run_calibration(config => '{\"calibration\": \"b\"}')");
    db.run("call kronos.run_calibration()");
    db.error("call kronos.run_calibration(config => '{\"calibration\": \"c\"}')")
        .is("42704", "calibration \"c\" does not exist");
    if db.value("select market.timescale_edition()") == "community" {
        assert_eq!(
            db.value("select public.add_job('kronos.run_calibration', '1 hour', config => '{\"calibration\": \"b\"}') > 0"),
            "t"
        );
    }
}

#[test]
fn intervals_cover_after_learning_and_a_repeat_changes_nothing() {
    let db = market("cal_cover", &["AAA", "BBB"], 900);
    forecast_hours(&db, "naive", "live", 0, 900, "true");
    db.run("select create_calibration('c', 'prices')");
    assert_eq!(db.value("select waiting || ' ' || coalesce(version, 0) from kronos.calibrations"), "0 0");
    let learnt = db.rows("select series, step, n, n_new, status, drift from calibrate('c')");
    let expected = |series: &str, step: usize| {
        let n = (900 - step).to_string();
        vec![
            Some(series.to_owned()),
            Some(step.to_string()),
            Some(n.clone()),
            Some(n),
            None,
            Some("f".into()),
        ]
    };
    let all: Vec<_> = ["AAA", "BBB"].iter().flat_map(|s| (1..=3).map(|step| expected(s, step))).collect();
    assert_eq!(learnt, all);
    // 1 + 2 + 3 forecasts of each series are for hours that have not come.
    assert_eq!(db.value("select waiting || ' ' || version from kronos.calibrations"), "12 1");
    assert_eq!(
        db.value(
            "select bool_and(abs(coverage - 0.9) < 0.03 and raw_coverage < 0.68 and recent_coverage > 0.7
                             and abs(bias + 0.001) < 0.004 and scale > 1.6 and target_coverage = 0.9 and q_lower > 0 and q_upper > 0)
             from kronos.stat_calibration"
        ),
        "t",
        "{:?}",
        db.rows("select * from kronos.stat_calibration")
    );
    // Of the model's own intervals, counted in the ledger.
    assert_eq!(
        db.value(
            "select count(*) || ' ' || bool_and(abs(s.raw_coverage - c.share) < 1e-12) from kronos.stat_calibration s
             join (select f.series, f.step, avg((p.close between f.lower and f.upper)::int) as share
                   from ledger.forecasts f join prices p on p.symbol = f.series and p.time = f.ts group by 1, 2) c using (series, step)"
        ),
        "6 true"
    );
    assert!(db.rows("select * from calibrate('c')").is_empty());
    assert_eq!(db.value("select count(*) || ' ' || max(version) from ledger.calibration_state"), "9 1");
    // One more hour: one more outcome of each series and step.
    db.run(&format!(
        "insert into prices select symbol, {}, close from prices where time = {}",
        at(900),
        at(899)
    ));
    assert_eq!(db.value("select count(*) || ' ' || sum(n_new) from calibrate('c')"), "6 6");
    assert_eq!(db.value("select waiting || ' ' || version from kronos.calibrations"), "6 2");
}

#[test]
fn learning_bit_by_bit_is_learning_at_once_and_nothing_later_is_seen() {
    let db = market("cal_replay", &["AAA", "BBB", "CCC"], 400);
    forecast_hours(&db, "naive", "live", 0, 400, "true");
    // Some outcomes became known late, and two were revised later still.
    db.run(
        "alter table prices add known_at timestamptz;
         update prices set known_at = time + interval '1 hour' + (draw(symbol, extract(epoch from time)::int) * 20)::int * interval '1 hour';
         alter table prices drop constraint prices_pkey;
         create index on prices (symbol, time);
         insert into prices select symbol, time, close * 1.5, known_at + interval '3 days' from prices
           where time in ('2024-01-05 00:00+00', '2024-01-06 03:00+00');
         create table sectors as select 'AAA' as series, 'one' as sector union all values ('BBB', 'one'), ('CCC', 'two');",
    );
    for (method, score) in [("pid", "scaled"), ("dtaci", "residual"), ("aci", "cqr")] {
        let options = format!(
            "'{{\"known_at_col\":\"known_at\",\"score\":\"{score}\",\"groups\":\"select series, sector from sectors\"}}'"
        );
        let create = |name: &str, more: &str| {
            db.run(&format!("select create_calibration('{name}', 'prices', method => '{method}', options => {options}{more})"));
        };
        let (whole, parts) = (format!("{method}_whole"), format!("{method}_parts"));
        create(&whole, "");
        create(&parts, "");
        for hour in [30, 31, 100, 250, 251, 320] {
            db.run(&format!("select calibrate('{parts}', {})", at(hour)));
        }
        db.run(&format!("select calibrate('{whole}'); select calibrate('{parts}')"));
        assert_eq!(compare(&db, &whole, &parts), "18 states, 0 differ", "{method}");
    }
    // The table as it was at an hour gives what the whole table gives as of that hour.
    let then = at(300);
    db.run(&format!(
        "create table past as select * from prices where time + interval '1 hour' <= {then} and known_at <= {then};
         create index on past (symbol, time);"
    ));
    let options = "\"known_at_col\":\"known_at\",\"groups\":\"select series, sector from sectors\"";
    db.run(&format!(
        "select create_calibration('truncated', 'past', options => '{{{options},\"relation\":\"prices\"}}');
         select create_calibration('as_of', 'prices', options => '{{{options}}}');
         select calibrate('truncated'); select calibrate('as_of', {then});"
    ));
    assert_eq!(compare(&db, "truncated", "as_of"), "18 states, 0 differ");
    // A comparison that could not fail would prove nothing.
    assert_eq!(compare(&db, "as_of", "pid_whole"), "18 states, 18 differ");
}

/// Everything a forecast says, as text that differs when one bit does.
const FORECAST: &str = "series, target, ts, step, forecast, lower, upper, quantiles, cutoff, status, raw_forecast, raw_lower, raw_upper, \
                        calibration, calibration_version";

#[test]
fn forecasts_are_served_calibrated_as_of_any_moment() {
    let db = market("cal_serve", &["AAA", "BBB"], 600);
    db.run(
        "alter table prices add open float8, add high float8, add low float8;
            update prices set open = close, high = close * 1.001, low = close * 0.999",
    );
    let version = db.value("select version from kronos.models where not built_in");
    for model in ["naive", version.as_str()] {
        forecast_hours(&db, model, "live", 0, 600, "true");
    }
    db.run("select create_calibration('c', 'prices')");
    let call = |more: &str| {
        format!(
            "select {FORECAST} from forecast('naive', 'prices', '{{close}}', 3, quantile_levels => '{{0.05,0.5,0.95}}', {more})"
        )
    };
    let raw = db.rows(&call(&format!("as_of => {}", at(400))));
    // Nothing learnt: the model's own numbers, and the reason.
    let early = db.rows(&call(&format!("as_of => {}, calibration => 'c'", at(400))));
    for (raw, early) in raw.iter().zip(&early) {
        assert_eq!(raw[..9], early[..9]);
        assert_eq!(early[9].as_deref(), Some("burn_in"));
        assert_eq!(early[10..13], raw[4..7]);
        assert_eq!(early[13..], [Some("c".into()), None]);
        assert_eq!(raw[9..], [const { None }; 6]);
    }
    db.run(&format!("select calibrate('c', {}); select calibrate('c', {})", at(20), at(400)));
    let then = call(&format!("as_of => {}, calibration => 'c'", at(400)));
    let served = db.rows(&then);
    for (raw, served) in raw.iter().zip(&served) {
        let number =
            |row: &[Option<String>], column: usize| row[column].as_ref().unwrap().parse::<f64>().unwrap();
        assert_eq!((served[9].as_deref(), served[14].as_deref()), (None, Some("2")), "{served:?}");
        assert_eq!(served[10..13], raw[4..7]);
        for column in 4..7 {
            assert_ne!(number(served, column), number(raw, column), "{raw:?} {served:?}");
        }
        let quantiles: Vec<f64> = served[7]
            .as_ref()
            .unwrap()
            .trim_matches(['{', '}'])
            .split(',')
            .map(|q| q.parse().unwrap())
            .collect();
        assert!(quantiles.windows(2).all(|pair| pair[0] < pair[1]), "{quantiles:?}");
        // Quantiles at the interval's levels are its ends, and the median is the point.
        for (quantile, column) in quantiles.iter().zip([5, 4, 6]) {
            assert!((quantile / number(served, column) - 1.0).abs() < 1e-12, "{served:?}");
        }
    }
    // After 20 hours of two series there is too little to go by, and version 1 says so.
    let young = db.rows(&call(&format!("as_of => {}, calibration => 'c'", at(25))));
    assert!(
        young.iter().all(|row| row[9].as_deref() == Some("burn_in") && row[14].as_deref() == Some("1")),
        "{young:?}"
    );
    // What is learnt later does not change what is served as of then.
    db.run("select calibrate('c')");
    assert_eq!(db.rows(&then), served);
    assert_ne!(db.rows(&call(&format!("as_of => {}, calibration => 'c'", at(600)))), served);

    // Whole bars move together, alone or from an array, and under the front door.
    let coherent = "low <= least(open, close) and high >= greatest(open, close) and lower <= close and close <= upper
                    and abs(open / close / (r_open / raw_forecast) - 1) < 1e-9 and prob_up between 0 and 1 and close <> raw_forecast
                    and upper <> raw_upper and status is null and calibration_version = 3";
    assert_eq!(
        db.value(&format!(
            "select count(*) || ' ' || bool_and({coherent} and raw_forecast = r_close and raw_lower = r_lower and raw_upper = r_upper)
             from kronos_predict('prices', 3, calibration => 'c') f
             join (select series, step, open as r_open, close as r_close, lower as r_lower, upper as r_upper
                   from kronos_predict('prices', 3)) r using (series, step)"
        )),
        "6 true"
    );
    assert_eq!(
        db.value(
            "select count(*) || ' ' || bool_and(status is null and raw_forecast is not null and upper <> raw_upper)
             from forecast('kronos-default', 'prices', '{close}', 3, calibration => 'c')"
        ),
        "6 true"
    );
    // A series without a key has no history here and borrows from all series.
    assert_eq!(
        db.value(
            "select count(*) || ' ' || bool_and(status is null and calibration = 'c')
             from kronos_predict_bars((select array_agg((time, open, high, low, close, null, null)::kronos.bar order by time)
                                       from prices where symbol = 'AAA'), 3, calibration => 'c')"
        ),
        "3 true"
    );
    // With one path there is no interval to calibrate.
    assert_eq!(
        db.value("select count(*) from kronos_predict('prices', 1, samples => 1, calibration => 'c') where calibration is null"),
        "2"
    );
    // In the ledger a calibrated forecast is as good to learn from as any.
    db.run("do $$ declare run bigint := ledger.open_run('live', 'prices', 'forecast', 3); begin
              perform ledger.record(run, 'select f.*, 0.9::float8 as level from forecast(''naive'', ''prices'', ''{close}'', 3, calibration => ''c'') f');
              perform ledger.close_run(run); end $$");
    let hours = "insert into prices (symbol, time, close) select symbol, time + interval '3 hours', close from prices where time >= ";
    db.run(&format!("{hours} {}", at(597)));
    assert_eq!(db.value("select count(*) || ' ' || sum(n_new) from calibrate('c') where step = 1"), "4 4");
    db.run("select reset_calibration('c', 'AAA')");
    assert_eq!(
        db.value("select string_agg(distinct series || ':' || n, ' ') from kronos.stat_calibration where step = 1 and model = 'naive'"),
        "AAA:0 BBB:600"
    );
    assert!(db.rows("select calibrate('c')").is_empty());
    assert_eq!(db.rows(&then), served);
    db.run("select drop_calibration('c')");
    assert_eq!(db.value("select count(*) from ledger.calibration_groups"), "0");
    db.error(&then).is("42704", "calibration \"c\" does not exist");
}

#[test]
fn tails_groups_and_methods_are_options() {
    let db = market("cal_options", &["AAA", "BBB", "CCC"], 300);
    forecast_hours(&db, "naive", "backtest", 0, 300, "symbol <> 'CCC' or time >= '2024-01-12 00:00+00'");
    db.run("create table sectors as select 'AAA' as series, 'one' as sector union all values ('CCC', 'one')");
    let create = |name: &str, arguments: &str, options: &str| {
        db.run(&format!(
            "select create_calibration('{name}', 'prices'{arguments}, options => '{{\"kind\":\"backtest\",\"max_bias_bps\":0{options}}}');
             select calibrate('{name}')"
        ));
    };
    create("two", "", "");
    create("one", "", ",\"asymmetric\":false");
    create("sectors", "", ",\"groups\":\"select series, sector from sectors\"");
    create("pooled", ", per => '{step}'", "");
    create("whole", ", per => '{}'", "");
    create("live", "", ",\"kind\":\"live\"");
    create("off", ", method => 'online'", ",\"online\":false");
    let even = |name: &str| {
        db.value(&format!(
            "select bool_and(abs(q_lower / q_upper - 1) < 1e-9) from kronos.stat_calibration where name = '{name}' and series <> 'CCC'"
        ))
    };
    assert_eq!([even("two"), even("one"), even("off")], ["f", "t", "t"]);
    let states = |name: &str| {
        db.value(&format!(
            "select string_agg(concat_ws(' ', scope, nullif(member, ''), step, n), ', ' order by scope, member, step)
             from ledger.calibration_groups g join ledger.calibration_state s using (group_id)
             where g.calibration = '{name}' and step < 2"
        ))
    };
    assert_eq!(states("two"), "global 1 633, series AAA 1 299, series BBB 1 299, series CCC 1 35");
    assert_eq!(
        states("sectors"),
        "global 1 633, sector one 1 334, series AAA 1 299, series BBB 1 299, series CCC 1 35"
    );
    assert_eq!(states("pooled"), "series 1 633");
    assert_eq!(states("whole"), "series 0 1890");
    assert_eq!(states("live"), "");
    // CCC has a history of 35 outcomes and borrows, in other words from others.
    let width = |name: &str| -> f64 {
        db.value(&format!(
            "select upper - lower from forecast('naive', 'prices', '{{close}}', 1, only_series => '{{CCC}}', calibration => '{name}')
             where status is null"
        ))
        .parse()
        .unwrap()
    };
    let own = db.value("select (raw_upper - raw_lower) || ' ' || (upper - lower) from forecast('naive', 'prices', '{close}', 1,
                        only_series => '{CCC}', calibration => 'off')");
    let (raw, off) = own.split_once(' ').unwrap();
    assert_eq!(raw, off, "both layers are off");
    assert!(width("two") > 1.3 * raw.parse::<f64>().unwrap());
    assert_ne!(width("two"), width("sectors"));
    let mut widths: Vec<String> = Vec::new();
    for method in ["pid", "quantile", "aci", "dtaci", "trailing", "online"] {
        create(method, &format!(", method => '{method}'"), "");
        widths.push(db.value(&format!("select q_upper from kronos.stat_calibration where name = '{method}' and series = 'AAA' and step = 1")));
    }
    widths.sort();
    widths.dedup();
    assert_eq!(widths.len(), 6, "each method has its own radius: {widths:?}");
}

#[test]
fn late_outcomes_are_taken_once_and_revised_ones_only_on_request() {
    let db = market("cal_late", &["AAA"], 200);
    forecast_hours(&db, "naive", "live", 0, 100, "true");
    db.run("create table missing as select * from prices where time = '2024-01-04 23:00+00';
            delete from prices where time = '2024-01-04 23:00+00';
            select create_calibration('c', 'prices'); select create_calibration('r', 'prices', options => '{\"rescore\":true}');
            select calibrate('c'); select calibrate('r');");
    assert!(db.rows("select calibrate('c')").is_empty() && db.rows("select calibrate('r')").is_empty());
    db.run("insert into prices select * from missing");
    assert_eq!(db.value("select count(*) || ' ' || sum(n_new) from calibrate('c')"), "3 3");
    // A run that is recorded late, for hours long past.
    forecast_hours(&db, "naive", "live", 120, 121, "true");
    assert_eq!(db.value("select count(*) || ' ' || sum(n_new) from calibrate('c')"), "3 3");
    // A run that has not ended is not read before it has.
    db.run("select ledger.open_run('live', 'prices', 'forecast', 1, 'naive')");
    assert!(db.rows("select calibrate('c')").is_empty());
    let before = db.value("select count(*) from ledger.calibration_versions where calibration = 'r'");
    db.run(
        "select calibrate('r'); update prices set close = close * 1.05 where time = '2024-01-04 00:00+00'",
    );
    assert!(db.rows("select calibrate('c')").is_empty());
    assert_eq!(compare(&db, "c", "r"), "6 states, 6 differ", "rows learnt late are learnt in another order");
    assert_eq!(db.value("select count(*) from calibrate('r')"), "3");
    assert!(db.rows("select calibrate('r')").is_empty());
    db.run("select create_calibration('anew', 'prices'); select calibrate('anew')");
    assert_eq!(
        compare(&db, "r", "anew"),
        "6 states, 0 differ",
        "rescoring is learning from what is there now"
    );
    assert_ne!(before, db.value("select count(*) from ledger.calibration_versions where calibration = 'r'"));
}

#[test]
fn drift_is_flagged_when_the_market_leaves_the_model() {
    let db = market("cal_drift", &["AAA", "BBB"], 500);
    // From hour 400 on AAA is five times as volatile as the model thinks.
    db.run("update prices p set close = q.close from (
              select symbol, time, 100 * exp(sum(shock(symbol, i) * case when symbol = 'AAA' and i >= 400 then 5 else 1 end)
                over (partition by symbol order by i)) as close
              from (select symbol, time, (extract(epoch from time - '2024-01-01 00:00+00') / 3600)::int as i from prices) s) q
            where p.symbol = q.symbol and p.time = q.time");
    forecast_hours(&db, "naive", "live", 0, 500, "true");
    db.run(&format!("select create_calibration('c', 'prices'); select calibrate('c', {})", at(390)));
    let drift = || {
        db.rows("select series, drift, status from kronos.stat_calibration where step = 1 order by series")
    };
    let row = |series: &str, drift: &str, status: Option<&str>| {
        vec![Some(series.to_owned()), Some(drift.to_owned()), status.map(str::to_owned)]
    };
    assert_eq!(drift(), [row("AAA", "f", None), row("BBB", "f", None)]);
    db.run(&format!("select calibrate('c', {})", at(445)));
    let now = drift();
    assert_eq!(now[0][1].as_deref(), Some("t"), "{now:?}");
    assert!(matches!(now[0][2].as_deref(), Some("model_drift" | "undercoverage" | "max_radius")), "{now:?}");
    assert_eq!(now[1], row("BBB", "f", None));
}

#[test]
fn whoever_may_not_read_the_outcomes_learns_nothing_of_them() {
    let db = market("cal_privileges", &["AAA"], 200);
    forecast_hours(&db, "naive", "live", 0, 100, "true");
    let [owner, other, reader, stranger] = ["owner", "other", "reader", "stranger"].map(|name| db.role(name));
    db.run(&format!(
        "select grant_access('{owner}', 'operate'); select grant_access('{other}', 'operate'); select grant_access('{reader}', 'use');
         select grant_access('{stranger}', 'operate'); grant select on prices to {owner}, {other}, {reader}"
    ));
    let path = "set search_path = public, kronos; ";
    let run = |role: &str, sql: &str| rows(&mut db.connect_as(role), &format!("{path}{sql}"));
    let refused = |role: &str, sql: &str| db.error_in(&mut db.connect_as(role), &format!("{path}{sql}"));
    refused(&stranger, "select create_calibration('s', 'prices')").is("42501", "prices");
    run(&owner, "select create_calibration('c', 'prices')");
    assert_eq!(run(&owner, "select count(*) from calibrate('c')")[0][0].as_deref(), Some("3"));
    let served = "select count(*) from forecast('naive', 'prices', '{close}', 3, calibration => 'c') where status is null";
    for role in [&owner, &other, &reader] {
        assert_eq!(run(role, served)[0][0].as_deref(), Some("3"), "{role}");
        assert_eq!(run(role, "select count(*) from kronos.stat_calibration")[0][0].as_deref(), Some("3"));
        refused(role, "update ledger.calibration_state set n = 0").is("42501", "");
    }
    refused(&reader, "select calibrate('c')").is("42501", "permission denied for function calibrate");
    for sql in ["select calibrate('c')", "select reset_calibration('c')", "select drop_calibration('c')"] {
        refused(&other, sql).is("42501", "must be owner of calibration \"c\"");
        refused(&stranger, sql).is("42704", "calibration \"c\" does not exist");
    }
    assert_eq!(run(&stranger, "select count(*) from kronos.calibrations")[0][0].as_deref(), Some("0"));
    forecast_hours(&db, "naive", "live", 100, 101, "true");
    db.run(&format!("revoke select on prices from {owner}"));
    let error = refused(&owner, "select calibrate('c')");
    assert_eq!(error.code, "42501", "{error:?}");
    db.error("delete from ledger.calibration_state").is("55000", "append-only");
    db.error("update ledger.calibration_versions set n_new = 0").is("55000", "append-only");
    db.run(&format!("grant select on prices to {owner}"));
    run(&owner, "select drop_calibration('c')");
    for role in [&owner, &other, &reader, &stranger] {
        db.run(&format!("drop owned by {role}"));
    }
}

#[test]
fn two_sessions_learn_one_after_the_other() {
    let db = market("cal_sessions", &["AAA"], 200);
    // What both want to learn waits on the queue, where the second must not see it any longer.
    forecast_hours(&db, "naive", "live", 0, 100, "true");
    db.run(&format!("select create_calibration('c', 'prices'); select calibrate('c', {})", at(50)));
    let mut first = db.connect();
    first.batch_execute("begin").unwrap();
    assert_eq!(rows(&mut first, "select count(*) from calibrate('c')")[0][0].as_deref(), Some("3"));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| db.value("select count(*) from calibrate('c')"));
        let mut watch = db.connect();
        let waiting =
            "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        until("the second session waits for the first", || {
            assert!(!second.is_finished(), "the second session did not wait");
            !rows(&mut watch, waiting).is_empty()
        });
        first.batch_execute("commit").unwrap();
        assert_eq!(second.join().unwrap(), "0");
    });
    assert_eq!(
        db.value("select count(*) || ' ' || sum(n_new) from ledger.calibration_versions"),
        "2 300",
        "each of a hundred forecasts of three steps was learnt once"
    );
}

#[test]
fn mistakes_say_what_to_do() {
    let db = market("cal_mistakes", &["AAA"], 60);
    db.run("select create_calibration('close_90', 'prices', model => 'naive')");
    let forecast = |more: &str| format!("select * from forecast('naive', 'prices', '{{close}}', 1, {more})");
    db.error(&forecast("calibration => 'close_9'"))
        .is("42704", "calibration \"close_9\" does not exist")
        .hint("Did you mean \"close_90\"?");
    db.error("select calibrate('nothing')").is("42704", "calibration \"nothing\" does not exist");
    db.error(&forecast("calibration => 'close_90', level => 0.8"))
        .is("22023", "calibration \"close_90\" is for level 0.9, not 0.8")
        .hint("Pass level => 0.9");
    db.error("select * from forecast('drift', 'prices', '{close}', 1, calibration => 'close_90')")
        .is("22023", "is for model 'naive', not 'drift'");
    let create =
        |arguments: &str| db.error(&format!("select create_calibration('x', 'prices', {arguments})"));
    create("method => 'pdi'")
        .is("22023", "unrecognized method \"pdi\"")
        .hint("Did you mean \"pid\"? Valid values of method: \"pid\"");
    create("options => '{\"windw\": 100}'")
        .is("22023", "unrecognized option \"windw\"")
        .hint("Did you mean \"window\"?");
    create("options => '{\"score\": \"scale\"}'").is("22023", "unrecognized score \"scale\"").hint("\"cqr\"");
    create("options => '{\"lr\": 7}'").is("22023", "lr must be greater than 0 and at most 1, got 7");
    create("options => '{\"max_radius\": \"ten sigma\"}'").is("22023", "such as \"10 sigma\"");
    create("level => 90").is("22023", "level must be between 0 and 1").hint("did you mean 0.9?");
    create("per => '{symbol}'").is("22023", "unrecognized per \"symbol\"").hint("\"series\", \"step\"");
    create("target => 'px'").is("42703", "column \"px\"");
    create("model => 'naiv'").is("42704", "model \"naiv\" does not exist");
    create("options => '{\"groups\": \"select 1 as series\"}'").is("42703", "has no column \"sector\"");
    create("options => '{\"groups\": \"delete from prices\"}'").is("22023", "groups must be one SELECT");
    db.error("select create_calibration('close_90', 'prices')").is("42710", "already exists");
    db.run("select create_calibration('close_90', 'prices', if_not_exists => true); select drop_calibration('y', if_exists => true)");
    db.error("select drop_calibration('y')").is("42704", "calibration \"y\" does not exist");
    db.error("select create_calibration(null, 'prices')").is("22004", "name must not be null");
    let bare = Database::new("cal_bare");
    bare.run("create table prices (time timestamptz, close float8)");
    bare.error("select create_calibration('c', 'prices')")
        .is("55000", "the ledger is not installed")
        .hint("kronos.install()");
}

#[test]
fn stateless_scores_and_radii() {
    let db = Database::new("cal_scores");
    // By hand: 1 is covered by an infinite radius, 2 and 3 miss radii 1 and 2; the level goes 0.5, 0.45, 0.5, 0.55, and of three
    // scores the one of rank ceil(4 · 0.55) = 3 is served.
    assert_eq!(db.value("select aci_radius(s, 0.5, 0.1 order by s) from unnest('{1,2,3}'::float8[]) s"), "3");
    assert_eq!(
        db.value("select aci_radius(s, 0.9, 0.1 order by s) from unnest('{1,2,3}'::float8[]) s"),
        "Infinity"
    );
    // One score of 2 missed from 0: 0.1 · 2 · 0.9, and the integrator K·tan(0.9 · ln 2 / 2), K = 0.1 · 2.
    let expected = 0.1 * 2.0 * 0.9 + 0.1 * 2.0 * (0.9 * 2f64.ln() / 2.0).tan();
    let got: f64 = db.value("select pid_radius(2, 0.9, 0.1)").parse().unwrap();
    assert!((got - expected).abs() < 1e-12, "{got} {expected}");
    assert_eq!(
        db.value("select pid_radius(s, 0.9, 0.1 order by s) is null from unnest('{}'::float8[]) s"),
        "t"
    );
    // Order matters, and NULL does not count.
    assert_eq!(
        db.value(
            "select (pid_radius(s, 0.9, 0.1 order by i) <> pid_radius(s, 0.9, 0.1 order by i desc))
                 || ' ' || (pid_radius(s, 0.9, 0.1 order by i) = pid_radius(s, 0.9, 0.1 order by i) filter (where s is not null))
             from (values (1, 1.0::float8), (2, null), (3, 5), (4, 2), (5, 0.5)) v(i, s)"
        ),
        "true true"
    );
    assert_eq!(db.value("select coverage(a, 0, 1) from unnest('{0,0.5,1,2,null}'::float8[]) a"), "0.75");
    assert_eq!(db.value("select coverage(a, 0, 1) is null from unnest('{}'::float8[]) a"), "t");
    // The same from parts that workers count: of 0 to 9999 there are 2501 within [0, 2500].
    db.run("create table counted as select i::float8 as a from generate_series(0, 9999) i; analyze counted");
    let counted = |statement: &str| {
        let cheap =
            "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0";
        db.rows(&format!("{cheap}; {statement} select coverage(a, 0, 2500) from counted"))
            .concat()
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    assert!(counted("explain").iter().any(|line| line.contains("Partial Aggregate")));
    assert_eq!(counted(""), ["0.2501"]);
    // Two parts: 3 of 4 and 1 of 6.
    assert_eq!(db.value("select _kronos.coverage_combine('{4,3}', '{6,1}')"), "{10,4}");
    assert_eq!(db.value("select winkler(0.5, 1, 5, 0.5)"), "6");
    assert_eq!(db.value("select pinball(1, 3, 0.25)"), "1.5");
    let levels = (1..=9).map(|i| (f64::from(i) / 10.0).to_string()).collect::<Vec<_>>().join(",");
    let crps: f64 = db.value(&format!("select crps(0.5, '{{{levels}}}', '{{{levels}}}')")).parse().unwrap();
    // Twice the mean of the pinball losses of a uniform distribution's deciles at its median.
    let by_hand = 2.0 / 9.0
        * (1..=9)
            .map(|i| f64::from(i) / 10.0)
            .map(|q| if q > 0.5 { (q - 0.5) * (1.0 - q) } else { (0.5 - q) * q })
            .sum::<f64>();
    assert!((crps - by_hand).abs() < 1e-12, "{crps} {by_hand}");
    assert_eq!(db.value("select crps(1, '{1,2,3}', '{0.1,0.5,0.9}') is null"), "t");
    db.error("select winkler(1, 3, 2, 0.9)").is("22023", "lower must be at most upper, 2, got 3");
    db.error("select pinball(1, 3, 95)").is("22023", "tau must be between 0 and 1, got 95");
    db.error("select crps(1, '{1}', '{0.1,0.5}')").is("22023", "as many as quantile_levels");
    db.error("select aci_radius(1, 90, 0.1)").is("22023", "level must be between 0 and 1");
    assert_eq!(
        db.value(
            "select count(*) from pg_proc where pronamespace = 'kronos'::regnamespace and proname in ('winkler', 'pinball', 'crps')
               and provolatile = 'i' and proisstrict and proparallel = 's'"
        ),
        "3"
    );
}

/// 400 days of 50 shares: the baselines' own intervals beside calibrated ones, by the query of docs/calibration.md.
#[test]
fn real_shares_are_covered_as_promised() {
    let Some(folder) = shared_folder("data/daily") else { return };
    let unpacked = Command::new("gzip").arg("-dc").arg(folder.join("us_equities_daily_1.csv.gz")).output();
    let text = unpacked.expect("gzip can be run").stdout;
    let header = text.split(|&byte| byte == b'\n').next().unwrap();
    let header = std::str::from_utf8(header).unwrap().trim();
    let db = market("cal_shares", &[], 0);
    let columns = header.split(',').map(|name| format!("{name} text")).collect::<Vec<_>>().join(", ");
    let mut client = db.connect();
    client.batch_execute(&format!("create table raw ({columns})")).unwrap();
    let mut writer = client.copy_in("copy raw from stdin csv header").unwrap();
    writer.write_all(&text).unwrap();
    writer.finish().unwrap();
    let day = if header.split(',').any(|name| name == "ds") { "ds" } else { "date" };
    db.run(&format!(
        "create table shares as
           select symbol, {day}::date as day, close::float8 as close from (
             select *, row_number() over (partition by symbol order by {day} desc) as age from raw
             where symbol in (select symbol from raw where close::float8 > 0 group by symbol having count(*) > 900 order by symbol limit 50)) r
           where age <= 600;
         create unique index on shares (symbol, day);
         analyze shares;"
    ));
    assert_eq!(db.value("select count(distinct symbol) from shares"), "50");
    for model in ["naive", "hist_vol"] {
        db.run(&format!(
            "do $$ declare run bigint := ledger.open_run('backtest', 'shares', 'forecast', 5, '{model}'); begin
               perform ledger.record(run, $q$
                 select f.*, 0.9::float8 as level from (
                   select day + 1 as as_of from (select distinct day from shares order by day desc offset 1 limit 400) d) c
                 cross join lateral forecast('{model}', 'shares', '{{close}}', 5, as_of => c.as_of::timestamp at time zone 'America/New_York',
                   options => '{{\"calendar\":\"XNYS\",\"context\":60}}') f where f.step in (1, 5) $q$);
               perform ledger.close_run(run);
             end $$"
        ));
    }
    db.run("select create_calibration('c', 'shares', options => '{\"kind\":\"backtest\",\"calendar\":\"XNYS\"}'); select calibrate('c')");
    let fared = db.rows(
        "select model, step, sum(n), avg(raw_coverage), avg(coverage), avg((drift)::int) from kronos.stat_calibration
         where name = 'c' group by 1, 2 order by 1, 2",
    );
    println!("model, step, n, coverage before, after, share of drifting series");
    assert_eq!(fared.len(), 4);
    for row in &fared {
        let number = |column: usize| row[column].as_ref().unwrap().parse::<f64>().unwrap();
        println!(
            "{:?} {} {} {:.3} {:.3} {:.2}",
            row[0],
            number(1),
            number(2),
            number(3),
            number(4),
            number(5)
        );
        assert!(number(2) > 15_000.0 && (number(4) - 0.9).abs() < 0.02, "{row:?}");
    }
}

/// 10 million rows in the ledger, 10,000 of them with a new outcome; `KRONOS_HEAVY=1` runs it.
#[test]
fn ten_thousand_new_rows_among_ten_million() {
    let command = "KRONOS_HEAVY=1 make test (half an hour, 10 GB)";
    if !kronos_skip::requested("KRONOS_HEAVY", "ten million rows are learnt", command) {
        return;
    }
    // 500 series and 20 steps: each hour brings 10,000 outcomes, and 1,000 hours make 10 million rows.
    let symbols: Vec<String> = (0..500).map(|i| format!("S{i:03}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let db = market("cal_heavy", &symbols, 1021);
    db.run(
        "select ledger.open_run('live', 'prices', 'forecast', 20, 'naive') from generate_series(1, 1000);
         update ledger.runs set state = 'done' where run_id < 998;
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version)
         select r.run_id, 'live', 'prices'::regclass, p.symbol, 'close', p.time + h * interval '1 hour', h, p.time + interval '1 hour',
                p.close, p.close * 0.99, p.close * 1.01, 0.9, 'naive'
         from ledger.runs r join prices p on p.time = timestamptz '2024-01-01 00:00+00' + r.run_id * interval '1 hour',
              generate_series(1, 20) h",
    );
    db.run("vacuum analyze ledger.forecasts");
    assert_eq!(db.value("select count(*) from ledger.forecasts"), "10000000");
    db.run("select create_calibration('c', 'prices')");
    let timed = |through: usize| {
        let started = std::time::Instant::now();
        let learnt = db.value(&format!("select sum(n_new) from calibrate('c', {})", at(through)));
        (started.elapsed().as_secs_f64(), learnt)
    };
    let first = timed(1000);
    db.run("vacuum analyze");
    let (mut fastest, mut all) = (f64::INFINITY, Vec::new());
    for hour in 1001..1004 {
        // As a policy does it: a run has ended whose forecasts are for hours to come, and an hour has passed.
        db.run(&format!("update ledger.runs set state = 'done' where run_id = {}", hour - 3));
        let (seconds, learnt) = timed(hour);
        assert_eq!(learnt, "10000");
        fastest = fastest.min(seconds);
        all.push(seconds);
    }
    println!("first call: {} rows in {:.1} s; then 10,000 rows in {all:.3?} s", first.1, first.0);
    // A thousandth of the rows; were each call to go through all of them, it would take as long as the first.
    assert!(fastest < first.0 / 50.0, "{all:?} s after {} s", first.0);
}
