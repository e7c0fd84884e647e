//! Rows of a set-returning function, handed to the server as they are made.
//!
//! They go into a tuple store, which keeps `work_mem` of them in memory and the rest in a temporary file, so a call
//! over thousands of series needs no more of the backend's memory than one over a few.
#![allow(unsafe_code)] // the server's calling convention for sets

use crate::error::{Error, Result};
use pgrx::pg_sys::{self, Datum};
use pgrx::{IntoDatum, PgMemoryContexts};

/// The result of one call.
pub struct ResultSet {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    /// Holds the values of one row until they are stored.
    row: PgMemoryContexts,
}

impl ResultSet {
    /// Starts the result of the call that `fcinfo` describes.
    ///
    /// # Safety
    /// `fcinfo` is that of the SQL function being executed, which returns a set of a composite type.
    ///
    /// # Errors
    /// 0A000 where the caller cannot take a set.
    pub unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo) -> Result<Self> {
        let refused = || Error::Unsupported {
            what: "a set in a place that takes a single value".into(),
            hint: "Call the function in the FROM clause.".into(),
        };
        // SAFETY: the fields read are those every function may read; the node's tag is checked before it is used.
        unsafe {
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if result.is_null()
                || (*result).type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || (*result).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0
            {
                return Err(refused());
            }
            let mut descriptor = std::ptr::null_mut();
            let class = pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut descriptor);
            if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
                return Err(refused());
            }
            // Both outlive this call: the executor reads the rows afterwards.
            let before = pg_sys::MemoryContextSwitchTo((*(*result).econtext).ecxt_per_query_memory);
            let descriptor = pg_sys::CreateTupleDescCopy(descriptor);
            let random =
                (*result).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32 != 0;
            let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            (*result).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*result).setResult = store;
            (*result).setDesc = descriptor;
            Ok(Self { store, descriptor, row: PgMemoryContexts::new("kronos result row") })
        }
    }

    /// Adds a row; `fill` sets its columns, NULL where it does not.
    pub fn push<const COLUMNS: usize>(&mut self, fill: impl FnOnce(&mut RowValues<COLUMNS>)) -> Result<()> {
        // SAFETY: the descriptor belongs to this set.
        let natts = unsafe { (*self.descriptor).natts };
        if usize::try_from(natts) != Ok(COLUMNS) {
            // An older script's type beside a newer library.
            return Err(Error::Internal { what: format!("a result row has {natts} columns, not {COLUMNS}") });
        }
        let (store, descriptor) = (self.store, self.descriptor);
        // SAFETY: values live in the row's context, the store copies them, then the context is emptied.
        unsafe {
            self.row.switch_to(|_| {
                let mut values = RowValues { values: [Datum::from(0); COLUMNS], nulls: [true; COLUMNS] };
                fill(&mut values);
                pg_sys::tuplestore_putvalues(
                    store,
                    descriptor,
                    values.values.as_mut_ptr(),
                    values.nulls.as_mut_ptr(),
                );
            });
            self.row.reset();
        }
        Ok(())
    }
}

/// The columns of one row.
pub struct RowValues<const COLUMNS: usize> {
    values: [Datum; COLUMNS],
    nulls: [bool; COLUMNS],
}

impl<const COLUMNS: usize> RowValues<COLUMNS> {
    /// Sets a column by its zero-based position.
    pub fn set(&mut self, column: usize, value: impl IntoDatum) {
        if let Some(datum) = value.into_datum() {
            self.values[column] = datum;
            self.nulls[column] = false;
        }
    }

    /// Sets a `timestamptz` column.
    pub fn set_instant(&mut self, column: usize, at: Option<i64>) {
        if let Some(at) = at {
            self.values[column] = Datum::from(at);
            self.nulls[column] = false;
        }
    }
}
