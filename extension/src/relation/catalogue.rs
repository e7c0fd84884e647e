//! What the server's catalogue says of a relation: columns, keys, indexes, the time of a hypertable.

use super::{Relation, owned};
use crate::error::Result;
use crate::statement::{self, Sight};
use pgrx::pg_sys::{self, BuiltinOid, Oid};
use pgrx::spi::{Spi, SpiClient};

/// A column as the catalogue describes it.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Type beneath any domain.
    pub base: Oid,
    /// Type as SQL text.
    pub written: String,
}

impl Column {
    /// Whether it is of one of these types.
    pub fn is(&self, types: &[BuiltinOid]) -> bool {
        types.iter().any(|builtin| self.base == builtin.value())
    }
}

/// The names of the columns of a relation.
///
/// # Errors
/// What the server raises.
pub fn names(relation: &Relation) -> Result<Vec<String>> {
    Spi::connect(|client| Ok(describe(client, relation)?.into_iter().map(|column| column.name).collect()))
}

/// The columns of a relation.
pub fn describe(client: &SpiClient<'_>, relation: &Relation) -> Result<Vec<Column>> {
    let rows = statement::select(
        client,
        Sight::Query,
        "select attname::text, atttypid, pg_catalog.format_type(atttypid, atttypmod) from pg_catalog.pg_attribute
         where attrelid operator(pg_catalog.=) $1 and attnum operator(pg_catalog.>) 0 and not attisdropped
         order by attnum",
        None,
        &[relation.oid.into()],
    )?;
    rows.into_iter()
        .map(|row| {
            let type_of = row.get::<Oid>(2)?.unwrap_or(Oid::INVALID);
            Ok(Column {
                name: row.get::<String>(1)?.unwrap_or_default(),
                base: base_type(type_of),
                written: row.get::<String>(3)?.unwrap_or_default(),
            })
        })
        .collect()
}

#[allow(unsafe_code)]
fn base_type(type_of: Oid) -> Oid {
    // SAFETY: the OID was just read from pg_attribute.
    unsafe { pg_sys::getBaseType(type_of) }
}

/// A type as a cast names it.
#[allow(unsafe_code)]
pub fn type_name(type_of: Oid) -> String {
    // What SQL calls `character` is one of length 1.
    if type_of == BuiltinOid::BPCHAROID.value() {
        return "pg_catalog.bpchar".into();
    }
    // SAFETY: any OID is allowed; the result is a string in the current context.
    unsafe { owned(pg_sys::format_type_be_qualified(type_of)) }.unwrap_or_default()
}

/// The time dimension of a hypertable, or the bucket of a continuous aggregate, where TimescaleDB is installed.
pub fn dimension(client: &SpiClient<'_>, relation: &Relation) -> Result<Option<String>> {
    let views = statement::select(
        client,
        Sight::Query,
        "select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
         where n.nspname operator(pg_catalog.=) 'timescaledb_information' and c.relname operator(pg_catalog.=) 'dimensions'
           and pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')",
        Some(1),
        &[],
    )?;
    if !views.has_more() {
        return Ok(None);
    }
    // Only views can be continuous aggregates, and the look-up of one costs more than that of a table.
    let text = if relation.is_view() {
        "select d.column_name::text
         from timescaledb_information.continuous_aggregates a
         join timescaledb_information.dimensions d
           on d.hypertable_schema operator(pg_catalog.=) a.materialization_hypertable_schema
           and d.hypertable_name operator(pg_catalog.=) a.materialization_hypertable_name
         where a.view_schema operator(pg_catalog.=) $1::name and a.view_name operator(pg_catalog.=) $2::name
           and d.dimension_type operator(pg_catalog.=) 'Time'
         order by d.dimension_number"
    } else {
        "select column_name::text from timescaledb_information.dimensions
         where hypertable_schema operator(pg_catalog.=) $1::name and hypertable_name operator(pg_catalog.=) $2::name
           and dimension_type operator(pg_catalog.=) 'Time' order by dimension_number"
    };
    let names = [relation.schema.as_str().into(), relation.name.as_str().into()];
    let found = statement::select(client, Sight::Query, text, Some(1), &names)?;
    Ok(match found.into_iter().next() {
        Some(row) => row.get(1)?,
        None => None,
    })
}

/// The column names of the relation's unique keys, the primary key first.
pub fn unique_keys(client: &SpiClient<'_>, relation: &Relation) -> Result<Vec<Vec<String>>> {
    let rows = statement::select(
        client,
        Sight::Query,
        "select pg_catalog.array_agg(a.attname::text)
         from pg_catalog.pg_index i
         cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality k(attnum, n)
         join pg_catalog.pg_attribute a
           on a.attrelid operator(pg_catalog.=) i.indrelid and a.attnum operator(pg_catalog.=) k.attnum
         where i.indrelid operator(pg_catalog.=) $1 and i.indisunique and i.indisvalid
           and i.indpred is null and i.indexprs is null and k.n operator(pg_catalog.<=) i.indnkeyatts
         group by i.indexrelid, i.indisprimary
         order by i.indisprimary desc, i.indexrelid",
        None,
        &[relation.oid.into()],
    )?;
    Ok(rows
        .into_iter()
        .map(|row| row.get::<Vec<String>>(1))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}
