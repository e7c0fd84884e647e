//! A query text of the caller: one SELECT, run read-only with the caller's own privileges.
//!
//! The text is prepared first, which lets the server's own parser decide what it is; only then is it read, through a
//! cursor, with its columns cast to what the reader wants.
#![allow(unsafe_code)] // SPI plans, cursors and datums

use crate::error::{Error, Result};
use crate::relation::{Fetched, owned, quote, sql, text_of};
use pgrx::pg_sys::{self, BuiltinOid, Datum, Oid};
use pgrx::spi::Spi;
use pgrx::{PgTupleDesc, check_for_interrupts};

/// What a column is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any type, as text.
    Text,
    /// Any numeric type, as `float8`.
    Number,
    /// `boolean`.
    Boolean,
    /// A whole number, as `int8`.
    Integer,
    /// `timestamptz`, `timestamp` or `date`, as microseconds.
    Instant,
}

const INTEGERS: &[BuiltinOid] = &[BuiltinOid::INT2OID, BuiltinOid::INT4OID, BuiltinOid::INT8OID];
const NUMBERS: &[BuiltinOid] = &[
    BuiltinOid::INT2OID,
    BuiltinOid::INT4OID,
    BuiltinOid::INT8OID,
    BuiltinOid::FLOAT4OID,
    BuiltinOid::FLOAT8OID,
    BuiltinOid::NUMERICOID,
];
const TIMES: &[BuiltinOid] = &[BuiltinOid::TIMESTAMPTZOID, BuiltinOid::TIMESTAMPOID, BuiltinOid::DATEOID];

impl Kind {
    /// Types that serve, with their name for messages and the cast that reads them.
    fn describe(self) -> (Option<&'static [BuiltinOid]>, &'static str, &'static str) {
        match self {
            Self::Text => (None, "any type", "pg_catalog.text"),
            Self::Number => (Some(NUMBERS), "a number", "pg_catalog.float8"),
            Self::Boolean => (Some(&[BuiltinOid::BOOLOID]), "boolean", "pg_catalog.bool"),
            Self::Integer => (Some(INTEGERS), "an integer", "pg_catalog.int8"),
            Self::Instant => (Some(TIMES), "a timestamp or date", "pg_catalog.timestamptz"),
        }
    }
}

/// A column to read; one that is not in the query reads as NULL.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name of the column.
    pub name: String,
    /// What it is read as.
    pub kind: Kind,
}

/// A checked query text.
#[derive(Debug)]
pub struct Query {
    argument: &'static str,
    text: String,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// Type beneath any domain.
    base: Oid,
}

