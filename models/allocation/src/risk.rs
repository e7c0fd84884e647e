//! Risk in factor form: covariance = exposures · exposuresᵀ + diag(specific).
//!
//! Factors are taken as uncorrelated with unit variance; a factor covariance is folded into the exposures once, by its
//! Cholesky factor. A dense covariance becomes exposures with no specific part. One form serves the program, the
//! volatility cone and the attribution.

use nalgebra::{Cholesky, DMatrix};
use serde::{Deserialize, Serialize};

use crate::AllocationError;

/// A covariance model over the horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorModel {
    factors: usize,
    /// `[name, factor]`, row-major.
    exposures: Vec<f64>,
    specific: Vec<f64>,
}

impl FactorModel {
    /// A model of uncorrelated unit-variance factors.
    ///
    /// # Shapes
    /// `exposures`: `[name, factor]` row-major; `specific`: variance per name.
    /// # Errors
    /// [`AllocationError::ShapeMismatch`], [`AllocationError::NotFinite`], [`AllocationError::OutOfRange`].
    pub fn new(factors: usize, exposures: Vec<f64>, specific: Vec<f64>) -> Result<Self, AllocationError> {
        let model = Self { factors, exposures, specific };
        model.validate(model.specific.len())?;
        Ok(model)
    }

    /// A model whose factors have the covariance `factor_covariance` (`[factor, factor]` row-major).
    ///
    /// # Errors
    /// As [`FactorModel::new`], and [`AllocationError::NotPositiveDefinite`].
    pub fn with_factor_covariance(
        factor_covariance: &[f64],
        factors: usize,
        exposures: &[f64],
        specific: Vec<f64>,
    ) -> Result<Self, AllocationError> {
        let names = specific.len();
        check_len("exposures", names * factors, exposures.len())?;
        let exposures =
            DMatrix::from_row_slice(names, factors, exposures) * lower_cholesky(factor_covariance, factors)?;
        Self::new(factors, row_major(&exposures), specific)
    }

    /// A model that reproduces a dense covariance (`[name, name]` row-major; its lower triangle is read).
    ///
    /// # Errors
    /// As [`FactorModel::with_factor_covariance`].
    pub fn from_covariance(covariance: &[f64], names: usize) -> Result<Self, AllocationError> {
        Self::new(names, row_major(&lower_cholesky(covariance, names)?), vec![0.0; names])
    }

    pub(crate) fn validate(&self, names: usize) -> Result<(), AllocationError> {
        check_len("specific variances", names, self.specific.len())?;
        check_len("exposures", names * self.factors, self.exposures.len())?;
        if self.exposures.iter().any(|x| !x.is_finite()) {
            return Err(AllocationError::NotFinite { what: "factor exposure".into() });
        }
        self.specific.iter().try_for_each(|&d| crate::number::non_negative("specific variance", d))
    }

    /// Number of factors.
    pub fn factors(&self) -> usize {
        self.factors
    }

    /// Exposures of name `i`.
    pub fn exposures(&self, i: usize) -> &[f64] {
        &self.exposures[i * self.factors..(i + 1) * self.factors]
    }

    /// Specific variance per name.
    pub fn specific(&self) -> &[f64] {
        &self.specific
    }

    /// Variance of name `i`.
    pub fn variance_of(&self, i: usize) -> f64 {
        self.exposures(i).iter().map(|x| x * x).sum::<f64>() + self.specific[i]
    }

    /// Factor exposure of the book `w`.
    pub fn book_exposure(&self, w: &[f64]) -> Vec<f64> {
        let mut total = vec![0.0; self.factors];
        for (i, &w) in w.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            for (t, x) in total.iter_mut().zip(self.exposures(i)) {
                *t += w * x;
            }
        }
        total
    }

    /// Covariance of each name with the book `w`.
    pub fn covariance_with(&self, w: &[f64]) -> Vec<f64> {
        let book = self.book_exposure(w);
        (0..w.len())
            .map(|i| {
                self.exposures(i).iter().zip(&book).map(|(x, f)| x * f).sum::<f64>() + self.specific[i] * w[i]
            })
            .collect()
    }

    /// Variance of the book `w`.
    pub fn variance(&self, w: &[f64]) -> f64 {
        self.book_exposure(w).iter().map(|f| f * f).sum::<f64>()
            + w.iter().zip(&self.specific).map(|(w, d)| d * w * w).sum::<f64>()
    }

    /// The same model over `periods` times the horizon, for returns without serial correlation.
    #[must_use]
    pub fn scaled(mut self, periods: f64) -> Self {
        self.exposures.iter_mut().for_each(|x| *x *= periods.sqrt());
        self.specific.iter_mut().for_each(|d| *d *= periods);
        self
    }

    /// The same model for the names in another order.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        Self {
            factors: self.factors,
            exposures: order.iter().flat_map(|&i| self.exposures(i)).copied().collect(),
            specific: order.iter().map(|&i| self.specific[i]).collect(),
        }
    }
}

