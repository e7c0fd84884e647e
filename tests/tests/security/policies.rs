//! Policies belong to roles, not to names, and no role stands in the way of another's.

use super::ledger::{disown, value, with_operators};
use kronos_tests::{Client, Database, rows};
use std::time::{Duration, Instant};

/// Adds a policy that has come due and will not again while the test runs.
fn add(client: &mut Client, policy: &str) {
    client
        .batch_execute(&format!(
            "select kronos.add_forecast_policy('bars', 2, '100 years', policy => '{policy}', call => 'forecast', model => 'naive',
                                               args => '{{\"targets\": [\"close\"]}}', initial_start => '2024-01-01 00:05+00')"
        ))
        .unwrap_or_else(|error| panic!("{policy}: {error:?}"));
}

fn call(policy: &str) -> String {
    format!("call kronos.run_policy(config => '{{\"policy\": \"{policy}\"}}')")
}

#[test]
fn a_renamed_owner_keeps_its_policies_and_whoever_takes_the_name_gets_none() {
    let (db, [quant, other]) = with_operators("sec_policy_rename", ["quant", "other"]);
    let mut owner = db.connect_as(&quant);
    add(&mut owner, "p");
    db.run("create view shown as select policy, owner from kronos.policies");
    let renamed = format!("{quant}_x");
    db.run(&format!("alter role {quant} rename to {renamed}; alter role {other} rename to {quant}"));
    let mut owner = db.connect_as(&renamed);
    let mut heir = db.connect_as(&quant);
    assert_eq!(db.value("select owner from shown"), renamed);
    for sql in [
        call("p"),
        "select kronos.submit('p')".into(),
        "select kronos.remove_forecast_policy('p')".into(),
        "select ledger.open_run('live', 'bars', 'x', policy => 'p')".into(),
    ] {
        db.error_in(&mut heir, &sql).is("42501", "must be owner of policy \"p\"").hint("SET ROLE");
    }
    assert_eq!(value(&mut heir, "select count(*) from ledger.own_policies"), "0");
    assert_eq!(value(&mut heir, "select _kronos.due_policies()"), "{}");
    owner.batch_execute(&call("p")).unwrap();
    assert_eq!(value(&mut owner, "select issued_by from kronos.runs"), renamed);
    assert_eq!(value(&mut owner, "select kronos.remove_forecast_policy('p')"), "t");
    db.run(&format!("alter role {quant} rename to {other}; alter role {renamed} rename to {quant}"));
    disown(&db, &[quant, other]);
}

#[test]
fn a_dropped_owner_leaves_its_policies_to_nobody() {
    let (db, [keeper]) = with_operators("sec_policy_dropped", ["keeper"]);
    let name = format!("{keeper}_gone");
    let make = format!(
        "create role {name} login; grant select on bars to {name}; select kronos.grant_access('{name}', 'operate')"
    );
    db.run(&make);
    let mut client = db.connect_as(&name);
    for policy in ["p", "q"] {
        add(&mut client, policy);
    }
    client.batch_execute(&call("p")).unwrap();
    drop(client);
    // TimescaleDB lets nobody go who has jobs.
    let jobs = if db.value("select market.timescale_edition()") == "community" {
        format!(
            "select public.delete_job(job_id) from timescaledb_information.jobs where owner = '{name}'::regrole; "
        )
    } else {
        String::new()
    };
    let unmake = format!("{jobs}drop owned by {name}; drop role {name}");
    db.run(&unmake);
    let nobody = format!("{name} (no such role)");
    let owners = "select distinct owner from kronos.policies";
    assert_eq!(db.value(owners), nobody);
    db.run(&make);
    let mut heir = db.connect_as(&name);
    db.error_in(&mut heir, &call("p")).is("42501", "must be owner");
    db.error_in(&mut heir, "select kronos.remove_forecast_policy('p')").is("42501", "must be owner");
    // Once the heir has written anything, the ledger tells the two of one name apart.
    add(&mut heir, "own");
    assert_eq!(
        db.value("select string_agg(owner, ', ' order by policy) from kronos.policies"),
        format!("{name}, {nobody}, {nobody}")
    );
    assert_eq!(db.value("select issued_by from kronos.runs"), nobody);
    // Superusers tidy up.
    assert_eq!(db.value("select kronos.remove_forecast_policy('p')"), "t");
    assert_eq!(db.value("select kronos.remove_forecast_policy('q', if_exists => true)"), "t");
    assert_eq!(db.value("select kronos.remove_forecast_policy('q', if_exists => true)"), "f");
    drop(heir);
    db.run(&unmake);
    disown(&db, &[keeper]);
}

