//! Which column is what: named by the caller, or found where only one answer is possible.

use super::catalogue::{Column, describe, dimension, type_name, unique_keys};
use super::{Relation, quote};
use crate::error::{Error, Result};
use pgrx::pg_sys::BuiltinOid;
use pgrx::spi::{Spi, SpiClient};

/// How the time column's values become instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKind {
    /// `timestamptz`: an instant already.
    Instant,
    /// `date` or `timestamp`: the wall clock of the calendar's zone.
    Local,
}

/// The columns of a relation that hold what is forecast and what informs it.
#[derive(Debug, Clone)]
pub struct Columns {
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
    /// Its name; `None` for one that the relation does not have, which reads as NULL.
    name: Option<String>,
    /// Whether it holds categories rather than numbers.
    pub categorical: bool,
}

impl ValueColumn {
    /// Its value in a row of `t`, as SQL text.
    pub fn expression(&self) -> String {
        let type_of = if self.categorical { "pg_catalog.text" } else { "pg_catalog.float8" };
        match &self.name {
            Some(name) => format!("t.{}::{type_of}", quote(name)),
            None => format!("null::{type_of}"),
        }
    }
}

/// A column that a call names.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The column; `None` where the caller says that there is none.
    pub name: Option<&'a str>,
    /// What it is to the call.
    pub role: &'static str,
    /// Whether only a number will do.
    pub numeric: bool,
    /// Whether numbers in it are names of categories.
    pub categorical: bool,
    /// Whether it need not be there.
    pub optional: bool,
}

impl<'a> Named<'a> {
    /// A column of numbers that must be there.
    pub fn target(name: &'a str) -> Self {
        Self { name: Some(name), role: "target", numeric: true, categorical: false, optional: false }
    }
}

/// What the caller said about the other columns.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `series_col`.
    pub series: Option<&'a str>,
    /// `time_col`.
    pub time: Option<&'a str>,
    /// Option `known_at_col`.
    pub known_at: Option<&'a str>,
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

/// Finds the columns of `relation` that `named` lists, beside key and time.
///
/// Numbers are numbers; any other type is a category, as is a number that the caller says is one.
///
/// # Errors
/// 42703 for a name that is not there, 42804 for a type that does not serve, 42P18 where several columns could be
/// meant.
pub fn resolve(relation: &Relation, wanted: &Wanted<'_>, named: &[Named<'_>]) -> Result<Columns> {
    Spi::connect(|client| {
        let resolver = Resolver { relation, columns: describe(client, relation)? };
        let known_at = resolver.known_at(wanted)?;
        let time = resolver.time(client, wanted)?;
        let values = named.iter().map(|named| resolver.value(named)).collect::<Result<Vec<_>>>()?;
        let mut taken: Vec<&str> = values.iter().filter_map(|column| column.name.as_deref()).collect();
        taken.extend([Some(time.name.as_str()), wanted.known_at].into_iter().flatten());
        let series = resolver.key(client, wanted, &time.name, &taken)?;
        Ok(Columns {
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

struct Resolver<'a> {
    relation: &'a Relation,
    columns: Vec<Column>,
}

impl Resolver<'_> {
    fn value(&self, named: &Named<'_>) -> Result<ValueColumn> {
        let there = named.name.filter(|name| !named.optional || self.find(name).is_some());
        let Some(name) = there else { return Ok(ValueColumn { name: None, categorical: false }) };
        let column =
            if named.numeric { self.number(name, named.role)? } else { self.named(name, named.role)? };
        let categorical = named.categorical || !column.is(&NUMBERS);
        Ok(ValueColumn { name: Some(column.name.clone()), categorical })
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
