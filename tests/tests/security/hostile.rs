//! Generated calls of everything that a role of each level may call, with hostile names, texts, relations and settings: nothing of the
//! caller's runs as anybody else.
//!
//! Whatever the caller can put in the way counts as whom it runs, in sequences, which no rollback takes back.

use kronos_tests::{Database, rows};
use postgres::Client;

/// Calls by each role; `KRONOS_HOSTILE=500` makes so many of every function instead.
const CALLS: usize = 500;

/// The traps of a role in schema `evil`: functions and operators that are found instead of the server's by whoever looks for them with
/// the caller's search path, a view, a type with a cast, an index and row security that call them.
const TRAPS: &str = r#"
    create schema evil;
    create sequence evil.mine; create sequence evil.others;
    grant usage on schema evil to public;
    grant all on all sequences in schema evil to public;
    create function evil.hit() returns boolean language plpgsql volatile set search_path = pg_catalog as $$
    begin
      if current_user = '@' then perform nextval('evil.mine'); else perform nextval('evil.others'); end if;
      return true;
    end $$;
    create function evil.lower(text) returns text language plpgsql as 'begin perform evil.hit(); return $1; end';
    create function evil.now() returns timestamptz language plpgsql as 'begin perform evil.hit(); return pg_catalog.now(); end';
    create function evil.format(text, text) returns text language plpgsql as 'begin perform evil.hit(); return $1; end';
    create function evil.quote_ident(text) returns text language plpgsql as 'begin perform evil.hit(); return $1; end';
    create function evil.to_regclass(text) returns regclass language plpgsql as 'begin perform evil.hit(); return null; end';
    create function evil.current_setting(text) returns text language plpgsql as 'begin perform evil.hit(); return $1; end';
    create function evil.has_table_privilege(regclass, text) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.has_table_privilege(oid, text) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.pg_has_role(oid, text) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.clock_timestamp() returns timestamptz language plpgsql as 'begin perform evil.hit(); return pg_catalog.now(); end';
    create function evil.same(text, text) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.same(name, name) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.same(oid, oid) returns boolean language plpgsql as 'begin return evil.hit(); end';
    create function evil.joined(text, text) returns text language plpgsql as 'begin perform evil.hit(); return $1; end';
    create operator evil.= (function = evil.same, leftarg = text, rightarg = text);
    create operator evil.<> (function = evil.same, leftarg = text, rightarg = text);
    create operator evil.= (function = evil.same, leftarg = name, rightarg = name);
    create operator evil.= (function = evil.same, leftarg = oid, rightarg = oid);
    create operator evil.|| (function = evil.joined, leftarg = text, rightarg = text);
    create type evil.pair as (n float8);
    create function evil.number(evil.pair) returns float8 language plpgsql as 'begin perform evil.hit(); return 1.0; end';
    create cast (evil.pair as float8) with function evil.number(evil.pair) as implicit;
    create table evil.plain (symbol text, ts timestamptz, open float8, high float8, low float8, close float8, volume float8, amount float8,
                             step int, forecast float8, lower float8, upper float8, cutoff timestamptz, model_version text);
    insert into evil.plain select 'A', timestamptz '2024-01-01' + i * interval '1 hour', 1, 1, 1, 1 + i % 3, 1, 1, 1, 1, 1, 1, '2024-01-01', 'naive'
    from generate_series(1, 40) i;
    create function evil.indexed(float8) returns float8 language plpgsql immutable as 'begin perform evil.hit(); return $1; end';
    create index on evil.plain (evil.indexed(close));
    create view evil.trap as select p.*, row(close)::evil.pair as pair from evil.plain p where evil.hit();
    create table evil.rows as select * from evil.plain;
    alter table evil.rows enable row level security; alter table evil.rows force row level security;
    create policy p on evil.rows using (evil.hit());
    create table evil."x""; select evil.hit(); --" as select * from evil.plain;
    grant select on all tables in schema evil to public"#;

