//! The ledger: nobody writes in the name of another, what is true does not vanish, and no setting opens a door.

use kronos_tests::{Client, Database, bars, rows};

/// A database with the ledger, `bars` and roles of level `operate` that may read them.
pub fn with_operators<const N: usize>(test: &str, names: [&str; N]) -> (Database, [String; N]) {
    let db = Database::installed(test);
    db.run(&bars("bars", &["A", "B"], 60));
    let roles = names.map(|name| {
        let role = db.role(name);
        db.run(&format!("select kronos.grant_access('{role}', 'operate'); grant select on bars to {role}"));
        role
    });
    (db, roles)
}

/// The single value that `sql` returns in a connection.
#[track_caller]
pub fn value(client: &mut Client, sql: &str) -> String {
    let found = rows(client, sql);
    assert!(found.len() == 1 && found[0].len() == 1, "{sql}: {found:?}");
    found[0][0].clone().unwrap_or_default()
}

/// What privileges of roles were granted on, before these are dropped.
pub fn disown(db: &Database, roles: &[String]) {
    db.run(&format!("drop owned by {}", roles.join(", ")));
}

fn begin(client: &mut Client, kind: &str) -> String {
    value(client, &format!("select ledger.open_run('{kind}', 'bars', 'x')"))
}

/// Three hourly forecasts of series A at a cutoff, all of one value.
fn said(value: &str, hour: u32) -> String {
    format!(
        "$q$ select 'A' as series, h as step, timestamptz '2024-01-03 {hour}:00+00' + h * interval '1 hour' as ts,
                    timestamptz '2024-01-03 {hour}:00+00' as cutoff, {value}::float8 as forecast, 'house@0123456789ab' as model_version
             from generate_series(1, 3) h $q$"
    )
}

fn record(client: &mut Client, run: &str, query: &str) -> String {
    value(
        client,
        &format!(
            "select format('%s new, %s conflicts', n_new, n_conflicts) from ledger.record({run}, {query})"
        ),
    )
}

const COLUMNS: &str = "series, target, ts, step, cutoff, forecast, model_version, calibration";
const ROW: &str =
    "'A', 'close', '2024-01-03 12:00+00', 1, '2024-01-03 12:00+00', 1, 'house@0123456789ab', ''";

