//! A forecast is never more visible than its input: decided when it is read, from all that the input reads, and of the
//! relation that the input was.

use super::ledger::{disown, value, with_operators};
use kronos_tests::{Client, Database, rows};
use std::io::Write;
use std::process::Stdio;

/// A view over `base (symbol, ts, close, reader)` and what a role sees of its forecasts that may SELECT from the view alone.
struct Case {
    name: &'static str,
    made: &'static str,
    seen: bool,
}

const fn case(name: &'static str, made: &'static str, seen: bool) -> Case {
    Case { name, made, seen }
}

const CASES: &[Case] = &[
    case("plain", "view plain as select * from base", true),
    case("of_recent", "view of_recent as select * from base where ts > now() - interval '1000 years'", true),
    case(
        "by_day",
        "view by_day as select symbol, date_trunc('day', ts) as ts, avg(close) as close, ts::date as day, to_char(ts, 'D') as d,
           concat(symbol, '!') as c from base where ts < current_timestamp + interval '1 day' group by 1, 2, ts, symbol",
        true,
    ),
    case("immutable", "view immutable as select adjusted(close) as close, ts, symbol from base", true),
    case("stored", "materialized view stored as select * from base where reader = current_user", true),
    case("over_stored", "view over_stored as select * from stored", true),
    case("trap_names", "view trap_names as select ':funcid 1' as \":funcid 1\", \"x\".* from base as \"x\"", true),
    // As it was found.
    case("invoked", "view invoked with (security_invoker) as select * from base", false),
    case("mine", "view mine as select * from base where reader = current_user", false),
    // The same in other words.
    case("invoked_on", "view invoked_on with (security_invoker = on) as select symbol, ts, close from base", false),
    case("over_invoked", "view over_invoked with (security_invoker = 1) as select * from invoked", false),
    case("role_of", "view role_of as select *, current_role as r from base", false),
    case("session", "view session as select * from base where session_user = reader", false),
    case("user_of", "view user_of as select * from base where reader = user", false),
    case("schema_of", "view schema_of as select * from base where current_schema = 'public'", false),
    case("over_mine", "view over_mine as select * from (select m.* from mine m) q", false),
    case("in_cte", "view in_cte as with w as (select * from base where reader = current_user) select * from w", false),
    case("in_sublink", "view in_sublink as select * from base where exists (select from mine)", false),
    case("in_join", "view in_join as select b.* from base b left join mine m on m.ts = b.ts", false),
    case("in_union", "view in_union as select * from base union all select * from mine", false),
    case("setting", "view setting as select * from base where reader = current_setting('app.tenant', true)", false),
    case("member", "view member as select * from base where pg_has_role(reader, 'member')", false),
    case("privilege", "view privilege as select * from base where has_table_privilege('base', 'select')", false),
    case("stable", "view stable as select * from base where allowed(reader)", false),
    case("operator", "view operator as select * from base where reader ==> 'x'", false),
    case("lateral_of", "view lateral_of as select b.* from base b cross join lateral rows_of(b.reader)", false),
    case("aggregate", "view aggregate as select symbol, ts, folded(close) as close from base group by 1, 2", false),
    case("windowed", "view windowed as select symbol, ts, folded(close) over () as close from base", false),
    case("activity", "view activity as select b.* from base b, (select count(*) from pg_stat_activity) a", false),
    case("statistics", "view statistics as select b.* from base b where (b.symbol in (select tablename from pg_stats)) is not null", false),
    case("inner_rows", "view inner_rows as select * from guarded", false),
    case("invoked_rows", "view invoked_rows with (security_invoker) as select * from guarded", false),
    case("broken", "view broken as select * from lent", false),
];

const BASE: &str = "
    create table base (symbol text, ts timestamptz, close float8, reader text);
    create table guarded (like base); create policy p on guarded using (reader = current_user); alter table guarded enable row level security;
    create table lent (like base);
    create function adjusted(float8) returns float8 language sql immutable as 'select $1 * 2';
    create function allowed(text) returns boolean language plpgsql stable as 'begin return $1 = current_user; end';
    create function same(text, text) returns boolean language sql stable as 'select $1 = current_user';
    create operator ==> (function = same, leftarg = text, rightarg = text);
    create function rows_of(text) returns setof int language sql stable as 'select 1 where $1 = current_user';
    create function fold(float8, float8) returns float8 language sql stable as 'select case when current_user = ''x'' then 0 else $2 end';
    create aggregate folded(float8) (sfunc = fold, stype = float8);";

