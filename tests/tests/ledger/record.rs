//! The ledger of forecasts: its three doors, what may be written and read, and how fast.

use kronos_tests::worker::{self, succeed};
use kronos_tests::{Database, bars, rows};
use std::collections::BTreeSet;
use std::time::Instant;

/// Everything the set-up makes, a line each: objects, columns, code, privileges, triggers, indexes, comments.
const OBJECTS: &str = "
    with schemas as (
      select oid from pg_namespace where nspname in ('market', 'ledger', 'trading')
    ), relations as (
      select c.* from pg_class c where c.relnamespace in (select oid from schemas)
      union all
      select c.* from pg_class c where c.relnamespace = 'kronos'::regnamespace and c.relkind = 'v' and not exists (
        select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    )
    select line from (
      select format('%s %s %s %s %s %s', relkind, relname, reloptions, relrowsecurity, relacl, pg_get_viewdef(oid)) as line
      from relations where relkind <> 'c'
      union all
      select format('%s.%s %s %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull,
                    col_description(a.attrelid, a.attnum))
      from pg_attribute a join relations c on c.oid = a.attrelid where a.attnum > 0
      union all
      select pg_get_indexdef(i.indexrelid) from pg_index i join relations c on c.oid = i.indrelid
      union all
      select pg_get_triggerdef(t.oid) from pg_trigger t join relations c on c.oid = t.tgrelid where not tgisinternal
      union all
      select format('%s %s %s', p.polrelid::regclass, p.polname, pg_get_expr(p.polqual, p.polrelid)) from pg_policy p
      union all
      select pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') || obj_description(p.oid)
      from pg_proc p where p.pronamespace in (select oid from schemas)) as objects order by line";

#[test]
fn three_doors_make_the_same_objects_and_may_be_used_again() {
    let by_worker = Database::new("door_worker");
    let by_psql = Database::new("door_psql");
    let by_call = Database::new("door_call");
    let made =
        |db: &Database| -> BTreeSet<String> { db.rows(OBJECTS).into_iter().flatten().flatten().collect() };
    for _ in 0..2 {
        succeed(worker::of(&by_worker).arg("migrate"));
        succeed(by_psql.program("psql").args(["-X", "-q", "-f", "sql/install.sql"]));
        by_call.run("call kronos.install()");
        let expected = made(&by_psql);
        assert!(expected.iter().any(|line| line.contains("forecasts_key")), "{expected:?}");
        for other in [&by_worker, &by_call] {
            let found = made(other);
            let differing: Vec<_> = found.symmetric_difference(&expected).collect();
            assert!(differing.is_empty(), "{differing:#?}");
        }
    }
    let files = "select array_agg(file || version order by file) from market.installed_files";
    assert_eq!(by_call.value(files), by_psql.value(files));
}

#[test]
fn parts_are_installed_alone_and_what_is_missing_is_said() {
    let db = Database::new("install_parts");
    db.run(&bars("bars", &["A"], 40));
    for sql in [
        "select kronos.add_forecast_policy('bars', 3)",
        "select kronos.remove_forecast_policy('p')",
        "select kronos.submit('p')",
        "select kronos.cancel(1)",
        "call kronos.run_policy(config => '{\"policy\": \"p\"}')",
    ] {
        db.error(sql).is("55000", "the ledger is not installed").hint("CALL kronos.install();");
    }
    db.error("call kronos.install('{ledgr}')")
        .is("22023", "unrecognized part \"ledgr\"")
        .hint("market, ledger, trading");
    db.run("call kronos.install('{ledger}')");
    assert_eq!(
        db.value("select format('%s %s %s', to_regclass('ledger.runs'), to_regclass('market.bars'), to_regclass('trading.knobs'))"),
        "ledger.runs  "
    );
    db.error("select kronos.submit('p')").is("42704", "policy \"p\" does not exist");

    let other = Database::new("install_taken");
    let role = other.role("squatter");
    other.run(&format!("create schema ledger authorization {role}"));
    other
        .error("call kronos.install()")
        .is("42501", &format!("schema \"ledger\" belongs to role \"{role}\""))
        .hint("Set up as");
    other.run("drop schema ledger");
}

#[test]
fn every_table_column_and_routine_of_the_ledger_is_described() {
    let db = Database::installed("ledger_comments");
    let lacking = db.rows(
        "select c.relname, a.attname
         from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'
           and (obj_description(c.oid, 'pg_class') is null or col_description(c.oid, a.attnum) is null)
         union all
         select c.relname, null from pg_class c
         where c.relnamespace in ('ledger'::regnamespace, 'kronos'::regnamespace) and c.relkind = 'v'
           and obj_description(c.oid, 'pg_class') is null
         union all
         select p.proname, null from pg_proc p
         where p.pronamespace = 'ledger'::regnamespace and obj_description(p.oid, 'pg_proc') is null",
    );
    assert!(lacking.is_empty(), "{lacking:?}");
}

/// Records the forecasts of `query` under a run of its own, which it returns.
fn record(db: &Database, kind: &str, relation: &str, query: &str) -> String {
    let mut client = db.connect();
    let run =
        rows(&mut client, &format!("select ledger.open_run('{kind}', '{relation}', 'kronos_predict', 3)"));
    let run = run[0][0].clone().unwrap();
    rows(
        &mut client,
        &format!("select * from ledger.record({run}, $q${query}$q$); select ledger.close_run({run})"),
    );
    run
}

const PREDICT: &str =
    "select f.*, 0.8 as level, '{0.1,0.9}'::float8[] as quantile_levels, '{\"fomc\": true}'::jsonb as event_context
     from kronos_predict('bars', 3, level => 0.8, quantile_levels => '{0.1,0.9}') f";

#[test]
fn what_the_function_says_is_what_the_ledger_holds() {
    let db = Database::installed("ledger_record");
    db.run(&bars("bars", &["A", "B"], 60));
    db.run("insert into bars select 'short', ts, open, high, low, close, volume, amount from bars where symbol = 'A' limit 5");
    let run = record(&db, "manual", "bars", PREDICT);
    // Bit for bit, although the columns travel by name.
    assert_eq!(
        db.value(
            "select count(*) from kronos.forecasts l join kronos_predict('bars', 3, level => 0.8, quantile_levels => '{0.1,0.9}') f
               on (l.series, l.ts, l.step, l.cutoff, l.model_version) = (f.series, f.ts, f.step, f.cutoff, f.model_version)
             where (l.forecast, l.lower, l.upper, l.quantiles, l.prob_up) = (f.close, f.lower, f.upper, f.quantiles, f.prob_up)
               and l.bar = row(f.ts, f.open, f.high, f.low, f.close, f.volume, f.amount)::ledger.bar
               and l.level = 0.8 and l.quantile_levels = '{0.1,0.9}' and l.target = 'close' and l.kind = 'manual'
               and l.event_context = '{\"fomc\": true}' and l.calibration = '' and l.status is null"
        ),
        "6"
    );
    assert_eq!(
        db.rows("select run_id, series, status from kronos.failures"),
        [vec![Some(run), Some("short".into()), Some("short_history".into())]]
    );
    assert_eq!(
        db.value("select format('%s %s %s %s %s', state, n_series, n_ok, n_failed, cutoff = (select max(ts) + '1 hour' from bars)) from kronos.runs"),
        "partial 3 2 1 t"
    );
    assert_eq!(
        db.value("select string_agg(distinct model_name, ' ') from kronos.ml_predictions"),
        "kronos-fixture"
    );
    assert_eq!(
        db.value("select count(*) from kronos.kronos_forecasts where low <= close and close <= high"),
        "6"
    );
}

#[test]
fn repeated_and_late_runs_are_harmless_and_a_backtest_stands_beside() {
    let db = Database::installed("ledger_repeat");
    db.run(&bars("bars", &["A"], 60));
    let first = record(&db, "manual", "bars", PREDICT);
    let before = db.value("select string_agg(f::text, e'\\n' order by ts) from ledger.forecasts f");
    for _ in 0..2 {
        record(&db, "manual", "bars", PREDICT);
    }
    assert_eq!(db.value("select string_agg(f::text, e'\\n' order by ts) from ledger.forecasts f"), before);
    record(&db, "backtest", "bars", PREDICT);
    assert_eq!(
        db.value("select string_agg(format('%s %s', kind, n), ', ') from (select kind, count(*) as n from kronos.forecasts group by kind order by 1) k"),
        "backtest 3, manual 3"
    );
    assert_eq!(
        db.value("select format('%s %s', count(*), min(run_id)) from kronos.latest_forecasts"),
        format!("3 {first}")
    );
    // A later cutoff takes over where it forecasts the same time; a late run of an older one changes nothing.
    let older = PREDICT.replace("quantile_levels =>", "as_of => '2024-01-03 11:00+00', quantile_levels =>");
    record(&db, "manual", "bars", &older);
    assert_eq!(
        db.value(
            "select string_agg(format('%s@%s', ts - min_ts, step), ' ' order by ts) from
                    (select ts, step, min(ts) over () as min_ts from kronos.latest_forecasts) l"
        ),
        "00:00:00@1 01:00:00@1 02:00:00@2 03:00:00@3"
    );
}

#[test]
fn nothing_in_the_ledger_can_be_changed() {
    let db = Database::installed("ledger_append_only");
    db.run(&bars("bars", &["A"], 60));
    db.run("insert into bars select 'short', ts, open, high, low, close, volume, amount from bars limit 5");
    record(&db, "manual", "bars", PREDICT);
    for sql in [
        "update ledger.forecasts set forecast = 0",
        "delete from ledger.forecasts",
        "truncate ledger.forecasts",
        "update ledger.failures set status = ''",
        "delete from ledger.failures",
        "delete from ledger.runs",
    ] {
        db.error(sql).is("55000", "is append-only");
    }
    for sql in ["update ledger.runs set state = 'done'", "update ledger.runs set n_failed = 0"] {
        db.error(sql).is("55000", "cannot be changed");
    }
    db.error("select * from ledger.record(1, 'select 1')").is("55000", "run 1 is not running");
    db.run("select ledger.open_run('manual', 'bars', 'x')");
    db.error("update ledger.runs set issued_by = 'x' where state = 'running'")
        .is("55000", "cannot be changed");
    assert_eq!(db.value("select count(*) from ledger.forecasts"), "3");
    // Retention is the way out, and only that.
    db.run("select ledger.drop_forecasts('3000-01-01')");
    assert_eq!(db.value("select count(*) from ledger.forecasts"), "0");
    db.error("delete from ledger.forecasts").is("55000", "is append-only");
}

#[test]
fn retention_drops_what_is_for_times_before_the_bound_and_nothing_else() {
    let db = Database::installed("ledger_retention");
    if db.value("select market.timescale_edition()") != "none" {
        kronos_skip::skipped("forecasts are dropped in whole chunks here", "make test, without TimescaleDB");
        return;
    }
    db.run(&bars("bars", &["A"], 60));
    record(&db, "manual", "bars", PREDICT);
    // They are for 12:00 to 14:00 of January 3rd.
    assert_eq!(db.value("select ledger.drop_forecasts('2024-01-03 13:00+00')"), "1");
    assert_eq!(db.value("select string_agg(step::text, ' ' order by step) from ledger.forecasts"), "2 3");
}

#[test]
fn a_forecast_is_as_visible_as_its_input() {
    let db = Database::installed("ledger_visible");
    let (reader, other) = (db.role("reader"), db.role("other"));
    db.run(&bars("open_bars", &["A"], 60));
    db.run("insert into open_bars select 'short', ts, open, high, low, close, volume, amount from open_bars limit 5");
    db.run("create table secret_bars as select * from open_bars; create table rows_bars as select * from open_bars;
            create view over_rows as select * from rows_bars;
            alter table rows_bars enable row level security; create policy p on rows_bars using (symbol = 'A')");
    for relation in ["open_bars", "secret_bars", "rows_bars", "over_rows"] {
        record(&db, "manual", relation, &PREDICT.replace("'bars'", &format!("'{relation}'")));
        db.run(&format!(
            "select kronos.add_forecast_policy('{relation}', 3, '100 years', policy => 'of {relation}')"
        ));
    }
    db.run(&format!(
        "select kronos.grant_access('{reader}', 'use'); select kronos.grant_access('{other}', 'use');
         grant select on open_bars, rows_bars, over_rows to {reader}"
    ));
    let views = ["forecasts", "latest_forecasts", "kronos_forecasts", "ml_predictions", "runs", "failures"];
    let seen = |role: &str, view: &str| {
        let sql = format!(
            "select string_agg(distinct relation::text, ' ' order by relation::text) from kronos.{view}"
        );
        rows(&mut db.connect_as(role), &sql)[0][0].clone().unwrap_or_default()
    };
    for view in views {
        assert_eq!(seen(&other, view), "", "{view}");
        assert_eq!(seen(&reader, view), "open_bars", "{view}: row security cannot be repeated");
    }
    // A policy says nothing of the rows: whoever may read some of them may know of it.
    let policies = |role: &str| {
        let names = rows(&mut db.connect_as(role), "select policy from kronos.stat_policies order by 1");
        assert_eq!(rows(&mut db.connect_as(role), "select policy from kronos.policies order by 1"), names);
        names.into_iter().flatten().flatten().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(policies(&other), "");
    assert_eq!(policies(&reader), "of open_bars, of over_rows, of rows_bars");
    db.run(&format!("grant select on secret_bars to {other}"));
    for view in views {
        assert_eq!(seen(&other, view), "secret_bars", "{view}");
    }
    assert_eq!(policies(&other), "of secret_bars");
    db.run(&format!("revoke select on secret_bars from {other}"));
    for view in views {
        assert_eq!(seen(&other, view), "", "{view}");
    }
    assert_eq!(policies(&other), "");
    // A condition of the reader's own is not shown rows that the reader may not see.
    db.run(
        "create function leak(text) returns boolean language plpgsql cost 0.0000001 as
            $$begin raise notice 'saw %', $1; return true; end$$",
    );
    let mut client = db.connect_as(&other);
    for view in ["forecasts", "latest_forecasts", "runs"] {
        let column = if view == "runs" { "call" } else { "series" };
        let (mut quiet, notices) = db.connect_with_notices();
        quiet
            .batch_execute(&format!("set role {other}; select * from kronos.{view} where leak({column})"))
            .unwrap();
        assert_eq!(notices.lock().unwrap().len(), 0, "{view}: {:?}", notices.lock().unwrap());
    }
    for table in ["forecasts", "runs", "failures", "policies"] {
        db.error_in(&mut client, &format!("select * from ledger.{table}")).is("42501", "permission denied");
    }
    // Row security that comes later hides what was open before, but from the issuer.
    db.run("alter table open_bars enable row level security");
    assert_eq!(seen(&reader, "forecasts"), "");
    db.run("drop table secret_bars");
    assert_eq!(db.value("select count(*) from kronos.forecasts where relation = 'open_bars'::regclass"), "3");
    db.run(&format!("drop owned by {reader}, {other}"));
}

#[test]
fn nobody_writes_in_the_name_of_another() {
    let db = Database::installed("ledger_forge");
    let (one, two) = (db.role("one"), db.role("two"));
    db.run(&bars("bars", &["A"], 60));
    db.run(&format!(
        "select kronos.grant_access('{one}', 'operate'); select kronos.grant_access('{two}', 'operate');
         grant select on bars to {one}, {two}"
    ));
    let (mut first, mut second) = (db.connect_as(&one), db.connect_as(&two));
    let add = "select kronos.add_forecast_policy('bars', 3, policy => 'mine')";
    first.batch_execute(&format!("select ledger.open_run('manual', 'bars', 'x'); {add}")).unwrap();
    assert_eq!(rows(&mut second, "select issued_by from kronos.runs")[0][0].as_deref(), Some(one.as_str()));
    db.error_in(
        &mut second,
        "insert into ledger.runs (relation, call, issued_by) values ('bars', 'x', 'postgres')",
    )
    .is("42501", "permission denied");
    db.error_in(&mut second, "select ledger.record(1, 'select 1')").is("55000", "run 1 is not running");
    db.error_in(&mut second, add).is("42710", "policy \"mine\" already exists");
    for sql in ["select kronos.submit('mine')", "select kronos.remove_forecast_policy('mine')"] {
        db.error_in(&mut second, sql).is("42501", "must be owner of policy \"mine\"");
    }
    // The policy runs as its owner, so nobody else may say what it runs.
    db.error_in(&mut second, "update ledger.policies set args = '{\"seed\": 1}'")
        .is("42501", "permission denied");
    // Past the functions, neither a new row nor one's own takes the name of another: it would run with that role's privileges.
    second
        .batch_execute(
            "select kronos.add_forecast_policy('bars', 3, policy => 'own'); select kronos.submit('own')",
        )
        .unwrap();
    for (table, insert, update) in [
        ("policies", "owner_id, relation, horizon, call) values (1, 'bars', 3, 'x')", "owner_id = 1"),
        ("requests", "policy, requester) values ('mine', 1)", "requester = 1"),
        ("requests", "policy, requested_by) values ('mine', 'x')", "requested_by = 'x'"),
    ] {
        db.error_in(&mut second, &format!("insert into ledger.{table} ({insert}"))
            .is("42501", "permission denied");
        db.error_in(&mut second, &format!("insert into ledger.new_{table} ({insert}")).is("42703", "column");
        db.error_in(&mut second, &format!("update ledger.own_{table} set {update}"))
            .is(if table == "policies" { "42501" } else { "42703" }, "");
    }
    assert_eq!(
        db.value("select string_agg(policy || ' of ' || owner, ', ' order by policy) from kronos.policies"),
        format!("mine of {one}, own of {two}")
    );
    assert_eq!(
        db.value("select string_agg(policy || ' by ' || requested_by, ', ') from ledger.requests"),
        format!("own by {two}")
    );
    db.run(&format!("select kronos.remove_forecast_policy('mine', true); drop owned by {one}, {two}"));
}

#[test]
fn the_ledger_outlives_the_extension() {
    let db = Database::installed("ledger_drop");
    db.run(&bars("bars", &["A"], 60));
    record(&db, "manual", "bars", PREDICT);
    let before = db.rows("select * from kronos.latest_forecasts");
    db.run("drop extension kronos");
    assert_eq!(db.rows("select * from kronos.latest_forecasts"), before);
    db.run("create extension kronos; call kronos.install()");
    assert_eq!(db.rows("select * from kronos.latest_forecasts"), before);
}

/// Where TimescaleDB can be created: the ledger becomes a hypertable in place, and keeps its promises as one.
#[test]
fn a_plain_ledger_becomes_a_hypertable_with_its_rows() {
    let db = Database::empty("ledger_hypertable");
    if db.rows("select 1 from pg_available_extensions where name = 'timescaledb'").is_empty() {
        kronos_skip::skipped("TimescaleDB is not installed", "make test-timescale");
        return;
    }
    db.run("create extension kronos; call kronos.install(); create table bars (symbol text, time timestamptz, close float8)");
    let year = "select 'A' as series, timestamptz '2024-01-01 00:00+00' + h * interval '10 days' as ts, h as step, sqrt(h) as forecast,
                       timestamptz '2024-01-01 00:00+00' as cutoff, 'm@1' as model_version from generate_series(1, 36) h";
    record(&db, "manual", "bars", year);
    let before = db.rows("select series, ts, step, forecast from kronos.latest_forecasts order by ts");
    db.run("create extension timescaledb");
    for _ in 0..2 {
        db.run("call kronos.install()");
    }
    assert_eq!(
        db.value("select num_chunks > 10 from timescaledb_information.hypertables where hypertable_name = 'forecasts'"),
        "t"
    );
    record(&db, "manual", "bars", year);
    assert_eq!(db.rows("select series, ts, step, forecast from kronos.latest_forecasts order by ts"), before);
    for sql in
        ["update ledger.forecasts set step = 9", "delete from ledger.forecasts", "truncate ledger.forecasts"]
    {
        db.error(sql).is("55000", "is append-only");
    }
    let dropped: u32 = db.value("select ledger.drop_forecasts('2024-07-01')").parse().unwrap();
    assert!(dropped >= 5, "{dropped}");
    assert_eq!(db.value("select min(ts) >= '2024-06-01' from kronos.forecasts"), "t");
}

/// Fills the ledger with hourly runs of `symbols` series, 24 steps each.
fn fill(db: &Database, runs: u32, symbols: u32) {
    db.run(&format!(
        "create table hourly (symbol text, time timestamptz, close float8);
         insert into ledger.runs (kind, policy, relation, call, horizon, state)
         select 'live', 'p', 'hourly', 'kronos_predict', 24, 'done' from generate_series(1, {runs});
         insert into ledger.forecasts (run_id, relation, series, target, ts, step, cutoff, forecast, lower, upper, level,
                                       open, high, low, volume, amount, prob_up, model_version)
         select r, 'hourly', 'S' || s, 'close', timestamptz '2024-01-01 00:00+00' + (r + h - 1) * interval '1 hour', h,
                timestamptz '2024-01-01 00:00+00' + r * interval '1 hour', 100 + sin(r + s), 99, 101, 0.9,
                100, 101, 99, 1000, 100000, 0.5, 'kronos-small@0123456789ab'
         from generate_series(1, {runs}) r, generate_series(1, {symbols}) s, generate_series(1, 24) h"
    ));
    db.run("vacuum analyze ledger.forecasts");
}

#[test]
fn the_latest_forecasts_of_a_symbol_come_from_the_index() {
    let db = Database::installed("ledger_plan");
    fill(&db, 40, 50);
    let latest = "kronos.latest_forecasts where series = 'S7' and target = 'close'";
    let plan: Vec<String> = db
        .rows(&format!("explain (costs off) select * from {latest}"))
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    let plan = plan.join("\n");
    assert!(plan.contains("Index Only Scan using") && plan.contains("series = 'S7'"), "{plan}");
    assert!(!plan.contains("Seq Scan on forecasts") && !plan.contains("->  Sort"), "{plan}");
    // The same rows by the definition.
    let by_definition = "select step, ts, cutoff, forecast from (
        select *, row_number() over (partition by ts order by cutoff desc) as n from ledger.forecasts where series = 'S7') f
        where n = 1 order by ts";
    assert_eq!(
        db.rows(&format!("select step, ts, cutoff, forecast from {latest} order by ts")),
        db.rows(by_definition)
    );
    // The last hours of each run but the newest are overtaken: 40 runs and 23 steps more.
    assert_eq!(db.value(&format!("select count(*) from {latest}")), "63");
}

/// Seconds of processor time that a process of this machine has used.
fn processor_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may have blanks: user and system time are the 12th and 13th, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// `make bench`: 10 million rows on plain PostgreSQL. What counts is the processor's time: the clock also shows what else
/// the machine does.
#[test]
fn bench_latest_forecasts_of_ten_million_rows() {
    const QUERIES: u32 = 100;
    if !kronos_skip::requested("KRONOS_BENCH", "ten million rows are read", "make bench") {
        return;
    }
    let db = Database::installed("ledger_bench");
    fill(&db, 834, 500);
    let stored = db.value("select count(*) from ledger.forecasts");
    let mut client = db.connect();
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let mut cost = |what: &str, condition: &str| {
        let mut ask = || {
            let sql = format!(
                "select ts, forecast, lower, upper from kronos.latest_forecasts where series = 'S77' {condition}"
            );
            let start = Instant::now();
            assert!(!client.query(&sql, &[]).unwrap().is_empty());
            start.elapsed().as_secs_f64() * 1000.0
        };
        ask();
        let before = processor_seconds(&pid);
        let best = (0..QUERIES).map(|_| ask()).fold(f64::INFINITY, f64::min);
        let used = (processor_seconds(&pid) - before) * 1000.0 / f64::from(QUERIES);
        println!(
            "latest_forecasts of {stored} rows, {what}: {used:.1} ms of processor time, {best:.1} ms on the clock at best"
        );
        used
    };
    let all = cost("one symbol, all its 857 times", "");
    let week = cost(
        "one symbol and model, one week",
        "and target = 'close' and model_version = 'kronos-small@0123456789ab' and ts >= '2024-01-28' and ts < '2024-02-04'",
    );
    assert!(all < 20.0 && week < 20.0, "{all} ms, {week} ms");
}
