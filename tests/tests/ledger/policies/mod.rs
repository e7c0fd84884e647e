//! Forecast policies, run by hand: what they record, in which portions, as whom, and what happens when things go wrong.
//! The schedulers have tests of their own in `scheduler.rs`.

mod schedules;

use kronos_tests::{Client, Database, bars, rows, until};

/// A database with the ledger and hourly bars of these symbols.
fn with_bars(test: &str, symbols: &[&str]) -> Database {
    let db = Database::new(test);
    let installed = db.program("psql").args(["-X", "-q", "-f", "sql/install.sql"]).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    db.run(&bars("bars", symbols, 60));
    db
}

/// Adds a policy whose schedule has no time while a test runs: the one before is that of 2024, the next is in 2124.
fn add(db: &Database, policy: &str, more: &str) {
    db.run(&format!(
        "select kronos.add_forecast_policy('bars', 3, '100 years', policy => '{policy}', initial_start => '2024-01-01 00:05+00'{more})"
    ));
}

fn call(policy: &str) -> String {
    format!("call kronos.run_policy(config => '{{\"policy\": \"{policy}\"}}')")
}

/// State, series, good and failed ones of each run of a policy, oldest first.
fn runs(db: &Database) -> Vec<String> {
    let sql =
        "select format('%s %s/%s/%s', state, n_series, n_ok, n_failed) from kronos.runs order by run_id";
    db.rows(sql).into_iter().flatten().flatten().collect()
}

/// The same as `bars`, through a function that waits for advisory lock 42 at symbol C and fails at symbol P.
const TRAPS: &str = "
    create function trap(symbol text) returns float8 language plpgsql stable as $$
    begin
      if symbol = 'C' then perform pg_advisory_xact_lock_shared(42); end if;
      return 1 / (case when symbol = 'P' then 0 else 1 end);
    end$$;
    create view trapped as select symbol, ts, open * public.trap(symbol) as open, high, low, close, volume, amount from bars";

/// India's IST is also Israel's: another hour would be look-ahead, or a bar less.
#[test]
fn no_setting_of_a_session_moves_as_of() {
    let db = with_bars("policy_session", &["A"]);
    let query = db.value(
        "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata';
         select ledger.policy_query('kronos_predict', 'bars', 3, null, '{}', null, '2024-01-02 03:00:00.25+00')",
    );
    assert!(query.contains("as_of => '2024-01-02 03:00:00.250000+00'::timestamptz"), "{query}");
}

/// A misspelt key must not run everything that is due.
#[test]
fn a_key_that_nobody_knows_runs_nothing() {
    let db = with_bars("policy_keys", &["A"]);
    add(&db, "hourly", "");
    db.run("select kronos.submit('hourly')");
    for config in ["{\"polcy\": \"hourly\"}", "{\"policy\": \"hourly\", \"as_of\": \"2024-01-01\"}"] {
        db.error(&format!("call kronos.run_policy(config => '{config}')"))
            .is("22023", "unrecognized key")
            .hint("policy");
    }
    db.error("call kronos.run_calibration(config => '{\"name\": \"c\"}')")
        .is("22023", "unrecognized key \"name\" of config")
        .hint("calibration");
    assert!(runs(&db).is_empty());
    db.run("call kronos.run_policy(config => '{}')");
    assert_eq!(runs(&db).len(), 1);
}