impl Query {
    /// Prepares `text`, the value of `argument`.
    ///
    /// # Errors
    /// 22023 unless it is one SELECT; what the server's parser raises.
    pub fn prepare(argument: &'static str, text: &str) -> Result<Self> {
        let refused = || Error::NotOneSelect { argument };
        let source = sql(text.to_owned()).map_err(|_| refused())?;
        Spi::connect(|_| {
            // SAFETY: connected to SPI; the text is NUL-terminated; plan, list and sources are the server's own, read
            // while the plan lives. The list has one element where it is said to.
            let columns = unsafe {
                let plan = pg_sys::SPI_prepare(source.as_ptr(), 0, std::ptr::null_mut());
                if plan.is_null() {
                    return Err(refused());
                }
                let statements = pg_sys::SPI_plan_get_plan_sources(plan);
                if statements.is_null() || (*statements).length != 1 || !pg_sys::SPI_is_cursor_plan(plan) {
                    return Err(refused());
                }
                let statement = (*(*statements).elements).ptr_value.cast::<pg_sys::CachedPlanSource>();
                if (*statement).commandTag != pg_sys::CommandTag::CMDTAG_SELECT
                    || (*statement).resultDesc.is_null()
                {
                    return Err(refused());
                }
                let columns = columns_of(&PgTupleDesc::from_pg_copy((*statement).resultDesc));
                pg_sys::SPI_freeplan(plan);
                columns
            };
            // What ends a statement would end it inside the parentheses too.
            let text = text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned();
            Ok(Self { argument, text, columns })
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Whether the query has a column of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|column| column == name)
    }

    /// Requires a column.
    ///
    /// # Errors
    /// 42703.
    pub fn require(&self, name: &str) -> Result<()> {
        if self.has(name) {
            return Ok(());
        }
        Err(Error::QueryColumnMissing {
            argument: self.argument,
            column: name.to_owned(),
            present: self.names().map(str::to_owned).collect(),
        })
    }

    /// Reads every row in the order `order_by`, columns in the order of `wanted`.
    ///
    /// # Errors
    /// 42804 for a column of a type that does not serve; what `each` returns; what the server raises.
    pub fn read(
        &self,
        wanted: &[Wanted],
        order_by: &str,
        mut each: impl FnMut(&QueryRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let list = wanted.iter().map(|w| self.expression(w)).collect::<Result<Vec<_>>>()?.join(", ");
        let text = sql(format!("select {list} from (\n{}\n) q order by {order_by}", self.text))?;
        Spi::connect(|_| {
            // SAFETY: connected to SPI; no parameters; the text is NUL-terminated. Read-only execution makes the
            // server refuse statements that write or lock rows, in a WITH clause too.
            let cursor = unsafe {
                pg_sys::SPI_cursor_open_with_args(
                    std::ptr::null(),
                    text.as_ptr(),
                    0,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    std::ptr::null(),
                    true,
                    pg_sys::CURSOR_OPT_NO_SCROLL as i32,
                )
            };
            let mut values = vec![Datum::from(0); wanted.len()];
            let mut nulls = vec![true; wanted.len()];
            loop {
                check_for_interrupts!();
                let fetched = Fetched::next(cursor);
                if fetched.rows().is_empty() {
                    break;
                }
                for &tuple in fetched.rows() {
                    // SAFETY: a live tuple of the fetched table; both arrays have one entry per column of the list.
                    unsafe {
                        pg_sys::heap_deform_tuple(
                            tuple,
                            fetched.descriptor(),
                            values.as_mut_ptr(),
                            nulls.as_mut_ptr(),
                        );
                    }
                    each(&QueryRow { values: &values, nulls: &nulls })?;
                }
            }
            // SAFETY: the portal was opened above and is closed once; after an error the server closes it.
            unsafe { pg_sys::SPI_cursor_close(cursor) };
            Ok(())
        })
    }

    fn expression(&self, wanted: &Wanted) -> Result<String> {
        let (types, expected, cast) = wanted.kind.describe();
        let Some(column) = self.columns.iter().find(|column| column.name == wanted.name) else {
            return Ok(format!("null::{cast}"));
        };
        if types.is_some_and(|types| types.iter().all(|t| t.value() != column.base)) {
            return Err(Error::QueryColumnType {
                argument: self.argument,
                column: wanted.name.clone(),
                actual: type_name(column.base),
                expected,
            });
        }
        Ok(format!("q.{}::{cast}", quote(&wanted.name)))
    }
}

fn columns_of(descriptor: &PgTupleDesc<'_>) -> Vec<Column> {
    let column = |attribute: &pg_sys::FormData_pg_attribute| Column {
        name: attribute.name().to_owned(),
        // SAFETY: a type of a result column.
        base: unsafe { pg_sys::getBaseType(attribute.type_oid().value()) },
    };
    descriptor.iter().map(column).collect()
}

fn type_name(type_of: Oid) -> String {
    // SAFETY: any OID is allowed; the result is a string in the current context.
    unsafe { owned(pg_sys::format_type_be(type_of)) }.unwrap_or_default()
}

/// One row; columns by their place in the list that was asked for.
pub struct QueryRow<'a> {
    values: &'a [Datum],
    nulls: &'a [bool],
}

impl<'a> QueryRow<'a> {
    fn datum(&self, column: usize) -> Option<Datum> {
        (!self.nulls[column]).then(|| self.values[column])
    }

    /// A [`Kind::Number`].
    pub fn number(&self, column: usize) -> Option<f64> {
        self.datum(column).map(|datum| f64::from_bits(datum.value() as u64))
    }

    /// A [`Kind::Integer`] or [`Kind::Instant`].
    pub fn integer(&self, column: usize) -> Option<i64> {
        self.datum(column).map(|datum| datum.value() as i64)
    }

    /// A [`Kind::Boolean`].
    pub fn boolean(&self, column: usize) -> Option<bool> {
        self.datum(column).map(|datum| datum.value() & 1 == 1)
    }

    /// A [`Kind::Text`].
    ///
    /// # Errors
    /// 0A000 in a database of another encoding than UTF8.
    pub fn text(&self, column: usize) -> Result<Option<&'a str>> {
        // SAFETY: a text datum of a row that is alive.
        self.datum(column).map(|datum| unsafe { text_of(datum) }).transpose()
    }
}