/// Records one forecast of each relation as the current role of a connection.
fn record(client: &mut Client, relation: &str) {
    client
        .batch_execute(&format!(
            "do $$ declare run bigint := ledger.open_run('manual', '{relation}', 'x', horizon => 1); begin
               perform ledger.record(run, 'select 1 as step, ts, ts as cutoff, 1 as forecast, ''m@1'' as model_version
                                           from (values (timestamptz ''2024-01-01 00:00+00'')) v (ts)');
               perform ledger.record_failure(run, 'S', 'gap');
               perform ledger.close_run(run); end $$"
        ))
        .unwrap_or_else(|error| panic!("{relation}: {error:?}"));
}

/// The inputs of which a role sees anything in a view of the ledger.
fn seen(client: &mut Client, view: &str) -> Vec<String> {
    let sql = format!("select distinct relation::text from kronos.{view} order by 1");
    rows(client, &sql).into_iter().flatten().flatten().collect()
}

const VIEWS: [&str; 5] = ["forecasts", "latest_forecasts", "ml_predictions", "runs", "failures"];

#[test]
fn what_a_role_may_not_read_of_an_input_it_does_not_read_in_the_ledger() {
    let db = Database::installed("sec_sight_views");
    let (owner, issuer, reader) = (db.role("owner"), db.role("issuer"), db.role("reader"));
    db.run(&format!(
        "grant create on schema public to {owner};
         select kronos.grant_access('{issuer}', 'operate'); select kronos.grant_access('{reader}', 'use')"
    ));
    let mut made = db.connect_as(&owner);
    made.batch_execute(BASE).unwrap();
    for case in CASES {
        made.batch_execute(&format!(
            "create {}; grant select on {1} to {issuer}, {reader}",
            case.made, case.name
        ))
        .unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    }
    // The issuer may read all that there is.
    made.batch_execute(&format!("grant select on base, guarded, lent to {issuer}")).unwrap();
    let (mut issuing, mut reading) = (db.connect_as(&issuer), db.connect_as(&reader));
    for case in CASES {
        record(&mut issuing, case.name);
    }
    // What the owner of a view may no longer read, nobody reads through it.
    db.run(&format!("alter table lent owner to postgres; revoke all on lent from {owner}"));

    let mut all: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    let mut some: Vec<&str> = CASES.iter().filter(|case| case.seen).map(|case| case.name).collect();
    all.sort_unstable();
    some.sort_unstable();
    for view in VIEWS {
        let unbroken: Vec<&str> = all.iter().copied().filter(|name| *name != "broken").collect();
        assert_eq!(seen(&mut issuing, view), unbroken, "{view}: the issuer sees what it issued");
        assert_eq!(seen(&mut reading, view), some, "{view}");
    }

    // The same views, and what is granted, taken away and switched on beneath them.
    let mut after = |change: &str, view: &str, expected: bool| {
        db.run(change);
        for shown in VIEWS {
            let now = seen(&mut reading, shown);
            assert_eq!(now.iter().any(|name| name == view), expected, "{change}: {shown}: {now:?}");
        }
    };
    after(&format!("grant select on base to {reader}"), "invoked", true);
    after("select 1", "over_invoked", true);
    after("select 1", "mine", false);
    after(&format!("revoke select on base from {reader}"), "over_invoked", false);
    after(&format!("grant select (symbol, ts, close) on base to {reader}"), "invoked_on", true);
    after("select 1", "invoked", false);
    after(&format!("revoke select (close) on base from {reader}"), "invoked_on", false);
    after("alter table base enable row level security", "plain", false);
    after("select 1", "stored", true);
    after("alter table base disable row level security", "plain", true);
    after("create or replace view plain as select * from base where reader = current_user", "plain", false);
    after("create or replace view plain as select * from base", "plain", true);
    after("alter view plain set (security_invoker = true)", "plain", false);
    after("alter view plain reset (security_invoker)", "plain", true);
    after(
        "create or replace function adjusted(float8) returns float8 language sql stable as 'select $1'",
        "immutable",
        false,
    );
    after(&format!("revoke select on stored from {reader}"), "stored", false);
    after("select 1", "over_stored", true);
    after("alter table base rename to renamed", "plain", true);
    after(
        &format!("revoke usage on schema public from public; grant usage on schema public to {owner}"),
        "plain",
        false,
    );
    db.run("grant usage on schema public to public");
    disown(&db, &[issuer, reader]);
    db.run(&format!("drop owned by {owner} cascade"));
}

#[test]
fn a_policy_keeps_the_series_to_itself_that_its_reader_may_not_know_of() {
    let (db, [quant, reader]) = with_operators("sec_sight_policies", ["quant", "reader"]);
    db.connect_as(&quant)
        .batch_execute(
            "select kronos.add_forecast_policy('bars', 1, policy => 'p', call => 'forecast', model => 'naive',
               args => '{\"targets\": [\"close\"], \"only_series\": [\"A\"], \"event_context\": {\"client\": \"X\"}}')",
        )
        .unwrap();
    let args = "select string_agg(k, ' ' order by k) from kronos.policies, jsonb_object_keys(args) k";
    assert_eq!(value(&mut db.connect_as(&reader), args), "event_context only_series targets");
    db.run("alter table bars enable row level security");
    assert_eq!(value(&mut db.connect_as(&reader), args), "targets");
    assert_eq!(value(&mut db.connect_as(&quant), args), "event_context only_series targets");
    disown(&db, &[quant, reader]);
}

