//! What models are compared with.

use super::actuals::Actuals;
use super::forecast::{Forecast, Losses};
use super::options::EvaluateOptions;
use super::rows::{Columns, distinct};
use crate::error::{Error, Result};
use crate::relation::Relation;
use kronos_models::baselines::RETURNS;
use serde_json::{Map, Value};

/// The last value stays: its point forecast needs no rows.
const NAIVE: &str = "naive";

/// The last value stays, with the volatility of late.
const HIST_VOL: &str = "hist_vol";

/// The forecast that losses are compared with.
#[derive(Debug, PartialEq, Eq)]
pub enum Benchmark {
    /// The rows of a model.
    Rows(String),
    /// `hist_vol`, computed from what was known at each cutoff, with the volatility of so many returns.
    Computed(usize),
}

impl Benchmark {
    /// Chooses it: what the caller names, else `hist_vol` where it is among the rows or what came says enough to compute it, else
    /// `naive`.
    ///
    /// # Errors
    /// 22023 for a model that has no rows, and for `hist_vol` where neither rows nor outcomes tell it.
    pub fn choose(
        relation: &Relation,
        columns: &Columns,
        options: &EvaluateOptions,
        actuals: Option<&Actuals>,
    ) -> Result<Self> {
        let known = distinct(relation, columns, options, "model_version")?;
        let recorded = |name: &str| {
            let meant = |version: &&String| *version == name || version.split('@').next() == Some(name);
            known.iter().find(|version| *version == name).or_else(|| {
                let mut meant = known.iter().filter(meant);
                meant.next().filter(|_| meant.next().is_none())
            })
        };
        // What is recorded has the default window.
        let as_recorded = options.benchmark_window.is_none_or(|returns| returns == RETURNS);
        let computed = actuals.map(|_| Self::Computed(options.benchmark_window.unwrap_or(RETURNS)));
        match options.benchmark.as_deref() {
            Some(NAIVE) => Ok(Self::Rows(NAIVE.into())),
            name @ (None | Some(HIST_VOL)) => {
                let rows = recorded(HIST_VOL).filter(|_| as_recorded);
                let found = rows.map(|name| Self::Rows(name.clone())).or(computed);
                match (found, name) {
                    (Some(found), _) => Ok(found),
                    (None, None) if as_recorded => Ok(Self::Rows(NAIVE.into())),
                    (None, _) => Err(Error::InvalidArgument {
                        name: "option \"benchmark\"".into(),
                        expected: "one that the rows hold, or actuals to compute \"hist_vol\" from".into(),
                        got: "\"hist_vol\"".into(),
                        hint: Some(
                            "Give the relation with what came as actuals, or compare with '{\"benchmark\": \"naive\"}'."
                                .into(),
                        ),
                    }),
                }
            }
            Some(name) => match recorded(name) {
                Some(version) => Ok(Self::Rows(version.clone())),
                None => Err(Error::InvalidArgument {
                    name: "option \"benchmark\"".into(),
                    expected: format!("naive, hist_vol or one of {}", known.join(", ")),
                    got: format!("\"{name}\""),
                    hint: None,
                }),
            },
        }
    }

    /// Returns that it takes its volatility from, where it is computed.
    pub fn returns(&self) -> Option<usize> {
        match self {
            Self::Rows(_) => None,
            Self::Computed(returns) => Some(*returns),
        }
    }

    /// What it lost where `forecast` is of, given all that was said of the cell.
    pub fn losses(
        &self,
        forecast: &Forecast,
        cell: &[Forecast],
        options: &EvaluateOptions,
    ) -> Option<Losses> {
        let name = match self {
            Self::Computed(_) => return forecast.of_benchmark()?.losses(options),
            Self::Rows(name) => name,
        };
        let mut rows = cell.iter().filter(|row| row.model_version == *name);
        let first = rows.clone().next();
        let row = rows.find(|row| row.is_of_one_variant(forecast)).or(first);
        if let Some(row) = row {
            return row.losses(options);
        }
        if name == NAIVE { forecast.of_last_value()?.losses(options) } else { None }
    }

    /// Says what it was.
    pub fn describe(&self, extra: &mut Map<String, Value>) {
        let name = match self {
            Self::Rows(name) => name,
            Self::Computed(returns) => {
                extra.insert("benchmark_window".into(), (*returns).into());
                HIST_VOL
            }
        };
        extra.insert("benchmark".into(), name.into());
    }
}
