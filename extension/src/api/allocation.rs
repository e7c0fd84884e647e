//! `kronos.propose_weights()`, `kronos.explain_weights()` and what `trading.run_allocation()` records.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions

use crate::allocation::{Arguments, Proposal, propose};
use crate::error::clauses;
use crate::result_set::ResultSet;
use kronos_allocation::{Allocation, HistoryStatus, NameResult, Side, Status};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

#[pg_extern(sql = false)]
fn propose_weights(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: the call information of this very function, which has these arguments.
    let Proposal { allocation, expected_returns, history, .. } =
        propose(unsafe { Arguments::of_call(fcinfo) })?;
    // SAFETY: the call information of this very function.
    let mut rows = unsafe { ResultSet::begin(fcinfo)? };
    for (i, name) in allocation.names.iter().enumerate() {
        rows.push::<10>(|row| {
            row.set(0, name.symbol.as_str());
            row.set(1, name.weight);
            row.set(2, name.previous_weight);
            row.set(3, name.trade);
            row.set(4, side(name.weight));
            row.set(5, expected_returns[i]);
            row.set(6, name.risk_share);
            row.set(7, name.cost);
            row.set(8, bindings(name));
            row.set(9, weight_status(&allocation, name, history.get(i)));
        })?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn explain_weights(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    // SAFETY: the call information of this very function, which has these arguments.
    let Proposal { allocation, history, .. } = propose(unsafe { Arguments::of_call(fcinfo) })?;
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

/// All that a recorded run keeps, of one reading and one solve: `book`, `rules`, `state` and `weights` of the functions above,
/// and `inputs_sha256`.
#[pg_extern(sql = false)]
fn allocate(fcinfo: pg_sys::FunctionCallInfo) -> Result<pgrx::JsonB, ErrorReport> {
    // SAFETY: the call information of this very function, which has these arguments.
    let proposal = propose(unsafe { Arguments::of_call(fcinfo) })?;
    let allocation = &proposal.allocation;
    let weights = allocation.names.iter().enumerate().map(|(i, name)| {
        json!({
            "symbol": name.symbol,
            "weight": name.weight,
            "prev_weight": name.previous_weight,
            "trade": name.trade,
            "side": side(name.weight),
            "expected_return": proposal.expected_returns[i],
            "risk_share": name.risk_share,
            "cost": name.cost,
            "binding": bindings(name),
            "status": weight_status(allocation, name, proposal.history.get(i)),
            "price_usd": proposal.prices[i],
        })
    });
    let mut rules: Vec<(String, Value)> = allocation
        .rules
        .iter()
        .map(|rule| {
            let name = rule.clause.to_string();
            let facts = json!({
                "rule": name,
                "value": rule.value,
                "bound": bound(rule.clause.side),
                "slack": rule.slack,
                "shadow_price_bps": rule.shadow_price_bps,
                "violation": rule.violation,
            });
            (name, facts)
        })
        .collect();
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(pgrx::JsonB(json!({
        "inputs_sha256": proposal.inputs_sha256,
        "state": book_status(allocation),
        "book": Map::from_iter(summary(allocation).map(|(item, value)| (item.to_owned(), json!(value)))),
        "rules": rules.into_iter().map(|(_, facts)| facts).collect::<Vec<Value>>(),
        "weights": weights.collect::<Vec<Value>>(),
    })))
}

fn bindings(name: &NameResult) -> Vec<String> {
    name.bindings.iter().map(|binding| binding.rule.clone()).collect()
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

/// What befell the name, then what the whole book says.
fn weight_status(
    allocation: &Allocation,
    name: &NameResult,
    history: Option<&HistoryStatus>,
) -> Option<String> {
    let parts: Vec<String> =
        [name_status(name, history), book_status(allocation)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
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
