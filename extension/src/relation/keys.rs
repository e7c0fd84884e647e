//! The keys of the series of a relation, and the index that leads to them.

use super::catalogue::dimension;
use super::{Relation, quote};
use crate::error::Result;
use crate::statement::{self, Sight};
use pgrx::spi::{Spi, SpiClient};

/// Rows of a relation for each that is wanted, from which on looking series up is less work than reading all of them.
const ROWS_PER_WANTED: f64 = 4.0;

/// The distinct keys in the column `key`, as text; NULL is none.
///
/// Where an index begins with the column, its steps are walked: a few pages per key. Where TimescaleDB does that by itself,
/// in each chunk once, it is left to it: a walk from here would look into every chunk for each key. Else every row is read.
///
/// # Errors
/// What the server raises.
pub fn keys(relation: &Relation, key: &str) -> Result<Vec<String>> {
    let (column, from) = (quote(key), relation.quoted());
    Spi::connect(|client| {
        if Index::of(client, relation, key, None)?.is_some() && !skips(client, relation)? {
            return walk(client, relation, key, None);
        }
        let text = format!(
            "select k.v::pg_catalog.text
             from (select distinct t.{column} as v from {from} t where t.{column} is not null) k order by 1"
        );
        column_of(client, &text)
    })
}

/// All keys, where so few of the rows are wanted that each series is better looked up: `keep` rows of it, by an index on key and
/// time. `None` where the server cannot tell that, or where rows without a key may be among them.
///
/// # Errors
/// What the server raises.
pub fn worth_looking_up(
    relation: &Relation,
    key: &str,
    time: &str,
    keep: usize,
) -> Result<Option<Vec<String>>> {
    Spi::connect(|client| {
        let Some(Index { with_time: true, not_null: true, rows }) =
            Index::of(client, relation, key, Some(time))?
        else {
            return Ok(None);
        };
        let most = rows / (ROWS_PER_WANTED * keep as f64);
        if most < 1.0 {
            return Ok(None);
        }
        let found = walk(client, relation, key, Some(most as usize + 1))?;
        Ok(Some(found).filter(|found| found.len() as f64 <= most))
    })
}

/// Whether an index on key and time finds the newest rows of a series.
///
/// # Errors
/// What the server raises.
pub fn is_indexed(relation: &Relation, key: &str, time: &str) -> Result<bool> {
    Spi::connect(|client| {
        Ok(Index::of(client, relation, key, Some(time))?.is_some_and(|index| index.with_time))
    })
}

/// The first keys in the order of an index that begins with their column.
fn walk(client: &SpiClient<'_>, relation: &Relation, key: &str, limit: Option<usize>) -> Result<Vec<String>> {
    let (column, from) = (quote(key), relation.quoted());
    let limit = limit.map_or_else(String::new, |limit| format!(" limit {limit}"));
    let text = format!(
        "with recursive k(v) as (
           (select t.{column} from {from} t where t.{column} is not null order by t.{column} limit 1)
           union all
           select (select t.{column} from {from} t where t.{column} operator(pg_catalog.>) k.v
                   order by t.{column} limit 1)
           from k where k.v is not null)
         select k.v::pg_catalog.text from k where k.v is not null{limit}"
    );
    column_of(client, &text)
}

fn column_of(client: &SpiClient<'_>, text: &str) -> Result<Vec<String>> {
    let rows = statement::select_text(client, Sight::Query, text, &[])?;
    let found = rows.into_iter().map(|row| row.get::<String>(1)).collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// The names that a key of the type `type_of`, as a cast names it, can have; the others name no series.
pub fn readable(names: &[String], type_of: &str) -> Vec<String> {
    let is_readable = |name: &str| match type_of {
        "smallint" => name.parse::<i16>().is_ok(),
        "integer" => name.parse::<i32>().is_ok(),
        "bigint" => name.parse::<i64>().is_ok(),
        "pg_catalog.uuid" => {
            name.len() == 36
                && name.char_indices().all(|(place, digit)| match place {
                    8 | 13 | 18 | 23 => digit == '-',
                    _ => digit.is_ascii_hexdigit(),
                })
        }
        _ => true,
    };
    names.iter().filter(|name| is_readable(name)).cloned().collect()
}

/// Whether the relation is a hypertable of the edition whose plans skip from one key to the next (SkipScan).
fn skips(client: &SpiClient<'_>, relation: &Relation) -> Result<bool> {
    let licence = statement::select(
        client,
        Sight::Query,
        "select 1 where pg_catalog.current_setting('timescaledb.license', true) operator(pg_catalog.=) 'timescale'",
        Some(1),
        &[],
    )?;
    Ok(licence.has_more() && dimension(client, relation)?.is_some())
}

/// What the complete indexes have in common that lead with a column, in the order that comparisons of it have.
struct Index {
    /// Whether one of them goes on with the time.
    with_time: bool,
    /// Whether every row has a key.
    not_null: bool,
    /// Rows of the relation, as they were counted last; none where they were not.
    rows: f64,
}

impl Index {
    fn of(
        client: &SpiClient<'_>,
        relation: &Relation,
        key: &str,
        time: Option<&str>,
    ) -> Result<Option<Self>> {
        let found = statement::select(
            client,
            Sight::Query,
            "select pg_catalog.bool_or(b.attname is not null), pg_catalog.bool_and(a.attnotnull), pg_catalog.max(r.reltuples)::pg_catalog.float8
             from pg_catalog.pg_index i
             join pg_catalog.pg_attribute a
               on a.attrelid operator(pg_catalog.=) i.indrelid and a.attnum operator(pg_catalog.=) i.indkey[0]
             left join pg_catalog.pg_attribute b
               on b.attrelid operator(pg_catalog.=) i.indrelid and b.attnum operator(pg_catalog.=) i.indkey[1]
               and b.attname operator(pg_catalog.=) $3::pg_catalog.name
             join pg_catalog.pg_class r on r.oid operator(pg_catalog.=) i.indrelid
             join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.indexrelid
             join pg_catalog.pg_am m on m.oid operator(pg_catalog.=) c.relam
             join pg_catalog.pg_opclass o on o.oid operator(pg_catalog.=) i.indclass[0]
             where i.indrelid operator(pg_catalog.=) $1 and a.attname operator(pg_catalog.=) $2::pg_catalog.name
               and m.amname operator(pg_catalog.=) 'btree' and i.indisvalid and i.indpred is null and o.opcdefault
               and i.indcollation[0] operator(pg_catalog.=) a.attcollation
             having pg_catalog.count(*) operator(pg_catalog.>) 0",
            Some(1),
            &[relation.oid.into(), key.into(), time.into()],
        )?;
        let Some(row) = found.into_iter().next() else { return Ok(None) };
        Ok(Some(Self {
            with_time: row.get(1)?.unwrap_or(false),
            not_null: row.get(2)?.unwrap_or(false),
            rows: row.get(3)?.unwrap_or(0.0),
        }))
    }
}
