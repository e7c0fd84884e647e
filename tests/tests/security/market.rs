//! Attacks on schema market and on the set-up: nobody below the owner makes privileged code run their text.

use kronos_tests::{Cluster, Database, project_root};
use std::process::Command;

fn is_superuser(db: &Database, role: &str) -> bool {
    db.value(&format!("select rolsuper from pg_roles where rolname = '{role}'")) == "t"
}

/// A login role that is a member of `group`.
fn member(db: &Database, group: &str) -> String {
    let role = db.role(&group.replace("market_", ""));
    db.run(&format!("grant {group} to {role}"));
    role
}

#[test]
fn operators_set_retention_through_the_procedure_alone() {
    let db = Database::installed("security_retention_door");
    let operator = member(&db, "market_operator");
    let mut session = db.connect_as(&operator);
    for statement in [
        "insert into market.retention (relation, keep) values ('market.trades', '7 days')",
        "update market.retention set keep = '7 days'",
        "delete from market.retention",
        "truncate market.retention",
    ] {
        db.error_in(&mut session, statement).is("42501", "permission denied for table retention");
    }
    session.batch_execute("call market.set_retention('market.trades', '30 days')").unwrap();
    assert_eq!(db.value("select relation || ' ' || keep from market.retention"), "market.trades 30 days");
    let reader = member(&db, "market_reader");
    db.error_in(&mut db.connect_as(&reader), "call market.set_retention('market.trades', '30 days')")
        .is("42501", "permission denied for procedure set_retention");
    db.error_in(&mut db.connect_as(&reader), "call market.apply_retention()")
        .is("42501", "permission denied for procedure apply_retention");
}

#[test]
fn who_entered_an_event_and_when_is_said_by_the_system() {
    let db = Database::installed("security_event_audit");
    db.run(
        "insert into market.sources (source, kind, rank) values ('file', 'file', 50) on conflict do nothing",
    );
    let ingestor = member(&db, "market_ingestor");
    let mut session = db.connect_as(&ingestor);
    // Known long ago, whoever may believe it: the system notes when that was said.
    session
        .batch_execute(
            "insert into market.event_keys (event_key, kind) values ('CPI:1', 'CPI');
             insert into market.event_schedules (event_key, scheduled_ts, known_at) values ('CPI:1', '2020-01-14 13:30+00', '2019-11-01');
             insert into market.event_consensus (event_key, value, known_at) values ('CPI:1', 0.2, '2020-01-10');
             insert into market.event_releases (event_key, value, known_at) values ('CPI:1', 0.3, '2020-01-14')",
        )
        .unwrap();
    for (table, columns, values) in [
        ("event_keys", "event_key, kind", "'CPI:2', 'CPI'"),
        ("event_schedules", "event_key, scheduled_ts, known_at", "'CPI:1', now(), now()"),
        ("event_consensus", "event_key, value, known_at", "'CPI:1', 1, now()"),
        ("event_releases", "event_key, value, known_at", "'CPI:1', 1, now()"),
    ] {
        for (column, value) in [("entered_by", "'chief'"), ("entered_at", "'2019-01-01'")] {
            let forged =
                format!("insert into market.{table} ({columns}, {column}) values ({values}, {value})");
            db.error_in(&mut session, &forged).is("42501", &format!("permission denied for table {table}"));
        }
        for change in
            [format!("update market.{table} set event_key = 'x'"), format!("delete from market.{table}")]
        {
            db.error_in(&mut session, &change).is("42501", &format!("permission denied for table {table}"));
        }
        let said = "bool_and(entered_by = '{role}' and entered_at > now() - interval '1 hour')";
        let said = format!("select {} from market.{table}", said.replace("{role}", &ingestor));
        assert_eq!(db.value(&said), "t", "{table}");
    }
}