/// Hostile values of a type; every type has NULL beside them.
fn values(type_name: &str) -> &'static [&'static str] {
    match type_name {
        "text" | "name" => &[
            "'; select evil.hit(); --",
            "select evil.hit() as series, 1 as sector",
            "select symbol, 0.01 as expected_return, evil.hit()::text as halt from evil.trap",
            "\"; drop schema ledger cascade; --",
            "evil.trap",
            "close",
            "pair",
            "symbol",
            "$$ || evil.hit() || $$",
            "%I %s %1$s",
            "naive",
            "learnt",
            "hourly",
            "../../etc/passwd",
            "market_operator",
            "postgres",
            "",
        ],
        "regclass" => &[
            "evil.trap",
            "evil.rows",
            "evil.plain",
            "evil.\"x\"\"; select evil.hit(); --\"",
            "public.secret",
            "pg_catalog.pg_authid",
        ],
        "text[]" | "name[]" => &[
            "{close}",
            "{pair}",
            "{\"'; select evil.hit(); --\"}",
            "{\"\\\" from evil.trap; --\"}",
            "{A}",
            "{}",
        ],
        "jsonb" => &[
            "{}",
            "{\"groups\": \"select evil.hit()::text as series, evil.hit()::text as sector\"}",
            "{\"columns\": {\"close\": \"pair\"}}",
            "{\"calendar\": \"'; select evil.hit(); --\", \"timezone\": \"x'; select evil.hit()\"}",
            "{\"known_at_col\": \"ts\", \"samples\": 2}",
            "{\"seed\": \"1); select evil.hit(); --\"}",
            "[]",
        ],
        "regrole" => &["@", "postgres"],
        "integer" | "bigint" | "smallint" => &["1", "3", "0", "-1", "2147483647"],
        "double precision" | "numeric" | "real" => &["0.9", "0", "-1", "NaN", "Infinity"],
        "double precision[]" => &["{0.1,0.5,0.9}", "{NaN}", "{}"],
        "boolean" => &["t", "f"],
        "interval" => &["1 hour", "1 day", "-1 month", "0"],
        "timestamp with time zone" => &["2024-01-02 03:00+00", "infinity", "-infinity"],
        "date" => &["2024-01-02", "infinity"],
        "numrange" => &["[0,1]", "empty"],
        "oid" => &["0", "10"],
        _ => &[],
    }
}

/// Settings that anybody may change, and some that they may not.
const SETTINGS: &[&str] = &[
    "set search_path = evil, pg_catalog, kronos, market, ledger, trading, public",
    "set search_path = pg_catalog, public",
    "set datestyle = 'SQL, DMY'",
    "set datestyle = 'ISO, MDY'",
    "set intervalstyle = 'sql_standard'",
    "set timezone = 'Pacific/Kiritimati'",
    "set extra_float_digits = -15",
    "set standard_conforming_strings = off",
    "set check_function_bodies = off",
    "set row_security = off",
    "reset row_security",
    "set local_preload_libraries = 'evil'",
    "set session_preload_libraries = 'evil'",
    "set role = 'postgres'",
    "set session authorization 'postgres'",
    "set ledger.retention = 'on'",
    "set market.keeps_bars = 'on'",
    "set kronos.default_model = 'evil.trap'",
];

/// A sequence that is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// A function that a role may call.
struct Callable {
    name: String,
    is_procedure: bool,
    arguments: Vec<String>,
    defaults: usize,
}

fn callable(client: &mut Client) -> Vec<Callable> {
    let sql = "select p.oid::regproc::text, p.prokind = 'p', p.pronargdefaults::text,
                      coalesce((select string_agg(format_type(t, null), ';' order by n) from unnest(p.proargtypes::oid[]) with ordinality a (t, n)), '')
               from pg_proc p join pg_namespace n on n.oid = p.pronamespace
               where n.nspname in ('kronos', 'market', 'market_internal', 'ledger', 'trading', 'training')
                 and has_function_privilege(p.oid, 'EXECUTE') and has_schema_privilege(n.oid, 'USAGE')
                 and p.prokind in ('f', 'p') and p.prorettype <> 'trigger'::regtype and not 'internal'::regtype = any (p.proargtypes)
               order by 1, 4";
    let text = |row: &[Option<String>], column: usize| row[column].clone().unwrap_or_default();
    rows(client, sql)
        .iter()
        .map(|row| Callable {
            name: text(row, 0),
            is_procedure: text(row, 1) == "t",
            arguments: text(row, 3).split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            defaults: text(row, 2).parse().unwrap_or(0),
        })
        .collect()
}

impl Callable {
    /// A call with values drawn for its arguments, of which the last may be left out.
    fn call(&self, dice: &mut Dice, attacker: &str) -> String {
        let count = self.arguments.len() - dice.roll(self.defaults + 1);
        let argument = |type_name: &String| {
            let values = values(type_name);
            let drawn = dice.roll(values.len() + 1);
            match values.get(drawn) {
                Some(value) => {
                    let value = value.replace('@', attacker).replace('\\', "\\\\").replace('\'', "\\'");
                    format!("E'{value}'::{type_name}")
                }
                None => format!("null::{type_name}"),
            }
        };
        let arguments: Vec<String> = self.arguments[..count].iter().map(argument).collect();
        let call = format!("{}({})", self.name, arguments.join(", "));
        if self.is_procedure { format!("call {call}") } else { format!("select * from {call}") }
    }
}

