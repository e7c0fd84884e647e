//! Which column is what: named by the caller, or found where only one answer is possible.

use super::{Relation, owned};
use crate::error::{Error, Result};
use crate::options::ColumnNames;
use crate::statement::{self, Sight};
use pgrx::pg_sys::{self, BuiltinOid, Oid};
use pgrx::spi::{Spi, SpiClient};

/// How the time column's values become instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKind {
    /// `timestamptz`: an instant already.
    Instant,
    /// `date` or `timestamp`: the wall clock of the calendar's zone.
    Local,
}

/// The columns of a relation that hold bars.
#[derive(Debug, Clone)]
pub struct Columns {
    /// Key of a series with its type as SQL text; `None` for one single series.
    pub series: Option<(String, String)>,
    /// Start of the bar.
    pub time: (String, TimeKind),
    /// Open, high, low, close.
    pub prices: [String; 4],
    /// Volume, where there is one.
    pub volume: Option<String>,
    /// Amount, where there is one.
    pub amount: Option<String>,
    /// When a row could be known.
    pub known_at: Option<String>,
}

/// The columns of a relation that hold numbers to forecast and what informs them.
#[derive(Debug, Clone)]
pub struct ValueColumns {
    /// Key of a series with its type as SQL text; `None` for one single series.
    pub series: Option<(String, String)>,
    /// Start of what a row tells of.
    pub time: (String, TimeKind),
    /// When a row could be known.
    pub known_at: Option<String>,
    /// The columns asked for, in their order.
    pub values: Vec<ValueColumn>,
}

/// A column as a model reads it.
#[derive(Debug, Clone)]
pub struct ValueColumn {
    /// Its name.
    pub name: String,
    /// Whether it holds categories rather than numbers.
    pub categorical: bool,
}

/// A column that a call names.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The column.
    pub name: &'a str,
    /// What it is to the call.
    pub role: &'static str,
    /// Whether only a number will do.
    pub numeric: bool,
    /// Whether numbers in it are names of categories.
    pub categorical: bool,
}

/// What the caller said about columns.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// `series_col`.
    pub series: Option<&'a str>,
    /// `time_col`.
    pub time: Option<&'a str>,
    /// Option `columns`.
    pub names: &'a ColumnNames,
    /// Option `known_at_col`.
    pub known_at: Option<&'a str>,
}

/// A column as the catalogue describes it.
struct Column {
    name: String,
    /// Type beneath any domain.
    base: Oid,
    /// Type as SQL text.
    written: String,
}

const NUMBERS: [BuiltinOid; 6] = [
    BuiltinOid::INT2OID,
    BuiltinOid::INT4OID,
    BuiltinOid::INT8OID,
    BuiltinOid::FLOAT4OID,
    BuiltinOid::FLOAT8OID,
    BuiltinOid::NUMERICOID,
];
const TEXTS: [BuiltinOid; 4] =
    [BuiltinOid::TEXTOID, BuiltinOid::VARCHAROID, BuiltinOid::BPCHAROID, BuiltinOid::NAMEOID];
const INTEGERS: [BuiltinOid; 3] = [BuiltinOid::INT2OID, BuiltinOid::INT4OID, BuiltinOid::INT8OID];
/// What a column of seconds or milliseconds since 1970 is called.
const EPOCHS: [&str; 6] = ["time", "ts", "timestamp", "epoch", "t", "open_time"];
const LOCAL_TIMES: [BuiltinOid; 2] = [BuiltinOid::TIMESTAMPOID, BuiltinOid::DATEOID];

impl Column {
    fn is(&self, types: &[BuiltinOid]) -> bool {
        types.iter().any(|builtin| self.base == builtin.value())
    }

    fn is_key(&self) -> bool {
        self.is(&TEXTS) || self.is(&INTEGERS) || self.is(&[BuiltinOid::UUIDOID])
    }

    fn time_kind(&self) -> Option<TimeKind> {
        if self.is(&[BuiltinOid::TIMESTAMPTZOID]) {
            Some(TimeKind::Instant)
        } else {
            self.is(&LOCAL_TIMES).then_some(TimeKind::Local)
        }
    }
}

/// Finds the columns of `relation` that hold bars.
///
/// # Errors
/// 42703 for a name that is not there, 42804 for a type that does not serve, 42P18 where several columns could be
/// meant.
pub fn resolve(relation: &Relation, wanted: &Wanted<'_>) -> Result<Columns> {
    Spi::connect(|client| Resolver { relation, columns: describe(client, relation)? }.resolve(client, wanted))
}