/// As it was found: one row made its writer a superuser. The rows are written by the superuser here, since nobody else
/// may any more: what stands in the table must not matter.
#[test]
fn the_text_of_a_retention_rule_is_no_statement() {
    let db = Database::installed("security_retention_text");
    let operator = member(&db, "market_operator");
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         values ('T', 'file', '2020-01-01', '1', 1, 1, 1, '2020-01-01', '2020-01-01')",
    );
    for text in [
        format!("market.trades where true; alter role {operator} superuser; --"),
        format!("market.trades; alter role {operator} superuser; select 1 from market.trades"),
        format!("(select 1 from pg_catalog.set_config(\\'role\\', \\'{operator}\\', false)) x"),
        "ledger.forecasts".into(),
        "pg_catalog.pg_authid".into(),
        "Market.Trades".into(),
    ] {
        let text = text.replace("\\'", "''");
        db.run(&format!("insert into market.retention (relation, keep) values ('{text}', '7 days')"));
        db.connect_as(&operator).batch_execute("call market.apply_retention()").unwrap();
        assert!(!is_superuser(&db, &operator), "{text}");
    }
    assert_eq!(
        db.value("select count(*) from market.trades"),
        "1",
        "no rule names the table as it is called"
    );
    assert_eq!(db.value("select count(*) from market.retention where applied_at is not null"), "0");
    // A name on the way to the procedure is looked up, never formatted.
    db.run(&format!("create schema \"market.trades\"; create table \"market.trades\".\"x; alter role {operator} superuser\" ()"));
    db.run(&format!("grant usage on schema \"market.trades\" to {operator}"));
    db.error_in(
        &mut db.connect_as(&operator),
        &format!(
            "call market.set_retention('\"market.trades\".\"x; alter role {operator} superuser\"', '7 days')"
        ),
    )
    .is("22023", "has no retention");
}

/// Version 1 let operators write the table, which had a column of text for the name of a column.
#[test]
fn an_older_installation_loses_the_open_door() {
    let db = Database::installed("security_retention_upgrade");
    let operator = member(&db, "market_operator");
    db.run(
        "drop table market.retention;
         create table market.retention (relation text primary key, time_column text not null,
                                        keep interval not null check (keep >= interval '7 days'), applied_at timestamptz);
         grant select, insert, update, delete on market.retention to market_operator;
         insert into market.retention values ('market.quotes', 'event_time', '30 days', null);
         insert into market.retention values ('market.trades', 'event_time < now() or true; drop table market.quotes; --', '7 days', null)",
    );
    assert_eq!(db.psql("\\i sql/install.sql"), "");
    db.run("call market.apply_retention()");
    assert_eq!(
        db.value("select string_agg(relation || ' ' || keep, ', ' order by relation) from market.retention"),
        "market.quotes 30 days, market.trades 7 days",
        "rules that were set stay"
    );
    assert_eq!(
        db.value(&format!(
            "select has_table_privilege('{operator}', 'market.retention', 'insert, update, delete, truncate')"
        )),
        "f"
    );
}

/// A setting of the session is no right: bars follow their trades whatever it says.
#[test]
fn no_setting_keeps_bars_of_trades_that_were_deleted() {
    let db = Database::installed("security_settings");
    db.run(
        "insert into market.trades (symbol, feed, event_time, trade_id, sequence, price, size, received_at, known_at)
         select 'T', 'file', '2024-01-02 03:00+00', i, i, 10 * i, 1, now(), '2024-01-02 03:00+00' from generate_series(1, 2) i;
         call market.refresh_trade_bars()",
    );
    let close = "select close from market.trade_bars_1h where symbol = 'T'";
    assert_eq!(db.value(close), "20");
    db.run("set market.keeps_bars = 'on'; delete from market.trades where trade_id = '2'");
    assert_eq!(db.value(close), "10");
}

