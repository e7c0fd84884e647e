//! One forecast against another.

use super::{Test, mean};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The test of Diebold and Mariano of equal loss, for differences of losses in the order of time.
///
/// `horizon` is the number of successive differences that share shocks: the horizon of forecasts made every step, 1 for
/// forecasts that do not overlap. The long-run variance has Bartlett weights up to lag `horizon − 1`, which keep it from
/// becoming negative, and the statistic the small-sample factor of Harvey, Leybourne and Newbold. It is positive where the
/// first loss is larger; the p-value is two-sided, of t with n − 1 degrees of freedom. For several series take the mean
/// difference per date first: series of one date share its shocks, and are no independent observations.
///
/// `None` with fewer than two differences or than `horizon`, and without variance.
///
/// # Source
/// Diebold and Mariano, "Comparing predictive accuracy", Journal of Business and Economic Statistics 13 (1995); Harvey,
/// Leybourne and Newbold, "Testing the equality of prediction mean squared errors", International Journal of Forecasting
/// 13 (1997).
pub fn diebold_mariano(differences: &[f64], horizon: usize) -> Option<Test> {
    let (n, h) = (differences.len() as f64, horizon as f64);
    if differences.len() < 2.max(horizon) || horizon == 0 {
        return None;
    }
    let centre = mean(differences)?;
    let covariance = |lag: usize| -> f64 {
        differences.iter().skip(lag).zip(differences).map(|(a, b)| (a - centre) * (b - centre)).sum::<f64>()
            / n
    };
    let weighted = |lag: usize| (1.0 - lag as f64 / h) * covariance(lag);
    let variance = covariance(0) + 2.0 * (1..horizon).map(weighted).sum::<f64>();
    let correction = ((n + 1.0 - 2.0 * h + h * (h - 1.0) / n) / n).max(0.0).sqrt();
    // Losses that differ by rounding alone have a variance of it.
    let noise = (centre.abs() * f64::EPSILON).powi(2);
    (variance > noise).then(|| {
        let statistic = correction * centre / (variance / n).sqrt();
        let p_value =
            StudentsT::new(0.0, 1.0, n - 1.0).map_or(f64::NAN, |student| 2.0 * student.sf(statistic.abs()));
        Test { statistic, p_value }
    })
}

/// Spearman's rank correlation, ties by their mean rank; of forecast and realised returns it is the rank IC.
///
/// `None` for fewer than two pairs, other lengths, or where one side is all ties.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.len() < 2 {
        return None;
    }
    let (x, y) = (ranks(x), ranks(y));
    let centre = (x.len() as f64 + 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.into_iter().zip(y) {
        xy += (x - centre) * (y - centre);
        xx += (x - centre).powi(2);
        yy += (y - centre).powi(2);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Ranks from 1, the mean of their places for equal values.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let before = order.partition_point(|&place| values[place].total_cmp(&values[ties[0]]).is_lt());
        let rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        for &place in ties {
            ranks[place] = rank;
        }
    }
    ranks
}

/// The share of a reference's loss that a forecast saves: 1 is perfect, 0 no better, negative worse.
///
/// `None` for a reference without loss.
pub fn skill(loss: f64, reference: f64) -> Option<f64> {
    (reference > 0.0).then(|| 1.0 - loss / reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, -0.0, 0.0]), [5.5, 3.0, 5.5, 4.0, 1.5, 1.5]);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 15.0]), Some(0.5));
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0], &[1.0]), None);
    }

    #[test]
    fn what_does_not_vary_cannot_be_tested() {
        assert_eq!(diebold_mariano(&[0.0; 10], 1), None);
        assert_eq!(diebold_mariano(&[0.1, 0.1, 0.1, 0.1], 1), None);
        assert_eq!(diebold_mariano(&[1.0], 1), None);
        assert_eq!(diebold_mariano(&[1.0, 2.0, 3.0], 4), None);
        assert_eq!(skill(1.0, 0.0), None);
        assert_eq!(skill(0.5, 2.0), Some(0.75));
    }
}