#[test]
fn a_foreign_table_shows_each_role_what_its_server_does() {
    let db = Database::installed("sec_sight_foreign");
    if db.rows("select 1 from pg_available_extensions where name = 'postgres_fdw'").is_empty() {
        kronos_skip::skipped("postgres_fdw is not installed", "install PostgreSQL's contrib modules");
        return;
    }
    let reader = db.role("reader");
    db.run(&format!(
        "create extension postgres_fdw; create server elsewhere foreign data wrapper postgres_fdw;
         create user mapping for public server elsewhere;
         create foreign table far (symbol text, ts timestamptz) server elsewhere;
         create table parts (symbol text, ts timestamptz) partition by list (symbol);
         create foreign table part partition of parts for values in ('A') server elsewhere;
         create view over_parts as select * from parts;
         select kronos.grant_access('{reader}', 'use'); grant select on far, parts, over_parts to {reader}"
    ));
    for relation in ["far", "parts", "over_parts"] {
        record(&mut db.connect(), relation);
    }
    let mut reading = db.connect_as(&reader);
    assert_eq!(seen(&mut reading, "forecasts"), ["far", "over_parts", "parts"]);
    db.run("create user mapping for postgres server elsewhere");
    assert!(seen(&mut reading, "forecasts").is_empty());
    disown(&db, &[reader]);
}

#[test]
fn views_of_people_over_the_ledger_ask_for_the_reader_too() {
    let db = Database::installed("sec_sight_nested");
    let (reader, other) = (db.role("reader"), db.role("other"));
    // No right to anything of the ledger or the extension, only to a view over it.
    db.run(&format!(
        "create table base (symbol text, ts timestamptz, close float8); create view over as select * from base;
         create view shown as select relation, series, forecast from kronos.forecasts;
         create view latest as select relation, series, forecast from kronos.latest_forecasts;
         grant select on over, shown, latest to {reader}; grant select on shown, latest to {other}"
    ));
    record(&mut db.connect(), "over");
    for view in ["shown", "latest"] {
        let count = format!("select count(*) from {view}");
        assert_eq!(value(&mut db.connect_as(&reader), &count), "1");
        assert_eq!(value(&mut db.connect_as(&other), &count), "0");
    }
    disown(&db, &[reader, other]);
}

