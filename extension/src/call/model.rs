//! Which model a name means, registered or a baseline, and what it can be asked.

use super::Call;
use super::options::Options;
use super::variates::{CLOSE, Variates};
use crate::catalog::{self, ModelEntry, family};
use crate::engine;
use crate::error::{Error, Result};
use crate::statement::Sight;
use kronos_models::answer::Forecast as Answer;
use kronos_models::ask::Ask;
use kronos_models::baselines::Baseline;
use kronos_models::error::ModelError;
use kronos_models::family::{Answers, Capabilities, Takes};
use kronos_models::series::{QuantileForecast, SeriesRequest};
use pgrx::datum::Date;

/// Rows of history a baseline is given unless told otherwise.
const BASELINE_CONTEXT: usize = 2048;

/// Bars below which no model of bars is asked.
const LEAST_BARS: usize = 32;

/// A model.
pub enum Model {
    /// One without weights.
    Baseline(Baseline),
    /// A registered one, and what it can do.
    Registered(Box<ModelEntry>, Capabilities),
}

/// A function that forecasts with models of the families that name it as theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub &'static str);

impl Function {
    /// That of bars.
    pub const BARS: Self = Self("kronos_predict");

    /// What a NULL model means to it: an alias, unless there is only one model it could mean.
    fn default(self) -> Result<ModelEntry> {
        if self == Self::BARS {
            return catalog::resolve(None);
        }
        let alias = format!("{}-default", self.0.trim_end_matches("_predict"));
        match catalog::resolve(Some(&alias)) {
            Err(error @ Error::UndefinedModel { .. }) => self.only_model()?.ok_or(error),
            other => other,
        }
    }

    /// The only model of a kind that was registered, or the built-in one where none was.
    fn only_model(self) -> Result<Option<ModelEntry>> {
        let known = catalog::entries(Sight::Query)?;
        let admitted = known.iter().filter(|entry| !entry.built_in && self.admits(entry));
        let mut found: Vec<ModelEntry> = admitted.cloned().collect();
        Ok(match found.len() {
            0 => known.iter().rev().find(|entry| entry.built_in && self.admits(entry)).cloned(),
            1 => found.pop(),
            _ => None,
        })
    }

    fn admits(self, entry: &ModelEntry) -> bool {
        family::find(&entry.family).is_ok_and(|family| family.facts().function == self.0)
    }
}

impl Model {
    /// Any model.
    ///
    /// # Errors
    /// As for [`catalog::resolve`].
    pub fn any(name: Option<&str>) -> Result<Self> {
        match name.and_then(Baseline::from_name) {
            Some(baseline) => Ok(Self::Baseline(baseline)),
            None => Self::of(catalog::resolve(name)?),
        }
    }

    /// The model that a name means to a function.
    ///
    /// # Errors
    /// As for [`catalog::resolve`]; 0A000 for one of another kind.
    pub fn at(function: Function, name: Option<&str>) -> Result<Self> {
        let entry = name.map_or_else(|| function.default(), |name| catalog::resolve(Some(name)))?;
        if function.admits(&entry) {
            return Self::of(entry);
        }
        let facts = family::find(&entry.family)?.facts();
        let what = if function == Function::BARS { "bars" } else { "columns" };
        let kind = match entry.capabilities()?.answers {
            Answers::Paths => "forecasts bars".to_owned(),
            Answers::Quantiles(_) => format!("is {}", facts.title),
        };
        Err(Error::Unsupported {
            what: format!("forecasting {what} with model \"{}\"", entry.version),
            hint: format!("It {kind}: use kronos.{}(), or kronos.forecast() for any model.", facts.function),
        })
    }

    fn of(entry: ModelEntry) -> Result<Self> {
        let able = entry.capabilities()?;
        Ok(Self::Registered(Box::new(entry), able))
    }

    /// `name@digest`, or the name of the baseline.
    pub fn version(&self) -> &str {
        match self {
            Self::Baseline(baseline) => baseline.name(),
            Self::Registered(entry, _) => &entry.version,
        }
    }

    /// Softmax temperature of draws that a call does not choose.
    pub fn temperature(&self) -> Option<f64> {
        self.entry().and_then(ModelEntry::temperature)
    }

    /// Day after which it has seen no data, where that is known.
    pub fn train_cutoff(&self) -> Option<Date> {
        self.entry().and_then(|entry| entry.train_cutoff)
    }

    fn entry(&self) -> Option<&ModelEntry> {
        match self {
            Self::Baseline(_) => None,
            Self::Registered(entry, _) => Some(entry),
        }
    }

    /// Longest history it reads, in rows.
    pub fn max_context(&self) -> usize {
        match self {
            Self::Baseline(_) => BASELINE_CONTEXT,
            Self::Registered(_, able) => able.max_context,
        }
    }

