//! Rows of a result.

use postgres::{Client, SimpleQueryMessage};

/// One row of a result, as PostgreSQL writes its values; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Rows of the last statement of `sql` that returns any, in a given connection.
#[track_caller]
pub fn rows(client: &mut Client, sql: &str) -> Vec<Row> {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    rows
}