#[test]
fn nobody_writes_under_the_run_of_another_nor_what_the_system_says() {
    let (db, roles) = with_operators("sec_ledger_forge", ["desk", "forger"]);
    db.run("create table secret as select * from bars");
    let (mut desk, mut forger) = (db.connect_as(&roles[0]), db.connect_as(&roles[1]));
    let (theirs, mine) = (begin(&mut desk, "live"), begin(&mut forger, "live"));
    let mut refused = |sql: &str| db.error_in(&mut forger, sql);

    // As it was found: rows under another's run, for a relation the writer may not read, issued a year ago.
    for table in
        ["forecasts", "contested_forecasts", "failures", "runs", "requests", "policies", "roles", "inputs"]
    {
        refused(&format!("insert into ledger.{table} default values")).is("42501", "permission denied");
        refused(&format!("delete from ledger.{table}")).is("42501", "permission denied");
        refused(&format!("select * from ledger.{table}")).is("42501", "permission denied");
    }
    for view in ["new_forecasts", "new_contested_forecasts"] {
        for values in [
            format!("{theirs}, 'live', 'bars'"),
            format!("{mine}, 'backtest', 'bars'"),
            format!("{mine}, 'live', 'secret'"),
            format!("{mine}, 'live', 999999"),
            "999999, 'live', 'bars'".to_owned(),
        ] {
            refused(&format!(
                "insert into ledger.{view} (run_id, kind, relation, {COLUMNS}) values ({values}, {ROW})"
            ))
            .is("44000", "violates check option");
        }
        refused(&format!("insert into ledger.{view} (issued_at) values ('2023-01-01')"))
            .is("42703", "column \"issued_at\"");
        for sql in ["select * from", "delete from", "update"] {
            let set = if sql == "update" { "set forecast = 0" } else { "" };
            refused(&format!("{sql} ledger.{view} {set}")).is("42501", "permission denied");
        }
    }
    refused(&format!("insert into ledger.new_failures values ({theirs}, 'A', 'gap')"))
        .is("44000", "check option");
    refused(&format!("select ledger.record_failure({theirs}, 'A', 'gap')")).is("44000", "check option");
    refused(&format!("select ledger.record({theirs}, {})", said("1", 10)))
        .is("55000", "is not running")
        .hint("Only the role that began a run");
    // Who, when, which process and which number: none of it can be given.
    for (column, given) in [
        ("issuer", "1"),
        ("issued_by", "'x'"),
        ("issued_at", "'2023-01-01'"),
        ("runner_pid", "1"),
        ("state", "'done'"),
    ] {
        refused(&format!(
            "insert into ledger.new_runs (kind, relation, call, {column}) values ('live', 'bars', 'x', {given})"
        ))
        .is("42703", "does not exist");
    }
    refused("insert into ledger.new_runs (run_id, kind, relation, call) overriding system value values (99, 'live', 'bars', 'x')")
        .is("42501", "permission denied");
    for column in ["issued_at", "relation", "kind", "policy_id", "runner_pid"] {
        refused(&format!("update ledger.issued_runs set {column} = {column}"))
            .is("42501", "permission denied");
    }
    // Relations that the writer may not read, by both ways.
    refused("select ledger.open_run('live', 'secret', 'x')")
        .is("42501", "permission denied for relation public.secret");
    for relation in ["secret", "999999"] {
        refused(&format!(
            "insert into ledger.new_runs (kind, relation, call) values ('live', '{relation}', 'x')"
        ))
        .is("44000", "check option");
    }
    let forged = format!("select ledger.close_run({theirs}, 'XX000', 'forged')");
    assert_eq!(value(&mut forger, &forged), "", "a run of another is not there to close");
    let ended = forger.execute("update ledger.issued_runs set state = 'failed'", &[]).unwrap();
    assert_eq!(ended, 1, "only its own");
    assert_eq!(
        db.rows(
            "select issued_by, state, issued_at > now() - interval '1 hour' from kronos.runs order by run_id"
        ),
        [
            [Some(roles[0].clone()), Some("running".into()), Some("t".into())].to_vec(),
            [Some(roles[1].clone()), Some("failed".into()), Some("t".into())].to_vec()
        ]
    );
    // What may no longer be read is no longer written.
    db.run(&format!("revoke select on bars from {}", roles[0]));
    db.error_in(&mut desk, &format!("select ledger.record({theirs}, {})", said("1", 10)))
        .is("42501", "permission denied for relation public.bars");
    db.error_in(
        &mut desk,
        &format!("insert into ledger.new_forecasts (run_id, kind, relation, {COLUMNS}) values ({theirs}, 'live', 'bars', {ROW})"),
    )
    .is("44000", "check option");
    disown(&db, &roles);
}

