//! Reading never writes: every function that is declared STABLE or IMMUTABLE runs on a hot standby, in a read-only transaction,
//! in a plan with a Gather, in CREATE TABLE AS, in a materialized view and in a cursor, and says the same everywhere.

mod calls;

use calls::CALLS;
use kronos_tests::{Database, PrivateCluster, bars, rows, until};
use postgres::config::Host;
use postgres::{Client, NoTls};
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::process::Stdio;

/// What the calls read: bars, a ledger with forecasts, a calibration that has learnt, a policy, answers of a backtest.
fn fill(client: &mut Client) {
    client.batch_execute("set client_min_messages = warning; call kronos.install()").unwrap();
    client.batch_execute(&bars("public.bars", &["AAA", "BBB"], 200)).unwrap();
    client
        .batch_execute(
            "create table public.big as select i from generate_series(1, 20000) i;
             create table public.wishes as
             select symbol, 0.004 as expected_return, 0.0 as prev_weight, true as shortable, 5.0 as cost_bps, 1.0 as borrow_bps
             from unnest('{A,B,C,D}'::text[]) symbol;
             create table public.returns as
             select symbol, ts, 0.01 * sin(ascii(symbol) * i) as ret
             from unnest('{A,B,C,D}'::text[]) symbol, generate_series(1, 60) i, lateral (select date '2024-01-01' + i as ts) t;
             do $$
             declare run constant bigint := ledger.open_run('manual', 'public.bars', 'forecast', 2, 'naive');
             begin
               perform ledger.record(run, $q$
                 select p.symbol as series, 'close' as target, p.ts + h * interval '1 hour' as ts, h as step,
                        p.ts + interval '1 hour' as cutoff, p.close as forecast, p.close * 0.99 as lower, p.close * 1.01 as upper,
                        0.9::float8 as level, 'naive' as model_version
                 from public.bars p, generate_series(1, 2) h where p.ts < '2024-01-08 00:00+00'$q$);
               perform ledger.close_run(run);
             end $$;
             select kronos.create_calibration('learnt', 'public.bars', level => 0.9, per => '{step}');
             select count(*) from kronos.calibrate('learnt');
             select kronos.add_forecast_policy('public.bars', 3, policy => 'hourly', initial_start => '2024-01-01 00:30+00');
             create table public.answers as select * from kronos.backtest('naive', 'public.bars', 2, num_windows => 10);
             insert into trading.accounts (account, equity_usd) values ('desk', 100000);
             analyze",
        )
        .unwrap();
}

/// The plan of a query that reads a large table has a Gather, whatever that costs; then everything in it runs in parallel mode.
const PARALLEL: &str =
    "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
                        set max_parallel_workers_per_gather = 2";

/// A query beside a scan of the large table.
fn beside_a_scan(query: &str) -> String {
    format!("select q.*, scanned.* from ({query}) q, (select count(*) as scanned from public.big) scanned")
}

/// What a query says, row by row; the error in its place.
fn said(client: &mut Client, query: &str) -> String {
    match client.query(&format!("select coalesce(string_agg(q::text, E'\\n'), '') from ({query}) q"), &[]) {
        Ok(rows) => rows[0].get(0),
        Err(error) => format!("{error:?}"),
    }
}

/// What of a query's ways to run does not say what it says by itself.
fn differences(client: &mut Client, name: &str, query: &str, writable: bool) -> Vec<String> {
    let wide = beside_a_scan(query);
    let (alone, expected) = (said(client, query), said(client, &wide));
    let mut wrong = Vec::new();
    if alone.contains("DbError") || expected.contains("DbError") {
        wrong.push(format!("{name}: {alone}\n{expected}"));
    }
    let mut compare = |way: &str, got: String, expected: &str| {
        if got != expected {
            wrong.push(format!("{name} {way}:\n{got}\ninstead of\n{expected}"));
        }
    };
    client.batch_execute("begin read only").unwrap();
    compare("in a read-only transaction", said(client, query), &alone);
    client.batch_execute("rollback; begin; ").unwrap();
    let cursor = client.batch_execute(&format!("declare c cursor for {wide}"));
    let fetched = cursor.and_then(|()| client.simple_query("fetch all from c"));
    compare("in a cursor", fetched.err().map_or_else(String::new, |error| format!("{error:?}")), "");
    client.batch_execute("rollback").unwrap();
    if writable {
        // The transaction has a number by then.
        client.batch_execute("begin; create table public.made (i int); drop table public.made").unwrap();
        compare("after a change", said(client, query), &alone);
        client.batch_execute("rollback").unwrap();
        for (kind, words) in [("table", "a table"), ("materialized view", "a materialized view")] {
            let made = client.batch_execute(&format!("create {kind} public.made as {wide}"));
            compare(words, made.err().map_or_else(String::new, |error| format!("{error:?}")), "");
            let got = said(client, "select * from public.made");
            compare(words, got, &expected);
            client.batch_execute(&format!("drop {kind} if exists public.made")).unwrap();
        }
    }
    wrong
}

