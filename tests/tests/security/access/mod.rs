//! Who may do what.

mod privileges;

use kronos_tests::{Cluster, Database, NoTls, SqlFailure, administer, bars, project_root, rows};
use std::time::Duration;

#[test]
fn each_level_allows_its_own_and_those_before() {
    let db = Database::new("each_level");
    let role = db.role("someone");
    let can =
        |sql: &str| db.connect_as(&role).simple_query(sql).map(|_| ()).map_err(|error| error.code().cloned());
    let refused = |sql: &str| {
        let code = can(sql).expect_err(sql).expect("an error of the server");
        assert_eq!(code.code(), "42501", "{sql}");
    };
    let read = "select * from kronos.models; select * from kronos.calendars; select * from kronos.calendar_exceptions";
    let simulate = "select * from kronos.simulate_bars(n => 2)";
    let load = "select kronos.load_model('kronos-default')";
    let calendar = "select kronos.add_calendar('X', 'Asia/Tokyo', '{\"1-5\":[[\"09:00\",\"15:00\"]]}', if_not_exists => true)";
    let register = "select kronos.register_model('m', 'kronos', 'kronos-fixture')";
    let alias = "select kronos.set_alias('a', 'm')";
    let open = "select kronos.version(); select * from kronos.diagnostics()";

    can(open).unwrap();
    for sql in [read, simulate, load, calendar, register, alias, "select * from _kronos.model"] {
        refused(sql);
    }
    let granted = db.rows(&format!("select * from kronos.grant_access('{role}', 'use')"));
    assert!(
        granted
            .iter()
            .any(|row| row[0].as_deref() == Some("SELECT") && row[2].as_deref() == Some("kronos.models"))
    );
    for sql in [open, read, simulate] {
        can(sql).unwrap();
    }
    for sql in [load, calendar, register] {
        refused(sql);
    }
    db.run(&format!(
        "select kronos.grant_access('{role}', 'operate'); select kronos.grant_access('{role}', 'operate')"
    ));
    for sql in [open, read, simulate, load, calendar] {
        can(sql).unwrap();
    }
    refused(register);
    db.run(&format!("select kronos.grant_access('{role}', 'admin')"));
    for sql in [register, alias, "select kronos.set_alias('a', NULL); select kronos.drop_model('m')"] {
        can(sql).unwrap();
    }
    refused("insert into _kronos.model_alias values ('a', 'b')");
    refused(&format!("select kronos.grant_access('{role}', 'use')"));
    db.run(&format!("drop owned by {role}"));
}

#[test]
fn a_level_or_role_that_is_not_there() {
    let db = Database::new("a_level_or_role");
    let role = db.role("someone");
    db.error(&format!("select kronos.grant_access('{role}', 'root')"))
        .is("22023", "access level \"root\" does not exist")
        .hint("use, operate and admin");
    db.error("select kronos.grant_access('nobody_of_this_name', 'use')")
        .is("42704", "role \"nobody_of_this_name\" does not exist");
    db.error("select kronos.grant_access(NULL, 'use')").is("22004", "must not be null");
}

/// Every object is either open to all by design or belongs to a level; a new one must choose.
#[test]
fn every_object_has_a_level() {
    let db = Database::new("every_object_has_a_level");
    let without = db.rows(
        "select p.oid::regprocedure from pg_proc p
         where p.pronamespace = 'kronos'::regnamespace
           and p.proname not in ('grant_access', 'grant_training_worker')
           and not exists (select from _kronos.access a where a.kind = 'routine' and a.object = p.proname)
           and not has_function_privilege('public', p.oid, 'execute')",
    );
    assert!(without.is_empty(), "{without:?}");
    let without = db.rows(
        "select c.oid::regclass from pg_class c
         where c.relnamespace = 'kronos'::regnamespace and c.relkind in ('v', 'r', 'p')
           and not exists (select from _kronos.access a where a.kind = 'view' and a.object = c.relname)",
    );
    assert!(without.is_empty(), "{without:?}");
    let open = db.rows(
        "select p.proname from pg_proc p
         where p.pronamespace in ('kronos'::regnamespace, '_kronos'::regnamespace)
           and has_function_privilege('public', p.oid, 'execute') order by 1",
    );
    assert_eq!(open, [vec![Some("diagnostics".to_owned())], vec![Some("version".to_owned())]]);
}