/// What nobody but the owner may change or read, in one text.
fn untouched(db: &Database, attacker: &str) -> String {
    db.value(&format!(
        "select concat_ws(' ', (select r::text from (select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = '{attacker}') r),
                (select string_agg(m.roleid::regrole::text, ',') from pg_auth_members m where m.member = '{attacker}'::regrole), (select md5(string_agg(p.oid::text || p.proowner || p.prosrc, '' order by p.oid)) from pg_proc p
                 join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('kronos', '_kronos', 'market', 'market_internal', 'ledger', 'trading', 'training')),
                (select string_agg(c.oid::regclass || ':' || c.relowner, ',' order by c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where n.nspname in ('kronos', '_kronos', 'market', 'ledger', 'trading', 'training') and c.relkind in ('r', 'v', 'p', 'm')),
                (select count(*) from ledger.forecasts f where f.relation = 'public.secret'::regclass),
                (select count(*) from market.trades), (select string_agg(note, '') from public.secret))"
    ))
}

/// What the owner and others do in the days after: none of it may run what the attacker has left.
fn later(db: &Database) {
    let mut owner = db.connect();
    for statement in [
        "call market.maintenance()",
        "call market.apply_retention()",
        "select * from kronos.forecasts",
        "select * from kronos.latest_forecasts",
        "select * from kronos.policies",
        "select * from kronos.calibrations",
        "select * from kronos.stat_policies",
        "select * from kronos.training_jobs",
        "select * from _kronos.due_policies()",
        "select * from kronos.diagnostics()",
        "call kronos.install()",
    ] {
        if let Err(error) = owner.simple_query(statement) {
            panic!("{statement}: {error:?}");
        }
    }
}

fn attack(test: &str, groups: &[&str], level: Option<&str>, least: usize) {
    let db = Database::installed(test);
    let attacker = db.role(test);
    for group in groups {
        db.run(&format!("grant {group} to {attacker}"));
    }
    if let Some(level) = level {
        db.run(&format!("select kronos.grant_access('{attacker}', '{level}')"));
    }
    db.run(&format!(
        "create table public.secret (symbol text, ts timestamptz, open float8, high float8, low float8, close float8, note text);
         insert into public.secret select 'S', timestamptz '2024-01-01' + i * interval '1 hour', 1, 1, 1, 4711 + i, 'nobody reads this'
         from generate_series(1, 40) i;
         grant create on database {} to {attacker}",
        db.name()
    ));
    let mut session = db.connect_as(&attacker);
    session.batch_execute(&TRAPS.replace('@', &attacker)).unwrap();
    let callable = callable(&mut session);
    assert!(callable.len() >= least, "{} may call {} functions", test, callable.len());
    let before = untouched(&db, &attacker);
    let mut dice = Dice(test.bytes().map(u64::from).sum());
    let each = std::env::var("KRONOS_HOSTILE").ok().and_then(|count| count.parse::<usize>().ok());
    let calls = each.map_or(CALLS.max(callable.len()), |each| each * callable.len());
    session.batch_execute("set statement_timeout = '3s'").unwrap();
    let mut leaked = Vec::new();
    for number in 0..calls {
        if number % 3 == 0 {
            // Some of them are refused.
            let _ = session.batch_execute(SETTINGS[dice.roll(SETTINGS.len())]);
        }
        let call = callable[number % callable.len()].call(&mut dice, &attacker);
        let answer = session.simple_query(&call);
        if let Err(error) = &answer
            && let Some(error) = error.as_db_error()
        {
            assert_ne!(error.code().code(), "XX000", "{call}: {error:?}");
        }
        if format!("{answer:?}").contains("nobody reads this") {
            leaked.push(call);
        }
        assert!(!session.is_closed(), "the session ended with the call before number {number}");
    }
    assert!(leaked.is_empty(), "{leaked:?}");
    later(&db);
    let hits = |sequence: &str| db.value(&format!("select is_called from evil.{sequence}"));
    assert_eq!(hits("others"), "f", "a trap ran as somebody else");
    if level.is_some() {
        assert_eq!(hits("mine"), "t", "the traps work");
    }
    assert_eq!(untouched(&db, &attacker), before);
    db.run(&format!("drop owned by {attacker} cascade"));
}

#[test]
fn a_role_that_forecasts_runs_nothing_as_another() {
    attack("hostile_use", &[], Some("use"), 15);
}

#[test]
fn a_role_that_operates_runs_nothing_as_another() {
    attack("hostile_operate", &["market_operator"], Some("operate"), 50);
}

#[test]
fn a_role_that_administers_models_runs_nothing_as_another() {
    attack("hostile_admin", &["market_ingestor", "market_reader"], Some("admin"), 50);
}

#[test]
fn a_role_without_a_level_runs_nothing_as_another() {
    attack("hostile_nobody", &[], None, 2);
}
