//! What a calibration serves as of a date is served for ever, whatever arrives and is learnt later.

use super::{FORECAST, at, forecast_hours, market};
use kronos_tests::{Database, Row};

/// What `c` makes of the forecasts of two series, as of an expression; they know no row that is older than a day.
fn served(db: &Database, as_of: &str) -> Vec<Row> {
    db.rows(&format!(
        "select {FORECAST} from forecast('naive', 'prices', '{{close}}', 3, as_of => {as_of}, calibration => 'c',
           options => '{{\"context\": 24}}')"
    ))
}

/// The only status and version of the rows.
fn told(rows: &[Row]) -> (Option<&str>, Option<&str>) {
    let told = |row: &'_ Row| (row[9].clone(), row[14].clone());
    assert!(rows.iter().all(|row| told(row) == told(&rows[0])), "{rows:?}");
    (rows[0][9].as_deref(), rows[0][14].as_deref())
}

/// Takes the outcomes of 41 hours, twice as volatile as all others, out of the table or puts them back.
fn keep_back(db: &Database, back: bool) {
    db.run(if back {
        "create table late as select symbol, time, close * exp(shock(symbol, -extract(hour from time)::int) * 5) as close
           from prices where time >= '2024-01-04 00:00+00' and time < '2024-01-05 17:00+00';
         delete from prices where time >= '2024-01-04 00:00+00' and time < '2024-01-05 17:00+00'"
    } else {
        "insert into prices select * from late"
    });
}

#[test]
fn outcomes_of_long_ago_that_arrive_late_change_neither_what_was_served_nor_what_will_be() {
    let db = market("cal_late", &["AAA", "BBB"], 600);
    forecast_hours(&db, "naive", "live", 0, 600, "true");
    keep_back(&db, true);
    db.run("select create_calibration('c', 'prices'); select calibrate('c')");
    let dates = [at(600), at(620), "clock_timestamp()".to_owned()];
    let before: Vec<_> = dates.iter().map(|date| served(&db, date)).collect();
    assert!(before.iter().all(|rows| told(rows) == (None, Some("1"))), "{before:?}");
    let radii = "select string_agg(q_lower || ' ' || q_upper || ' ' || mean_width || ' ' || n, ', ' order by series, step) from kronos.stat_calibration";
    let narrow = db.value(radii);
    keep_back(&db, false);
    let notice = db.psql("select count(*) from calibrate('c');");
    // Of each of two series and three steps 41 outcomes, and those whose forecasts were of the hours kept back are the same ones.
    assert!(
        notice.contains(
            "NOTICE:  calibration \"c\" has not learnt 246 outcomes that came later than it remembers"
        ),
        "{notice}"
    );
    assert_eq!(db.value("select waiting || ' ' || version from kronos.calibrations"), "12 1");
    assert_eq!(db.value(radii), narrow);
    for (date, before) in dates.iter().zip(before) {
        assert_eq!(served(&db, date), before, "{date}");
    }
}

/// Three hours late is not long ago: it is learnt, and serves from when it was.
#[test]
fn what_is_learnt_late_serves_from_then_on_only() {
    let db = market("cal_a_little_late", &["AAA", "BBB"], 600);
    forecast_hours(&db, "naive", "live", 0, 600, "true");
    let recent = "time >= timestamptz '2024-01-01 00:00+00' + 594 * interval '1 hour'
                  and time < timestamptz '2024-01-01 00:00+00' + 597 * interval '1 hour'";
    db.run(&format!(
        "create table late as select * from prices where {recent}; delete from prices where {recent};
         select create_calibration('c', 'prices'); select calibrate('c')"
    ));
    let moment = format!("timestamptz '{}'", db.value("select clock_timestamp()"));
    let dates = [at(600), moment];
    let before: Vec<_> = dates.iter().map(|date| served(&db, date)).collect();
    assert!(before.iter().all(|rows| told(rows) == (None, Some("1"))), "{before:?}");
    db.run("insert into prices select symbol, time, close * 1.2 from late");
    assert_eq!(db.value("select sum(n_new) from calibrate('c')"), "18");
    db.run("delete from prices where close in (select close * 1.2 from late)");
    for (date, before) in dates.iter().zip(&before) {
        assert_eq!(&served(&db, date), before, "{date}");
    }
    let now = served(&db, "clock_timestamp()");
    assert_eq!(told(&now), (None, Some("2")));
    assert_ne!(now, before[1]);
}

/// Every date of a replay is answered by what was known then and by nothing else, once it is settled and not before.
#[test]
fn past_dates_are_replayed_step_by_step() {
    let db = market("cal_replayed", &["AAA", "BBB"], 600);
    forecast_hours(&db, "naive", "live", 0, 600, "true");
    db.run("select create_calibration('c', 'prices')");
    assert_eq!(told(&served(&db, &at(400))), (Some("burn_in"), None), "nothing has been learnt");
    let mut seen: Vec<(String, Vec<Row>)> = Vec::new();
    for (number, hour) in [300, 324, 348].into_iter().enumerate() {
        db.run(&format!("select calibrate('c', {})", at(hour)));
        assert_eq!(told(&served(&db, &at(hour + 1))), (Some("no_version"), None), "not settled yet");
        for hour in [hour - 20, hour] {
            let rows = served(&db, &at(hour));
            seen.push((at(hour), rows.clone()));
            let expected = match (number, hour) {
                (0, 280) => (Some("no_version"), None),
                (0, _) => (None, Some("1")),
                (1, 324) | (2, 328) => (None, Some("2")),
                (1, _) => (None, Some("1")),
                _ => (None, Some("3")),
            };
            assert_eq!(told(&rows), expected, "{number} {hour}");
        }
    }
    // A step without news settles its date too: it is the same version's.
    db.run(&format!("update prices set time = time where false; select calibrate('c', {})", at(348)));
    assert_eq!(db.value("select version from kronos.calibrations"), "3");
    // Outcomes of a day that was settled arrive, and the rest is learnt at once.
    db.run(&format!("update prices set close = close * 1.5 where time = {}", at(200)));
    db.run("select calibrate('c')");
    for (date, rows) in &seen {
        assert_eq!(&served(&db, date), rows, "{date}");
    }
    // What is asked as of today is answered by what has been learnt until today.
    assert_eq!(told(&served(&db, "clock_timestamp()")), (None, Some("4")));
}

