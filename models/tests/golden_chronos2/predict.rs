//! Forecasts from end to end.

use super::folder::{Case, Golden, flat};
use super::inputs;
use super::report;
use kronos_models::chronos2::{Chronos2, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::series::{QuantileForecast, SeriesRequest, interpolate};
use serde::Deserialize;
use std::path::Path;

/// The keyword arguments of the reference's call.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    cross_learning: bool,
    batch_size: Option<usize>,
    context_length: Option<usize>,
    max_output_patches: Option<usize>,
    unrolled_quantiles: Option<Vec<f64>>,
}

/// Variates per batch in the reference unless told otherwise.
pub const BATCH_SIZE: usize = 256;

/// How far a forecast may be off, around the scaling of its history.
pub struct Tolerance {
    pub unrolled: bool,
    /// The reference's own scale is rounding noise there.
    pub noise: bool,
}

impl Tolerance {
    pub fn at(&self, expected: f32, loc: f32, scale: f32) -> f64 {
        let (expected, loc, scale) = (f64::from(expected), f64::from(loc), f64::from(scale));
        let (relative, offset) = if self.unrolled { (2e-4, 1e-5) } else { (2e-5, 1e-6) };
        if self.noise { 2e-3 } else { relative * (scale + (expected - loc).abs()) + offset * loc.abs() }
    }
}

/// The series whose reference forecast rests on rounding noise, by the description's list of numbers and names.
pub fn is_noise(case: &Case, item: usize) -> bool {
    case.desc.contains(&format!("{item}=constant_0p1"))
}

pub fn run(case: &Case, folder: &Path, model: &Chronos2, golden: &Golden, noted: &mut report::Case) {
    let parameters: Parameters = if case.params.is_null() {
        Parameters::default()
    } else {
        serde_json::from_value(case.params.clone()).unwrap()
    };
    let options = Chronos2Options {
        context_length: parameters.context_length,
        cross_learning: parameters.cross_learning.then_some(parameters.batch_size.unwrap_or(BATCH_SIZE)),
        max_output_patches: parameters.max_output_patches,
        unrolled_levels: parameters.unrolled_quantiles.clone(),
    };
    let patches = options.max_output_patches.unwrap_or(model.config().chronos_config.max_output_patches);
    for (index, &horizon) in case.horizons.iter().enumerate() {
        let requests = inputs::requests(case, folder, golden, horizon);
        let context = options.context_length.unwrap_or(model.config().chronos_config.context_length);
        prepared(&requests, context, golden, horizon, noted);
        let forecasts = model.forecast(&requests, &options, &NeverInterrupt).unwrap();
        let unrolled = horizon > patches * model.config().patch();
        for (item, forecast) in forecasts.iter().enumerate() {
            let forecast = match forecast {
                Ok(forecast) => forecast,
                Err(error) => {
                    noted.fail(&format!("h{horizon}.{item:02}"), error.to_string());
                    continue;
                }
            };
            let location = golden[&format!("locscale.{item:02}")].to_vec2::<f32>().unwrap();
            let tolerance = Tolerance { unrolled, noise: is_noise(case, item) };
            let mut compare = |stage: &str, got: Vec<f32>| {
                let stage = format!("h{horizon}.{stage}.{item:02}");
                let expected = flat(&golden[&stage]);
                let per_target = expected.len() / location.len();
                noted.close_by(&stage, &got, &expected, |i| {
                    tolerance.at(expected[i], location[i / per_target][0], location[i / per_target][1])
                });
            };
            compare("pred", forecast.values.iter().flatten().flatten().map(|&value| value as f32).collect());
            if index == 0 {
                for (set, levels) in case.quantile_levels.iter().enumerate() {
                    compare(&format!("quantiles{set}"), as_they_are(forecast, levels));
                    compare(&format!("mean{set}"), as_they_are(forecast, &[0.5]));
                }
            }
        }
    }
}

/// [target][step][level] as the reference reads them: without putting crossed quantiles in order.
pub fn as_they_are(forecast: &QuantileForecast, levels: &[f64]) -> Vec<f32> {
    let mut out = Vec::new();
    for target in &forecast.values {
        for step in 0..target[0].len() {
            let column: Vec<f64> = target.iter().map(|values| values[step]).collect();
            out.extend(levels.iter().map(|&level| interpolate(&forecast.levels, &column, level) as f32));
        }
    }
    out
}

/// Compares the rows of the requests with what the reference's model was given, where the file says it.
fn prepared(
    requests: &[SeriesRequest],
    context: usize,
    golden: &Golden,
    horizon: usize,
    noted: &mut report::Case,
) {
    let rows: Vec<_> = requests.iter().flat_map(inputs::rows).collect();
    let mut first = 0;
    for batch in 0.. {
        let stage = format!("h{horizon}.batch{batch}");
        let Some(contexts) = golden.get(&format!("{stage}.context")) else { break };
        let (count, length) = contexts.dims2().unwrap();
        let rows = &rows[first..first + count];
        first += count;
        let missing = |n: usize| std::iter::repeat_n(f64::NAN, n);
        let got = rows.iter().flat_map(|(history, _)| {
            let history = &history[history.len().saturating_sub(context)..];
            missing(length - history.len()).chain(history.iter().copied()).collect::<Vec<_>>()
        });
        same(&format!("{stage}.context"), got, &flat(contexts), noted);
        if let Some(futures) = golden.get(&format!("{stage}.future_covariates")) {
            let got = rows.iter().flat_map(|(_, future)| match future {
                Some(future) => future.to_vec(),
                None => missing(horizon).collect(),
            });
            same(&format!("{stage}.future_covariates"), got, &flat(futures), noted);
        }
    }
}

/// Equality to the last bit of float32 or nearly so, missing where missing is expected.
pub fn same(stage: &str, got: impl Iterator<Item = f64>, expected: &[f32], noted: &mut report::Case) {
    let (got, missing): (Vec<f32>, Vec<bool>) =
        got.map(|value| (if value.is_nan() { 0.0 } else { value as f32 }, value.is_nan())).unzip();
    noted.equal(
        &format!("{stage} gaps"),
        &missing,
        &expected.iter().map(|value| value.is_nan()).collect::<Vec<_>>(),
    );
    let expected: Vec<f32> = expected.iter().map(|value| if value.is_nan() { 0.0 } else { *value }).collect();
    noted.close_by(stage, &got, &expected, |i| 1e-6 * f64::from(expected[i].abs()) + f64::MIN_POSITIVE);
}