#[test]
fn a_policy_records_what_the_function_says() {
    let db = with_bars("policy_records", &["A", "B"]);
    db.run("insert into bars select 'short', ts, open, high, low, close, volume, amount from bars where symbol = 'A' limit 5");
    add(
        &db,
        "hourly",
        ", args => '{\"level\": 0.8, \"quantile_levels\": [0.1, 0.9], \"samples\": 8, \"seed\": 5,
                     \"options\": {\"temperature\": 0.7}, \"event_context\": {\"fomc\": true}, \"features\": {\"vix\": 14.5}}'",
    );
    db.run(&call("hourly"));
    assert_eq!(
        db.value(
            "select count(*) from kronos.forecasts l
             join kronos_predict('bars', 3, level => 0.8, quantile_levels => '{0.1,0.9}', samples => 8, seed => 5,
                                 options => '{\"temperature\": 0.7}') f
               on (l.series, l.ts, l.step, l.cutoff, l.model_version) = (f.series, f.ts, f.step, f.cutoff, f.model_version)
             where (l.forecast, l.lower, l.upper, l.quantiles, l.prob_up) = (f.close, f.lower, f.upper, f.quantiles, f.prob_up)
               and l.kind = 'live' and l.level = 0.8 and l.quantile_levels = '{0.1,0.9}'
               and l.event_context = '{\"fomc\": true}' and l.features = '{\"vix\": 14.5}'"
        ),
        "6"
    );
    assert_eq!(runs(&db), ["partial 3/2/1"]);
    assert_eq!(db.value("select series || ' ' || status from kronos.failures"), "short short_history");
    assert_eq!(
        db.value(
            "select format('%s %s %s %s %s %s %s', policy, call, horizon, seed, issued_by = current_user, as_of, scheduled_for = '2024-01-01 00:05+00')
             from kronos.runs"
        ),
        "hourly kronos_predict 3 5 t  t"
    );
    assert_eq!(
        db.value(
            "select format('%s %s %s %s %s', policy, last_status, n_ok, n_failed, lag > interval '1 hour' and cutoff = '2024-01-03 12:00+00')
             from kronos.stat_policies"
        ),
        "hourly partial 2 1 t"
    );
    // Nothing is written twice.
    db.run(&call("hourly"));
    assert_eq!(db.value("select count(*) || ' ' || count(distinct run_id) from ledger.forecasts"), "6 1");
}

#[test]
fn every_forecast_function_can_be_a_policy() {
    let db = with_bars("policy_functions", &["A", "B"]);
    db.run("create table alone as select ts, close from bars where symbol = 'A'");
    db.run(
        "select kronos.add_forecast_policy('bars', 2, policy => 'naive', call => 'forecast', model => 'naive', args => '{\"targets\": [\"close\", \"open\"]}');
         select kronos.add_forecast_policy('alone', 2, policy => 'single', call => 'forecast', model => 'drift', args => '{\"targets\": [\"close\"]}')",
    );
    db.run(&call("naive"));
    db.run(&call("single"));
    assert_eq!(
        db.rows("select relation, model_version, string_agg(distinct series || ':' || target, ' '), count(*) from kronos.forecasts group by 1, 2 order by 2"),
        [
            [Some("alone"), Some("drift"), Some(":close"), Some("2")].map(|v| v.map(str::to_owned)).to_vec(),
            [Some("bars"), Some("naive"), Some("A:close A:open B:close B:open"), Some("8")]
                .map(|v| v.map(str::to_owned))
                .to_vec(),
        ]
    );
    assert_eq!(db.value("select count(*) from kronos.forecasts where bar is not null"), "0");
}

