//! The query `risk`: returns by date, or joint scenarios.

use super::AllocationOptions;
use crate::error::{Error, Result};
use crate::query::{Kind, Query, Wanted};
use kronos_allocation::{
    AllocationError, FactorModel, GREATEST_PROPORTION, HistoryStatus, Method, Name, ReturnHistory, Scenarios,
    out_of_proportion,
};
use std::collections::VecDeque;

/// Size of returns above which a sum of their fourth powers may be infinite.
const LARGEST_RETURN: f64 = 1e60;

/// What was made of the query.
#[derive(Default)]
pub struct Sources {
    /// Covariance over the horizon.
    pub model: Option<FactorModel>,
    /// Joint returns.
    pub scenarios: Option<Scenarios>,
    /// Per name; empty where scenarios were given.
    pub history: Vec<HistoryStatus>,
    /// The returns as they were read.
    pub rows: Vec<PanelRow>,
}

/// Reads the query for `names`, sorted by symbol; rows of other symbols are ignored.
pub fn read(
    query: &Query,
    names: &[Name],
    method: Method,
    needs_model: bool,
    options: &AllocationOptions,
) -> Result<Sources> {
    query.require("symbol")?;
    query.require("ret")?;
    let by_scenario = query.has("scenario");
    if !by_scenario {
        query.require("ts")?;
    }
    let known = ["symbol", "ret", if by_scenario { "scenario" } else { "ts" }];
    if let Some(unknown) = query.names().find(|name| !known.contains(name)) {
        return Err(Error::QueryColumnUnknown {
            argument: "risk",
            column: unknown.to_owned(),
            valid: known.map(str::to_owned).to_vec(),
        });
    }
    let kind = if by_scenario { Kind::Integer } else { Kind::Instant };
    // All scenarios count; of a history, the newest dates.
    let keep = if by_scenario { usize::MAX } else { options.risk_dates };
    let rows = panel(query, names, known[2], kind, keep)?;
    check_proportion(&rows, names)?;
    let cvar = method == Method::Cvar;
    if by_scenario {
        let returns = complete(&rows, names)?;
        let history = ReturnHistory::new(names.len(), returns.iter().map(|r| Some(*r)).collect())?;
        return Ok(Sources {
            model: needs_model.then(|| history.estimate(options.estimator)).transpose()?.map(|e| e.model),
            scenarios: cvar.then(|| Scenarios::new(names.len(), returns)).transpose()?,
            history: Vec::new(),
            rows,
        });
    }
    let returns = rows.iter().flat_map(|row| &row.returns).copied().collect();
    let history = ReturnHistory::new(names.len(), returns)?;
    let estimate = needs_model.then(|| history.estimate(options.estimator)).transpose()?;
    let (model, status) = estimate.map(|e| (e.model.scaled(options.horizon), e.history)).unzip();
    Ok(Sources {
        model,
        scenarios: cvar
            .then(|| options.whole_dates().and_then(|dates| Ok(history.scenarios(dates)?)))
            .transpose()?,
        history: status.unwrap_or_default(),
        rows,
    })
}

/// Returns of all names at one date or in one scenario.
pub struct PanelRow {
    /// Microseconds of the date, or the scenario.
    pub key: i64,
    /// In the order of the names; absent where there is none.
    pub returns: Vec<Option<f64>>,
}

fn panel(query: &Query, names: &[Name], key: &str, kind: Kind, keep: usize) -> Result<Vec<PanelRow>> {
    let wanted = [(key, kind), ("symbol", Kind::Text), ("ret", Kind::Number)]
        .map(|(name, kind)| Wanted { name: name.to_owned(), kind });
    let mut rows: VecDeque<PanelRow> = VecDeque::new();
    query.read(&wanted, "1", |row| {
        let key = row.integer(0).ok_or(Error::QueryNull {
            argument: "risk",
            column: if kind == Kind::Integer { "scenario" } else { "ts" },
            row: "A row has none.".into(),
        })?;
        let symbol = row.text(1)?.ok_or(Error::QueryNull {
            argument: "risk",
            column: "symbol",
            row: "A row has none.".into(),
        })?;
        let (Ok(place), Some(ret)) =
            (names.binary_search_by(|name| name.symbol.as_str().cmp(symbol)), row.number(2))
        else {
            return Ok(());
        };
        if !ret.is_finite() || ret.abs() > LARGEST_RETURN {
            return Err(Error::InvalidArgument {
                name: format!("ret of \"{symbol}\""),
                expected: match ret.is_finite() {
                    true => format!("at most {LARGEST_RETURN:e} in size"),
                    false => "a finite number".into(),
                },
                got: ret.to_string(),
                hint: Some("Leave the row out or return NULL where there is no return.".into()),
            });
        }
        if rows.back().is_none_or(|last| last.key != key) {
            if rows.len() == keep {
                rows.pop_front();
            }
            rows.push_back(PanelRow { key, returns: vec![None; names.len()] });
        }
        let slot = rows.back_mut().map(|last| &mut last.returns[place]);
        if slot.is_some_and(|slot| slot.replace(ret).is_some()) {
            let what = if kind == Kind::Integer { "scenario" } else { "date" };
            return Err(Error::QueryDuplicate {
                argument: "risk",
                row: format!("\"{symbol}\" has two returns in one {what}."),
            });
        }
        Ok(())
    })?;
    Ok(rows.into())
}

/// Names a return so far above those of the other names that a covariance shrunk towards their average would be of it alone.
fn check_proportion(rows: &[PanelRow], names: &[Name]) -> Result<()> {
    let mut largest = vec![0.0f64; names.len()];
    for row in rows {
        for (largest, ret) in largest.iter_mut().zip(&row.returns) {
            *largest = ret.filter(|ret| ret.abs() > largest.abs()).unwrap_or(*largest);
        }
    }
    let sizes: Vec<f64> = largest.iter().map(|ret| ret.abs()).collect();
    match out_of_proportion(&sizes) {
        None => Ok(()),
        Some(name) => Err(AllocationError::OutOfProportion {
            what: format!("ret of \"{}\"", names[name].symbol),
            value: largest[name],
            times: GREATEST_PROPORTION,
        }
        .into()),
    }
}

/// The scenarios as a matrix; each must be complete, since its returns belong together.
fn complete(rows: &[PanelRow], names: &[Name]) -> Result<Vec<f64>> {
    let values = rows.iter().flat_map(|row| {
        row.returns.iter().zip(names).map(move |(ret, name)| {
            ret.ok_or_else(|| Error::QueryNull {
                argument: "risk",
                column: "ret",
                row: format!("Scenario {} has no return of \"{}\".", row.key, name.symbol),
            })
        })
    });
    values.collect()
}
