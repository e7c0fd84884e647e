//! The extension's own statements.
//!
//! What reads is told what it may see, and takes no transaction number: so it runs on a standby, in a plan with a Gather, and in
//! CREATE TABLE AS. pgrx's own readers ask the transaction instead, and some of them take a number first, which ends all
//! three; `clippy.toml` forbids them outside of this file.
//!
//! Statements whose text never changes are planned once per session: a small forecast reads the catalogue half a dozen times, and
//! parsing and planning those queries anew took longer than running them. The server's plan cache notices changed
//! objects, settings, roles and row security by itself.
#![allow(unsafe_code)] // SPI

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::{Spi, SpiClient, SpiErrorCodes, SpiResult, SpiTupleTable};
use pgrx::{FromDatum, IntoDatum};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::marker::PhantomData;

thread_local! {
    /// Plans by their text. They live as long as the session: freeing them when it ends would call a server that is gone.
    static PLANS: RefCell<HashMap<&'static str, pg_sys::SPIPlanPtr>> = RefCell::default();
}

/// What a statement sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// What the calling query sees: for functions declared STABLE.
    Query,
    /// Also what this transaction has done, and what others have committed, since the calling query began: for functions declared
    /// VOLATILE, which may have waited for a lock.
    Now,
}

impl Sight {
    fn is_read_only(self) -> bool {
        self == Self::Query
    }
}

/// Runs a SELECT whose text never changes, nor the types of its arguments; at most `limit` rows.
///
/// # Errors
/// As for [`SpiClient::select`].
pub fn select<'conn>(
    _client: &SpiClient<'conn>,
    sight: Sight,
    text: &'static str,
    limit: Option<i64>,
    arguments: &[DatumWithOid<'_>],
) -> SpiResult<Rows<'conn>> {
    let Arguments { mut types, mut values, nulls } = Arguments::of(arguments);
    let plan = match PLANS.with_borrow(|plans| plans.get(text).copied()) {
        Some(plan) => plan,
        None => {
            let statement = c_string(text)?;
            // SAFETY: connected to SPI, as the client shows; one type for each argument; the plan is kept once and never freed.
            let plan = unsafe {
                let plan = pg_sys::SPI_prepare(statement.as_ptr(), types.len() as i32, types.as_mut_ptr());
                if plan.is_null() {
                    Spi::check_status(pg_sys::SPI_result)?;
                }
                // It says zero where it has succeeded, which is no status.
                match pg_sys::SPI_keepplan(plan) {
                    0 => plan,
                    failed => {
                        return Err(Spi::check_status(failed)
                            .map_or_else(|error| error, |_| SpiErrorCodes::Argument.into()));
                    }
                }
            };
            PLANS.with_borrow_mut(|plans| plans.insert(text, plan));
            plan
        }
    };
    // SAFETY: connected to SPI; the plan is kept; the arrays have one entry for each argument that it was made for.
    let status = unsafe {
        pg_sys::SPI_execute_plan(
            plan,
            values.as_mut_ptr(),
            nulls.as_ptr(),
            sight.is_read_only(),
            limit.unwrap_or(0),
        )
    };
    Rows::of(status)
}

/// The same for a text that is made for one relation, and planned each time.
///
/// # Errors
/// As for [`SpiClient::select`].
pub fn select_text<'conn>(
    _client: &SpiClient<'conn>,
    sight: Sight,
    text: &str,
    arguments: &[DatumWithOid<'_>],
) -> SpiResult<Rows<'conn>> {
    let Arguments { mut types, mut values, nulls } = Arguments::of(arguments);
    let statement = c_string(text)?;
    // SAFETY: connected to SPI, as the client shows; the arrays have one entry for each argument.
    let status = unsafe {
        pg_sys::SPI_execute_with_args(
            statement.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            sight.is_read_only(),
            0,
        )
    };
    Rows::of(status)
}

