//! From query texts to a proposed book: reads names and risk, states the problem, lets the optimiser solve it.

mod options;
mod risk;
mod signals;

pub use options::AllocationOptions;

use crate::error::{Error, Result, did_you_mean, list};
use crate::guc;
use crate::json::JsonB;
use crate::query::Query;
use kronos_allocation::{
    Allocation, AllocationError, CancelCheck, CashFloor, FactorModel, HistoryStatus, Interval, Limits,
    Method, Name, OnInfeasible, OrderRules, Problem, allocate,
};
use pgrx::fcinfo::pg_getarg;
use pgrx::{AnyNumeric, Range, pg_sys};
use risk::PanelRow;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use signals::Signals;
use std::sync::Arc;

/// The arguments of `propose_weights` and `explain_weights`, as SQL hands them over.
pub struct Arguments<'a> {
    /// Query for names and forecasts.
    pub signals: Option<&'a str>,
    /// Query for returns or scenarios.
    pub risk: Option<&'a str>,
    /// Objective.
    pub method: Option<&'a str>,
    /// Greatest sum of absolute weights.
    pub gross: Option<f64>,
    /// Bounds of the sum of weights.
    pub net: Option<Range<AnyNumeric>>,
    /// Bounds of each weight.
    pub weight_bounds: Option<Range<AnyNumeric>>,
    /// Greatest one-way turnover.
    pub max_turnover: Option<f64>,
    /// Greatest number of names.
    pub max_names: Option<i32>,
    /// Greatest volatility over the horizon.
    pub target_vol: Option<f64>,
    /// Price of risk.
    pub risk_aversion: Option<f64>,
    /// Limits by group.
    pub group_limits: Option<JsonB>,
    /// Limits by factor.
    pub factor_limits: Option<JsonB>,
    /// What to do when limits conflict.
    pub on_infeasible: Option<&'a str>,
    /// The rarer knobs.
    pub options: Option<JsonB>,
}

impl Arguments<'_> {
    /// The arguments of a call, in the order of SQL.
    ///
    /// # Safety
    /// `fcinfo` is that of a function with these arguments.
    #[allow(unsafe_code)]
    pub unsafe fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: promised by the caller; NULL reads as none.
        unsafe {
            Self {
                signals: pg_getarg(fcinfo, 0),
                risk: pg_getarg(fcinfo, 1),
                method: pg_getarg(fcinfo, 2),
                gross: pg_getarg(fcinfo, 3),
                net: pg_getarg(fcinfo, 4),
                weight_bounds: pg_getarg(fcinfo, 5),
                max_turnover: pg_getarg(fcinfo, 6),
                max_names: pg_getarg(fcinfo, 7),
                target_vol: pg_getarg(fcinfo, 8),
                risk_aversion: pg_getarg(fcinfo, 9),
                group_limits: pg_getarg(fcinfo, 10),
                factor_limits: pg_getarg(fcinfo, 11),
                on_infeasible: pg_getarg(fcinfo, 12),
                options: pg_getarg(fcinfo, 13),
            }
        }
    }
}

/// A solved call.
pub struct Proposal {
    /// The optimiser's answer, names sorted by symbol.
    pub allocation: Allocation,
    /// Forecast per name, in the same order.
    pub expected_returns: Vec<f64>,
    /// Standing of each name's history, in the same order; empty where no history was read.
    pub history: Vec<HistoryStatus>,
    /// Price per name, in the same order.
    pub prices: Vec<Option<f64>>,
    /// Of names and risk as they were read: the same digest and arguments give the same book.
    pub inputs_sha256: String,
}