#[test]
fn in_a_restored_cluster_roles_are_known_by_their_names_again() {
    let (db, [quant, other]) = with_operators("sec_policy_cluster", ["quant", "other"]);
    add(&mut db.connect_as(&quant), "p");
    // As a restore in another cluster finds it: OIDs mean other roles there, here the very one that should get nothing.
    db.run(&format!("update ledger.roles set cluster = 1, role = '{other}'::regrole"));
    let (mut owner, mut stranger) = (db.connect_as(&quant), db.connect_as(&other));
    db.error_in(&mut stranger, &call("p")).is("42501", "must be owner");
    assert_eq!(value(&mut owner, "select owner from kronos.policies"), quant);
    owner.batch_execute(&call("p")).unwrap();
    assert_eq!(db.value("select count(*) from ledger.roles"), "1", "it is the same role, not another one");
    assert_eq!(value(&mut owner, "select owner from kronos.policies"), quant);
    // From then on it is known by its OID.
    let renamed = format!("{quant}_y");
    db.run(&format!("alter role {quant} rename to {renamed}"));
    db.connect_as(&renamed).batch_execute(&call("p")).unwrap();
    db.run(&format!("alter role {renamed} rename to {quant}"));
    // Where the name means nobody, nobody owns it.
    db.run("update ledger.roles set cluster = 1, name = 'nobody of that name'");
    db.error_in(&mut owner, &call("p")).is("42501", "must be owner");
    assert_eq!(db.value("select owner from kronos.policies"), "nobody of that name (no such role)");
    disown(&db, &[quant, other]);
}

#[test]
fn no_role_blocks_forges_or_triggers_the_policy_of_another() {
    let (db, [quant, rogue]) = with_operators("sec_policy_forge", ["quant", "rogue"]);
    // The superuser has a policy too: what row security would keep from others it sees.
    let mut chief = db.connect();
    let mut owner = db.connect_as(&quant);
    add(&mut chief, "chief");
    add(&mut owner, "p");
    let mut attacker = db.connect_as(&rogue);
    let number =
        |policy: &str| db.value(&format!("select policy_id from ledger.policies where policy = '{policy}'"));
    let stat = "select string_agg(format('%s %s %s', policy, last_status, queued), ', ' order by policy) from kronos.stat_policies";
    let before = db.value(stat);

    // As it was found: runs and requests that bear the name of the policy.
    for policy in ["p", "chief"] {
        let mut refused = |sql: String| db.error_in(&mut attacker, &sql);
        refused(format!("select ledger.open_run('live', 'bars', 'x', policy => '{policy}')"))
            .is("42501", "must be owner of policy");
        for (columns, values) in [
            ("policy_id, policy", format!("{}, '{policy}'", number(policy))),
            ("policy", format!("'{policy}'")),
            ("policy_id", number(policy)),
        ] {
            refused(format!(
                "insert into ledger.new_runs (kind, relation, call, {columns}) values ('live', 'bars', 'x', {values})"
            ))
            .is("44000", "check option");
        }
        refused(format!("select kronos.submit('{policy}')")).is("42501", "must be owner");
        refused(format!(
            "insert into ledger.new_requests (policy_id, policy) values ({}, '{policy}')",
            number(policy)
        ))
        .is("44000", "check option");
        refused(format!("insert into ledger.requests (policy) values ('{policy}')"))
            .is("42501", "permission denied");
    }
    // With a policy of its own it comes no further: neither by its number and another's name, nor the other way round.
    add(&mut attacker, "own");
    for (id, name) in [(number("own"), "p"), (number("p"), "own")] {
        db.error_in(
            &mut attacker,
            &format!("insert into ledger.new_requests (policy_id, policy) values ({id}, '{name}')"),
        )
        .is("44000", "check option");
        db.error_in(
            &mut attacker,
            &format!("insert into ledger.new_runs (kind, relation, call, policy_id, policy) values ('live', 'bars', 'x', {id}, '{name}')"),
        )
        .is("44000", "check option");
    }
    let request = value(&mut attacker, "select kronos.submit('own')");
    db.error_in(&mut attacker, "update ledger.own_requests set policy_id = 1")
        .is("42501", "permission denied");
    db.error_in(&mut attacker, "update ledger.own_policies set args = '{}'").is("42501", "permission denied");
    db.error_in(&mut owner, &format!("select kronos.cancel({request})")).is("42704", "does not exist");
    db.error(&format!("select kronos.cancel({request})")).is("42704", "does not exist");
    assert_eq!(attacker.execute("delete from ledger.own_policies where policy <> 'own'", &[]).unwrap(), 0);
    assert_eq!(db.value(stat).replace("own  1, ", ""), before);

    // Nobody runs what is another's, a superuser no more than others.
    db.run("update ledger.policies set created_at = '2023-01-01'");
    assert_eq!(value(&mut chief, "select _kronos.due_policies()"), "{chief}");
    for policy in ["p", "own"] {
        db.error_in(&mut chief, &call(policy)).is("42501", "must be owner");
    }
    chief.batch_execute("call kronos.run_policy()").unwrap();
    assert_eq!(db.value("select string_agg(policy || issued_by, ' ') from kronos.runs"), "chiefpostgres");
    owner.batch_execute(&call("p")).unwrap();
    assert_eq!(db.value("select count(*) from kronos.runs where policy = 'p' and state = 'done'"), "1");
    disown(&db, &[quant, rogue]);
}