#[test]
fn a_true_forecast_does_not_vanish_because_another_wrote_its_key_first() {
    let (db, roles) = with_operators("sec_ledger_squat", ["desk", "forger", "third"]);
    let mut clients = roles.each_ref().map(|role| db.connect_as(role));
    let runs = clients.each_mut().map(|client| begin(client, "live"));
    let [desk, forger, third] = &mut clients;
    assert_eq!(record(forger, &runs[1], &said("999", 10)), "3 new, 0 conflicts");

    let (mut session, notices) = db.connect_with_notices();
    session.batch_execute(&format!("set session authorization {}", roles[0])).unwrap();
    assert_eq!(record(&mut session, &runs[0], &said("1", 10)), "0 new, 3 conflicts");
    let heard = notices.lock().unwrap().join("\n");
    assert!(
        heard.contains(&format!("WARNING: 3 forecasts of run {} contradict those of another role", runs[0])),
        "{heard}"
    );
    let told = "select f.forecast, r.issued_by, count(*) from kronos.VIEW f join kronos.runs r using (run_id) group by 1, 2 order by 1";
    let both = [("1", &roles[0]), ("999", &roles[1])]
        .map(|(forecast, role)| vec![Some(forecast.to_owned()), Some(role.clone()), Some("3".to_owned())]);
    for view in ["forecasts", "latest_forecasts"] {
        assert_eq!(rows(third, &told.replace("VIEW", view)), both, "{view}");
    }
    // Nothing is kept twice: neither what one has said, nor what anybody has.
    assert_eq!(record(desk, &runs[0], &said("1", 10)), "0 new, 0 conflicts");
    assert_eq!(record(desk, &runs[0], &said("2", 10)), "0 new, 0 conflicts", "the first word counts");
    assert_eq!(record(third, &runs[2], &said("1", 10)), "0 new, 0 conflicts");
    assert_eq!(record(third, &runs[2], &said("999", 10)), "0 new, 0 conflicts");
    assert_eq!(db.value("select count(*) from kronos.forecasts"), "6");
    // Numbers that only differ where one has none are other numbers.
    let wider = said("999", 10).replace("as forecast,", "as forecast, 1000::float8 as upper,");
    assert_eq!(record(third, &runs[2], &wider), "0 new, 3 conflicts");
    // What is later takes over from both.
    assert_eq!(record(desk, &runs[0], &said("3", 11)), "3 new, 0 conflicts");
    assert_eq!(
        db.value("select string_agg(distinct forecast || '@' || extract(hour from cutoff), ' ') from kronos.latest_forecasts where ts >= '2024-01-03 12:00+00'"),
        "3@11"
    );
    // A key of the future is no better a lock.
    let tomorrow = said("5", 10).replace("2024-01-03", "2999-01-03");
    assert_eq!(record(forger, &runs[1], &tomorrow.replace("5::float8", "7::float8")), "3 new, 0 conflicts");
    assert_eq!(record(desk, &runs[0], &tomorrow), "0 new, 3 conflicts");
    // Kinds and relations have keys of their own, as before.
    let backtest = begin(desk, "backtest");
    assert_eq!(record(desk, &backtest, &said("1", 10)), "3 new, 0 conflicts");
    // Contradictions are append-only too, and go with the others.
    db.error("update ledger.contested_forecasts set forecast = 0").is("55000", "append-only");
    db.error("delete from ledger.contested_forecasts").is("55000", "append-only");
    db.run("select ledger.drop_forecasts('9999-01-01')");
    assert_eq!(db.value("select count(*) from ledger.all_forecasts"), "0");
    // Whether others have said something is not to be found out in their name.
    let asked = format!(
        "select ledger.is_contested({}, 'A', 'close', '2024-01-03 12:00+00', '2024-01-03 10:00+00', 'house@0123456789ab', '', '{{1}}')",
        runs[0]
    );
    assert_eq!(value(forger, &asked), "f");
    // A function with the rights of another role records in that role's name.
    db.run(&format!(
        "create function wrapped(query text) returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp as
           $$declare run bigint := ledger.open_run('live', 'public.bars', 'x'); begin return n_conflicts from ledger.record(run, query); end$$;
         alter function wrapped(text) owner to {}",
        roles[0]
    ));
    assert_eq!(record(forger, &runs[1], &said("8", 14)), "3 new, 0 conflicts");
    assert_eq!(value(forger, &format!("select wrapped({})", said("9", 14))), "3");
    assert_eq!(value(third, "select issued_by from kronos.runs order by run_id desc limit 1"), roles[0]);
    db.run("drop function wrapped");
    disown(&db, &roles);
}

