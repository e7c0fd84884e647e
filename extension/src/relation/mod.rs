//! Reading rows of a relation, bars or any others: the only reader of the extension.
//!
//! Everything is read with the caller's own privileges, so row security, column privileges and views hold as they do
//! for a SELECT of theirs; the server raises 42501 where they have none.

mod catalogue;
mod columns;
mod cursor;
mod history;
mod keys;
mod newest;
mod rows;
mod scan;

pub use catalogue::names;
pub use columns::{Columns, Named, TimeKind, ValueColumn, Wanted, resolve, resolve_key};
pub use cursor::{Fetched, open as open_cursor, open_current, text_of};
pub use history::{History, View};
pub use keys::keys;
pub use newest::Newest;
pub use rows::{Known, Rows};
pub use scan::{Scan, ScanLimits};

use crate::error::{Error, Result};
use crate::statement::{self, Sight};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};

/// A relation by OID and by the names it is called by.
#[derive(Debug, Clone)]
pub struct Relation {
    oid: pg_sys::Oid,
    /// Schema and name as in `pg_class`, unquoted.
    schema: String,
    name: String,
}

impl Relation {
    /// Looks a relation up.
    ///
    /// # Errors
    /// [`Error::NullArgument`]; an OID that belongs to nothing.
    #[allow(unsafe_code)]
    pub fn open(relation: Option<pg_sys::Oid>) -> Result<Self> {
        let oid = relation.ok_or(Error::NullArgument { name: "relation" })?;
        // SAFETY: look-ups in the system caches by any OID; each gives NULL or a string in the current context.
        let (schema, name) = unsafe {
            (
                owned(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(oid))),
                owned(pg_sys::get_rel_name(oid)),
            )
        };
        match (schema, name) {
            (Some(schema), Some(name)) => Ok(Self { oid, schema, name }),
            _ => Err(Error::UndefinedRelation { oid: oid.to_u32() }),
        }
    }

    /// Looks a relation up by its name, as SQL writes it.
    ///
    /// # Errors
    /// 42P01 where there is none, raised by the server.
    pub fn named(name: &str) -> Result<Self> {
        let oid = statement::value::<pg_sys::Oid>(
            Sight::Query,
            "select $1::pg_catalog.regclass::pg_catalog.oid",
            &[name.into()],
        )?;
        Self::open(oid)
    }

    /// Its OID.
    pub fn oid(&self) -> pg_sys::Oid {
        self.oid
    }

    /// Whether it is a view, as a continuous aggregate is one.
    #[allow(unsafe_code)]
    fn is_view(&self) -> bool {
        // SAFETY: a look-up in the system cache by any OID.
        unsafe { pg_sys::get_rel_relkind(self.oid) as u8 == pg_sys::RELKIND_VIEW }
    }

    /// As messages call it.
    pub fn display(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// As SQL calls it, whatever the search path.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }
}

/// An identifier as SQL text; always quoted, so that no keyword and no search path can give it another meaning.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A palloc'ed C string as a Rust string; `None` for NULL.
///
/// # Safety
/// `text` is NULL or NUL-terminated.
#[allow(unsafe_code)]
pub unsafe fn owned(text: *mut c_char) -> Option<String> {
    // SAFETY: promised by the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// SQL text for the server.
pub fn sql(text: String) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Internal { what: "a query contains a zero byte".into() })
}