#[test]
fn a_wrong_policy_is_refused_when_it_is_added() {
    let db = with_bars("policy_errors", &["A"]);
    let refused = |more: &str| db.error(&format!("select kronos.add_forecast_policy('bars', {more})"));
    refused("3, args => '{\"smples\": 3}'")
        .is("22023", "unrecognized argument \"smples\" of kronos_predict")
        .hint("samples");
    refused("3, args => '{\"as_of\": \"2024-01-01\"}'").is("22023", "unrecognized argument \"as_of\"");
    refused("3, args => '{\"samples\": \"many\"}'")
        .is("22023", "argument \"samples\" of kronos_predict must be of type bigint");
    refused("3, args => '{\"only_series\": \"A\"}'").is("22023", "must be of type text[]");
    refused("3, args => '{\"options\": {\"smples\": 1}}'").is("22023", "unrecognized option \"smples\"");
    refused("3, args => '{\"level\": 90}'").is("22023", "level must be between 0 and 1");
    refused("3, args => '[]'").is("22023", "args must be a JSON object");
    refused("3, args => '{\"catch_up\": \"some\"}'").is("22023", "catch_up must be none, latest or all");
    refused("3, args => '{\"batch_series\": 0}'").is("22023", "batch_series must be a whole number from 1");
    refused("3, model => 'kronoz'").is("42704", "model \"kronoz\" does not exist");
    refused("3, call => 'kronos_paths'")
        .is("22023", "call \"kronos_paths\" is not a forecast function")
        .hint("kronos_predict");
    refused("3, call => 'chronos_predict'")
        .is("22023", "argument \"targets\" of chronos_predict must be given")
        .hint("\"targets\"");
    refused("3, call => 'forecast', args => '{\"targets\": [\"close\"]}'")
        .is("22023", "argument \"model\" of forecast");
    refused("0").is("22023", "horizon must be at least 1");
    refused("3000").is("54000", "horizon of 3000 exceeds the limit");
    refused("3, '30 seconds'").is("22023", "schedule_interval must be at least 1 minute");
    refused("3, '1 month 1 day'").is("22023", "schedule_interval must be whole months");
    refused("3, timezone => 'Mars/Olympus'").is("22023", "time zone \"Mars/Olympus\" does not exist");
    db.error("select kronos.add_forecast_policy('nothing', 3)")
        .is("42P01", "relation \"nothing\" does not exist");
    assert_eq!(db.value("select count(*) from kronos.policies"), "0");

    db.run("select kronos.add_forecast_policy('bars', 3)");
    assert_eq!(db.value("select policy from kronos.policies"), "bars_kronos_predict_3");
    refused("3").is("42710", "policy \"bars_kronos_predict_3\" already exists").hint("if_not_exists");
    db.run("select kronos.add_forecast_policy('bars', 3, if_not_exists => true)");
    assert_eq!(db.value("select kronos.remove_forecast_policy('bars_kronos_predict_3')"), "t");
    db.error("select kronos.remove_forecast_policy('bars_kronos_predict_3')").is("42704", "does not exist");
    assert_eq!(db.value("select kronos.remove_forecast_policy('bars_kronos_predict_3', true)"), "f");
    db.error(&call("gone")).is("42704", "policy \"gone\" does not exist").hint("kronos.policies");
}

#[test]
fn batches_are_committed_one_by_one_and_one_series_never_costs_the_others() {
    let db = with_bars("policy_batches", &["A", "B", "D", "E", "F", "G", "P"]);
    db.run(TRAPS);
    db.run("select kronos.add_forecast_policy('trapped', 3, policy => 'p', args => '{\"series_col\": \"symbol\", \"batch_series\": 3}')");
    db.run(&call("p"));
    // The batch with P is halved until P stands alone.
    assert_eq!(runs(&db), ["partial 7/6/1"]);
    assert_eq!(
        db.rows("select series, status, detail from kronos.failures"),
        [["P", "22012", "division by zero"].map(|v| Some(v.to_owned())).to_vec()]
    );
    assert_eq!(db.value("select count(distinct xmin::text) from ledger.forecasts"), "2");
    assert_eq!(db.value("select sqlstate from kronos.runs"), "22012");
    // All series the same way: the run has failed, and the scheduler is told.
    db.run(
        "create or replace function trap(symbol text) returns float8 language plpgsql stable as 'begin return 1::float8 / 0; end'",
    );
    db.error(&call("p")).is("22012", "policy \"p\" failed").detail("division by zero");
    assert_eq!(runs(&db)[1], "failed 7/0/7");
    // What more tries cannot mend is not tried again.
    db.run("drop view trapped; create view trapped as select symbol, ts from bars");
    db.error(&call("p")).is("42P01", "policy \"p\" failed");
}

/// Runs `sql` in a thread of its own, until `meanwhile` has returned.
fn while_blocked<T>(
    db: &Database,
    sql: &str,
    meanwhile: impl FnOnce(&mut Client, i32) -> T,
) -> (T, Option<String>) {
    std::thread::scope(|scope| {
        // A panic in this scope closes the gate's connection, so that the runner goes on and the scope can end.
        let mut gate = db.connect();
        gate.batch_execute("select pg_advisory_lock(42)").unwrap();
        let mut runner = db.connect();
        let pid: i32 = rows(&mut runner, "select pg_backend_pid()")[0][0].clone().unwrap().parse().unwrap();
        let running = scope.spawn(move || {
            runner.simple_query(sql).err().map(|error| match error.code() {
                Some(code) => code.code().to_owned(),
                None => "connection lost".to_owned(),
            })
        });
        let waiting = format!(
            "select 1 from pg_locks where locktype = 'advisory' and objid = 42 and not granted and pid = {pid}"
        );
        until("the runner stands at the trap", || !db.rows(&waiting).is_empty());
        let result = meanwhile(&mut gate, pid);
        gate.batch_execute("select pg_advisory_unlock_all()").unwrap();
        (result, running.join().unwrap())
    })
}