/// Finds the columns of `relation` that `named` lists, beside key and time.
///
/// Numbers are numbers; any other type is a category, as is a number that the caller says is one.
///
/// # Errors
/// As for [`resolve`].
pub fn resolve_values(relation: &Relation, wanted: &Wanted<'_>, named: &[Named<'_>]) -> Result<ValueColumns> {
    Spi::connect(|client| {
        let resolver = Resolver { relation, columns: describe(client, relation)? };
        let known_at = resolver.known_at(wanted)?;
        let time = resolver.time(client, wanted)?;
        let value = |named: &Named<'_>| {
            let column = if named.numeric {
                resolver.number(named.name, named.role)?
            } else {
                resolver.named(named.name, named.role)?
            };
            let categorical = named.categorical || !column.is(&NUMBERS);
            Ok(ValueColumn { name: column.name.clone(), categorical })
        };
        let values = named.iter().map(value).collect::<Result<Vec<_>>>()?;
        let mut taken: Vec<&str> = values.iter().map(|column| column.name.as_str()).collect();
        taken.extend([Some(time.name.as_str()), wanted.known_at].into_iter().flatten());
        let series = resolver.key(client, wanted, &time.name, &taken)?;
        Ok(ValueColumns {
            series: series.map(|column| (column.name.clone(), type_name(column.base))),
            time: (time.name.clone(), time.time_kind().unwrap_or(TimeKind::Instant)),
            known_at: known_at.map(|column| column.name.clone()),
            values,
        })
    })
}

/// Finds the column that is the key of a series of `relation`; `taken` holds values and is no key. `None` for one single
/// series.
///
/// # Errors
/// As for [`resolve`].
pub fn resolve_key(relation: &Relation, wanted: &Wanted<'_>, taken: &[&str]) -> Result<Option<String>> {
    Spi::connect(|client| {
        let resolver = Resolver { relation, columns: describe(client, relation)? };
        let time = resolver.time(client, wanted)?;
        let key = resolver.key(client, wanted, &time.name, taken)?;
        Ok(key.map(|column| column.name.clone()))
    })
}

/// The names of the columns of a relation.
///
/// # Errors
/// What the server raises.
pub fn names(relation: &Relation) -> Result<Vec<String>> {
    Spi::connect(|client| Ok(describe(client, relation)?.into_iter().map(|column| column.name).collect()))
}

fn describe(client: &SpiClient<'_>, relation: &Relation) -> Result<Vec<Column>> {
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

#[allow(unsafe_code)]
fn type_name(type_of: Oid) -> String {
    // What SQL calls `character` is one of length 1.
    if type_of == BuiltinOid::BPCHAROID.value() {
        return "pg_catalog.bpchar".into();
    }
    // SAFETY: any OID is allowed; the result is a string in the current context.
    unsafe { owned(pg_sys::format_type_be_qualified(type_of)) }.unwrap_or_default()
}

struct Resolver<'a> {
    relation: &'a Relation,
    columns: Vec<Column>,
}