/// The first column of the first row of a SELECT as in [`select`]; `None` for NULL, or where there is no row.
///
/// # Errors
/// As for [`select`].
pub fn value<T: FromDatum + IntoDatum>(
    sight: Sight,
    text: &'static str,
    arguments: &[DatumWithOid<'_>],
) -> SpiResult<Option<T>> {
    Spi::connect(|client| select(client, sight, text, Some(1), arguments)?.value())
}

/// Runs a statement that changes something.
///
/// # Errors
/// As for [`SpiClient::update`].
#[expect(clippy::disallowed_methods, reason = "the one place that writes")]
pub fn write(text: &str, arguments: &[DatumWithOid<'_>]) -> SpiResult<()> {
    Spi::run_with_args(text, arguments)
}

/// Runs a statement that changes or locks something, and returns rows.
///
/// # Errors
/// As for [`SpiClient::update`].
#[expect(clippy::disallowed_methods, reason = "the one place that writes")]
pub fn write_returning<'conn>(
    client: &mut SpiClient<'conn>,
    text: &str,
    arguments: &[DatumWithOid<'_>],
) -> SpiResult<SpiTupleTable<'conn>> {
    client.update(text, None, arguments)
}

/// Arguments as the server takes them.
struct Arguments {
    types: Vec<Oid>,
    values: Vec<Datum>,
    nulls: Vec<c_char>,
}

impl Arguments {
    fn of(arguments: &[DatumWithOid<'_>]) -> Self {
        let value = |argument: &DatumWithOid<'_>| argument.datum().map(|datum| datum.sans_lifetime());
        Self {
            types: arguments.iter().map(DatumWithOid::oid).collect(),
            values: arguments.iter().map(|argument| value(argument).unwrap_or(Datum::from(0))).collect(),
            nulls: arguments
                .iter()
                .map(|argument| if value(argument).is_some() { b' ' } else { b'n' } as c_char)
                .collect(),
        }
    }
}

fn c_string(text: &str) -> SpiResult<CString> {
    CString::new(text).map_err(|_| SpiErrorCodes::Argument.into())
}

/// Rows of a SELECT, which the server frees when the connection to SPI ends.
pub struct Rows<'conn> {
    table: *mut pg_sys::SPITupleTable,
    next: usize,
    connection: PhantomData<&'conn ()>,
}

/// One of them.
pub struct Row<'conn> {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    connection: PhantomData<&'conn ()>,
}

impl<'conn> Rows<'conn> {
    /// The rows of the statement that SPI has just run.
    fn of(status: i32) -> SpiResult<Self> {
        Spi::check_status(status)?;
        // SAFETY: SPI has set it, for this statement; null where it gave no rows.
        let table = unsafe { pg_sys::SPI_tuptable };
        Ok(Self { table, next: 0, connection: PhantomData })
    }

    /// Whether there is one more.
    pub fn has_more(&self) -> bool {
        self.len() > 0
    }

    /// The first column of the first row; `None` for NULL, or where there is no row.
    ///
    /// # Errors
    /// As for [`Row::get`].
    pub fn value<T: FromDatum + IntoDatum>(mut self) -> SpiResult<Option<T>> {
        self.next().map(|row| row.get(1)).transpose().map(Option::flatten)
    }
}

impl<'conn> Iterator for Rows<'conn> {
    type Item = Row<'conn>;

    fn next(&mut self) -> Option<Row<'conn>> {
        if !self.has_more() {
            return None;
        }
        // SAFETY: not null, or there would be no row; `vals` is filled up to `numvals`, beyond which `next` has not come.
        let row = unsafe {
            let table = &*self.table;
            Row { tuple: *table.vals.add(self.next), descriptor: table.tupdesc, connection: PhantomData }
        };
        self.next += 1;
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // SAFETY: null, or the table of a statement of this connection, which is still open.
        let all = unsafe { self.table.as_ref() }.map_or(0, |table| table.numvals as usize);
        (all - self.next, Some(all - self.next))
    }
}

impl ExactSizeIterator for Rows<'_> {}

impl Row<'_> {
    /// The value of a column, counted from 1, copied; `None` for NULL.
    ///
    /// # Errors
    /// When there is no such column, or it is of another type.
    pub fn get<T: FromDatum + IntoDatum>(&self, column: usize) -> SpiResult<Option<T>> {
        let mut null = false;
        // SAFETY: a live tuple and its descriptor; the server checks the number of the column.
        unsafe {
            pg_sys::SPI_result = 0;
            let value = pg_sys::SPI_getbinval(self.tuple, self.descriptor, column as i32, &mut null);
            if pg_sys::SPI_result < 0 {
                return Err(SpiErrorCodes::NoAttribute.into());
            }
            Ok(T::try_from_datum(value, null, pg_sys::SPI_gettypeid(self.descriptor, column as i32))?)
        }
    }
}
