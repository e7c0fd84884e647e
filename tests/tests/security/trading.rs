//! Trading tables: who set, triggered or issued what, and when, is the system's to say.

use super::ledger::{disown, value};
use kronos_tests::Database;

/// A database with the trading tables and a member of market_operator.
fn desk(test: &str) -> (Database, String) {
    let db = Database::installed(test);
    let role = db.role("trader");
    db.run(&format!(
        "select kronos.grant_access('{role}', 'use'); grant market_operator to {role}; grant create on schema public to {role}"
    ));
    (db, role)
}

const RUN: &str =
    "insert into trading.allocation_runs (regime, arguments, signals, inputs_sha256, status, figures, rules)
    values ('any', '{}', 'select 1', 'x', 'optimal', '{}', '[]')";
const WEIGHT: &str = "insert into trading.allocation_weights (run_id, symbol, weight, prev_weight, trade, side, expected_return, risk_share, cost, binding)
    values (RUN, 'A', 0.1, 0, 0.1, 'long', 0, 0, 0, '{}')";

#[test]
fn the_columns_that_say_who_and_when_are_filled_by_the_system() {
    let (db, role) = desk("sec_trading_audit");
    let mut trader = db.connect_as(&role);
    for (table, column, given, rest, values) in [
        ("policy_knobs", "set_by", "'chief'", "knob, value", "'gross', 1"),
        ("policy_knobs", "set_at", "'2020-01-01'", "knob, value", "'gross', 1"),
        (
            "circuit_breakers",
            "triggered_by",
            "'chief'",
            "scope, key, mode, reason, expires_at",
            "'global', '*', 'frozen', 'x', now() + interval '1 day'",
        ),
        (
            "circuit_breakers",
            "triggered_at",
            "'2020-01-01'",
            "scope, key, mode, reason, expires_at",
            "'global', '*', 'frozen', 'x', now() + interval '1 day'",
        ),
        (
            "circuit_breakers",
            "breaker_id",
            "99",
            "scope, key, mode, reason, expires_at",
            "'global', '*', 'frozen', 'x', now() + interval '1 day'",
        ),
        ("allocation_runs", "issued_by", "'chief'", "regime", "'any'"),
        ("allocation_runs", "issued_at", "'2020-01-01'", "regime", "'any'"),
        ("allocation_runs", "run_id", "99", "regime", "'any'"),
    ] {
        db.error_in(
            &mut trader,
            &format!("insert into trading.{table} ({rest}, {column}) overriding system value values ({values}, {given})"),
        )
        .is("42501", "permission denied");
        db.error_in(&mut trader, &format!("delete from trading.{table}")).is("42501", "permission denied");
        db.error_in(&mut trader, &format!("update trading.{table} set {column} = default"))
            .is("42501", "permission denied");
    }
    trader
        .batch_execute(&format!(
            "insert into trading.policy_knobs (knob, value, valid_from) values ('gross', 1, '2020-01-01');
             insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('symbol', 'A', 'frozen', 'x', now() + interval '1 day');
             select trading.clear_breaker(1, 'over'); {RUN}"
        ))
        .unwrap();
    for (table, who, when) in [
        ("policy_knobs", "set_by", "set_at"),
        ("circuit_breakers", "triggered_by", "triggered_at"),
        ("allocation_runs", "issued_by", "issued_at"),
    ] {
        assert_eq!(
            db.value(&format!("select bool_and({who} = '{role}' and {when} > now() - interval '1 hour') from trading.{table}")),
            "t",
            "{table}"
        );
    }
    disown(&db, &[role]);
}