fn trapped(test: &str) -> Database {
    let db = with_bars(test, &["A", "B", "C", "D"]);
    db.run(TRAPS);
    db.run("select kronos.add_forecast_policy('trapped', 3, '100 years', policy => 'p', args => '{\"series_col\": \"symbol\", \"batch_series\": 1}')");
    db
}

#[test]
fn a_second_call_leaves_a_running_policy_alone() {
    let db = trapped("policy_exclusion");
    let (said, error) = while_blocked(&db, &call("p"), |_, pid| {
        let (mut second, notices) = db.connect_with_notices();
        second.batch_execute(&call("p")).unwrap();
        let said = notices.lock().unwrap().join("\n");
        assert!(said.contains(&format!("is being run by process {pid}")), "{said}");
        // What was committed before the trap can be read already.
        db.value("select count(*) from kronos.forecasts")
    });
    assert_eq!((said.as_str(), error), ("6", None));
    assert_eq!(runs(&db), ["done 4/4/0"]);
    assert_eq!(db.value("select count(*) from kronos.forecasts"), "12");
}

#[test]
fn two_clocks_at_once_write_no_row_twice() {
    let db = with_bars("policy_clocks", &["A", "B", "C", "D", "E", "F"]);
    add(&db, "p", ", args => '{\"batch_series\": 2}'");
    add(&db, "q", ", args => '{\"batch_series\": 1}'");
    std::thread::scope(|scope| {
        for policy in ["p", "q", "p", "q"] {
            let db = &db;
            scope.spawn(move || db.run(&call(policy)));
        }
    });
    assert_eq!(
        db.value("select count(*) || ' ' || count(distinct (series, ts)) from ledger.forecasts"),
        "18 18"
    );
    assert_eq!(db.value("select count(*) from kronos.runs where state <> 'done'"), "0");
}

#[test]
fn a_killed_runner_leaves_a_state_that_the_next_call_mends() {
    let db = trapped("policy_killed");
    db.run("select kronos.submit('p')");
    let (_, error) = while_blocked(&db, &call("p"), |gate, pid| {
        gate.batch_execute(&format!("select pg_terminate_backend({pid})")).unwrap();
        until("the runner is gone", || {
            db.rows(&format!("select 1 from pg_stat_activity where pid = {pid}")).is_empty()
        });
    });
    assert!(error.is_some());
    assert_eq!(runs(&db), ["running 2/2/0"]);
    db.run(&call("p"));
    assert_eq!(runs(&db), ["failed 2/2/0", "done 4/4/0"]);
    assert!(
        db.value("select message from kronos.runs where run_id = 1").contains("ended before the run did")
    );
    assert_eq!(db.value("select count(*) || ' ' || count(distinct run_id) from kronos.forecasts"), "12 2");
}

