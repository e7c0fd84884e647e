//! Cursors of the server, fetched in parts that are freed one by one.
//!
//! The server's own cursor is used rather than pgrx's, whose fetched rows stay allocated until the end of the SPI
//! session: a scan over years of rows would hold all of them.
#![allow(unsafe_code)] // SPI cursors and datums

use crate::error::{Error, Result};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::varlena;
use std::ffi::CStr;

/// Rows fetched at once; a few hundred kilobytes.
const FETCH: std::ffi::c_long = 2000;

/// Opens a cursor on a query in the SPI session that the caller is connected to, under the snapshot of the calling query.
pub fn open(text: &CStr, arguments: &[(Oid, Option<Datum>)]) -> pg_sys::Portal {
    cursor(text, arguments, true)
}

/// Opens a cursor that sees what other sessions have committed since the calling query began, as a function that has waited for
/// a lock must.
pub fn open_current(text: &CStr, arguments: &[(Oid, Option<Datum>)]) -> pg_sys::Portal {
    cursor(text, arguments, false)
}

fn cursor(text: &CStr, arguments: &[(Oid, Option<Datum>)], read_only: bool) -> pg_sys::Portal {
    let mut types: Vec<Oid> = arguments.iter().map(|&(type_of, _)| type_of).collect();
    let mut values: Vec<Datum> =
        arguments.iter().map(|&(_, value)| value.unwrap_or_else(|| Datum::from(0))).collect();
    let nulls: Vec<std::ffi::c_char> =
        arguments.iter().map(|(_, value)| if value.is_some() { b' ' } else { b'n' } as _).collect();
    // SAFETY: connected to SPI; the three arrays have one entry per parameter; the text is NUL-terminated.
    unsafe {
        pg_sys::SPI_cursor_open_with_args(
            std::ptr::null(),
            text.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            read_only,
            pg_sys::CURSOR_OPT_NO_SCROLL as i32,
        )
    }
}

/// One fetch from a cursor, freed when dropped.
pub struct Fetched(*mut pg_sys::SPITupleTable);

impl Fetched {
    /// The next rows of an open cursor of this SPI session; none at its end.
    pub fn next(cursor: pg_sys::Portal) -> Self {
        // SAFETY: an open portal of this SPI session; the table belongs to whoever frees it.
        unsafe {
            pg_sys::SPI_cursor_fetch(cursor, true, FETCH);
            Self(pg_sys::SPI_tuptable)
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[pg_sys::HeapTuple] {
        // SAFETY: the server fills `vals` up to `numvals`; the table lives as long as self.
        unsafe {
            match self.0.as_ref() {
                Some(table) if table.numvals > 0 => {
                    std::slice::from_raw_parts(table.vals, table.numvals as usize)
                }
                _ => &[],
            }
        }
    }

    /// What the rows are made of; only asked for where there are rows.
    pub fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: only asked for tables with rows.
        unsafe { (*self.0).tupdesc }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: freed once; NULL is allowed.
        unsafe { pg_sys::SPI_freetuptable(self.0) };
    }
}

/// The characters of a text datum.
///
/// # Errors
/// 0A000 in a database of another encoding than UTF8.
///
/// # Safety
/// A text datum that outlives the result.
pub unsafe fn text_of<'a>(datum: Datum) -> Result<&'a str> {
    // SAFETY: promised by the caller; a compressed or external value is copied into the current context first.
    let bytes = unsafe {
        let text = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
        varlena::varlena_to_byte_slice(text)
    };
    std::str::from_utf8(bytes).map_err(|_| Error::Unsupported {
        what: "a database encoding other than UTF8".into(),
        hint: "Create the database with ENCODING 'UTF8'.".into(),
    })
}