#[test]
fn conflicts_between_transactions_are_told_too() {
    let (db, roles) = with_operators("sec_ledger_race", ["desk", "forger"]);
    let (mut desk, mut forger) = (db.connect_as(&roles[0]), db.connect_as(&roles[1]));
    let (true_run, forged_run) = (begin(&mut desk, "live"), begin(&mut forger, "live"));
    forger.batch_execute("begin").unwrap();
    assert_eq!(record(&mut forger, &forged_run, &said("999", 10)), "3 new, 0 conflicts");
    std::thread::scope(|scope| {
        // It waits for the transaction that has the key, and learns of it only then.
        let waiting = scope.spawn(|| record(&mut desk, &true_run, &said("1", 10)));
        kronos_tests::until("the other waits", || {
            db.value("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'") == "1"
        });
        forger.batch_execute("commit").unwrap();
        assert_eq!(waiting.join().unwrap(), "0 new, 3 conflicts");
    });
    disown(&db, &roles);
}

#[test]
fn no_setting_of_a_session_opens_an_append_only_table() {
    let (db, roles) = with_operators("sec_ledger_settings", ["desk"]);
    let mut desk = db.connect_as(&roles[0]);
    let run = begin(&mut desk, "live");
    record(&mut desk, &run, &said("1", 10));
    // A mistake of an administrator: without it the role would not come so far.
    db.run(&format!("grant delete, truncate, select, update on all tables in schema ledger to {}", roles[0]));
    let settings =
        "set ledger.retention = on; set ledger.removals = on; set session_replication_role = default;";
    for table in ["forecasts", "contested_forecasts", "failures", "calibration_versions", "calibration_state"]
    {
        for sql in ["delete from", "truncate"] {
            let sql = format!("{settings} {sql} ledger.{table}");
            db.error(&sql).is("55000", "is append-only");
        }
    }
    let mut hostile = |sql: &str| db.error_in(&mut desk, sql);
    hostile("set ledger.retention = on; delete from ledger.forecasts").is("55000", "is append-only");
    hostile("truncate ledger.forecasts").is("55000", "is append-only");
    hostile("insert into ledger.removals default values").is("42501", "permission denied");
    hostile("select ledger.drop_forecasts('9999-01-01')").is("42501", "permission denied for function");
    // The right ends with the transaction, and with the call.
    db.error("begin; select ledger.drop_forecasts('2000-01-01'); delete from ledger.forecasts")
        .is("55000", "append-only");
    db.run("begin; insert into ledger.removals default values; commit");
    db.error("delete from ledger.forecasts").is("55000", "append-only");
    db.error("insert into ledger.removals default values; update ledger.forecasts set forecast = 0")
        .is("55000", "append-only");
    assert_eq!(db.value("select count(*) from ledger.forecasts"), "3");
    drop(desk);
    disown(&db, &roles);
}

#[test]
fn what_a_calibration_has_learnt_goes_with_it_and_by_no_other_way() {
    let (db, roles) = with_operators("sec_ledger_cascade", ["quant"]);
    let mut quant = db.connect_as(&roles[0]);
    quant
        .batch_execute(
            "select kronos.create_calibration('c', 'bars', options => '{\"kind\": \"any\"}');
             select kronos.create_calibration('d', 'bars', options => '{\"kind\": \"any\"}');
             do $$ declare run bigint := ledger.open_run('backtest', 'bars', 'x'); begin
               perform ledger.record(run, 'select symbol as series, ts, 1 as step, ts as cutoff, close as forecast, close * 0.99 as lower,
                 close * 1.01 as upper, 0.9 as level, ''m@1'' as model_version from public.bars');
               perform ledger.close_run(run); end $$;
             select kronos.calibrate('c'); select kronos.calibrate('d')",
        )
        .unwrap();
    let states = "select string_agg(distinct calibration, ' ') from ledger.calibration_state";
    assert_eq!(db.value(states), "c d");
    db.error("begin; select kronos.drop_calibration('c'); delete from ledger.calibration_state")
        .is("55000", "append-only");
    quant.batch_execute("select kronos.drop_calibration('c')").unwrap();
    assert_eq!(db.value(states), "d");
    disown(&db, &roles);
}