#[test]
fn a_step_of_a_replay_without_news_settles_its_date() {
    let db = market("cal_no_news", &["AAA", "BBB"], 300);
    forecast_hours(&db, "naive", "live", 0, 300, "true");
    db.run(&format!(
        "select create_calibration('c', 'prices'); select calibrate('c', {}); select calibrate('c', {})",
        at(310),
        at(340)
    ));
    assert_eq!(
        db.value(
            "select version || ' ' || (updated_through = '2024-01-13 12:00+00') from kronos.calibrations"
        ),
        "2 true"
    );
    assert_eq!(told(&served(&db, &at(330))), (None, Some("2")), "which says what version 1 does");
    assert_eq!(told(&served(&db, &at(340))), (None, Some("2")));
    // Outcomes of that time that turn up later are of a later version.
    db.run(&format!(
        "insert into prices select symbol, {}, close from prices where time = {}; select calibrate('c', {})",
        at(300),
        at(299),
        at(360)
    ));
    assert_eq!(db.value("select version from kronos.calibrations"), "3");
    assert_eq!(told(&served(&db, &at(330))), (None, Some("2")));
    assert_eq!(told(&served(&db, &at(350))), (None, Some("3")));
}

/// The coverage that is told is that of the intervals which are served as of the cutoff, forecast by forecast.
#[test]
fn coverage_is_that_of_what_would_have_been_served() {
    let db = market("cal_served", &["AAA", "BBB"], 200);
    db.run(
        "create function as_of(hour int) returns timestamptz language sql immutable
           return timestamptz '2024-01-01 00:00+00' + hour * interval '1 hour';
         select create_calibration('c', 'prices');
         create table served (series text, step int, ts timestamptz, lower float8, upper float8, status text);
         do $$ declare run bigint; begin
           for hour in 40..199 loop
             run := ledger.open_run('live', 'prices', 'forecast', 3, 'naive');
             perform ledger.record(run, format($q$
               select f.*, 0.9::float8 as level from forecast('naive', 'prices', '{close}', 3, as_of => as_of(%s)) f $q$, hour));
             perform ledger.close_run(run);
             perform calibrate('c', as_of(hour));
             insert into served select series, step, ts, lower, upper, status
               from forecast('naive', 'prices', '{close}', 3, as_of => as_of(hour), calibration => 'c');
           end loop;
           perform calibrate('c');
         end $$",
    );
    assert_eq!(
        db.value(
            "with came as (select series, step, avg((close between lower and upper)::int) as coverage, count(*) as n
                           from served s join prices p on p.symbol = s.series and p.time = s.ts where status is null group by 1, 2)
             select count(*) || ' ' || bool_and(abs(s.coverage - came.coverage) < 1e-12 and came.n > 100)
             from kronos.stat_calibration s join came using (series, step)"
        ),
        "6 true"
    );
}

#[test]
fn the_set_up_of_an_older_ledger_is_brought_up_to_date() {
    let db = market("cal_upgrade", &["AAA"], 300);
    forecast_hours(&db, "naive", "live", 0, 300, "true");
    db.run("select create_calibration('c', 'prices'); select calibrate('c')");
    let before = served(&db, &at(300));
    db.run(
        "drop view kronos.stat_calibration, ledger.own_calibration_state;
         alter table ledger.calibration_state drop layers, drop reason, drop score_first, drop score_all;
         create view ledger.own_calibration_state with (security_barrier) as
           select s.group_id, s.version, s.calibration, s.n, s.updated_through, s.coverage, s.recent_coverage, s.raw_coverage, s.bias,
                  s.scale, s.q_lower, s.q_upper, s.mean_width, s.drift, s.status, s.state
           from ledger.calibration_state s
           where (s.group_id, s.calibration) in (select g.group_id, g.calibration from ledger.own_calibration_groups g) with check option;
         create view kronos.stat_calibration with (security_barrier) as
           select c.calibration as name, g.model, g.member as series, g.step, s.n, s.coverage, c.level as target_coverage,
                  s.recent_coverage, s.raw_coverage, s.bias, s.scale, s.q_lower, s.q_upper, s.mean_width, s.drift, s.status,
                  s.version, s.updated_through, g.sector
           from ledger.calibrations c join ledger.calibration_groups g using (calibration)
           join ledger.calibration_state s on s.group_id = g.group_id where g.scope = 'series'",
    );
    db.error("select calibrate('c')").is("55000", "the ledger is not installed, or of an older version");
    db.run("call kronos.install(parts => '{market,ledger}')");
    assert_eq!(served(&db, &at(300)), before);
    assert_eq!(
        db.rows("select distinct layers, reason, score_all from kronos.stat_calibration"),
        [[const { None::<String> }; 3]]
    );
    db.run(&format!(
        "insert into prices select symbol, {}, close from prices where time = {}",
        at(300),
        at(299)
    ));
    assert_eq!(db.value("select sum(n_new) from calibrate('c')"), "3");
    assert_eq!(
        db.value("select bool_and(layers = 'all' and score_all is not null) from kronos.stat_calibration"),
        "t"
    );
    assert_eq!(served(&db, &at(300)), before);
}
