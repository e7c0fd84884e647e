//! `kronos.train_model()`, and what `kronos-train work` asks of the server.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use super::forecast::utf8;
use crate::error::Error;
use crate::guc;
use crate::training::{Wish, queue};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// Place of the argument `options`.
const OPTIONS: usize = 4;

#[pg_extern(sql = false)]
fn train_model(
    name: Option<&str>,
    family: Option<&str>,
    relation: Option<Oid>,
    targets: Option<Vec<Option<CString>>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<i64, ErrorReport> {
    let required = |name: &'static str| move || Error::NullArgument { name };
    let targets = targets.ok_or_else(required("targets"))?.into_iter();
    let target = |target: Option<CString>| {
        let target = target.ok_or_else(required("a name in targets"))?;
        Ok::<_, Error>(utf8(&target)?.to_owned())
    };
    Ok(queue(&Wish {
        name: name.ok_or_else(required("name"))?.to_owned(),
        family: family.ok_or_else(required("family"))?.to_owned(),
        relation,
        targets: targets.map(target).collect::<Result<_, _>>()?,
        // SAFETY: `fcinfo` is that of this call, whose fifth argument is jsonb.
        options: unsafe { json_text(fcinfo, OPTIONS) }.ok_or_else(required("options"))?,
    })?)
}

/// The text of an argument of type jsonb. What cannot be read of it is for its reader to say.
///
/// # Safety
/// `fcinfo` is that of the call, and the argument is jsonb.
unsafe fn json_text(fcinfo: pg_sys::FunctionCallInfo, argument: usize) -> Option<String> {
    // SAFETY: promised by the caller; the server's own text of the value is a C string.
    unsafe {
        let datum = pgrx::fcinfo::pg_getarg_datum(fcinfo, argument)?;
        let text = pgrx::direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(datum)])?;
        Some(text.to_string_lossy().into_owned())
    }
}

#[pg_extern(sql = false)]
fn model_directories() -> TableIterator<'static, (name!(model_dir, String), name!(share_dir, String))> {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    TableIterator::once((text(guc::model_dir()), text(guc::share_dir())))
}
