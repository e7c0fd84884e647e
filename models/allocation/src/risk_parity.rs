//! The book in which every name carries the same share of risk.
//!
//! Equal risk contributions are the unique minimum of the strictly convex `½xᵀΣx − Σ βᵢ ln xᵢ` up to scale. It is found by
//! cyclical coordinate descent (Griveau-Billion, Richard and Roncalli 2013): each step is the positive root of a quadratic,
//! and the optimality condition `xᵢ(Σx)ᵢ = βᵢ` certifies the answer to machine precision, which a cone solver's gap would not.

use crate::AllocationError;
use crate::conic::CancelCheck;
use crate::risk::FactorModel;

/// Largest relative deviation of a risk contribution from its budget.
const BUDGET_TOLERANCE: f64 = 1e-10;

/// Sweeps over all names; books of thousands of correlated names converge within some hundreds.
const MAX_SWEEPS: usize = 10_000;

/// Weights of equal risk contribution with `Σ|w| = 1`, long where `signs` is positive, short where negative, absent where zero.
///
/// A name alone on its side of the market still gets its budget: the contribution of each name to variance is the same
/// positive number, so a short hedges only as far as its own budget allows.
///
/// # Errors
/// [`AllocationError::NotPositiveDefinite`] where a name has no variance, [`AllocationError::Cancelled`], and
/// [`AllocationError::Solver`] if the descent does not converge.
pub fn risk_parity_target(
    model: &FactorModel,
    signs: &[f64],
    cancel: &CancelCheck,
) -> Result<Vec<f64>, AllocationError> {
    let members: Vec<usize> = (0..signs.len()).filter(|&i| signs[i] != 0.0).collect();
    let mut x = vec![0.0; signs.len()];
    if members.is_empty() {
        return Ok(x);
    }
    let budget = 1.0 / members.len() as f64;
    for &i in &members {
        let variance = model.variance_of(i);
        if variance <= 0.0 {
            return Err(AllocationError::NotPositiveDefinite);
        }
        x[i] = signs[i].signum() * (budget / variance).sqrt();
    }
    for _ in 0..MAX_SWEEPS {
        if cancel() {
            return Err(AllocationError::Cancelled);
        }
        // Recomputed each sweep, so that rounding of the running update never accumulates.
        let mut book = model.book_exposure(&x);
        for &i in &members {
            let (sign, variance) = (signs[i].signum(), model.variance_of(i));
            let exposures = model.exposures(i);
            let own: f64 = exposures.iter().map(|e| e * e).sum::<f64>() * x[i];
            let others = sign * (exposures.iter().zip(&book).map(|(e, f)| e * f).sum::<f64>() - own);
            let next =
                sign * ((others * others + 4.0 * variance * budget).sqrt() - others) / (2.0 * variance);
            let step = next - x[i];
            x[i] = next;
            book.iter_mut().zip(exposures).for_each(|(f, e)| *f += step * e);
        }
        let covariance = model.covariance_with(&x);
        let deviation = members.iter().map(|&i| (x[i] * covariance[i] - budget).abs()).fold(0.0, f64::max);
        if deviation <= BUDGET_TOLERANCE * budget {
            let gross: f64 = x.iter().map(|x| x.abs()).sum();
            x.iter_mut().for_each(|x| *x /= gross);
            return Ok(x);
        }
    }
    Err(AllocationError::Solver { status: "risk parity did not converge".into() })
}
