//! Statements of the extension's own, planned once per session.
//!
//! A small forecast reads the catalogue half a dozen times; parsing and planning those queries anew took longer than
//! running them. The server's plan cache notices changed objects, settings, roles and row security by itself.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::PgOid;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiResult, SpiTupleTable};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// Plans by their text. They live as long as the session: freeing them when it ends would call a server that is gone.
    static PLANS: RefCell<HashMap<&'static str, &'static OwnedPreparedStatement>> = RefCell::default();
}

/// Runs a SELECT whose text never changes, nor the types of its arguments; at most `limit` rows.
///
/// # Errors
/// As for [`SpiClient::select`].
pub fn select<'conn>(
    client: &SpiClient<'conn>,
    text: &'static str,
    limit: Option<i64>,
    arguments: &[DatumWithOid<'_>],
) -> SpiResult<SpiTupleTable<'conn>> {
    let plan = match PLANS.with_borrow(|plans| plans.get(text).copied()) {
        Some(plan) => plan,
        None => {
            let types: Vec<PgOid> = arguments.iter().map(|argument| argument.oid().into()).collect();
            let plan: &OwnedPreparedStatement = Box::leak(Box::new(client.prepare(text, &types)?.keep()));
            PLANS.with_borrow_mut(|plans| plans.insert(text, plan));
            plan
        }
    };
    client.select(plan, limit, arguments)
}
