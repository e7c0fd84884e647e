//! Which column tells series apart, and whose rows a name stands for: as the database compares its values.

use kronos_tests::Database;

/// Two series about 100 and about 500, whose names differ by more than their first letter.
fn prices(db: &Database, table: &str, type_of: &str, names: [&str; 2]) {
    db.run(&format!(
        "create table {table} (symbol {type_of} not null, time timestamptz not null, open float8, high float8, low float8, close float8,
                               primary key (symbol, time));
         insert into {table}
         select s::{type_of}, timestamptz '2024-01-01' + n * interval '1 day', p, 1.02 * p, 0.98 * p, p
         from generate_series(0, 99) n, (values ('{}', 100), ('{}', 500)) v (s, level), lateral (select level * (1 + 0.01 * sin(n)) as p) x",
        names[0], names[1]
    ));
}

#[test]
fn a_name_stands_for_its_own_series_whatever_the_type_of_the_key() {
    let db = Database::installed("predict_keys");
    db.run(
        "create domain tick as char(8); create domain ticker as tick; create domain code as varchar(8) check (value <> '');
         create collation nocase (provider = icu, locale = 'und', deterministic = false)",
    );
    let words = ["A", "AAPL"];
    let uuids = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-0000000000b0"];
    let types = [
        ("text", words),
        ("varchar(8)", words),
        ("char(8)", words),
        ("bpchar", words),
        ("name", words),
        ("tick", words),
        ("ticker", words),
        ("code", words),
        ("text collate nocase", words),
        ("smallint", ["1", "100"]),
        ("integer", ["1", "100"]),
        ("bigint", ["1", "10000000000"]),
        ("uuid", uuids),
    ];
    for (number, (type_of, names)) in types.into_iter().enumerate() {
        let table = format!("t{number}");
        // A cast names no collation.
        let cast = type_of.split(" collate").next().unwrap();
        prices(&db, &table, cast, names);
        if cast != type_of {
            db.run(&format!("alter table {table} alter symbol type {type_of}"));
        }
        let second = names[1];
        let one = |call: &str| {
            db.rows(&format!("select distinct series, round(coalesce(close, 0)) > 300 from {call}"))
                .into_iter()
                .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let only = format!("only_series => '{{{second}}}'");
        assert_eq!(one(&format!("kronos_predict('{table}', 1, {only})")), format!("{second} t"), "{type_of}");
        for call in [
            format!(
                "(select *, forecast as close from forecast('naive', '{table}', '{{close}}', 1, {only})) f"
            ),
            format!(
                "(select *, forecast as close from chronos_predict('{table}', '{{close}}', 1, {only})) f"
            ),
            format!(
                "(select *, actual as close from backtest('naive', '{table}', 1, {only}, num_windows => 2, baselines => '{{}}')) f"
            ),
        ] {
            assert_eq!(one(&call), format!("{second} t"), "{type_of}: {call}");
        }
        let chart =
            db.value(&format!("select chart('{table}', '{second}', history => 20, format => 'text')"));
        let around_500 = |line: &str| line.starts_with("50") && line.contains('┤');
        assert!(chart.starts_with(second) && chart.lines().any(around_500), "{type_of}: {chart}");
        // What the key's type cannot read, or nobody has, is a series without rows; the others are answered.
        assert_eq!(
            db.value(&format!(
                "select string_agg(format('%s %s', series, status), ', ' order by series collate \"C\")
                 from forecast('naive', '{table}', '{{close}}', 1, only_series => '{{{second},no such}}')"
            )),
            if second < "no such" { format!("{second} , no such no_rows") } else { unreachable!() },
            "{type_of}"
        );
    }
}

/// Other types have equality too, but one value may have several texts, and a text is what names a series: a view says which.
#[test]
fn a_key_of_any_other_type_is_refused_and_its_text_serves() {
    let db = Database::installed("predict_key_types");
    db.run("create type venue as enum ('alpha', 'beta'); create type pair as (base text, quote text)");
    let types = [
        ("numeric", ["1", "100"]),
        ("double precision", ["1", "100"]),
        ("boolean", ["false", "true"]),
        ("date", ["2024-01-01", "2024-01-02"]),
        ("interval", ["1 day", "2 days"]),
        ("inet", ["10.0.0.1", "10.0.0.2"]),
        ("macaddr", ["08:00:2b:01:02:03", "08:00:2b:01:02:04"]),
        ("bytea", ["\\x01", "\\x02"]),
        ("bit(4)", ["0001", "0010"]),
        ("oid", ["1", "100"]),
        ("\"char\"", ["a", "b"]),
        ("int4range", ["[1,2)", "[3,5)"]),
        ("text[]", ["{a}", "{b,c}"]),
        ("jsonb", ["{\"a\": 1}", "{\"a\": 2}"]),
        ("venue", ["alpha", "beta"]),
        ("pair", ["(BTC,USD)", "(ETH,USD)"]),
    ];
    for (number, (type_of, names)) in types.into_iter().enumerate() {
        let table = format!("t{number}");
        prices(&db, &table, type_of, names);
        let call = |relation: &str| {
            format!("kronos_predict('{relation}', 1, series_col => 'symbol', time_col => 'time')")
        };
        let error = db.error(&format!("select * from {}", call(&table)));
        assert_eq!(error.code, "42804", "{type_of}: {}", error.message);
        assert!(error.message.contains("expected text, integer or uuid"), "{type_of}: {}", error.message);
        assert!(error.hint.contains("Cast it in a view"), "{type_of}: {}", error.hint);
        db.run(&format!(
            "create view v{number} as select symbol::text, time, open, high, low, close from {table}"
        ));
        let second = db.value(&format!("select symbol::text from {table} where close > 300 limit 1"));
        let told = db.value(&format!(
            "select count(*) || ' ' || count(*) filter (where close > 300 and series = $s${second}$s$) from {}",
            call(&format!("v{number}"))
        ));
        assert_eq!(told, "2 1", "{type_of}");
    }
}

#[test]
fn a_count_is_no_key() {
    let db = Database::installed("predict_counts");
    db.run(
        "create table counted as
         select time, open, high, low, close, round(volume)::bigint as volume from simulate_bars(n => 60, seed => 3, bucket_width => '1 day')",
    );
    for call in ["forecast('naive', 'counted', '{close}', 1)", "chronos_predict('counted', '{close}', 1)"] {
        db.error(&format!("select * from {call}"))
            .is("42P18", "cannot tell the series column of \"public.counted\"")
            .detail("It may be volume, which is no part of a unique key with the time.")
            .hint("Pass series_col => '...'; for one single series, make the time a unique key");
    }
    assert_eq!(db.value("select count(*) from kronos_predict('counted', 1)"), "1", "its own volume is taken");
    db.run("create unique index on counted (time)");
    assert_eq!(
        db.value(
            "select format('%s %s', count(*), count(series)) from forecast('naive', 'counted', '{close}', 1)"
        ),
        "1 0"
    );
}

#[test]
fn a_column_that_is_not_there_is_looked_for_under_its_other_names() {
    let db = Database::new("predict_names");
    db.run(
        "create table pandas (\"Date\" timestamptz primary key, \"Open\" float8, \"High\" float8, \"Low\" float8, \"Close\" float8);
         create table closes (time timestamptz primary key, close float8);
         create table epochs (ts bigint primary key, open float8, high float8, low float8, close float8)",
    );
    db.error("select * from kronos_predict('pandas', 1)")
        .is("42703", "column \"open\" of \"public.pandas\" does not exist")
        .hint("Did you mean \"Open\"?");
    db.error("select * from kronos_predict('closes', 1)")
        .is("42703", "column \"open\" of \"public.closes\" does not exist")
        .hint("targets => '{close}'");
    db.error("select * from kronos_predict('epochs', 1)")
        .is("42P18", "cannot tell the time column of \"public.epochs\"")
        .hint("to_timestamp(\"ts\" / 1000.0)");
    db.error("select * from kronos_predict('epochs', 1, time_col => 'ts')")
        .is("42804", "column \"ts\" of \"public.epochs\" has type bigint")
        .hint("to_timestamp(\"ts\" / 1000.0)");
}

/// No rows and no word would look like a forecast that was forgotten.
#[test]
fn a_relation_without_rows_is_told_of() {
    let db = Database::new("predict_empty");
    db.run(&kronos_tests::bars("bars", &["A"], 60));
    db.run("create table empty (like bars including all)");
    for (call, relation) in [
        ("kronos_predict('empty', 2)", "empty"),
        ("chronos_predict('empty', '{close}', 2)", "empty"),
        ("forecast('naive', 'empty', '{close}', 2)", "empty"),
        ("kronos_predict('bars', 2, as_of => '2001-01-01 00:00+00')", "bars"),
        ("forecast('naive', 'bars', '{close}', 2, as_of => '2001-01-01 00:00+00')", "bars"),
    ] {
        let said = db.psql(&format!("select count(*) from {call};"));
        let notice = format!("NOTICE:  relation \"public.{relation}\" has no rows known at ");
        assert!(said.contains(&notice) && said.contains("     0\n"), "{call}: {said}");
    }
    let named = db.psql("select count(*) from kronos_predict('empty', 2, only_series => '{A}');");
    assert!(!named.contains("NOTICE") && named.contains("     1\n"), "a status row says it: {named}");
}
