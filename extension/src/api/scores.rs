//! Stateless calibration and scores: `aci_radius`, `pid_radius`, `coverage`, `winkler`, `pinball`, `crps`.
#![allow(unsafe_code)] // #[pg_extern] expands to exported C functions; states of aggregates

use crate::call::level as checked_level;
use crate::error::{Error, Result};
use kronos_models::calibration::{Method, Settings, Tail, Unit};
use kronos_models::metrics;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self};
use pgrx::prelude::*;
use pgrx::{Internal, PgMemoryContexts};

/// A tracker at work in an aggregate.
struct Tracker {
    settings: Settings,
    tail: Tail,
}

/// Adds a score to the tracker of an aggregate, which the first one makes; rows with a NULL do not count.
///
/// # Safety
/// `fcinfo` is that of the transition function being executed.
unsafe fn track(
    mut state: Internal,
    (score, level, lr): (Option<f64>, Option<f64>, Option<f64>),
    method: Method,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Internal> {
    let (Some(score), Some(level), Some(lr)) = (score, level, lr) else { return Ok(state) };
    // SAFETY: only transition functions put anything into the state, and it is a tracker.
    if unsafe { state.get_mut::<Tracker>() }.is_none() {
        let settings = Settings {
            lr,
            asymmetric: false,
            ..Settings::new(checked_level(Some(level))?, method, Unit::Linear)?
        };
        settings.validate()?;
        let tail = Tail::new(&settings)
            .ok_or_else(|| Error::Internal { what: "a method without a tracker".into() })?;
        let mut context = std::ptr::null_mut();
        // SAFETY: asks for the memory context of the aggregate, where the state must live.
        if unsafe { pg_sys::AggCheckCallContext(fcinfo, &mut context) } == 0 {
            return Err(Error::Internal {
                what: "a transition function was called outside of an aggregate".into(),
            });
        }
        let tracker = PgMemoryContexts::For(context).leak_and_drop_on_delete(Tracker { settings, tail });
        state = Internal::from(Some(pg_sys::Datum::from(tracker)));
    }
    // SAFETY: as above.
    if let Some(tracker) = unsafe { state.get_mut::<Tracker>() } {
        if score.is_nan() {
            return Err(Error::InvalidArgument {
                name: "score".into(),
                expected: "a number".into(),
                got: "NaN".into(),
                hint: None,
            });
        }
        tracker.tail.update(&tracker.settings, score, 0.0);
    }
    Ok(state)
}

#[pg_extern(sql = false)]
fn aci_step(
    state: Internal,
    score: Option<f64>,
    level: Option<f64>,
    lr: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Internal, ErrorReport> {
    // SAFETY: the call information of this very function.
    Ok(unsafe { track(state, (score, level, lr), Method::Aci, fcinfo)? })
}

#[pg_extern(sql = false)]
fn pid_step(
    state: Internal,
    score: Option<f64>,
    level: Option<f64>,
    lr: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Internal, ErrorReport> {
    // SAFETY: the call information of this very function.
    Ok(unsafe { track(state, (score, level, lr), Method::Pid, fcinfo)? })
}

#[pg_extern(sql = false)]
fn radius_final(state: Internal) -> Option<f64> {
    // SAFETY: only the transition functions above put anything into the state.
    let tracker = unsafe { state.get::<Tracker>() }?;
    Some(tracker.tail.radius(&tracker.settings, 0.0))
}

/// Counts of an aggregate: outcomes, and those inside.
fn counts(state: Option<Vec<f64>>) -> [f64; 2] {
    match state.as_deref() {
        Some(&[all, inside]) => [all, inside],
        _ => [0.0, 0.0],
    }
}

#[pg_extern(sql = false)]
fn coverage_step(
    state: Option<Vec<f64>>,
    actual: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
) -> Vec<f64> {
    let [all, inside] = counts(state);
    match (actual, lower, upper) {
        (Some(actual), Some(lower), Some(upper)) => {
            vec![all + 1.0, inside + f64::from(u8::from(lower <= actual && actual <= upper))]
        }
        _ => vec![all, inside],
    }
}

#[pg_extern(sql = false)]
fn coverage_combine(a: Vec<f64>, b: Vec<f64>) -> Vec<f64> {
    let ([all, inside], [more, hits]) = (counts(Some(a)), counts(Some(b)));
    vec![all + more, inside + hits]
}

#[pg_extern(sql = false)]
fn coverage_final(state: Vec<f64>) -> Option<f64> {
    let [all, inside] = counts(Some(state));
    (all > 0.0).then(|| inside / all)
}

#[pg_extern(sql = false)]
fn winkler(actual: f64, lower: f64, upper: f64, level: f64) -> Result<f64, ErrorReport> {
    let level = checked_level(Some(level))?;
    if lower > upper {
        return Err(Error::InvalidArgument {
            name: "lower".into(),
            expected: format!("at most upper, {upper}"),
            got: lower.to_string(),
            hint: None,
        }
        .into());
    }
    Ok(metrics::interval_score(actual, lower, upper, level))
}

#[pg_extern(sql = false)]
fn pinball(actual: f64, quantile: f64, tau: f64) -> Result<f64, ErrorReport> {
    if !(tau > 0.0 && tau < 1.0) {
        return Err(Error::InvalidArgument {
            name: "tau".into(),
            expected: "between 0 and 1".into(),
            got: tau.to_string(),
            hint: None,
        }
        .into());
    }
    Ok(metrics::pinball(actual, quantile, tau))
}

#[pg_extern(sql = false)]
fn crps(
    actual: f64,
    quantiles: Vec<Option<f64>>,
    levels: Vec<Option<f64>>,
) -> Result<Option<f64>, ErrorReport> {
    if quantiles.len() != levels.len() {
        return Err(Error::InvalidArgument {
            name: "quantiles".into(),
            expected: format!("as many as quantile_levels, {}", levels.len()),
            got: quantiles.len().to_string(),
            hint: None,
        }
        .into());
    }
    let levels = crate::call::quantile_levels(Some(levels))?;
    let Some(quantiles) = quantiles.into_iter().collect::<Option<Vec<f64>>>() else { return Ok(None) };
    Ok(metrics::crps_quantiles(actual, &quantiles, levels.as_slice()))
}
