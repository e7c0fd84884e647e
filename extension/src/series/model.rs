//! Which model of numbers a name means: a registered one, or a baseline.

use super::{Call, SeriesOptions, Variates};
use crate::calendar::Width;
use crate::catalog::{self, ModelEntry};
use crate::engine;
use crate::error::{Error, Result};
use kronos_engine::message::Reading;
use kronos_models::baselines::Baseline;
use kronos_models::error::ModelError;
use kronos_models::series::{QuantileForecast, SeriesRequest};

/// Rows of history a baseline is given unless told otherwise.
const BASELINE_CONTEXT: usize = 2048;

/// A model of numbers.
pub enum SeriesModel {
    /// A model without weights.
    Baseline(Baseline),
    /// A registered model.
    Registered {
        /// Its catalogue entry.
        entry: ModelEntry,
        /// Longest history it reads, in rows.
        context: usize,
        /// Its quantile levels, ascending.
        levels: Vec<f64>,
        /// Whether it takes several targets and covariates.
        multivariate: bool,
    },
}

/// The alias that a NULL model of `kronos.chronos_predict()` means, unless there is only one model it could mean.
const DEFAULT_ALIAS: &str = "chronos-default";

impl SeriesModel {
    /// A registered model as a model of numbers; `None` for one of another family.
    pub fn of(entry: ModelEntry) -> Result<Option<Self>> {
        let Some((context, levels)) = entry.quantile_model()? else { return Ok(None) };
        let multivariate = entry.is_multivariate();
        Ok(Some(Self::Registered { entry, context, levels, multivariate }))
    }

    /// The model that `kronos.chronos_predict()` means.
    ///
    /// # Errors
    /// 42704 and 42P08 as for any model; 0A000 for one that forecasts bars.
    pub fn chronos(name: Option<&str>) -> Result<Self> {
        let entry = match name {
            Some(name) => catalog::resolve(Some(name))?,
            None => match catalog::resolve(Some(DEFAULT_ALIAS)) {
                Err(error @ Error::UndefinedModel { .. }) => unnamed()?.ok_or(error)?,
                other => other?,
            },
        };
        let version = entry.version.clone();
        Self::of(entry)?.ok_or_else(|| Error::Unsupported {
            what: format!("forecasting columns with model \"{version}\""),
            hint: "It forecasts bars: use kronos.kronos_predict(), or kronos.forecast() for any model."
                .into(),
        })
    }

    /// `name@digest`, or the name of the baseline.
    pub fn version(&self) -> &str {
        match self {
            Self::Baseline(baseline) => baseline.name(),
            Self::Registered { entry, .. } => &entry.version,
        }
    }

    /// Longest history it reads, in rows.
    pub fn max_context(&self) -> usize {
        match self {
            Self::Baseline(_) => BASELINE_CONTEXT,
            Self::Registered { context, .. } => *context,
        }
    }

    /// The model's own quantile levels, ascending; a baseline has all.
    pub fn levels(&self) -> &[f64] {
        match self {
            Self::Baseline(_) => &[],
            Self::Registered { levels, .. } => levels,
        }
    }

    /// Refuses what the model cannot do, before anything is read.
    pub fn check(&self, variates: &Variates, levels: &[f64], options: &SeriesOptions) -> Result<()> {
        let Self::Registered { entry, levels: own, multivariate, .. } = self else { return Ok(()) };
        let variates = variates.names().count();
        if !multivariate && (variates > 1 || options.cross_learning.is_some()) {
            return Err(Error::Unsupported {
                what: format!("more than one column with model \"{}\"", entry.version),
                hint: "It forecasts one column by itself; Chronos-2 models take several and covariates."
                    .into(),
            });
        }
        let (first, last) = (own.first().copied().unwrap_or(0.0), own.last().copied().unwrap_or(1.0));
        if let Some(level) = levels.iter().find(|level| !(first..=last).contains(*level)) {
            return Err(Error::InvalidArgument {
                name: "a quantile level".into(),
                expected: format!(
                    "from {first} to {last}, the outermost levels of model \"{}\"",
                    entry.version
                ),
                got: level.to_string(),
                hint: Some(format!(
                    "The interval of level takes the quantiles at (1 - level) / 2 and (1 + level) / 2, so level can be \
                     at most {}.",
                    (1e9 * (1.0 - 2.0 * first.max(1.0 - last))).round() / 1e9
                )),
            });
        }
        Ok(())
    }

    /// Forecasts series at the levels of the call.
    ///
    /// # Errors
    /// What concerns the model; what concerns one series is in its own place of the result.
    pub(super) fn forecast(
        &self,
        requests: Vec<SeriesRequest>,
        widths: &[Width],
        call: &Call,
    ) -> Result<Vec<Result<QuantileForecast, ModelError>>> {
        match self {
            Self::Baseline(baseline) => Ok(requests
                .iter()
                .zip(widths)
                .map(|(request, &width)| of_baseline(*baseline, request, width, call))
                .collect()),
            Self::Registered { entry, .. } => {
                let source = entry.source()?;
                let reading = Reading {
                    context: call.context(),
                    cross_learning: call.options.cross_learning,
                    levels: call.levels.clone(),
                };
                engine::quantiles(&source, requests, reading).map_err(|error| entry.explain(error))
            }
        }
    }
}

/// The only registered model of numbers.
fn unnamed() -> Result<Option<ModelEntry>> {
    let known = catalog::entries()?;
    let mut found = Vec::new();
    for entry in known.iter().filter(|entry| !entry.built_in) {
        if entry.quantile_model()?.is_some() {
            found.push(entry.clone());
        }
    }
    Ok(match found.len() {
        0 => catalog::built_in(&known, catalog::CHRONOS_NANO),
        1 => found.pop(),
        _ => None,
    })
}

/// A baseline has closed forms for any level, but wants them ascending and once.
pub(super) fn of_baseline(
    baseline: Baseline,
    request: &SeriesRequest,
    width: Width,
    call: &Call,
) -> Result<QuantileForecast, ModelError> {
    let mut levels = call.levels.clone();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let forecast = baseline.forecast(request, call.season(width), &levels)?;
    let place = |level: &f64| levels.iter().position(|own| own == level).unwrap_or(0);
    let values = forecast
        .values
        .iter()
        .map(|target| call.levels.iter().map(|level| target[place(level)].clone()).collect())
        .collect();
    Ok(QuantileForecast { levels: call.levels.clone(), values })
}

/// The season that rows of a width usually have: a day of shorter rows, a week of days, a year of anything longer.
pub(super) fn season(width: Width) -> usize {
    const DAY: i64 = 86_400_000_000;
    match width {
        Width::Micros(micros) => usize::try_from(DAY / micros.max(1)).unwrap_or(1).max(1),
        Width::Days(days @ 1..=6) => (7 / days as usize).max(1),
        Width::Days(days) => (365 / days as usize).max(1),
        Width::Months(months) => (12 / months as usize).max(1),
    }
}