#[test]
fn whoever_bypasses_row_security_bypasses_no_owner() {
    let (db, [quant, rogue]) = with_operators("sec_policy_bypass", ["quant", "rogue"]);
    db.run(&format!("alter role {rogue} bypassrls"));
    let mut owner = db.connect_as(&quant);
    add(&mut owner, "p");
    owner.batch_execute(&call("p")).unwrap();
    let mut attacker = db.connect_as(&rogue);
    for (table, change) in [
        ("policies", "set args = '{\"model\": \"evil\"}'"),
        ("runs", "set state = 'failed'"),
        ("requests", "set state = 'queued'"),
        ("calibrations", "set options = '{}'"),
    ] {
        db.error_in(&mut attacker, &format!("update ledger.{table} {change}"))
            .is("42501", "permission denied");
        db.error_in(&mut attacker, &format!("select * from ledger.{table}")).is("42501", "permission denied");
    }
    for view in ["own_policies", "own_requests", "issued_runs", "own_calibrations"] {
        assert_eq!(value(&mut attacker, &format!("select count(*) from ledger.{view}")), "0", "{view}");
    }
    db.error_in(&mut attacker, &call("p")).is("42501", "must be owner");
    db.error_in(&mut attacker, "select kronos.remove_forecast_policy('p')").is("42501", "must be owner");
    disown(&db, &[quant, rogue]);
}

#[test]
fn locks_are_on_rows_and_held_by_their_owners_alone() {
    let (db, [quant, rogue]) = with_operators("sec_policy_locks", ["quant", "rogue"]);
    let login = db.role("login");
    let mut owner = db.connect_as(&quant);
    add(&mut owner, "p");
    let number = db.value("select policy_id from ledger.policies");
    // As it was found: a number that anybody knows, held for as long as anybody likes.
    let mut holder = db.connect_as(&login);
    holder.batch_execute(&format!("select pg_advisory_lock(1802661743, {number})")).unwrap();
    let mut attacker = db.connect_as(&rogue);
    attacker.batch_execute("begin").unwrap();
    for lock in ["for update", "for no key update", "for share", "for key share"] {
        assert!(rows(&mut attacker, &format!("select * from ledger.own_policies {lock}")).is_empty());
        assert!(rows(&mut attacker, &format!("select * from ledger.issued_runs {lock}")).is_empty());
        attacker.batch_execute("savepoint s").unwrap();
        db.error_in(&mut attacker, &format!("select * from kronos.policies {lock}"))
            .is("42501", "permission denied");
        attacker.batch_execute("rollback to s").unwrap();
    }
    for table in ["policies", "runs", "requests", "roles"] {
        db.error_in(&mut attacker, &format!("lock table ledger.{table} in access exclusive mode"))
            .is("42501", "permission denied");
        attacker.batch_execute("rollback to s").unwrap();
    }
    assert_eq!(value(&mut attacker, &format!("select ledger.lock_policy({number}) is null")), "t");
    let start = Instant::now();
    owner.batch_execute("set lock_timeout = '20s'").unwrap();
    owner.batch_execute(&call("p")).unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "it waited for somebody");
    // Its own sessions exclude each other by that row.
    let mut other = db.connect_as(&quant);
    other.batch_execute(&format!("begin; select ledger.lock_policy({number})")).unwrap();
    owner.batch_execute("set lock_timeout = '100ms'").unwrap();
    db.error_in(&mut owner, &call("p")).is("55P03", "lock timeout");
    other.batch_execute("commit").unwrap();
    disown(&db, &[quant, rogue, login]);
}