#[test]
fn everything_is_described() {
    let db = Database::new("everything_is_described");
    let silent = db.rows(
        "select pg_describe_object(classid, objid, 0)
         from pg_depend d
         where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
           and d.refobjid = (select oid from pg_extension where extname = 'kronos')
           and d.classid in ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass, 'pg_type'::regclass)
           and coalesce(obj_description(d.objid, d.classid::regclass::name), '') = ''
           and not exists (select from pg_type t where t.oid = d.objid and (t.typrelid <> 0 and exists (
                 select from pg_class c where c.oid = t.typrelid and c.relkind <> 'c') or t.typelem <> 0))",
    );
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn a_search_path_cannot_be_used_against_the_extension() {
    let db = Database::new("a_search_path");
    let role = db.role("someone");
    db.run(&format!(
        "select kronos.grant_access('{role}', 'admin');
         create schema trap;
         create function trap.now() returns timestamptz language plpgsql as $$begin raise exception 'trapped'; end$$;
         create table trap.model (version text); create table trap.calendar (name text);
         grant all on schema trap to {role}; grant all on all tables in schema trap to {role}"
    ));
    let mut client = db.connect_as(&role);
    client
        .batch_execute(
            "set search_path = trap, pg_catalog, kronos;
             select kronos.register_model('m', 'kronos', 'kronos-fixture');
             select kronos.set_alias('a', 'm'); select kronos.set_alias('a', null); select kronos.drop_model('m');
             select kronos.add_calendar('X', 'Asia/Tokyo', '{\"1-5\":[[\"09:00\",\"15:00\"]]}');
             select kronos.add_calendar_exception('X', '2024-01-01'); select kronos.drop_calendar('X')",
        )
        .unwrap();
    db.run(&format!("drop schema trap cascade; drop owned by {role}"));
}

/// A trigger runs the casts of the types of its table's columns, which may be somebody's own.
#[test]
fn a_trigger_of_the_set_up_cannot_be_put_on_a_table_of_ones_own() {
    let db = Database::installed("trigger_on_own_table");
    let reader = db.role("reader");
    db.run(&format!("grant market_reader to {reader}"));
    let trap = "create temp table mine (symbol text, feed text, event_time timestamptz);
                create trigger t after insert on mine referencing new table as added
                  for each statement execute function market_internal.note_touched_hours()";
    db.error_in(&mut db.connect_as(&reader), trap).is("42501", "permission denied for function");
    assert_eq!(db.value(&format!("select rolsuper from pg_roles where rolname = '{reader}'")), "f");
}

/// Sessions keep the plans of what they read from the catalogue.
#[test]
fn a_session_with_plans_is_still_asked_for_privileges_and_follows_the_extension() {
    let db = Database::new("a_session_with_plans");
    let role = db.role("someone");
    db.run(&bars("bars", &["A"], 30));
    db.run(&format!(
        "grant select on bars to {role}; select kronos.grant_access('{role}', 'use');
         revoke select on kronos.models from {role}"
    ));
    let call = "select sum(close)::text from kronos.kronos_predict('bars', 2, model => 'kronos-nano', samples => 1, seed => 1)";
    let mut client = db.connect();
    let told: Vec<_> = (0..8).map(|_| rows(&mut client, call)).collect();
    assert!(told.iter().all(|rows| rows == &told[0]));
    client.batch_execute(&format!("set role {role}")).unwrap();
    db.error_in(&mut client, call).is("42501", "permission denied for view models");
    client.batch_execute("reset role; drop extension kronos; create extension kronos").unwrap();
    assert_eq!(rows(&mut client, call), told[0]);
    db.run(&format!("drop owned by {role}"));
}

#[test]
fn a_schema_prepared_by_somebody_else_is_refused() {
    let db = Database::empty("a_schema_prepared");
    let role = db.role("someone");
    db.run(&format!("create schema kronos authorization {role}"));
    db.error("create extension kronos").is("42501", "belongs to a role that is not a superuser");
    db.run("alter schema kronos owner to current_user; create extension kronos; drop extension kronos; create extension kronos");
}

#[test]
fn a_database_in_another_encoding_is_refused_from_every_door() {
    let cluster = Cluster::get();
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("t_encoding_{}_{}", encoding.to_lowercase(), std::process::id());
        let server = cluster.config("postgres");
        let run = |sql: &str| administer(&server, sql, Duration::from_secs(120)).unwrap();
        run(&format!("create database {name} encoding '{encoding}' locale 'C' template template0"));
        let mut client = cluster.config(&name).connect(NoTls).unwrap();
        let refused = |error: postgres::Error| SqlFailure::new(&error);
        let expected = format!("database \"{name}\" has encoding {encoding}, kronos needs UTF8");
        refused(client.batch_execute("create extension kronos").unwrap_err())
            .is("0A000", &expected)
            .hint("ENCODING 'UTF8'");
        let first = std::fs::read_to_string(project_root().join("sql/installation/begin.sql")).unwrap();
        refused(client.batch_execute(&first).unwrap_err()).is("0A000", &expected);
        drop(client);
        run(&format!("drop database {name}"));
    }
}

#[test]
fn dropping_the_extension_leaves_nothing_but_user_data() {
    let db = Database::new("dropping_the_extension");
    db.run(&bars("bars", &["A"], 10));
    db.run("drop extension kronos");
    assert_eq!(
        db.value(
            "select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
             where n.nspname in ('kronos', '_kronos')"
        ),
        "0"
    );
    assert_eq!(db.value("select count(*) from pg_namespace where nspname = '_kronos'"), "0");
    assert_eq!(db.value("select count(*) from bars"), "10");
}