/// Everyone who sets up, and what they say: psql, the worker, the extension.
fn set_up(db: &Database) -> [(&'static str, String); 3] {
    let worker = || {
        let output = Command::new(project_root().join("target/release/kronos-ingest"))
            .env("KRONOS_DATABASE_URL", Cluster::get().connection_string(db.name()))
            .env("RUST_LOG", "warn")
            .arg("migrate")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    [
        ("psql", db.psql("\\i sql/install.sql")),
        ("kronos-ingest migrate", worker()),
        ("kronos.install()", db.psql("call kronos.install()")),
    ]
}

/// As it was found: a role with CREATE on the database lays out the schema, and a superuser sets up over it.
#[test]
fn set_up_runs_nothing_that_others_left_in_its_schemas() {
    // What the owner and then the stranger S have prepared, and what the refusal names.
    let prepared: [(&str, &str, &str); 7] = [
        ("", "create schema market", "schema \"market\""),
        ("", "create schema ledger; create table ledger.runs (run_id bigint)", "schema \"ledger\""),
        ("", "create schema training", "schema \"training\""),
        (
            "create schema market; grant create, usage on schema market to S",
            "create table market.installed_files (file text primary key, version integer, timescale text, installed_at timestamptz,
                                                  installed_by text);
             create function market.attack() returns trigger language plpgsql as $$ begin alter role S superuser; return new; end $$;
             create trigger attack before insert on market.installed_files for each row execute function market.attack()",
            "belongs to role",
        ),
        (
            "create schema market; grant create, usage on schema market to S",
            "create function market.timescale_edition() returns text language plpgsql as
             $$ begin alter role S superuser; return 'none'; end $$",
            "function \"market.timescale_edition()\"",
        ),
        (
            "create schema trading; grant create, usage on schema trading to S",
            "create type trading.mood as enum ('up')",
            "type \"trading.mood\"",
        ),
        // The privilege TRIGGER on a table of the owner, and a function in a schema of the stranger's own.
        (
            "create schema market; create table market.installed_files (file text primary key, version integer, timescale text,
               installed_at timestamptz, installed_by text);
             grant usage on schema market to S; grant trigger on market.installed_files to S",
            "create schema lair;
             create function lair.attack() returns trigger language plpgsql as $$ begin alter role S superuser; return new; end $$;
             create trigger attack before insert on market.installed_files for each row execute function lair.attack()",
            "trigger \"attack on market.installed_files\"",
        ),
    ];
    for (number, (owner, stranger, named)) in prepared.iter().enumerate() {
        let db = Database::empty(&format!("security_set_up_{number}"));
        let role = db.role("stranger");
        db.run(&format!("create extension kronos; grant create on database {} to {role}", db.name()));
        if !owner.is_empty() {
            db.run(&owner.replace('S', &role));
        }
        let script = stranger.replace(" S ", &format!(" {role} "));
        db.connect_as(&role).batch_execute(&script).unwrap_or_else(|error| panic!("{script}: {error:?}"));
        for (door, said) in set_up(&db) {
            assert!(said.contains(named) && said.contains(&role), "{door} over {script}: {said}");
            assert!(!is_superuser(&db, &role), "{door} over {script}");
        }
    }
}

/// The owner of the database is trusted with the data, not with the rights of a superuser who comes by.
#[test]
fn a_superuser_does_not_set_up_over_what_the_owner_of_the_database_has_made() {
    let db = Database::empty("security_set_up_owner");
    let owner = db.role("owner");
    db.run(&format!(
        "create extension kronos; grant create on schema kronos to {owner}; select kronos.grant_access('{owner}', 'admin');
         alter database {} owner to {owner}",
        db.name()
    ));
    db.connect_as(&owner).batch_execute("call kronos.install()").unwrap();
    db.connect_as(&owner).batch_execute("call kronos.install()").unwrap();
    for (door, said) in set_up(&db) {
        assert!(said.contains("who is neither a superuser nor"), "{door}: {said}");
        assert!(said.contains(&owner), "{door}: {said}");
    }
    db.run(&format!("set role {owner}; call kronos.install()"));
}
