//! Calibrations: what one role has stored is not run with the rights of another, nor written by another.

use super::ledger::{disown, value, with_operators};
use kronos_tests::{Client, rows};

/// Forecasts of the last bars but one of `bars`, so that a calibration has something to learn.
const LEARNABLE: &str = "do $$ declare run bigint := ledger.open_run('live', 'bars', 'x'); begin
    perform ledger.record(run, 'select symbol as series, ts, 1 as step, ts as cutoff, close as forecast, close * 0.99 as lower,
      close * 1.01 as upper, 0.9 as level, ''m@1'' as model_version from public.bars');
    perform ledger.close_run(run); end $$";

/// A calibration whose query of sectors notes as whom it runs.
fn trapped(client: &mut Client, name: &str) {
    client
        .batch_execute(&format!(
            "select kronos.create_calibration('{name}', 'bars', options =>
               jsonb_build_object('groups', 'select distinct symbol as series, public.trap(symbol) as sector from public.bars'))"
        ))
        .unwrap();
}

#[test]
fn nobody_runs_the_stored_query_of_another() {
    let (db, [quant, rogue]) = with_operators("sec_cal_query", ["quant", "rogue"]);
    db.run(&format!("grant create on schema public to {rogue}; alter role {quant} bypassrls"));
    let mut attacker = db.connect_as(&rogue);
    attacker
        .batch_execute(
            "create table caught (who text); grant insert on caught to public;
             create function trap(text) returns text language plpgsql as
               $$begin insert into public.caught values (current_user); return $1; exception when read_only_sql_transaction then return $1; end$$",
        )
        .unwrap();
    attacker.batch_execute(LEARNABLE).unwrap();
    trapped(&mut attacker, "bait");
    attacker.batch_execute("truncate caught").unwrap();
    let mut owner = db.connect_as(&quant);
    owner.batch_execute("select kronos.create_calibration('own', 'bars')").unwrap();
    // As it was found: a superuser lets all calibrations learn. Those of its own do, the others say whose they are.
    for client in [&mut db.connect(), &mut owner] {
        db.error_in(client, "select kronos.calibrate(name) from kronos.calibrations where name = 'bait'")
            .is("42501", "must be owner of calibration \"bait\"")
            .hint("SET ROLE");
        db.error_in(client, "select kronos.reset_calibration('bait')").is("42501", "must be owner");
    }
    assert_eq!(db.value("select count(*) from caught"), "0");
    assert!(
        !rows(
            &mut owner,
            "select (kronos.calibrate(c.name)).* from kronos.calibrations c where c.owner = current_user"
        )
        .is_empty()
    );
    // Options are not for others to write.
    for sql in [
        "update ledger.calibrations set options = '{}'",
        "update ledger.own_calibrations set options = '{}'",
        "update ledger.own_calibrations set owner_id = 1",
    ] {
        let error = db.error_in(&mut owner, sql);
        assert!(["42501", "42703"].contains(&error.code.as_str()), "{sql}: {error:?}");
    }
    // To use what was learnt runs nothing of it; to drop it neither.
    db.run("select * from kronos.forecast('naive', 'bars', '{close}', 1, calibration => 'bait'); select kronos.drop_calibration('bait')");
    assert_eq!(db.value("select count(*) from caught"), "0");
    db.run(&format!("drop owned by {rogue} cascade"));
    disown(&db, &[quant]);
}

#[test]
fn a_calibration_follows_its_owner_and_not_the_name() {
    let (db, [quant, other]) = with_operators("sec_cal_rename", ["quant", "other"]);
    db.connect_as(&quant)
        .batch_execute(&format!("{LEARNABLE}; select kronos.create_calibration('c', 'bars')"))
        .unwrap();
    let renamed = format!("{quant}_z");
    db.run(&format!("alter role {quant} rename to {renamed}; alter role {other} rename to {quant}"));
    let mut heir = db.connect_as(&quant);
    for sql in [
        "select kronos.calibrate('c')",
        "select kronos.reset_calibration('c')",
        "select kronos.drop_calibration('c')",
    ] {
        db.error_in(&mut heir, sql).is("42501", "must be owner of calibration \"c\"");
    }
    let mut owner = db.connect_as(&renamed);
    assert_eq!(value(&mut owner, "select count(*) > 0 from kronos.calibrate('c')"), "t");
    assert_eq!(value(&mut heir, "select owner from kronos.calibrations"), renamed);
    db.run(&format!("alter role {quant} rename to {other}; alter role {renamed} rename to {quant}"));
    disown(&db, &[quant, other]);
}