/// What pg_dump writes of a section.
fn dumped(db: &Database, section: &str) -> String {
    let output =
        db.program("pg_dump").args(["--no-owner", "--section", section]).stderr(Stdio::inherit()).output();
    let output = output.expect("pg_dump can be run");
    assert!(output.status.success(), "pg_dump failed");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn run_script(db: &Database, script: &str) {
    let mut child = db
        .program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        // As timescaledb_pre_restore() does; without TimescaleDB it is a name that nobody reads.
        .env("PGOPTIONS", "-c timescaledb.restoring=on")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql can be run");
    child.stdin.take().unwrap().write_all(script.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_number_of_a_dropped_input_is_not_another_relation_after_a_restore() {
    let db = Database::installed("sec_sight_dump");
    let (quant, reader) = (db.role("quant"), db.role("reader"));
    db.run(&format!(
        "create table secret (symbol text, ts timestamptz, close float8); create table kept (like secret); create table innocent (like secret);
         select kronos.grant_access('{quant}', 'operate'); select kronos.grant_access('{reader}', 'use');
         grant select on secret, kept, innocent to {quant}; grant select on kept, innocent to {reader}"
    ));
    let mut client = db.connect_as(&quant);
    for relation in ["secret", "kept"] {
        record(&mut client, relation);
        client
            .batch_execute(&format!(
                "select kronos.create_calibration('{relation}', '{relation}');
                 select kronos.add_forecast_policy('{relation}', 1, policy => '{relation}', call => 'forecast', model => 'naive', args => '{{\"targets\": [\"close\"]}}')"
            ))
            .unwrap();
    }
    let number = db.value("select 'secret'::regclass::oid");
    db.run("drop table secret");
    let sections = ["pre-data", "data", "post-data"].map(|section| dumped(&db, section));
    assert!(sections[1].contains(&format!("\t{number}\t")), "the number is in the dump");

    // By chance, or by somebody's patience, that number is another table's where the dump is restored.
    let restored = Database::empty("sec_sight_restored");
    run_script(&restored, &sections[0]);
    let taken = restored.value("select 'innocent'::regclass::oid");
    run_script(
        &restored,
        &sections[1]
            .replace(&format!("\t{number}\t"), &format!("\t{taken}\t"))
            .replace(&format!("\n{number}\t"), &format!("\n{taken}\t")),
    );
    run_script(&restored, &sections[2]);
    assert_eq!(
        restored.value("select count(*) from ledger.forecasts where relation = 'innocent'::regclass"),
        "1"
    );
    let (mut reading, mut quants) = (restored.connect_as(&reader), restored.connect_as(&quant));
    for view in VIEWS {
        assert_eq!(seen(&mut reading, view), ["kept"], "{view}");
        assert_eq!(
            seen(&mut quants, view),
            ["kept"],
            "{view}: nor to the issuer, whose forecasts they are not"
        );
    }
    for (view, column) in [("policies", "policy"), ("stat_policies", "policy"), ("calibrations", "name")] {
        let shown = format!("select string_agg({column}, ' ') from kronos.{view}");
        assert_eq!(value(&mut reading, &shown), "kept", "{view}");
    }
    // A run on it does not adopt them, nor does the policy of the one go on with the other.
    restored
        .error_in(&mut quants, "call kronos.run_policy(config => '{\"policy\": \"secret\"}')")
        .is("55000", "has the OID of another one in the ledger");
    restored
        .error_in(&mut quants, "select ledger.open_run('live', 'innocent', 'x')")
        .is("55000", "has the OID of another one in the ledger")
        .detail("public.secret")
        .hint("SELECT ledger.confirm_input(");
    restored
        .error_in(&mut quants, "select ledger.confirm_input('innocent')")
        .is("42501", "permission denied for function");
    restored.run("grant execute on function ledger.confirm_input(regclass) to public");
    restored
        .error_in(&mut quants, "select ledger.confirm_input('innocent')")
        .is("42501", "permission denied for table inputs");
    // Set-up once more changes nothing about it, and says so.
    let said = restored.psql("set client_min_messages = warning; call kronos.install();");
    assert!(said.contains("forecasts of \"public.secret\" are hidden"), "{said}");
    assert_eq!(seen(&mut reading, "forecasts"), ["kept"]);
    // What is known again goes on under any name.
    record(&mut quants, "kept");
    restored.run("alter table kept rename to renamed");
    assert_eq!(seen(&mut reading, "forecasts"), ["renamed"]);
    record(&mut quants, "renamed");
    // The owner's word counts.
    restored.run("select ledger.confirm_input('innocent')");
    assert_eq!(seen(&mut reading, "forecasts"), ["innocent", "renamed"]);
    disown(&restored, &[quant.clone(), reader.clone()]);
    disown(&db, &[quant, reader]);
}

#[test]
fn a_number_that_is_used_again_is_another_relation() {
    let db = Database::installed("sec_sight_reuse");
    let thief = db.role("thief");
    db.run(&format!(
        "create table secret (symbol text, ts timestamptz);
         select kronos.grant_access('{thief}', 'operate'); grant create on schema public to {thief}"
    ));
    record(&mut db.connect(), "secret");
    let number = db.value("select 'secret'::regclass::oid");
    db.run("drop table secret");
    let mut client = db.connect_as(&thief);
    client.batch_execute("create table mine (symbol text, ts timestamptz)").unwrap();
    // As if the counter of OIDs had come round: the thief's table has the number, even the name, of the one that was dropped.
    db.run(&format!(
        "set session_replication_role = replica;
         update ledger.forecasts set relation = 'mine'::regclass; update ledger.runs set relation = 'mine'::regclass;
         update ledger.inputs set relation = 'mine'::regclass where relation::oid = {number};
         reset session_replication_role;
         alter table mine rename to secret"
    ));
    for view in VIEWS {
        assert!(seen(&mut client, view).is_empty(), "{view}");
    }
    db.error_in(&mut client, "select ledger.open_run('live', 'secret', 'x')")
        .is("55000", "OID of another one");
    // A table made anew under its name has forecasts of its own, and only these.
    client.batch_execute("drop table secret; create table secret (symbol text, ts timestamptz)").unwrap();
    assert!(seen(&mut client, "forecasts").is_empty());
    record(&mut client, "secret");
    assert_eq!(value(&mut client, "select count(*) from kronos.forecasts"), "1");
    disown(&db, &[thief]);
}