#[test]
fn a_name_that_another_has_taken_is_not_passed_over_in_silence() {
    let (db, [quant, rogue]) = with_operators("sec_policy_squat", ["quant", "rogue"]);
    db.run(&format!("create table hidden as select * from bars; grant select on hidden to {rogue}"));
    let mut attacker = db.connect_as(&rogue);
    add(&mut attacker, "hourly");
    attacker
        .batch_execute("select kronos.add_forecast_policy('hidden', 2, policy => 'daily', call => 'forecast', model => 'naive', args => '{\"targets\": [\"close\"]}')")
        .unwrap();
    let mut owner = db.connect_as(&quant);
    for name in ["hourly", "daily"] {
        db.error_in(
            &mut owner,
            &format!(
                "select kronos.add_forecast_policy('bars', 2, policy => '{name}', if_not_exists => true)"
            ),
        )
        .is("42710", "already exists")
        .hint("belongs to another role");
    }
    // A policy of an input that one may not read is not shown, nor is one added.
    assert_eq!(value(&mut owner, "select string_agg(policy, ' ') from kronos.policies"), "hourly");
    db.error_in(&mut owner, "insert into ledger.new_policies (policy, relation, horizon, call, args, schedule_interval, initial_start, timezone)
                             values ('x', 'hidden', 1, 'forecast', '{}', '1 hour', now(), 'UTC')")
        .is("44000", "check option");
    db.error_in(&mut owner, "insert into ledger.new_policies (owner_id) values (1)").is("42703", "owner_id");
    disown(&db, &[quant, rogue]);
}

#[test]
fn the_number_of_a_job_is_no_order_to_remove_it() {
    let (db, [quant]) = with_operators("sec_policy_jobs", ["quant"]);
    db.run(
        "create schema cron; create table cron.job (jobid bigint, jobname text);
         create function cron.unschedule(bigint) returns boolean language sql as 'delete from cron.job where jobid = $1 returning true';
         insert into cron.job values (7, 'nightly backup'), (8, 'kronos policy other'), (9, 'kronos policy p')",
    );
    let mut owner = db.connect_as(&quant);
    let jobs = "select string_agg(jobid::text, ' ' order by jobid) from cron.job";
    // Its owner writes what job a policy has, and a superuser removes both.
    for (number, left) in [(7, "7 8 9"), (8, "7 8 9"), (9, "7 8")] {
        add(&mut owner, "p");
        let request = value(&mut owner, "select kronos.submit('p')");
        owner
            .batch_execute(&format!(
                "update ledger.own_policies set scheduler = 'pg_cron', job_id = {number};
                 update ledger.own_requests set job_id = 7 where request_id = {request}"
            ))
            .unwrap();
        assert_eq!(db.value("select kronos.remove_forecast_policy('p')"), "t");
        assert_eq!(db.value(jobs), left);
    }
    assert_eq!(db.value("select string_agg(distinct state, ' ') from ledger.requests"), "cancelled");
    disown(&db, &[quant]);
}

/// The tables of an older version, with the names of roles, as far as they matter.
const OLD: &str = "
    create schema ledger;
    create table ledger.inputs (relation regclass primary key, name text not null, row_security boolean not null);
    create table ledger.runs (run_id bigint generated always as identity primary key, kind text not null default 'live', policy text,
      request_id bigint, issued_at timestamptz not null default clock_timestamp(), issued_by text not null default current_user,
      relation regclass not null, call text not null, model text, model_version text, horizon integer, args jsonb not null default '{}',
      seed bigint, scheduled_for timestamptz, as_of timestamptz, cutoff timestamptz, n_series integer not null default 0,
      n_ok integer not null default 0, n_failed integer not null default 0, duration_ms float8, state text not null default 'running',
      sqlstate text, message text, runner_pid integer not null default pg_backend_pid(), runner_started timestamptz);
    create table ledger.policies (policy_id integer generated always as identity primary key, policy text not null unique,
      owner text not null default current_user, relation regclass not null, horizon integer not null, call text not null, model text,
      args jsonb not null default '{}', schedule_interval interval not null, initial_start timestamptz not null,
      timezone text not null default 'UTC', scheduler text not null default 'none', job_id bigint, created_at timestamptz not null default now());
    create table ledger.requests (request_id bigint generated always as identity primary key, policy text not null,
      requested_by text not null default current_user, requested_at timestamptz not null default clock_timestamp(),
      state text not null default 'queued', run_id bigint references ledger.runs, job_id bigint, ended_at timestamptz);
    create table ledger.calibrations (calibration text primary key, owner text not null default current_user, actuals regclass not null,
      relation regclass not null, target text not null, series_col name, time_col name, model text, level float8 not null,
      method text not null, per text[] not null, options jsonb not null, bar_width text, bar_zone text, created_at timestamptz not null default now());
    alter table ledger.runs enable row level security; create policy own_runs on ledger.runs using (issued_by = current_user);
    alter table ledger.policies enable row level security; create policy own_policies on ledger.policies using (owner = current_user);
    alter table ledger.calibrations enable row level security; create policy owners on ledger.calibrations using (owner = current_user);
    create policy readers on ledger.calibrations for select using (has_table_privilege(actuals, 'SELECT'));";

#[test]
fn owners_by_name_become_roles_when_the_set_up_runs_again() {
    let db = Database::new("sec_policy_upgrade");
    let (quant, rogue) = (db.role("quant"), db.role("rogue"));
    db.run(OLD);
    db.run(&format!(
        "create table bars (symbol text, ts timestamptz, close float8); grant select on bars to {quant}, {rogue};
         grant usage on schema ledger, kronos to {quant}, {rogue};
         grant select, insert, update, delete on ledger.policies, ledger.calibrations to {quant}, {rogue};
         grant select, insert, update on ledger.requests, ledger.runs to {quant}, {rogue};
         create view kronos.policies as select p.policy, p.owner, p.relation, p.horizon, p.call, p.model, p.args, p.schedule_interval,
           p.initial_start, p.timezone, p.scheduler, p.job_id, p.created_at from ledger.policies p;
         create view shown as select policy, owner from kronos.policies;
         insert into ledger.inputs values ('bars', 'public.bars', false);
         insert into ledger.policies (policy, owner, relation, horizon, call, schedule_interval, initial_start)
           select p, o, 'bars', 1, 'forecast', '1 hour', now() from (values ('p', '{quant}'), ('q', 'long gone')) v (p, o);
         insert into ledger.runs (policy, issued_by, relation, call, state)
           select 'p', o, 'bars', 'x', 'done' from (values ('{quant}'), ('{rogue}'), ('long gone')) v (o);
         insert into ledger.requests (policy, requested_by) values ('p', '{quant}'), ('p', '{rogue}');
         insert into ledger.calibrations (calibration, owner, actuals, relation, target, level, method, per, options)
           select c, o, 'bars', 'bars', 'close', 0.9, 'pid', '{{series}}', '{{}}' from (values ('c', '{quant}'), ('d', 'long gone')) v (c, o)"
    ));
    let warned = db.psql("\\i sql/install.sql");
    assert!(
        warned.contains("role \"long gone\" does not exist: what it owned in the ledger belongs to nobody"),
        "{warned}"
    );
    assert_eq!(warned.matches("WARNING").count(), 1, "{warned}");
    assert_eq!(db.psql("\\i sql/install.sql"), "");

    assert_eq!(
        db.value("select string_agg(format('%s %s', policy, owner), ', ' order by policy) from shown"),
        format!("p {quant}, q long gone (no such role)")
    );
    assert_eq!(
        db.value(
            "select string_agg(format('%s %s', name, owner), ', ' order by name) from kronos.calibrations"
        ),
        format!("c {quant}, d long gone (no such role)")
    );
    // Runs and requests of others were never the policy's.
    assert_eq!(
        db.value("select string_agg(format('%s %s', k.issued_by, r.policy_id is not null), ', ' order by run_id) from kronos.runs k join ledger.runs r using (run_id)"),
        format!("{quant} t, {rogue} f, long gone (no such role) f")
    );
    assert_eq!(
        db.value("select string_agg(format('%s %s', state, policy_id is not null), ', ' order by request_id) from ledger.requests"),
        "queued t, cancelled f"
    );
    let (mut owner, mut attacker) = (db.connect_as(&quant), db.connect_as(&rogue));
    for table in ["policies", "requests", "runs", "calibrations"] {
        for client in [&mut owner, &mut attacker] {
            db.error_in(client, &format!("select * from ledger.{table}")).is("42501", "permission denied");
            db.error_in(client, &format!("delete from ledger.{table}")).is("42501", "permission denied");
        }
    }
    assert_eq!(value(&mut owner, "select string_agg(policy, ' ') from ledger.own_policies"), "p");
    assert_eq!(value(&mut owner, "select string_agg(calibration, ' ') from ledger.own_calibrations"), "c");
    assert_eq!(value(&mut attacker, "select count(*) from ledger.own_policies"), "0");
    assert_eq!(value(&mut owner, "select ledger.open_run('live', 'bars', 'x', policy => 'p') > 0"), "t");
    disown(&db, &[quant, rogue]);
}