/// Joint returns of all names: one row per scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenarios {
    names: usize,
    /// `[scenario, name]`, row-major.
    returns: Vec<f64>,
}

impl Scenarios {
    /// Equally likely joint returns.
    ///
    /// # Shapes
    /// `returns`: `[scenario, name]` row-major.
    /// # Errors
    /// [`AllocationError::ShapeMismatch`], [`AllocationError::NotFinite`].
    pub fn new(names: usize, returns: Vec<f64>) -> Result<Self, AllocationError> {
        let scenarios = Self { names, returns };
        scenarios.validate(names)?;
        Ok(scenarios)
    }

    pub(crate) fn validate(&self, names: usize) -> Result<(), AllocationError> {
        check_len("scenario", names, self.names)?;
        let whole = self.returns.len() / names.max(1) * names;
        check_len("scenarios", whole.max(names), self.returns.len())?;
        if self.returns.iter().any(|x| !x.is_finite()) {
            return Err(AllocationError::NotFinite { what: "scenario return".into() });
        }
        Ok(())
    }

    /// The scenarios, each the returns of all names.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.returns.chunks_exact(self.names)
    }

    /// Mean loss of the book `w` over the worst `1 - level` share of the scenarios (Rockafellar and Uryasev 2000, eq. 4–5).
    pub fn cvar(&self, w: &[f64], level: f64) -> f64 {
        self.mean_tail_loss(w, level).iter().zip(w).map(|(loss, w)| loss * w).sum()
    }

    /// Mean loss per unit of each name over the scenarios in which the book `w` loses most; its product with `w` is the
    /// conditional value at risk.
    pub fn mean_tail_loss(&self, w: &[f64], level: f64) -> Vec<f64> {
        let mut losses: Vec<(f64, &[f64])> =
            self.rows().map(|r| (-r.iter().zip(w).map(|(r, w)| r * w).sum::<f64>(), r)).collect();
        losses.sort_by(|a, b| b.0.total_cmp(&a.0));
        let tail = (1.0 - level) * losses.len() as f64;
        let mut mass = tail;
        let mut mean = vec![0.0; self.names];
        for (_, returns) in losses {
            if mass <= 0.0 {
                break;
            }
            let share = mass.min(1.0) / tail;
            mean.iter_mut().zip(returns).for_each(|(m, r)| *m -= share * r);
            mass -= 1.0;
        }
        mean
    }

    /// Root mean square of each name's returns.
    pub(crate) fn deviations(&self) -> Vec<f64> {
        let mut squares = vec![0.0; self.names];
        for row in self.rows() {
            squares.iter_mut().zip(row).for_each(|(sum, r)| *sum += r * r);
        }
        let count = self.rows().len() as f64;
        squares.into_iter().map(|sum: f64| (sum / count).sqrt()).collect()
    }

    /// The same scenarios with every return times `factor`.
    #[must_use]
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.returns.iter_mut().for_each(|r| *r *= factor);
        self
    }

    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        Self { names: self.names, returns: self.rows().flat_map(|r| order.iter().map(|&i| r[i])).collect() }
    }
}

pub(crate) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), AllocationError> {
    if expected == got { Ok(()) } else { Err(AllocationError::ShapeMismatch { what, expected, got }) }
}

fn lower_cholesky(matrix: &[f64], n: usize) -> Result<DMatrix<f64>, AllocationError> {
    check_len("covariance", n * n, matrix.len())?;
    Cholesky::new(DMatrix::from_row_slice(n, n, matrix))
        .map(|factor| factor.unpack())
        .ok_or(AllocationError::NotPositiveDefinite)
}

pub(crate) fn row_major(matrix: &DMatrix<f64>) -> Vec<f64> {
    matrix.transpose().as_slice().to_vec()
}
