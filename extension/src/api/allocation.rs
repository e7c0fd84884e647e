//! `kronos.propose_weights()` and `kronos.explain_weights()`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions
#![allow(clippy::too_many_arguments)] // the argument list is that of SQL

use crate::allocation::{Arguments, Proposal, propose};
use crate::error::clauses;
use crate::json::JsonB;
use crate::result_set::ResultSet;
use kronos_allocation::{Allocation, HistoryStatus, NameResult, Side, Status};
use pgrx::AnyNumeric;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn propose_weights(
    signals: Option<&str>,
    risk: Option<&str>,
    method: Option<&str>,
    gross: Option<f64>,
    net: Option<Range<AnyNumeric>>,
    weight_bounds: Option<Range<AnyNumeric>>,
    max_turnover: Option<f64>,
    max_names: Option<i32>,
    target_vol: Option<f64>,
    risk_aversion: Option<f64>,
    group_limits: Option<JsonB>,
    factor_limits: Option<JsonB>,
    on_infeasible: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let Proposal { allocation, expected_returns, history } = propose(Arguments {
        signals,
        risk,
        method,
        gross,
        net,
        weight_bounds,
        max_turnover,
        max_names,
        target_vol,
        risk_aversion,
        group_limits,
        factor_limits,
        on_infeasible,
        options,
    })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    let book = book_status(&allocation);
    for (i, name) in allocation.names.iter().enumerate() {
        let status = [name_status(name, history.get(i)), book.clone()];
        let status: Vec<String> = status.into_iter().flatten().collect();
        rows.push::<10>(|row| {
            row.set(0, name.symbol.as_str());
            row.set(1, name.weight);
            row.set(2, name.previous_weight);
            row.set(3, name.trade);
            row.set(4, side(name.weight));
            row.set(5, expected_returns[i]);
            row.set(6, name.risk_share);
            row.set(7, name.cost);
            row.set(8, name.bindings.iter().map(|b| b.rule.clone()).collect::<Vec<String>>());
            row.set(9, (!status.is_empty()).then(|| status.join("; ")));
        })?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn explain_weights(
    signals: Option<&str>,
    risk: Option<&str>,
    method: Option<&str>,
    gross: Option<f64>,
    net: Option<Range<AnyNumeric>>,
    weight_bounds: Option<Range<AnyNumeric>>,
    max_turnover: Option<f64>,
    max_names: Option<i32>,
    target_vol: Option<f64>,
    risk_aversion: Option<f64>,
    group_limits: Option<JsonB>,
    factor_limits: Option<JsonB>,
    on_infeasible: Option<&str>,
    options: Option<JsonB>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let Proposal { allocation, history, .. } = propose(Arguments {
        signals,
        risk,
        method,
        gross,
        net,
        weight_bounds,
        max_turnover,
        max_names,
        target_vol,
        risk_aversion,
        group_limits,
        factor_limits,
        on_infeasible,
        options,
    })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    for (item, value) in summary(&allocation) {
        rows.push::<9>(|row| {
            row.set(0, "book");
            row.set(2, item);
            row.set(3, value);
            row.set(8, book_status(&allocation));
        })?;
    }
    for rule in &allocation.rules {
        rows.push::<9>(|row| {
            row.set(0, "rule");
            row.set(2, rule.clause.to_string());
            row.set(3, rule.value);
            row.set(4, bound(rule.clause.side));
            row.set(5, rule.slack);
            row.set(6, rule.shadow_price_bps);
            row.set(7, rule.violation);
        })?;
    }
    for clause in &allocation.conflict {
        rows.push::<9>(|row| {
            row.set(0, "conflict");
            row.set(2, clause.to_string());
            row.set(4, bound(clause.side));
        })?;
    }
    for (i, name) in allocation.names.iter().enumerate() {
        rows.push::<9>(|row| {
            row.set(0, "name");
            row.set(1, name.symbol.as_str());
            row.set(2, "risk_share");
            row.set(3, name.risk_share);
            row.set(8, name_status(name, history.get(i)));
        })?;
        for binding in &name.bindings {
            rows.push::<9>(|row| {
                row.set(0, "binding");
                row.set(1, name.symbol.as_str());
                row.set(2, binding.rule.as_str());
                row.set(3, name.weight);
                row.set(6, binding.shadow_price_bps);
            })?;
        }
    }
    Ok(())
}

fn side(weight: f64) -> &'static str {
    match weight {
        w if w > 0.0 => "long",
        w if w < 0.0 => "short",
        _ => "flat",
    }
}

fn bound(side: Side) -> Option<f64> {
    match side {
        Side::Min(bound) | Side::Max(bound) | Side::Equal(bound) => Some(bound),
        Side::Whole => None,
    }
}

/// What the whole book must say for itself; `None` where every rule holds.
fn book_status(allocation: &Allocation) -> Option<String> {
    match allocation.status {
        Status::Optimal => None,
        Status::Held => Some(format!("held: {}", clauses(&allocation.conflict))),
        Status::Relaxed => {
            let broken = allocation.rules.iter().filter(|rule| rule.violation > 0.0);
            let broken = broken.map(|rule| format!("{} by {:.6}", rule.clause, rule.violation));
            Some(format!("relaxed: {}", broken.collect::<Vec<_>>().join(", ")))
        }
    }
}

fn name_status(name: &NameResult, history: Option<&HistoryStatus>) -> Option<String> {
    let own = name.status.map(|status| status.to_string());
    let risk = history.and_then(|status| match status {
        HistoryStatus::Full => None,
        HistoryStatus::Partial { dates } => Some(format!("partial_history ({dates} dates)")),
        HistoryStatus::Constant { dates } => Some(format!("constant_history ({dates} dates)")),
        HistoryStatus::Borrowed { dates } => Some(format!("short_history ({dates} dates)")),
    });
    let parts: Vec<String> = own.into_iter().chain(risk).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn summary(book: &Allocation) -> [(&'static str, Option<f64>); 12] {
    [
        ("expected_return", Some(book.expected_return)),
        ("volatility", book.volatility),
        ("cvar", book.cvar),
        ("cost", Some(book.cost)),
        ("gross", Some(book.gross)),
        ("net", Some(book.net)),
        ("turnover", Some(book.turnover)),
        ("objective", Some(book.objective)),
        ("names", Some(book.held as f64)),
        ("solves", Some(f64::from(book.solves))),
        ("iterations", Some(f64::from(book.iterations))),
        ("residual", Some(book.residuals.max())),
    ]
}
