//! jsonb as an argument and a column.
//!
//! pgrx's own type of this name ends the statement with XX000 where serde cannot read what the server can write: numbers beyond double
//! precision, and what is nested deeper than 127 levels.
#![allow(unsafe_code)] // traits of pgrx

use crate::error::Error;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::nullable::Nullable;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{FromDatum, IntoDatum, PgLogLevel, direct_function_call};
use serde_json::Value;
use std::ffi::CStr;

/// A value of type jsonb.
#[derive(Debug)]
pub struct JsonB(pub Value);

impl FromDatum for JsonB {
    unsafe fn from_polymorphic_datum(datum: Datum, is_null: bool, _: Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller vouches for a jsonb; the server's text of it is a C string.
        let text = unsafe { direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(datum)]) }?;
        match serde_json::from_slice(text.to_bytes()) {
            Ok(value) => Some(Self(value)),
            Err(error) => {
                ErrorReport::from(Error::Json { reason: error.to_string() }).report(PgLogLevel::ERROR);
                None
            }
        }
    }
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
