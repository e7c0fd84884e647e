//! The keys of the series of a relation.

use super::columns::dimension;
use super::{Relation, quote};
use crate::error::Result;
use crate::statement::{self, Sight};
use pgrx::spi::{Spi, SpiClient};

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
        let text = if is_indexed(client, relation, key)? && !skips(client, relation)? {
            format!(
                "with recursive k(v) as (
                   (select t.{column} from {from} t where t.{column} is not null order by t.{column} limit 1)
                   union all
                   select (select t.{column} from {from} t where t.{column} operator(pg_catalog.>) k.v
                           order by t.{column} limit 1)
                   from k where k.v is not null)
                 select k.v::pg_catalog.text from k where k.v is not null"
            )
        } else {
            format!(
                "select k.v::pg_catalog.text
                 from (select distinct t.{column} as v from {from} t where t.{column} is not null) k order by 1"
            )
        };
        let rows = statement::select_text(client, Sight::Query, &text, &[])?;
        let found = rows.into_iter().map(|row| row.get::<String>(1)).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().flatten().collect())
    })
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

/// Whether a complete index leads with the column in the order that comparisons of it have.
fn is_indexed(client: &SpiClient<'_>, relation: &Relation, key: &str) -> Result<bool> {
    let found = statement::select(
        client,
        Sight::Query,
        "select 1 from pg_catalog.pg_index i
         join pg_catalog.pg_attribute a
           on a.attrelid operator(pg_catalog.=) i.indrelid and a.attnum operator(pg_catalog.=) i.indkey[0]
         join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.indexrelid
         join pg_catalog.pg_am m on m.oid operator(pg_catalog.=) c.relam
         join pg_catalog.pg_opclass o on o.oid operator(pg_catalog.=) i.indclass[0]
         where i.indrelid operator(pg_catalog.=) $1 and a.attname operator(pg_catalog.=) $2::pg_catalog.name
           and m.amname operator(pg_catalog.=) 'btree' and i.indisvalid and i.indpred is null and o.opcdefault
           and i.indcollation[0] operator(pg_catalog.=) a.attcollation",
        Some(1),
        &[relation.oid.into(), key.into()],
    )?;
    Ok(found.has_more())
}