#[test]
fn weights_belong_to_the_run_of_their_transaction() {
    let (db, role) = desk("sec_trading_weights");
    db.run(RUN);
    let mut trader = db.connect_as(&role);
    let weight = |run: &str| WEIGHT.replace("RUN", run);
    // Another's run, an earlier one of one's own, none at all.
    db.error_in(&mut trader, &weight("1"))
        .is("42501", "allocation run 1 was not begun by")
        .hint("run_allocation");
    let own = value(&mut trader, &format!("{RUN} returning run_id"));
    db.error_in(&mut trader, &weight(&own)).is("42501", "was not begun by");
    db.error_in(&mut trader, &weight("99")).is("42501", "was not begun by");
    trader
        .batch_execute(&format!(
            "begin; {RUN}; {}; commit",
            weight("(select max(run_id) from trading.allocation_runs)")
        ))
        .unwrap();
    // The whole way, by its function.
    db.run("create table names as select 'N' || g as symbol, 0.004 * sin(g * 1.7) as expected_return, 20.0 + g as price, 0.02 as volatility
              from generate_series(1, 8) g; grant select on names to public");
    let run = value(
        &mut trader,
        "select trading.run_allocation('select * from public.names', arguments => '{\"options\": {\"equity\": 1000000}}')",
    );
    assert_eq!(
        db.value(&format!("select count(*) from trading.allocation_weights where run_id = {run}")),
        "8"
    );
    value(
        &mut trader,
        "select trading.run_allocation('select * from public.names', arguments => '{\"net\": \"[0.9,1]\", \"on_infeasible\": \"report\"}')",
    );
    assert_eq!(
        db.value("select format('%s %s %s', triggered_by, reason, metrics ->> 'rule') from trading.circuit_breakers"),
        format!("{role} allocator_failed trading.run_allocation")
    );
    // A restore is not kept out.
    db.run(&weight("1"));
    disown(&db, &[role]);
}

#[test]
fn whole_rows_that_older_versions_granted_become_columns() {
    let db = Database::installed("sec_trading_upgrade");
    let role = db.role("trader");
    db.run(&format!(
        "grant usage on schema trading to {role}; grant select on all tables in schema trading to {role};
         grant insert on trading.policy_knobs, trading.circuit_breakers, trading.allocation_runs to {role}, market_operator"
    ));
    let mut trader = db.connect_as(&role);
    trader
        .batch_execute("insert into trading.policy_knobs (knob, value, set_by) values ('gross', 1, 'chief')")
        .unwrap();
    assert_eq!(db.psql("\\i sql/install.sql"), "");
    db.error_in(
        &mut trader,
        "insert into trading.policy_knobs (knob, value, set_by) values ('net_max', 1, 'chief')",
    )
    .is("42501", "permission denied");
    trader.batch_execute("insert into trading.policy_knobs (knob, value) values ('net_max', 1)").unwrap();
    assert_eq!(db.value("select count(*) from information_schema.role_column_grants where grantee in ('market_operator')
                         and table_schema = 'trading' and privilege_type = 'INSERT' and column_name in ('set_by', 'set_at', 'triggered_by', 'issued_by', 'issued_at')"), "0");
    disown(&db, &[role]);
}

/// Where the schema public is everybody's, a function of theirs that fits the types better than the server's, which take any, is not
/// found by who makes a book.
#[test]
fn functions_of_others_on_the_path_have_no_part_in_a_book() {
    let db = Database::installed("trading_path");
    let stranger = db.role("stranger");
    db.run(&format!("grant create on schema public to {stranger}"));
    db.connect_as(&stranger)
        .batch_execute(
            "create function public.trap() returns boolean language plpgsql as $$ begin raise 'trapped'; end $$;
             create function public.lower(numrange) returns numeric language sql as 'select case when public.trap() then 0 end';
             create function public.format(text, text) returns text language sql as 'select case when public.trap() then $1 end';
             create function public.format(text, double precision, double precision) returns text language sql as 'select case when public.trap() then $1 end';
             create function public.array_to_string(text[], text) returns text language sql as 'select case when public.trap() then $2 end';
             create function public.jsonb_build_object(text, integer) returns jsonb language sql as 'select case when public.trap() then null::jsonb end';
             create function public.jsonb_build_object(text, jsonb) returns jsonb language sql as 'select case when public.trap() then $2 end';
             create function public.jsonb_build_object(text, timestamptz) returns jsonb language sql as 'select case when public.trap() then null::jsonb end';
             create function public.above(numeric, double precision) returns boolean language sql as 'select public.trap()';
             create operator public.> (function = public.above, leftarg = numeric, rightarg = double precision);
             create function public.less(integer, double precision) returns double precision language sql as 'select case when public.trap() then $2 end';
             create operator public.- (function = public.less, leftarg = integer, rightarg = double precision)",
        )
        .unwrap();
    db.run(
        "create table bars (symbol text, time timestamptz, close float8, primary key (symbol, time));
         insert into bars select s, timestamptz '2024-01-01 00:00+00' + d * interval '1 day', 100 + d + ascii(s) % 7 * sin(d) from unnest('{A,B,C}'::text[]) s, generate_series(0, 40) d;
         insert into ledger.runs (relation, call, state) values ('bars', 'forecast', 'done');
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select 1, 'live', 'bars', s, 'close', timestamptz '2024-02-11 00:00+00', 1, timestamptz '2024-02-11 00:00+00', timestamptz '2024-02-11 00:00+00',
                150, 140, 160, 0.9, 'm@1' from unnest('{A,B,C}'::text[]) s;
         insert into trading.accounts (account, equity_usd) values ('paper', 100000)",
    );
    let risk = "select symbol, time as ts, close / lag(close) over (partition by symbol order by time) - 1 as ret from bars";
    let run = db.value(&format!(
        r#"call trading.rebalance('bars', 1, account => 'paper', risk => '{risk}', chain => '{{"as_of": "2024-02-11T00:00:00Z"}}',
             arguments => '{{"net": "[0,1]", "max_turnover": 1}}')"#
    ));
    assert_eq!(run, "1");
    db.error("call trading.rebalance('bars', 1, chain => '{\"step\": 2}')")
        .is("22023", "unrecognized key \"step\" of chain");
}