#[test]
fn nobody_poisons_or_takes_the_place_of_what_another_has_learnt() {
    let (db, [quant, rogue]) = with_operators("sec_cal_poison", ["quant", "rogue"]);
    let (mut owner, mut attacker) = (db.connect_as(&quant), db.connect_as(&rogue));
    owner
        .batch_execute(&format!(
            "{LEARNABLE}; select kronos.create_calibration('c', 'bars'); select kronos.calibrate('c')"
        ))
        .unwrap();
    attacker
        .batch_execute("select kronos.create_calibration('mine', 'bars'); select kronos.calibrate('mine')")
        .unwrap();
    let theirs = db.value("select min(group_id) from ledger.calibration_groups where calibration = 'c'");
    let state = |group: &str, calibration: &str| {
        format!(
            "insert into ledger.own_calibration_state (group_id, version, calibration, n, updated_through, bias, scale, drift, state)
             values ({group}, 99, '{calibration}', 1, now(), 0, 1, false, '')"
        )
    };
    // A state of another's group under the name of one's own, and the other way round.
    for (group, calibration) in [(theirs.as_str(), "mine"), (theirs.as_str(), "c"), ("-1", "mine")] {
        db.error_in(&mut attacker, &state(group, calibration)).is("44000", "check option");
    }
    let mut refused = |sql: &str, code: &str| {
        let error = db.error_in(&mut attacker, sql);
        assert_eq!(error.code, code, "{sql}: {error:?}");
    };
    refused(
        "insert into ledger.own_calibration_versions (calibration, version, through, updated_through, n_new) values ('c', 99, now(), now(), 0)",
        "44000",
    );
    refused(
        "insert into ledger.own_calibration_versions (calibration, version, made_at) values ('mine', 99, '2020-01-01')",
        "42703",
    );
    refused(
        "insert into ledger.own_calibration_groups (calibration, scope, model, member, step) values ('c', 'global', 'm', 'new', 1)",
        "44000",
    );
    refused(
        "insert into ledger.own_calibration_groups (group_id, calibration, scope, model, member, step) overriding system value
         values (1000, 'mine', 'global', 'm', '', 1)",
        "42501",
    );
    refused("insert into ledger.own_calibration_runs values ('c', 999)", "44000");
    refused(
        "insert into ledger.own_calibration_queue (calibration, series, step, ts, cutoff, model_version, forecast, lower, upper)
         values ('c', 'A', 1, now(), now(), 'm', 1, 1, 1)",
        "44000",
    );
    refused(
        "insert into ledger.own_calibration_queue (calibration, queued_at) values ('mine', '2020-01-01')",
        "42501",
    );
    for table in [
        "calibrations",
        "calibration_versions",
        "calibration_groups",
        "calibration_state",
        "calibration_runs",
        "calibration_queue",
    ] {
        refused(&format!("select * from ledger.{table}"), "42501");
        refused(&format!("delete from ledger.{table}"), "42501");
    }
    assert_eq!(
        attacker.execute("delete from ledger.own_calibrations where calibration = 'c'", &[]).unwrap(),
        0
    );
    // A name that is taken is no calibration of one's own, whether it can be seen or not.
    db.run(&format!("create table hidden as select * from bars; grant select on hidden to {rogue}"));
    attacker.batch_execute("select kronos.create_calibration('daily', 'hidden')").unwrap();
    for name in ["mine", "daily"] {
        db.error_in(
            &mut owner,
            &format!("select kronos.create_calibration('{name}', 'bars', if_not_exists => true)"),
        )
        .is("42710", "already exists")
        .hint("belongs to another role");
    }
    owner.batch_execute("select kronos.create_calibration('c', 'bars', if_not_exists => true)").unwrap();
    disown(&db, &[quant, rogue]);
}

#[test]
fn a_calibration_is_as_visible_as_what_it_learnt_from() {
    let (db, [quant, other]) = with_operators("sec_cal_visible", ["quant", "other"]);
    db.run(&format!(
        "create view mine as select * from bars where symbol <> current_user; grant select on mine to {quant}, {other};
         grant create on schema public to {quant}"
    ));
    let mut owner = db.connect_as(&quant);
    owner
        .batch_execute(&format!(
            "{LEARNABLE}; select kronos.create_calibration('plain', 'bars'); select kronos.calibrate('plain');
             select kronos.create_calibration('own', 'mine', options => '{{\"relation\": \"bars\"}}'); select kronos.calibrate('own');
             select kronos.create_calibration('from', 'bars', options => '{{\"relation\": \"mine\"}}')"
        ))
        .unwrap();
    let mut reader = db.connect_as(&other);
    let names = "select string_agg(distinct name, ' ' order by name) from kronos.VIEW";
    for (view, all) in [("calibrations", "from own plain"), ("stat_calibration", "own plain")] {
        let names = names.replace("VIEW", view);
        assert_eq!(value(&mut owner, &names), all);
        assert_eq!(value(&mut reader, &names), "plain");
    }
    for (view, column) in
        [("readable_calibrations", "calibration"), ("readable_calibration_state", "calibration")]
    {
        assert_eq!(
            value(&mut reader, &format!("select string_agg(distinct {column}, ' ') from ledger.{view}")),
            "plain"
        );
    }
    db.error_in(
        &mut reader,
        "select * from kronos.forecast('naive', 'bars', '{close}', 1, calibration => 'own')",
    )
    .is("42704", "calibration \"own\" does not exist");
    // Switched on later.
    db.run("alter table bars enable row level security");
    assert_eq!(value(&mut reader, &names.replace("VIEW", "stat_calibration")), "");
    assert_eq!(value(&mut owner, &names.replace("VIEW", "stat_calibration")), "own plain");
    disown(&db, &[quant, other]);
}
