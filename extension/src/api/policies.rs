//! `kronos.list_series()`: what the batches of a policy are cut from.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use super::forecast::utf8;
use crate::error::Result;
use crate::relation::{Relation, Wanted, keys, resolve_key};
use pgrx::pg_sys::Oid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

#[pg_extern(sql = false)]
fn list_series(
    relation: Option<Oid>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    value_cols: Option<Vec<Option<CString>>>,
) -> Result<SetOfIterator<'static, Option<String>>, ErrorReport> {
    let values: Vec<CString> = value_cols.unwrap_or_default().into_iter().flatten().collect();
    Ok(SetOfIterator::new(series(relation, series_col, time_col, &values)?))
}

/// The keys; one `None` where all rows are one series.
fn series(
    relation: Option<Oid>,
    series_col: Option<&CStr>,
    time_col: Option<&CStr>,
    values: &[CString],
) -> Result<Vec<Option<String>>> {
    let relation = Relation::open(relation)?;
    let wanted = Wanted {
        series: series_col.map(utf8).transpose()?,
        time: time_col.map(utf8).transpose()?,
        known_at: None,
    };
    let taken = values.iter().map(|name| utf8(name)).collect::<Result<Vec<_>>>()?;
    Ok(match resolve_key(&relation, &wanted, &taken)? {
        Some(key) => keys(&relation, &key)?.into_iter().map(Some).collect(),
        None => vec![None],
    })
}