/// Functions that only read, by the catalogue.
fn readers(client: &mut Client) -> BTreeSet<String> {
    let sql = "select n.nspname || '.' || p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               where n.nspname in ('kronos', '_kronos', 'market', 'market_internal', 'ledger', 'trading', 'training')
                 and p.provolatile in ('s', 'i')
                 -- Those of TimescaleDB's continuous aggregates and the like are not ours.
                 and not exists (select from pg_depend d join pg_extension e on e.oid = d.refobjid and e.extname <> 'kronos'
                                 where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')";
    rows(client, sql).into_iter().flatten().flatten().collect()
}

#[test]
fn every_reader_says_the_same_however_it_is_run() {
    let db = Database::new("every_reader");
    let mut client = db.connect();
    fill(&mut client);
    let called: BTreeSet<String> = CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let uncalled: Vec<_> = readers(&mut client).difference(&called).cloned().collect();
    assert!(uncalled.is_empty(), "calls.rs has no call of {uncalled:?}");
    client.batch_execute(PARALLEL).unwrap();
    let plan = rows(
        &mut client,
        &format!("explain {}", beside_a_scan("select * from kronos.kronos_predict('bars', 3)")),
    );
    assert!(plan.iter().flatten().flatten().any(|line| line.contains("Gather")), "{plan:?}");
    let wrong: Vec<String> =
        CALLS.iter().flat_map(|(name, query)| differences(&mut client, name, query, true)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Settings that any session may make and that decide how texts of times, numbers and names are written and read.
const SESSIONS: [&str; 9] = [
    "DateStyle = 'SQL, DMY'",
    "DateStyle = 'German'",
    "TimeZone = 'Asia/Kolkata'",
    "TimeZone = 'America/Los_Angeles'",
    "IntervalStyle = 'sql_standard'",
    "IntervalStyle = 'iso_8601'",
    "extra_float_digits = -15",
    "quote_all_identifiers = on",
    "bytea_output = 'escape'",
];

/// What a setting is there to change: pictures have the times of the session, texts of statements the quotes that it asks for.
fn is_meant(name: &str, setting: &str) -> bool {
    matches!(
        (name, setting.split(' ').next()),
        ("kronos.chart", Some("TimeZone")) | ("ledger.policy_query", Some("quote_all_identifiers"))
    )
}

/// What a query gives in a session with a setting, told in one without it.
fn said_under(client: &mut Client, setting: &str, query: &str) -> String {
    let made = client.batch_execute(&format!("set {setting}; create table public.made as {query}"));
    client.batch_execute("reset all").unwrap();
    let got = match made {
        Ok(()) => said(client, "select * from public.made"),
        Err(error) => format!("{error:?}"),
    };
    client.batch_execute("drop table if exists public.made").unwrap();
    got
}

#[test]
fn every_reader_says_the_same_in_every_session() {
    let db = Database::new("every_session");
    let mut client = db.connect();
    fill(&mut client);
    let mut wrong = Vec::new();
    for (name, query) in CALLS {
        let plain = said_under(&mut client, "application_name = 'plain'", query);
        for setting in SESSIONS.into_iter().filter(|setting| !is_meant(name, setting)) {
            let got = said_under(&mut client, setting, query);
            if got != plain {
                wrong.push(format!("{name} with {setting}:\n{got}\ninstead of\n{plain}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_reader_works_on_a_hot_standby() {
    let primary = PrivateCluster::start("test-standby");
    let _deadline = primary.deadline();
    let mut client = primary.connect();
    fill(&mut client);
    let Some(Host::Unix(socket)) = primary.config().get_hosts().first().cloned() else {
        panic!("the cluster is reached through a socket");
    };
    // A folder that the server's user may fill.
    let (data, copy) = (primary.home().join("data").metadata().unwrap(), primary.home().join("standby"));
    DirBuilder::new().mode(0o700).create(&copy).unwrap();
    chown(&copy, Some(data.uid()), Some(data.gid())).unwrap();
    let user = primary.config().get_user().unwrap_or("postgres");
    let copied = primary
        .program("pg_basebackup")
        .args(["-D", "standby", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-U", user, "-h"])
        .arg(&socket)
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    // The same folder has room for the sockets of both.
    let started = primary
        .program("pg_ctl")
        .args(["-D", "standby", "-l", "standby/server.log", "-w", "-t", "120", "-o", "-p 5433", "start"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let log = || std::fs::read_to_string(primary.home().join("standby/server.log")).unwrap_or_default();
    assert!(started.success(), "{}", log());
    let mut config = primary.config().clone();
    config.port(5433);
    let mut standby = config.connect(NoTls).unwrap();
    let written = rows(&mut client, "select pg_current_wal_lsn()").remove(0).remove(0).unwrap();
    until("the standby has all", || {
        rows(&mut standby, &format!("select pg_last_wal_replay_lsn() >= '{written}'"))[0][0].as_deref()
            == Some("t")
    });
    assert_eq!(rows(&mut standby, "select pg_is_in_recovery()")[0][0].as_deref(), Some("t"));
    for session in [&mut client, &mut standby] {
        session.batch_execute(PARALLEL).unwrap();
    }
    let mut wrong = Vec::new();
    for (name, query) in CALLS {
        wrong.extend(differences(&mut standby, name, query, false));
        let (here, there) = (said(&mut client, query), said(&mut standby, query));
        if here != there {
            wrong.push(format!("{name}: the standby says\n{there}\ninstead of\n{here}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n\n"), log());
}
