//! Events: what was known of them, by hand and against the rule written down again; as vendors tell of them; whatever comes later.

mod later;
mod rule;
mod vendors;

use kronos_tests::Database;

/// Stores a document as the worker does: known when it was received, unless the tables date it otherwise.
fn tell(db: &Database, kind: &str, key: &str, symbol: Option<&str>, received_at: &str, payload: &str) {
    let symbol = symbol.map_or("null".to_owned(), |symbol| format!("'{symbol}'"));
    let source = kind.split('_').next().unwrap();
    db.run(&format!(
        "insert into market.{kind} (source, kind, key, symbol, known_at, received_at, payload, digest)
         select '{source}', '{kind}', $key${key}$key$, {symbol}, '{received_at}', '{received_at}', p, sha256((p::text || '{received_at}')::bytea)
         from (select $p${payload}$p$::jsonb as p) x"
    ));
}

/// Rows of a query, their values with blanks between.
fn said(db: &Database, query: &str) -> Vec<String> {
    let values = |row: kronos_tests::Row| {
        let values: Vec<String> = row.into_iter().map(|value| value.unwrap_or("-".to_owned())).collect();
        values.join(" ")
    };
    db.rows(query).into_iter().map(values).collect()
}

/// Instants as `2026-11-20 13:30:00`, by the clock of UTC.
fn utc(column: &str) -> String {
    format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')")
}
