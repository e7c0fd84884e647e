//! Covariance models from return histories: shrunk, exponentially weighted, or statistical factors.
//!
//! Every estimate is a Gram matrix plus a positive diagonal, hence positive definite whatever is missing. A name with gaps
//! is centred and scaled by the dates it has, its gaps count as the mean: its variance is unbiased by the gaps and its
//! correlations shrink with them. A name with too little history of its own moves with the average name and carries a
//! specific variance as large as the upper quartile of the others.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

use crate::number::finite;
use crate::risk::{check_len, row_major};
use crate::{AllocationError, FactorModel, Scenarios};

/// Fewest dates from which a name's own risk is estimated.
const MIN_DATES: usize = 20;

/// Least specific share of a name's variance in a statistical factor model.
const MIN_SPECIFIC_SHARE: f64 = 0.05;

/// Least diagonal added to a shrunk covariance, as a share of the average variance.
const MIN_RIDGE: f64 = 1e-8;

/// Most statistical factors chosen by default; one per ten dates below that.
const DEFAULT_FACTORS: usize = 15;

/// How the covariance is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Shrinkage toward a multiple of the identity with the intensity of Ledoit and Wolf (2004).
    LedoitWolf,
    /// Weights that halve every `half_life` dates; off-diagonal terms shrunk by the factor `1 - shrinkage`.
    Exponential {
        /// Dates after which a weight has halved.
        half_life: f64,
        /// Share of the diagonal matrix in the estimate, above 0 and at most 1.
        shrinkage: f64,
    },
    /// Principal components and specific variances.
    Factors {
        /// Number of components; absent: one per ten dates, at most 15.
        count: Option<usize>,
    },
}

/// How much history a name brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryStatus {
    /// A return at every date.
    Full,
    /// Some dates are missing.
    Partial {
        /// Dates present.
        dates: usize,
    },
    /// Too few dates: the risk is borrowed from the other names.
    Borrowed {
        /// Dates present.
        dates: usize,
    },
    /// Returns that never vary, as of cash or of a price that went stale: which of them, no return tells, so the risk is
    /// borrowed as well.
    Constant {
        /// Dates present.
        dates: usize,
    },
}

/// A covariance model with the standing of each name's history.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskEstimate {
    /// The model, per date of the history.
    pub model: FactorModel,
    /// Per name.
    pub history: Vec<HistoryStatus>,
}

/// Returns by date and name, with gaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnHistory {
    names: usize,
    /// `[date, name]`, row-major, oldest date first.
    returns: Vec<Option<f64>>,
}

impl ReturnHistory {
    /// A history of `names` names.
    ///
    /// # Shapes
    /// `returns`: `[date, name]` row-major, oldest date first; absent where there is no return.
    /// # Errors
    /// [`AllocationError::ShapeMismatch`], [`AllocationError::NotFinite`].
    pub fn new(names: usize, returns: Vec<Option<f64>>) -> Result<Self, AllocationError> {
        check_len("return history", returns.len() / names.max(1) * names, returns.len())?;
        returns.iter().flatten().try_for_each(|&r| finite("return", r))?;
        Ok(Self { names, returns })
    }

    /// Number of dates.
    pub fn dates(&self) -> usize {
        self.returns.len() / self.names.max(1)
    }

    fn get(&self, date: usize, name: usize) -> Option<f64> {
        self.returns[date * self.names + name]
    }

    /// Estimates the covariance of the returns over one date.
    ///
    /// # Errors
    /// [`AllocationError::ShortHistory`] if no name has 20 dates, [`AllocationError::ConstantHistory`] if those that have do not
    /// vary, [`AllocationError::OutOfRange`] for a bad parameter.
    pub fn estimate(&self, estimator: Estimator) -> Result<RiskEstimate, AllocationError> {
        let weights = self.date_weights(estimator)?;
        let history: Vec<HistoryStatus> = (0..self.names).map(|name| self.status(name)).collect();
        let own: Vec<usize> = (0..self.names)
            .filter(|&i| matches!(history[i], HistoryStatus::Full | HistoryStatus::Partial { .. }))
            .collect();
        if own.is_empty() {
            if let Some(dates) = history.iter().find_map(|status| match status {
                HistoryStatus::Constant { dates } => Some(*dates),
                _ => None,
            }) {
                return Err(AllocationError::ConstantHistory { dates });
            }
            return Err(AllocationError::ShortHistory { needed: MIN_DATES, got: self.dates() });
        }
        let sample = self.weighted_sample(&own, &weights);
        let model = match estimator {
            Estimator::LedoitWolf => ledoit_wolf(&sample)?,
            Estimator::Exponential { shrinkage, .. } => shrunk_to_diagonal(&sample, shrinkage)?,
            Estimator::Factors { count } => principal_components(&sample, count)?,
        };
        Ok(RiskEstimate { model: with_borrowed(&model, &own, self.names)?, history })
    }