/// Reads, states, solves.
pub fn propose(arguments: Arguments<'_>) -> Result<Proposal> {
    let method = named("method", arguments.method, &METHODS)?;
    let on_infeasible = named("on_infeasible", arguments.on_infeasible, &REACTIONS)?;
    let options = AllocationOptions::parse(arguments.options)?;
    let max_names = arguments.max_names.map(|n| positive("max_names", n)).transpose()?;
    let limits = Limits {
        weight_bounds: interval("weight_bounds", arguments.weight_bounds)?,
        gross: arguments.gross,
        net: interval("net", arguments.net)?,
        cash: options.cash_reserve.map(|reserve| CashFloor { reserve, short_margin: options.short_margin }),
        max_turnover: arguments.max_turnover,
        target_vol: arguments.target_vol,
        groups: object(
            "group_limits",
            arguments.group_limits,
            r#"{"group_sector":{"tech":[-0.1,0.2],"*":[-0.2,0.2]}}"#,
        )?,
        factors: object("factor_limits", arguments.factor_limits, r#"{"factor_beta":[-0.05,0.05]}"#)?,
    };
    let needs_forecast = matches!(method, Method::MeanVariance | Method::Cvar);
    let query = Query::prepare("signals", arguments.signals.ok_or(Error::NullArgument { name: "signals" })?)?;
    // A limit on a column that the query lacks is a slip; on one without values it limits nobody.
    if let Some(key) = limits.groups.keys().find(|key| !query.has(key)) {
        return Err(AllocationError::UnknownGroup { key: key.clone() }.into());
    }
    let Signals { names, volatilities } = signals::read(&query, needs_forecast, &options)?;
    // Before the risk query is blamed for not knowing them.
    if names.is_empty() {
        return Err(AllocationError::NoNames.into());
    }
    if names.len() > guc::max_series_per_call() {
        return Err(Error::LimitExceeded {
            what: "number of names",
            got: names.len() as u64,
            limit: guc::max_series_per_call() as u64,
            guc: "kronos.max_series_per_call",
        });
    }
    let needs_model = method != Method::Cvar || limits.target_vol.is_some();
    let sources = match arguments.risk {
        Some(text) => risk::read(&Query::prepare("risk", text)?, &names, method, needs_model, &options)?,
        None => risk::Sources { model: independent(&volatilities)?, ..risk::Sources::default() },
    };
    let inputs_sha256 = digest(&names, &volatilities, sources.rows.as_slice())?;
    let problem = Problem {
        method,
        risk_aversion: arguments.risk_aversion.ok_or(Error::NullArgument { name: "risk_aversion" })?,
        risk: sources.model,
        scenarios: sources.scenarios,
        cvar_level: options.cvar_level,
        limits,
        orders: OrderRules {
            equity: options.equity,
            min_notional: options.min_notional,
            whole_share_shorts: options.whole_share_shorts,
            max_names,
        },
        on_infeasible,
        relaxation: options.relaxation,
        names,
    };
    let allocation = allocate(&problem, &(Arc::new(cancelled) as CancelCheck));
    // A cancelled solve is raised here, with the server's own words.
    pgrx::check_for_interrupts!();
    Ok(Proposal {
        expected_returns: problem.names.iter().map(|name| name.expected_return).collect(),
        prices: problem.names.iter().map(|name| name.price).collect(),
        inputs_sha256,
        history: sources.history,
        allocation: allocation?,
    })
}

const METHODS: [(&str, Method); 4] = [
    ("mean_variance", Method::MeanVariance),
    ("min_variance", Method::MinVariance),
    ("risk_parity", Method::RiskParity),
    ("cvar", Method::Cvar),
];

const REACTIONS: [(&str, OnInfeasible); 3] =
    [("error", OnInfeasible::Error), ("relax", OnInfeasible::Relax), ("report", OnInfeasible::Report)];

fn named<T: Copy>(argument: &'static str, given: Option<&str>, known: &[(&str, T)]) -> Result<T> {
    let given = given.ok_or(Error::NullArgument { name: argument })?;
    known.iter().find(|(name, _)| *name == given).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|(name, _)| (*name).to_owned()).collect();
        let near = did_you_mean(given, &names);
        Error::InvalidArgument {
            name: argument.to_owned(),
            expected: format!("one of {}", list(&names)),
            got: format!("\"{given}\""),
            hint: Some(near.trim_end().to_owned()).filter(|hint| !hint.is_empty()),
        }
    })
}

fn positive(name: &str, value: i32) -> Result<usize> {
    usize::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| Error::InvalidArgument {
        name: name.to_owned(),
        expected: "at least 1".into(),
        got: value.to_string(),
        hint: None,
    })
}

/// A range as an interval; NULL is unbounded. Whether an end is included makes no difference to an optimum.
fn interval(name: &str, range: Option<Range<AnyNumeric>>) -> Result<Interval> {
    let Some(range) = range else { return Ok(Interval::default()) };
    let Some((lower, upper)) = range.into_inner() else {
        return Err(Error::InvalidArgument {
            name: name.to_owned(),
            expected: "a range with at least one value".into(),
            got: "empty".into(),
            hint: None,
        });
    };
    let end = |bound: pgrx::datum::RangeBound<AnyNumeric>| match bound
        .get()
        .cloned()
        .map(f64::try_from)
        .transpose()
    {
        Ok(end) => Ok(end.filter(|end| !end.is_infinite())),
        Err(error) => Err(Error::InvalidArgument {
            name: name.to_owned(),
            expected: "a range of float8 numbers".into(),
            got: error.to_string(),
            hint: None,
        }),
    };
    Ok(Interval { lower: end(lower)?, upper: end(upper)? })
}

/// A JSON argument of a fixed shape; NULL is empty.
fn object<T: DeserializeOwned + Default>(name: &str, json: Option<JsonB>, example: &str) -> Result<T> {
    let Some(JsonB(value)) = json else { return Ok(T::default()) };
    let got = value.to_string();
    serde_json::from_value(value).map_err(|_| Error::InvalidArgument {
        name: name.to_owned(),
        expected: format!("an object such as {example}"),
        got,
        hint: Some(
            "null stands for an absent end; a group takes {\"net\": [...], \"gross\": 0.3} too.".into(),
        ),
    })
}

/// SHA-256 of what was read, in hexadecimal.
fn digest(names: &[Name], volatilities: &[Option<f64>], risk: &[PanelRow]) -> Result<String> {
    let mut hash = Sha256::new();
    let names = serde_json::to_vec(&(names, volatilities));
    hash.update(names.map_err(|error| Error::Internal { what: error.to_string() })?);
    for row in risk {
        hash.update(row.key.to_le_bytes());
        for ret in &row.returns {
            // No return that is read is NaN.
            hash.update(ret.unwrap_or(f64::NAN).to_le_bytes());
        }
    }
    Ok(format!("{:x}", hash.finalize()))
}

/// Uncorrelated names of known volatility; none unless every name has one.
fn independent(volatilities: &[Option<f64>]) -> Result<Option<FactorModel>> {
    let variances: Option<Vec<f64>> = volatilities.iter().map(|v| v.map(|v| v * v)).collect();
    variances.map(|variances| FactorModel::new(0, Vec::new(), variances)).transpose().map_err(Error::from)
}

/// Whether the server wants this backend to stop.
#[allow(unsafe_code)]
fn cancelled() -> bool {
    // SAFETY: flags set by signal handlers of this single-threaded process; read as the server's own macro reads them.
    unsafe {
        std::ptr::read_volatile(&raw const pg_sys::InterruptPending) != 0
            && (std::ptr::read_volatile(&raw const pg_sys::QueryCancelPending) != 0
                || std::ptr::read_volatile(&raw const pg_sys::ProcDiePending) != 0)
    }
}