impl Resolver<'_> {
    fn resolve(&self, client: &SpiClient<'_>, wanted: &Wanted<'_>) -> Result<Columns> {
        let names = wanted.names;
        let known_at = self.known_at(wanted)?;
        let time = self.time(client, wanted)?;
        let price = |mapped: &Option<String>, role: &'static str| {
            self.number(mapped.as_deref().unwrap_or(role), role).map(|column| column.name.clone())
        };
        let prices = [
            price(&names.open, "open")?,
            price(&names.high, "high")?,
            price(&names.low, "low")?,
            price(&names.close, "close")?,
        ];
        // A column that is mapped must be there; one that is not may be missing.
        let optional = |mapped: &Option<Option<String>>, role: &'static str| match mapped {
            Some(Some(name)) => self.number(name, role).map(|column| Some(column.name.clone())),
            Some(None) => Ok(None),
            None if self.find(role).is_some() => {
                self.number(role, role).map(|column| Some(column.name.clone()))
            }
            None => Ok(None),
        };
        let volume = optional(&names.volume, "volume")?;
        let amount = optional(&names.amount, "amount")?;
        let mut taken: Vec<&str> = prices.iter().map(String::as_str).collect();
        taken.extend(
            [volume.as_deref(), amount.as_deref(), Some(&time.name), wanted.known_at].into_iter().flatten(),
        );
        let series = self.key(client, wanted, &time.name, &taken)?;
        Ok(Columns {
            series: series.map(|column| (column.name.clone(), type_name(column.base))),
            time: (time.name.clone(), time.time_kind().unwrap_or(TimeKind::Instant)),
            prices,
            volume,
            amount,
            known_at: known_at.map(|column| column.name.clone()),
        })
    }

    /// The column that says when a row could be known, where the caller names one.
    fn known_at(&self, wanted: &Wanted<'_>) -> Result<Option<&Column>> {
        let typed =
            |name| self.typed(name, "known_at", &[BuiltinOid::TIMESTAMPTZOID], "timestamp with time zone");
        wanted.known_at.map(typed).transpose()
    }

    /// The key of a series: the column named, else the one that [`Resolver::series`] finds.
    fn key(
        &self,
        client: &SpiClient<'_>,
        wanted: &Wanted<'_>,
        time: &str,
        taken: &[&str],
    ) -> Result<Option<&Column>> {
        let Some(name) = wanted.series else { return self.series(client, time, taken) };
        let column = self.named(name, "series")?;
        if column.is_key() { Ok(Some(column)) } else { Err(self.wrong_type(column, "text, integer or uuid")) }
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn named(&self, name: &str, role: &'static str) -> Result<&Column> {
        self.find(name).ok_or_else(|| Error::UndefinedColumn {
            relation: self.relation.display(),
            column: name.to_owned(),
            role,
            known: self.columns.iter().map(|column| column.name.clone()).collect(),
        })
    }

    fn typed(&self, name: &str, role: &'static str, types: &[BuiltinOid], expected: &str) -> Result<&Column> {
        let column = self.named(name, role)?;
        if column.is(types) { Ok(column) } else { Err(self.wrong_type(column, expected)) }
    }

    fn number(&self, name: &str, role: &'static str) -> Result<&Column> {
        self.typed(name, role, &NUMBERS, "a number")
    }

    fn wrong_type(&self, column: &Column, expected: &str) -> Error {
        Error::ColumnType {
            relation: self.relation.display(),
            column: column.name.clone(),
            actual: column.written.clone(),
            expected: expected.to_owned(),
        }
    }

    fn ambiguous(&self, role: &'static str, argument: &'static str, candidates: &[&Column]) -> Error {
        Error::AmbiguousColumn {
            relation: self.relation.display(),
            role,
            argument,
            candidates: candidates.iter().map(|column| column.name.clone()).collect(),
        }
    }

    /// The column named, else the hypertable's time dimension or the continuous aggregate's, else the only `timestamptz`, else the only `timestamp`
    /// or `date`.
    fn time(&self, client: &SpiClient<'_>, wanted: &Wanted<'_>) -> Result<&Column> {
        let expected = "timestamp with time zone, timestamp or date";
        if let Some(name) = wanted.time {
            let column = self.named(name, "time")?;
            return if column.time_kind().is_some() {
                Ok(column)
            } else {
                Err(self.wrong_type(column, expected))
            };
        }
        if let Some(name) = dimension(client, self.relation)?
            && let Some(column) = self.find(&name)
            && column.time_kind().is_some()
        {
            return Ok(column);
        }
        let candidates = |kind| -> Vec<&Column> {
            self.columns
                .iter()
                .filter(|column| {
                    column.time_kind() == Some(kind) && wanted.known_at != Some(column.name.as_str())
                })
                .collect()
        };
        let mut found = candidates(TimeKind::Instant);
        if found.is_empty() {
            found = candidates(TimeKind::Local);
        }
        match found.as_slice() {
            [only] => Ok(only),
            [] => Err(Error::NoTimeColumn {
                relation: self.relation.display(),
                numbers: self
                    .columns
                    .iter()
                    .filter(|column| column.is(&NUMBERS) && EPOCHS.contains(&column.name.as_str()))
                    .map(|column| column.name.clone())
                    .collect(),
            }),
            several => Err(self.ambiguous("time", "time_col", several)),
        }
    }

    /// The rest of a unique key that has the time in it, else the only text or uuid column; `None` for a single series.
    /// An integer column is as likely a count as a key, so without a unique key that has it nothing is certain.
    fn series(&self, client: &SpiClient<'_>, time: &str, taken: &[&str]) -> Result<Option<&Column>> {
        for key in unique_keys(client, self.relation)? {
            if !key.iter().any(|name| name == time) {
                continue;
            }
            let rest: Vec<&Column> =
                key.iter().filter(|name| *name != time).filter_map(|name| self.find(name)).collect();
            match rest.as_slice() {
                [] => return Ok(None),
                [only] if only.is_key() => return Ok(Some(only)),
                _ => {}
            }
        }
        let free: Vec<&Column> = self
            .columns
            .iter()
            .filter(|column| column.is_key() && !taken.contains(&column.name.as_str()))
            .collect();
        // Integers beside a name are counts of trades and the like far more often than keys.
        let names: Vec<&Column> = free.iter().copied().filter(|column| !column.is(&INTEGERS)).collect();
        match (names.as_slice(), free.as_slice()) {
            ([only], _) => Ok(Some(only)),
            ([], []) => Ok(None),
            _ => Err(self.ambiguous("series", "series_col", &free)),
        }
    }
}

/// The time dimension of a hypertable, or the bucket of a continuous aggregate, where TimescaleDB is installed.
pub(super) fn dimension(client: &SpiClient<'_>, relation: &Relation) -> Result<Option<String>> {
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
fn unique_keys(client: &SpiClient<'_>, relation: &Relation) -> Result<Vec<Vec<String>>> {
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