    /// What happened over each `horizon` successive dates, windows that overlap included, as equally likely scenarios; a gap is
    /// filled with the mean return of its date.
    ///
    /// Returns are compounded over a window. Overlapping windows waste nothing and favour no phase, as is usual in historical
    /// simulation; they are no more independent observations than the dates are.
    ///
    /// # Errors
    /// [`AllocationError::ShortHistory`] if fewer than `horizon` dates have a return, [`AllocationError::OutOfRange`] for a horizon of 0.
    pub fn scenarios(&self, horizon: usize) -> Result<Scenarios, AllocationError> {
        if horizon == 0 {
            return Err(AllocationError::OutOfRange {
                what: "horizon of scenarios".into(),
                value: 0.0,
                allowed: "at least 1 date",
            });
        }
        let filled = self.returns.chunks(self.names.max(1)).filter_map(|row| {
            let present = row.iter().flatten().count();
            let mean = row.iter().flatten().sum::<f64>() / present as f64;
            (present > 0).then(|| row.iter().map(move |r| r.unwrap_or(mean)))
        });
        let returns: Vec<f64> = filled.flatten().collect();
        let dates = returns.len() / self.names.max(1);
        if dates < horizon {
            return Err(AllocationError::ShortHistory { needed: horizon, got: dates });
        }
        if horizon == 1 {
            return Scenarios::new(self.names, returns);
        }
        let compounded = |first: usize, name: usize| {
            let window = (first..first + horizon).map(|date| 1.0 + returns[date * self.names + name]);
            window.product::<f64>() - 1.0
        };
        let windows = (0..=dates - horizon).flat_map(|first| (0..self.names).map(move |name| (first, name)));
        Scenarios::new(self.names, windows.map(|(first, name)| compounded(first, name)).collect())
    }

    fn status(&self, name: usize) -> HistoryStatus {
        let present: Vec<f64> = (0..self.dates()).filter_map(|date| self.get(date, name)).collect();
        let dates = present.len();
        let varies = present.iter().any(|r| *r != present[0]);
        match dates {
            _ if dates < MIN_DATES => HistoryStatus::Borrowed { dates },
            _ if !varies => HistoryStatus::Constant { dates },
            _ if dates == self.dates() => HistoryStatus::Full,
            _ => HistoryStatus::Partial { dates },
        }
    }

    fn date_weights(&self, estimator: Estimator) -> Result<Vec<f64>, AllocationError> {
        let dates = self.dates();
        let Estimator::Exponential { half_life, shrinkage } = estimator else {
            return Ok(vec![1.0; dates]);
        };
        let positive = |what: &str, value: f64, most: f64| {
            let valid = value > 0.0 && value <= most;
            let error = || AllocationError::OutOfRange {
                what: what.into(),
                value,
                allowed: "positive (shrinkage at most 1)",
            };
            valid.then_some(()).ok_or_else(error)
        };
        positive("half_life", half_life, f64::MAX)?;
        positive("shrinkage", shrinkage, 1.0)?;
        Ok((0..dates).map(|date| 0.5_f64.powf((dates - 1 - date) as f64 / half_life)).collect())
    }

    /// The matrix X (`[date, name]`) with XᵀX the sample covariance: each name centred and scaled by the dates it has.
    fn weighted_sample(&self, own: &[usize], weights: &[f64]) -> DMatrix<f64> {
        let mut sample = DMatrix::zeros(self.dates(), own.len());
        for (column, &name) in own.iter().enumerate() {
            let present =
                || weights.iter().enumerate().filter_map(|(t, w)| self.get(t, name).map(|r| (t, *w, r)));
            let total: f64 = present().map(|(_, w, _)| w).sum();
            let mean = present().map(|(_, w, r)| w * r).sum::<f64>() / total;
            present().for_each(|(t, w, r)| sample[(t, column)] = (w / total).sqrt() * (r - mean));
        }
        sample
    }
}

/// Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices", §3.2.
fn ledoit_wolf(sample: &DMatrix<f64>) -> Result<FactorModel, AllocationError> {
    let (dates, names) = (sample.nrows() as f64, sample.ncols() as f64);
    let gram = smaller_gram(sample);
    let average = sample.norm_squared() / names;
    let total = gram.norm_squared();
    let fourth: f64 = sample.row_iter().map(|row| row.norm_squared().powi(2)).sum::<f64>() * dates;
    let dispersion = total / names - average * average;
    let error = ((fourth - total) / (names * dates)).min(dispersion);
    let intensity = if error > 0.0 { error / dispersion } else { 0.0 };
    let ridge = (intensity * average).max(MIN_RIDGE * average);
    if sample.nrows() < sample.ncols() {
        let exposures = sample.transpose() * (1.0 - intensity).sqrt();
        return FactorModel::new(sample.nrows(), row_major(&exposures), vec![ridge; sample.ncols()]);
    }
    let mut covariance = gram * (1.0 - intensity);
    covariance.set_diagonal(&(covariance.diagonal().add_scalar(ridge)));
    FactorModel::from_covariance(&row_major(&covariance), sample.ncols())
}

fn shrunk_to_diagonal(sample: &DMatrix<f64>, shrinkage: f64) -> Result<FactorModel, AllocationError> {
    let variance = |column: usize| sample.column(column).norm_squared();
    let specific: Vec<f64> = (0..sample.ncols()).map(|i| shrinkage * variance(i)).collect();
    if sample.nrows() < sample.ncols() {
        let exposures = sample.transpose() * (1.0 - shrinkage).sqrt();
        return FactorModel::new(sample.nrows(), row_major(&exposures), specific);
    }
    let mut covariance = smaller_gram(sample) * (1.0 - shrinkage);
    for (i, d) in specific.iter().enumerate() {
        covariance[(i, i)] += d;
    }
    FactorModel::from_covariance(&row_major(&covariance), sample.ncols())
}

fn principal_components(sample: &DMatrix<f64>, count: Option<usize>) -> Result<FactorModel, AllocationError> {
    let (dates, names) = sample.shape();
    let most = dates.min(names);
    let count = count.unwrap_or((dates / 10).clamp(1, DEFAULT_FACTORS)).min(most);
    let eigen = SymmetricEigen::new(smaller_gram(sample));
    let mut by_size: Vec<usize> = (0..most).collect();
    by_size.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut exposures = DMatrix::zeros(names, count);
    for (factor, &k) in by_size.iter().take(count).enumerate() {
        let vector = eigen.eigenvectors.column(k);
        let column = if dates < names {
            sample.tr_mul(&vector)
        } else {
            vector * eigen.eigenvalues[k].max(0.0).sqrt()
        };
        exposures.set_column(factor, &column);
    }
    let specific = (0..names).map(|i| {
        let variance = sample.column(i).norm_squared();
        (variance - exposures.row(i).norm_squared()).max(MIN_SPECIFIC_SHARE * variance)
    });
    FactorModel::new(count, row_major(&exposures), specific.collect())
}

/// XXᵀ or XᵀX, whichever is smaller; both have the same non-zero eigenvalues and the same norm.
fn smaller_gram(sample: &DMatrix<f64>) -> DMatrix<f64> {
    if sample.nrows() < sample.ncols() { sample * sample.transpose() } else { sample.tr_mul(sample) }
}

/// The model over all names: those without history of their own get the average exposures and an ample specific variance.
fn with_borrowed(model: &FactorModel, own: &[usize], names: usize) -> Result<FactorModel, AllocationError> {
    let count = own.len();
    let mut variances: Vec<f64> = (0..count).map(|i| model.variance_of(i)).collect();
    variances.sort_by(f64::total_cmp);
    let ample = variances[(3 * count / 4).min(count - 1)];
    let average = model.book_exposure(&vec![1.0 / count as f64; count]);
    let mut exposures = Vec::with_capacity(names * model.factors());
    let mut specific = Vec::with_capacity(names);
    for name in 0..names {
        match own.binary_search(&name) {
            Ok(i) => {
                exposures.extend_from_slice(model.exposures(i));
                specific.push(model.specific()[i]);
            }
            Err(_) => {
                exposures.extend_from_slice(&average);
                specific.push(ample);
            }
        }
    }
    FactorModel::new(model.factors(), exposures, specific)
}