    /// Shortest history it is asked with, in rows.
    pub fn least_context(&self) -> usize {
        if self.is_of_bars() { LEAST_BARS } else { 1 }
    }

    /// Whether it takes the channels of bars, whole and without gaps, and no column by itself.
    pub fn is_of_bars(&self) -> bool {
        matches!(self, Self::Registered(_, Capabilities { takes: Takes::Channels(_), .. }))
    }

    /// Whether it answers with sample paths.
    pub fn draws(&self) -> bool {
        matches!(self, Self::Registered(_, Capabilities { answers: Answers::Paths, .. }))
    }

    /// The model's own quantile levels, ascending; a baseline has all.
    pub fn levels(&self) -> &[f64] {
        match self {
            Self::Registered(_, Capabilities { answers: Answers::Quantiles(levels), .. }) => levels,
            _ => &[],
        }
    }

    /// The columns that are read for targets that a caller names: for the close of bars, all their channels.
    ///
    /// # Errors
    /// 0A000 for other targets than the close where bars are forecast.
    pub fn variates(&self, named: Variates) -> Result<Variates> {
        if !self.is_of_bars() {
            return Ok(named);
        }
        if named.targets != [CLOSE] {
            return Err(Error::Unsupported {
                what: format!("forecasting these columns with model \"{}\"", self.version()),
                hint: "It forecasts bars: pass targets => '{close}', and name the column of the close in the option columns."
                    .into(),
            });
        }
        Ok(Variates { targets: Variates::bars().targets, ..named })
    }

    /// Refuses what the model cannot do and what would change its numbers, before anything is read.
    ///
    /// # Errors
    /// 0A000 for columns that it does not take together, 22023 for levels beyond its own.
    pub fn check(&self, variates: &Variates, levels: &[f64], options: &Options) -> Result<()> {
        let Self::Registered(entry, able) = self else { return Ok(()) };
        options.check_context(self.least_context())?;
        let alone = variates.targets.len() > 1 && able.takes == Takes::OneTarget;
        let informed = variates.count() > variates.targets.len() && !able.takes_covariates();
        let learning = options.cross_learning.is_some() && !able.takes_covariates();
        let what = if alone {
            "more than one column"
        } else if informed {
            "covariates"
        } else if learning {
            "cross-learning"
        } else {
            return self.check_levels(levels);
        };
        let one = if self.is_of_bars() { "the bars of a series by themselves" } else { "a column by itself" };
        Err(Error::Unsupported {
            what: format!("{what} with model \"{}\"", entry.version),
            hint: format!("It forecasts {one}; Chronos-2 models take several columns and covariates."),
        })
    }

    fn check_levels(&self, levels: &[f64]) -> Result<()> {
        let (Some(&first), Some(&last)) = (self.levels().first(), self.levels().last()) else {
            return Ok(());
        };
        let Some(level) = levels.iter().find(|level| !(first..=last).contains(*level)) else { return Ok(()) };
        Err(Error::InvalidArgument {
            name: "a quantile level".into(),
            expected: format!("from {first} to {last}, the outermost levels of model \"{}\"", self.version()),
            got: level.to_string(),
            hint: Some(format!(
                "The interval of level takes the quantiles at (1 - level) / 2 and (1 + level) / 2, so level can be \
                 at most {}.",
                (1e9 * (1.0 - 2.0 * first.max(1.0 - last))).round() / 1e9
            )),
        })
    }

    /// Forecasts series on the terms of the call.
    ///
    /// # Errors
    /// What concerns the model; what concerns one series is in its own place of the result.
    pub(super) fn forecast(
        &self,
        asks: Vec<Ask>,
        seasons: &[usize],
        call: &Call,
    ) -> Result<Vec<Result<Answer, ModelError>>> {
        match self {
            Self::Baseline(baseline) => {
                let answer = |(ask, &season): (&Ask, &usize)| {
                    call.baseline(*baseline, &SeriesRequest::of_numbers(ask), season).map(Answer::Quantiles)
                };
                Ok(asks.iter().zip(seasons).map(answer).collect())
            }
            Self::Registered(entry, _) => {
                engine::forecasts(&entry.source()?, asks, call.terms()).map_err(|error| entry.explain(error))
            }
        }
    }
}

/// A baseline has closed forms for any level, but wants them ascending and once.
pub(super) fn of_baseline(
    baseline: Baseline,
    request: &SeriesRequest,
    season: usize,
    asked: &[f64],
) -> Result<QuantileForecast, ModelError> {
    let mut levels = asked.to_vec();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let forecast = baseline.forecast(request, season, &levels)?;
    let place = |level: &f64| levels.iter().position(|own| own == level).unwrap_or(0);
    let target =
        |values: &Vec<Vec<f64>>| asked.iter().map(|level| values[place(level)].clone()).collect::<Vec<_>>();
    let values = forecast.values.iter().map(target).collect();
    Ok(QuantileForecast { levels: asked.to_vec(), values })
}
