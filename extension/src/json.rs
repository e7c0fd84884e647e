//! jsonb as an argument and a column; as an argument of any type, also json and text.
//!
//! pgrx's own type of this name ends the statement with XX000 where serde cannot read what the server can write: numbers beyond double
//! precision, and what is nested deeper than 127 levels.
#![allow(unsafe_code)] // traits of pgrx

use crate::error::Error;
use crate::relation::{owned, text_of};
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, PgLogLevel, direct_function_call};
use serde_json::Value;
use std::ffi::{CStr, CString};

/// A value of type jsonb.
#[derive(Debug)]
pub struct JsonB(pub Value);

impl FromDatum for JsonB {
    // An argument may be declared as any type: then it is read as jsonb, json and text.
    const GET_TYPOID: bool = true;

    unsafe fn from_polymorphic_datum(datum: Datum, is_null: bool, type_of: Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller vouches for the type of the datum.
        let read = unsafe { jsonb(datum, type_of) }.and_then(|datum| {
            // SAFETY: a jsonb; the server's text of it is a C string.
            let text = unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(datum)]) };
            let text = text.map(CStr::to_bytes).unwrap_or_default();
            serde_json::from_slice(text).map_err(|error| Error::Json { reason: error.to_string() })
        });
        read.map_or_else(
            |error| {
                ErrorReport::from(error).report(PgLogLevel::ERROR);
                None
            },
            |value| Some(Self(value)),
        )
    }
}

/// A value as jsonb. What is no JSON at all, the server refuses in its own words.
///
/// # Safety
/// The datum is of that type, or of jsonb where the type is not known.
unsafe fn jsonb(datum: Datum, type_of: Oid) -> Result<Datum, Error> {
    const TEXTS: [Oid; 4] = [pg_sys::JSONOID, pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::BPCHAROID];
    // SAFETY: a look-up by any OID.
    let base = unsafe { pg_sys::getBaseType(type_of) };
    if [pg_sys::JSONBOID, Oid::INVALID].contains(&base) {
        return Ok(datum);
    }
    if !TEXTS.contains(&base) {
        // SAFETY: any OID is allowed; the result is a string in the current context.
        let actual = unsafe { owned(pg_sys::format_type_be(type_of)) }.unwrap_or_default();
        return Err(Error::JsonType { actual });
    }
    // SAFETY: promised by the caller; all of these types have the layout of text.
    let text = CString::new(unsafe { text_of(datum)? }).unwrap_or_default();
    // SAFETY: jsonb_in takes a C string, which it copies from.
    let read =
        unsafe { direct_function_call::<Datum>(pg_sys::jsonb_in, &[Some(Datum::from(text.as_ptr()))]) };
    read.ok_or_else(|| Error::Internal { what: "jsonb_in returned null".into() })
}

impl IntoDatum for JsonB {
    fn into_datum(self) -> Option<Datum> {
        pgrx::JsonB(self.0).into_datum()
    }

    fn type_oid() -> Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: as for every type that is read from its datum alone.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonB {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: promised by the caller. All arguments of this type are optional, so NULL comes to the next function.
        unsafe { arg.unbox_arg_using_from_datum().unwrap_or(Self(Value::Null)) }
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> Nullable<Self> {
        // SAFETY: promised by the caller.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

// SAFETY: the names of the server's own type.
unsafe impl SqlTranslatable for JsonB {
    const TYPE_IDENT: &'static str = "jsonb";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> = Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}
