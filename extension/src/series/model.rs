//! Which model of numbers a name means: a registered one, or a baseline.

use super::{Call, SeriesOptions, Variates};
use crate::calendar::Width;
use crate::catalog::{self, ModelEntry, family};
use crate::engine;
use crate::error::{Error, Result};
use crate::statement::Sight;
use kronos_models::ask::{Ask, Terms, Wanted};
use kronos_models::baselines::Baseline;
use kronos_models::error::ModelError;
use kronos_models::family::{Answers, Takes};
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
        entry: Box<ModelEntry>,
        /// Longest history it reads, in rows.
        context: usize,
        /// Its quantile levels, ascending.
        levels: Vec<f64>,
        /// Which columns it takes.
        takes: Takes,
    },
}

/// A function that forecasts columns with models of the families that name it as theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door(pub &'static str);

impl Door {
    /// The alias that a NULL model means, unless there is only one model it could mean.
    fn alias(self) -> String {
        format!("{}-default", self.0.trim_end_matches("_predict"))
    }

    fn admits(self, entry: &ModelEntry) -> bool {
        family::find(&entry.family).is_ok_and(|family| family.facts().function == self.0)
    }
}

impl SeriesModel {
    /// A registered model as a model of numbers; `None` for one that draws paths of bars.
    pub fn of(entry: ModelEntry) -> Result<Option<Self>> {
        let able = entry.capabilities()?;
        let Answers::Quantiles(levels) = able.answers else { return Ok(None) };
        let (entry, context, takes) = (Box::new(entry), able.max_context, able.takes);
        Ok(Some(Self::Registered { entry, context, levels, takes }))
    }

    /// The model that a name means at a door.
    ///
    /// # Errors
    /// 42704 and 42P08 as for any model; 0A000 for one of another kind.
    pub fn at(door: Door, name: Option<&str>) -> Result<Self> {
        let entry = match name {
            Some(name) => catalog::resolve(Some(name))?,
            None => match catalog::resolve(Some(&door.alias())) {
                Err(error @ Error::UndefinedModel { .. }) => unnamed(door)?.ok_or(error)?,
                other => other?,
            },
        };
        let (version, admitted) = (entry.version.clone(), door.admits(&entry));
        let facts = family::find(&entry.family)?.facts();
        let kind = match entry.capabilities()?.answers {
            Answers::Paths => "forecasts bars".to_owned(),
            Answers::Quantiles(_) => format!("is {}", facts.title),
        };
        let hint = format!("It {kind}: use kronos.{}(), or kronos.forecast() for any model.", facts.function);
        Self::of(entry)?.filter(|_| admitted).ok_or_else(|| Error::Unsupported {
            what: format!("forecasting columns with model \"{version}\""),
            hint,
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
        let Self::Registered { entry, levels: own, takes, .. } = self else { return Ok(()) };
        let (columns, targets) = (variates.names().count(), variates.targets.len());
        let (what, refused) = match takes {
            Takes::Covariates | Takes::Channels(_) => ("", false),
            Takes::Targets => ("covariates", columns > targets || options.cross_learning.is_some()),
            Takes::OneTarget => ("more than one column", columns > 1 || options.cross_learning.is_some()),
        };
        if refused {
            return Err(Error::Unsupported {
                what: format!("{what} with model \"{}\"", entry.version),
                hint: "It forecasts a column by itself; Chronos-2 models take several and covariates.".into(),
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
        asks: Vec<Ask>,
        widths: &[Width],
        call: &Call,
    ) -> Result<Vec<Result<QuantileForecast, ModelError>>> {
        match self {
            Self::Baseline(baseline) => Ok(asks
                .iter()
                .zip(widths)
                .map(|(ask, &width)| of_baseline(*baseline, &SeriesRequest::of_numbers(ask), width, call))
                .collect()),
            Self::Registered { entry, .. } => {
                let source = entry.source()?;
                let terms = Terms {
                    context: call.context(),
                    cross_learning: call.options.cross_learning,
                    wanted: Wanted::Quantiles(call.levels.clone()),
                };
                engine::quantiles(&source, asks, terms).map_err(|error| entry.explain(error))
            }
        }
    }
}

/// The only model of a kind that was registered, or the built-in one where none was.
fn unnamed(door: Door) -> Result<Option<ModelEntry>> {
    let known = catalog::entries(Sight::Query)?;
    let admitted = known.iter().filter(|entry| !entry.built_in && door.admits(entry));
    let mut found: Vec<ModelEntry> = admitted.cloned().collect();
    Ok(match found.len() {
        0 => known.iter().rev().find(|entry| entry.built_in && door.admits(entry)).cloned(),
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
