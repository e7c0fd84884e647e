//! Code that a relation holds: it runs when its rows are copied, in the session of whoever asks, and nowhere else.

use super::{OPTIONS, SECRET, Tenants};

/// The attack is one: in a session that could be somebody else, nothing but the role that was set holds it back.
#[test]
fn code_that_runs_under_set_role_finds_the_secret() {
    let tenants = Tenants::new("training_control");
    let mut client = tenants.db.connect_as(tenants.worker.role());
    client.batch_execute(&format!("begin read only; set local role {}", tenants.attacker)).unwrap();
    let found: String = client.query_one("select den.loot()", &[]).unwrap().get(0);
    assert!(found.starts_with(SECRET), "{found}");
    let own: String =
        tenants.db.connect_as(&tenants.attacker).query_one("select den.loot()", &[]).unwrap().get(0);
    assert_eq!(own, "nothing");
}

/// The attack as it was found: a cast of a composite column runs when the column is read.
#[test]
fn casts_of_composite_columns_are_refused_and_harmless() {
    let tenants = Tenants::new("training_casts");
    tenants.as_attacker(
        "create type den.money as (amount float8);
         create function den.of_money(den.money) returns float8 language sql as 'select den.number(($1).amount)';
         create function den.name_of(den.money) returns text language sql as 'select den.loot()';
         create cast (den.money as float8) with function den.of_money(den.money) as implicit;
         create cast (den.money as text) with function den.name_of(den.money) as implicit;
         create table den.cast_bars as select symbol, ts, row(close)::den.money as close, close as plain from den.bars",
    );
    assert!(tenants.ask("den.cast_bars", "{close}").unwrap_err().contains("has type den.money"));
    let named = OPTIONS.replace("\"series_col\": \"symbol\"", "\"series_col\": \"close\"");
    let sql = format!("select kronos.train_model('m', 'nbeats', 'den.cast_bars', '{{plain}}', '{named}')");
    tenants
        .db
        .error_in(&mut tenants.db.connect_as(&tenants.attacker), &sql)
        .is("42804", "column \"close\" of \"den.cast_bars\" has type den.money");
    // Written into the queue by hand: the worker reads no relation at all.
    tenants.as_attacker(&format!(
        "insert into training.jobs (name, family, relation, targets, options)
         values ('m', 'nbeats', 'den.cast_bars', '{{close}}', '{OPTIONS}')"
    ));
    tenants.harmless();
    assert_eq!(tenants.states(), "failed");
    assert!(tenants.db.value("select message from training.jobs").contains("there are no rows"));
}

#[test]
fn views_and_their_functions_are_harmless() {
    let tenants = Tenants::new("training_views");
    tenants.as_attacker(
        "create view den.numbers as select symbol, ts, den.number(close) as close from den.bars where ts > '2023-06-01';
         create view den.names as select symbol || case when ts = '2021-01-01' then den.loot() else 'nothing' end as symbol, ts, close
                                  from den.bars;
         -- What the caller's search path finds is the caller's own affair.
         create function den.float8(numeric) returns float8 language sql as 'select den.number(1)';
         create operator den.> (leftarg = timestamptz, rightarg = timestamptz, function = timestamptz_gt)",
    );
    for relation in ["den.numbers", "den.names"] {
        tenants.ask(relation, "{close}").unwrap();
    }
    tenants.harmless();
    // The first has too few rows to learn from.
    assert_eq!(tenants.states(), "failed done");
    assert_eq!(
        tenants.db.value("select string_agg(distinct series, ' ' order by series) from training.best_fits"),
        "Anothing Bnothing"
    );
}