/// Numbers of processes are given again. A run is its process's only if that one began when the run says.
#[test]
fn a_process_that_was_given_the_number_of_a_dead_one_keeps_nobody_waiting() {
    let db = trapped("policy_number");
    add(&db, "q", "");
    let (_, error) = while_blocked(&db, &call("p"), |_, pid| {
        let began = format!("(select backend_start from pg_stat_activity where pid = {pid})");
        let is_running =
            |pid: &str, started: &str| db.value(&format!("select ledger.is_running({pid}, {started})"));
        assert_eq!(is_running(&pid.to_string(), &began), "t");
        assert_eq!(is_running(&pid.to_string(), &format!("{began} - interval '1 microsecond'")), "f");
        assert_eq!(
            is_running(
                "pg_backend_pid()",
                "(select backend_start from pg_stat_activity where pid = pg_backend_pid())"
            ),
            "f"
        );
        assert_eq!(is_running("0", &began), "f");
        // A run of q whose process is gone, and whose number is now that of the process that runs p.
        db.run(&format!(
            "insert into ledger.runs (policy_id, policy, relation, call, runner_pid, runner_started)
             select policy_id, policy, relation, call, {pid}, {began} - interval '1 day' from ledger.policies where policy = 'q'"
        ));
        db.run(&call("q"));
    });
    assert_eq!(error, None);
    assert_eq!(
        db.value("select string_agg(concat_ws(' ', state, substring(message from 'ended before .*')), ', ' order by run_id)
                  from kronos.runs where policy = 'q'"),
        "failed ended before the run did, done"
    );
}

#[test]
fn a_request_is_served_taken_back_and_cancelled() {
    let db = trapped("policy_requests");
    let state =
        |request: &str| db.value(&format!("select state from ledger.requests where request_id = {request}"));
    let first = db.value("select kronos.submit('p')");
    assert_eq!(
        (state(&first).as_str(), db.value("select queued from kronos.stat_policies").as_str()),
        ("queued", "1")
    );
    assert_eq!(db.value(&format!("select kronos.cancel({first})")), "t");
    assert_eq!(db.value(&format!("select kronos.cancel({first})")), "f");
    assert_eq!(state(&first), "cancelled");
    db.error("select kronos.cancel(99)").is("42704", "request 99 does not exist");
    db.error("select kronos.submit('q')").is("42704", "policy \"q\" does not exist");

    let second = db.value("select kronos.submit('p')");
    // Without a name whatever is due or requested runs; a request may wait while its policy runs.
    let (third, error) = while_blocked(&db, "call kronos.run_policy()", |_, _| {
        assert_eq!(state(&second), "running");
        let third = db.value("select kronos.submit('p')");
        assert_eq!(db.value(&format!("select kronos.cancel({second})")), "t");
        until("the request is cancelled", || state(&second) == "cancelled");
        third
    });
    assert_eq!(error, None, "without a name failures are warnings");
    assert_eq!(runs(&db), ["cancelled 2/2/0"]);
    assert_eq!(state(&third), "queued");
    db.run("call kronos.run_policy()");
    assert_eq!(state(&third), "done");
    assert_eq!(
        db.value("select format('%s %s', state, request_id) from kronos.runs where run_id = 2"),
        format!("done {third}")
    );
    assert_eq!(db.value(&format!("select kronos.cancel({third})")), "f");
    // A named policy that is cancelled tells its scheduler so.
    let (_, error) = while_blocked(&db, &call("p"), |gate, pid| {
        gate.batch_execute(&format!("select pg_cancel_backend({pid})")).unwrap();
        until("the run is cancelled", || runs(&db).last().is_some_and(|run| run.starts_with("cancelled")));
    });
    assert_eq!(error.as_deref(), Some("57014"));
    // A request goes with its policy, so that another one of the same name does not serve it.
    let fourth = db.value("select kronos.submit('p')");
    db.run("select kronos.remove_forecast_policy('p')");
    assert_eq!(state(&fourth), "cancelled");
}

#[test]
fn a_policy_runs_as_its_owner() {
    let db = with_bars("policy_owner", &["A"]);
    let owner = db.role("quant");
    db.run(&format!("select kronos.grant_access('{owner}', 'operate')"));
    let mut client = db.connect_as(&owner);
    let add = "select kronos.add_forecast_policy('bars', 3, policy => 'p')";
    db.error_in(&mut client, add).is("42501", "permission denied for");
    db.run(&format!("grant select on bars to {owner}"));
    client.batch_execute(add).unwrap();
    db.error(&call("p")).is("42501", "must be owner of policy \"p\"").hint("SET ROLE");
    client.batch_execute(&call("p")).unwrap();
    assert_eq!(db.value("select issued_by from kronos.runs"), owner);
    assert_eq!(rows(&mut client, "select count(*) from kronos.forecasts")[0][0].as_deref(), Some("3"));
    db.run(&format!("revoke select on bars from {owner}"));
    db.error_in(&mut client, &call("p"))
        .is("42501", "policy \"p\" failed")
        .detail("permission denied for table bars");
    assert_eq!(rows(&mut client, "select count(*) from kronos.forecasts")[0][0].as_deref(), Some("0"));
    assert_eq!(
        rows(&mut client, "select last_status || ' ' || last_sqlstate from kronos.stat_policies")[0][0]
            .as_deref(),
        Some("failed 42501"),
        "what became of one's own policy is always to be seen"
    );
    db.run(&format!("drop owned by {owner}"));
}

#[test]
fn a_call_without_a_name_runs_the_callers_own_policies_only() {
    let db = with_bars("policy_due", &["A"]);
    let owner = db.role("quant");
    db.run(&format!("select kronos.grant_access('{owner}', 'operate'); grant select on bars to {owner}"));
    let mut client = db.connect_as(&owner);
    // Due since they were added, a time of theirs having come meanwhile.
    let due = "update ledger.policies set created_at = now() - interval '2 hours', initial_start = now() - interval '1 hour'";
    client
        .batch_execute("select kronos.add_forecast_policy('bars', 3, '100 years', policy => 'theirs')")
        .unwrap();
    db.run(&format!(
        "{due}; select kronos.add_forecast_policy('bars', 3, '100 years', policy => 'mine'); {due} where policy = 'mine';
         select kronos.add_forecast_policy('bars', 3, '100 years', policy => 'later')"
    ));
    // A superuser runs no more than others.
    assert_eq!(db.value("select _kronos.due_policies()"), "{mine}");
    assert_eq!(rows(&mut client, "select _kronos.due_policies()")[0][0].as_deref(), Some("{theirs}"));
    db.run("call kronos.run_policy()");
    assert_eq!(db.value("select string_agg(policy, ' ') from kronos.runs"), "mine");
    assert_eq!(db.value("select _kronos.due_policies()"), "{}");
    db.run(&format!("drop owned by {owner}"));
}

#[test]
fn a_policy_that_takes_the_name_of_a_removed_one_starts_anew() {
    let db = with_bars("policy_again", &["A"]);
    let stat =
        "select concat_ws(' ', last_status, n_ok, cutoff is null, lag is null) from kronos.stat_policies";
    add(&db, "p", "");
    db.run(&call("p"));
    assert_eq!(db.value(stat), "done 1 f f");
    db.run("select kronos.remove_forecast_policy('p')");
    add(&db, "p", "");
    assert_eq!(db.value(stat), "t t");
    assert_eq!(db.value("select count(*) from kronos.runs where policy = 'p'"), "1", "what was run stays");
    // The last time served was that of 2024, but not by this policy: a time from before it was added is none of its own.
    db.run("update ledger.policies set initial_start = created_at - interval '1 hour'");
    assert_eq!(db.value("select _kronos.due_policies()"), "{}");
    db.run("update ledger.policies set initial_start = created_at + interval '1 microsecond'");
    assert_eq!(db.value("select _kronos.due_policies()"), "{p}");
}

#[test]
fn row_security_of_the_input_is_said_when_the_policy_is_added() {
    let db = with_bars("policy_rls", &["A"]);
    db.run("alter table bars enable row level security; create view over as select * from bars");
    for relation in ["bars", "over"] {
        let (mut client, notices) = db.connect_with_notices();
        client
            .batch_execute(&format!(
                "select kronos.add_forecast_policy('{relation}', 3, policy => '{relation}')"
            ))
            .unwrap();
        let said = notices.lock().unwrap().join("\n");
        let wanted = format!("relation public.{relation} has row security");
        assert!(said.starts_with("WARNING: ") && said.contains(&wanted), "{said}");
    }
}

#[test]
fn a_search_path_cannot_be_used_against_a_policy() {
    let db = with_bars("policy_path", &["A"]);
    db.run(
        "create schema trap;
         create function trap.coalesced(text) returns text language plpgsql as $$begin raise exception 'trapped'; end$$;
         create function trap.now() returns timestamptz language plpgsql as $$begin raise exception 'trapped'; end$$;
         create function trap.format(text, variadic text[]) returns text language plpgsql as $$begin raise exception 'trapped'; end$$;
         create function trap.eq(text, text) returns boolean language plpgsql as $$begin raise exception 'trapped'; end$$;
         create operator trap.= (function = trap.eq, leftarg = text, rightarg = text);
         create domain trap.text as pg_catalog.text check (value = 'trapped')",
    );
    add(&db, "p", "");
    let mut client = db.connect();
    client
        .batch_execute("set search_path = trap, pg_catalog, kronos; select kronos.add_forecast_policy('public.bars', 3, '100 years', policy => 'q');
             select kronos.submit('q')")
        .unwrap();
    for policy in ["p", "q"] {
        client.batch_execute(&call(policy)).unwrap();
    }
    client
        .batch_execute(
            "call kronos.run_policy(); select kronos.remove_forecast_policy('q'); call kronos.install()",
        )
        .unwrap();
    assert_eq!(db.value("select count(*) from kronos.runs where state = 'done'"), "2");
}