/// A function that says it is steady, and is not: what was tested is not what is read.
#[test]
fn functions_that_change_their_mind_are_harmless() {
    let tenants = Tenants::new("training_fickle");
    tenants.as_attacker(
        "create function den.fickle(text) returns text language plpgsql immutable as $f$
         declare
           n integer := coalesce(nullif(current_setting('den.n', true), ''), '0');
         begin
           perform set_config('den.n', (n + 1)::text, false);
           return case when n % 2 = 0 then $1 end;
         end $f$;
         -- Three conditions look at a time before it is read.
         create function den.whenever(timestamptz) returns timestamptz language plpgsql immutable as $f$
         declare
           n integer := coalesce(nullif(current_setting('den.t', true), ''), '0');
         begin
           perform set_config('den.t', (n + 1)::text, false);
           return case when n % 4 = 3 then 'infinity' else $1 end;
         end $f$;
         create view den.fickle_names as select den.fickle(symbol) as symbol, ts, close from den.bars;
         create view den.fickle_times as select symbol, den.whenever(ts) as ts, close from den.bars",
    );
    for (relation, expected) in
        [("den.fickle_names", "must not be null"), ("den.fickle_times", "has a row at")]
    {
        let error = tenants.ask(relation, "{close}").unwrap_err();
        assert!(error.contains(expected), "{relation}: {error}");
    }
    tenants.harmless();
}

#[test]
fn functions_of_row_security_are_harmless() {
    let tenants = Tenants::new("training_row_security");
    tenants.as_attacker(
        "alter table den.bars enable row level security; alter table den.bars force row level security;
         create policy p on den.bars using (ts > '2021-01-03' or den.number(close) > 0)",
    );
    tenants.ask("den.bars", "{close}").unwrap();
    tenants.harmless();
    assert_eq!(tenants.states(), "done");
}

#[test]
fn functional_indexes_are_harmless() {
    let tenants = Tenants::new("training_indexes");
    tenants.as_attacker(
        "create table den.few as select * from den.bars where ts < '2021-01-20';
         create index on den.few (den.steady(close)); create index on den.few (symbol, ts) where den.steady(close) > 0;
         analyze den.few",
    );
    tenants.ask("den.few", "{close}").unwrap();
    tenants.harmless();
    assert_eq!(tenants.states(), "failed", "20 days are too few");
}

#[test]
fn checks_of_domains_and_generated_columns_are_harmless() {
    let tenants = Tenants::new("training_domains");
    tenants.as_attacker(
        "create domain den.price as float8 check (den.steady(value) > 0);
         create view den.of_domain as select symbol, ts, close::den.price as close from den.bars where ts < '2021-01-20';
         create table den.generated (symbol text, ts timestamptz, raw float8, close float8 generated always as (den.steady(raw)) stored);
         insert into den.generated select symbol, ts, close from den.bars where ts < '2021-01-20'",
    );
    for relation in ["den.of_domain", "den.generated"] {
        tenants.ask(relation, "{close}").unwrap();
    }
    tenants.harmless();
    assert_eq!(tenants.states(), "failed failed", "20 days are too few");
}

/// A foreign table back into this server would log in as whoever runs the server's process.
#[test]
fn foreign_tables_are_harmless() {
    let tenants = Tenants::new("training_foreign");
    let attacker = &tenants.attacker;
    let there = "select count(*) from pg_available_extensions where name in ('postgres_fdw', 'file_fdw')";
    if tenants.db.value(there) != "2" {
        kronos_skip::skipped("postgres_fdw and file_fdw are not installed", "install the contrib modules");
        return;
    }
    tenants.db.run(&format!(
        "create extension postgres_fdw; create extension file_fdw;
         grant usage on foreign data wrapper postgres_fdw, file_fdw to {attacker}"
    ));
    let name = tenants.db.name();
    let socket = tenants.db.value("show unix_socket_directories");
    tenants.as_attacker(&format!(
        "create server back foreign data wrapper postgres_fdw options (host '{}', dbname '{name}');
         create user mapping for {attacker} server back options (user '{}');
         create foreign table den.back (symbol text, ts timestamptz, close float8) server back options (schema_name 'den', table_name 'bars')",
        socket.trim_matches('"'),
        tenants.victim
    ));
    // Without a password nobody but a superuser gets through.
    assert!(tenants.ask("den.back", "{close}").unwrap_err().contains("password"));
    let file = tenants.db.connect_as(attacker).batch_execute(
        "create server files foreign data wrapper file_fdw;
         create foreign table den.file (symbol text, ts timestamptz, close float8) server files options (filename '/etc/passwd')",
    );
    assert_eq!(file.unwrap_err().code().unwrap().code(), "42501");
    tenants.harmless();
}
